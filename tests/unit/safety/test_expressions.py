"""JMESPath of others: bounded in length, depth and work, and never a surprise."""

import pytest

from plan_execute.errors import WorkLimitError
from plan_execute.safety.depth import is_too_deep
from plan_execute.safety.expressions import (
    FUNCTIONS,
    ExpressionError,
    UnknownFunctionError,
    evaluate,
    parse,
    tokens,
)
from plan_execute.safety.work import Work, within

VALUES = {"l": "x", "s": {"total": "12"}, "n": [{"p": 1, "k": "a"}, {"p": 3, "k": "b"}], "z": None}


@pytest.mark.parametrize(
    "expression",
    [
        "l" + "|{a:@,b:@}" * 26,
        "l" + "|[@,@]" * 24 + "|to_string(@)|length(@) > `0`",
        "[l,l]" + "|[@,@][]" * 23,
        "l" + "|join('',[@,@])" * 40,
        "l" + "|[@,@]" * 25 + " == " + "l" + "|[@,@]" * 25,
    ],
)
def test_what_doubles_with_each_part_comes_to_an_end(expression):
    work = Work(steps=50_000)
    with pytest.raises(WorkLimitError):
        within(work, evaluate, expression, VALUES)
    assert work.is_spent


@pytest.mark.parametrize(
    "expression",
    [
        "(" * 3000 + "l" + ")" * 3000,
        "!" * 5000 + "l",
        "`" + "[" * 4000 + "]" * 4000 + "`",
        "a" + "[*].a" * 300,
        "a[" + "9" * 5000 + "]",
        "||".join("a" * 500),
        "'" + "x" * 20_000 + "'",
        "a ||",
        "",
        None,
        {"a": 1},
    ],
)
def test_what_cannot_be_read_is_said_so(expression):
    for read in (parse, tokens) if expression not in ("a ||", "") else (parse,):
        if read is tokens and isinstance(expression, str) and expression[:2] in ("||", "a[", "a|"):
            continue  # its tokens are fine
        with pytest.raises(ExpressionError):
            read(expression)


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("s.total > `0`", "text '12' with the number 0; write to_number"),
        ("n[?k > `1`]", "text 'a' with the number 1"),
        ("contains(l, `5`)", "string"),
        ("n[::0]", "zero"),
        ("ceil(`1e999`)", "NaN, an infinity"),
        ("to_number('nan')", "NaN, an infinity"),
        ("[l, `18446744073709551616`]", "over 64 bits"),
        (f"[l, `{9**999}`]", "over 64 bits"),
        ("sort_by(n, p)", "expref"),
    ],
)
def test_what_cannot_be_evaluated_on_these_values_says_why(expression, words):
    with pytest.raises(ExpressionError, match=words):
        evaluate(expression, VALUES)


def test_a_call_that_cannot_work_is_known_before_there_are_values():
    with pytest.raises(UnknownFunctionError, match=r"no function 'foo'; known functions: abs, .*values"):
        parse("s.foo(l)")
    with pytest.raises(ExpressionError, match=r"length\(\) takes 1 argument\(s\), not 2"):
        parse("n[?length(l, l)]")
    with pytest.raises(ExpressionError, match=r"not_null\(\) takes at least 1 argument\(s\), not 0"):
        parse("not_null()")
    for loose in ("&l", "[&l]", "to_string(&l)"):
        with pytest.raises(ExpressionError, match="& stands"):
            parse(loose)
    assert "max_by" in FUNCTIONS


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("n[?p > `1`].k", ["b"]),
        ("max_by(n, &p).k", "b"),
        ("z > `0`", None),
        ("!!!l", False),
        ("to_number(s.total) > `0`", True),
        ("map(&p, n)", [1, 3]),
        ("n[0:1]", [{"p": 1, "k": "a"}]),
        ("l == 'x'", True),
        ("n[*].p | [0]", 1),
        ("a" + ".a" * 1000, None),
        ("[" + "'!&([{', " * 100 + "l] | [-1]", "x"),
        ("l && (l && " * 20 + "l" + ")" * 20, "x"),
    ],
)
def test_what_is_in_order_has_the_value_that_jmespath_gives_it(expression, value):
    assert evaluate(expression, VALUES) == value


def test_a_whole_output_costs_nothing_the_first_time():
    big = {"l": list(range(100_000))}
    assert within(Work(steps=100), evaluate, "l", big) is big["l"]
    with pytest.raises(WorkLimitError):
        within(Work(steps=100), lambda: [evaluate("l", big), evaluate("l", big)])


def test_depth_is_told_of_values_that_hold_themselves_and_of_those_that_double():
    itself = []
    itself.append(itself)
    double = deep = "x"
    for _ in range(60):
        double = [double, double]
    for _ in range(100):
        deep = {"a": [deep]} if isinstance(deep, list) else [deep]
    assert is_too_deep(itself)
    assert not is_too_deep(double)
    assert is_too_deep(deep)
