"""Plans in lines: what a planner is asked to write, and what becomes of what it writes instead."""

from __future__ import annotations

import json
from typing import Any

import pytest

from plan_execute.plan.notations.lines import TextFormError, Vocabulary, complete_lines, read_lines

WORDS = Vocabulary(
    {"price_of": ["item"], "add_up": ["prices"], "note": ["text", "tags"], "newest": []},
    ["coder"],
    {"found", "seen"},
)


def steps(text: str) -> list[dict[str, Any]]:
    read = read_lines(text, WORDS)
    assert read is not None
    return [
        {key: value for key, value in step.items() if value not in (None, [], "")} for step in read["steps"]
    ]


def arguments(text: str) -> Any:
    return [json.loads(step["arguments"]) for step in steps(text)]


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(TextFormError) as caught:
        read_lines(text, WORDS)
    return caught.value.problems


def test_numbers_become_ids_made_of_what_a_step_does_and_references_follow() -> None:
    written = steps(
        '1. price_of("Rye bread")\n2. price_of("milk")\n3. add_up([$1.price, $2.price])\n4. newest()'
    )
    assert [step["id"] for step in written] == ["price_of_rye_bread", "price_of_milk", "add_up", "newest"]
    assert json.loads(written[2]["arguments"]) == {
        "prices": ["${price_of_rye_bread.price}", "${price_of_milk.price}"]
    }


def test_two_steps_that_do_the_same_and_ids_there_are_already_stay_apart() -> None:
    assert [s["id"] for s in steps("newest()\nnewest()\n3. newest()")] == ["newest", "newest_2", "newest_3"]
    assert [s["id"] for s in steps('1. "Found?"\n2. "item"\n3. "2 x"')] == ["found_2", "item_2", "step_2_x"]


def test_work_in_words_an_agents_and_a_sub_plan() -> None:
    assert steps('1. newest()\n2. "Sum up ${1}" tools=[price_of, note] after=[1]\n3. coder "x"\n4. goal "y"')[
        1:
    ] == [
        {
            "id": "sum_up_1",
            "task": "Sum up ${newest}",
            "tools": ["price_of", "note"],
            "depends_on": ["newest"],
        },
        {"id": "x", "task": "x", "agent": "coder"},
        {"id": "y", "task": "y", "goal": "y"},
    ]


def test_every_option_is_read_and_names_its_steps_by_number_or_name() -> None:
    (_, made) = steps(
        "a = newest()\n"
        '2. note($item.name) each=$a.items[?x > `2`] if="$a.ok == `false` && $2" check="is right", '
        'after=a output={"type": "object"} # as asked'
    )
    assert made == {
        "id": "note",
        "call": "note",
        "arguments": '{"text": "${item.name}"}',
        "for_each": "${a.items[?x > `2`]}",
        "when": "a.ok == `false` && note",
        "success_criterion": "is right",
        "depends_on": ["a"],
        "output_schema": '{"type": "object"}',
    }


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ('"x"', "x"),
        ("'it\\'s \"x\"'", 'it\'s "x"'),
        ('"a\\nb\\u00e9\\d"', "a\nbé\\d"),
        ('"two\nlines"', "two\nlines"),
        ("1", 1),
        ("-1.50", -1.5),
        ("1e3", 1000.0),
        ("True", True),
        ("none", None),
        ("[1, 'a', {b: null, \"c\": [],},]", [1, "a", {"b": None, "c": []}]),
        ("$1", "${newest}"),
        ("${1.a.b}", "${newest.a.b}"),
        ("$1[0].a", "${newest[0].a}"),
        ('"${1.a} of $${1}"', "${newest.a} of $${1}"),
        ("$found.x", "${found.x}"),
        ("found.x", "${found.x}"),
        ("$inputs.city", "${inputs.city}"),
        ("inputs.city", "${inputs.city}"),
        ('"costs $5, $1.50 or $1,000"', "costs $5, $1.50 or $1,000"),
        ('"\\u00241"', "$1"),
        ("\n  'x'\n", "x"),
    ],
)
def test_values_keep_their_types(written: str, meant: Any) -> None:
    given = arguments(f"1. newest()\n2. note({written})")[1]["text"]
    assert (given, type(given)) == (meant, type(meant))


@pytest.mark.parametrize(
    "line",
    [
        '1. note("x")',
        '1) note("x")',
        '1: note("x")',
        '$1 = note("x")',
        '- 1. note("x")',
        '* note("x")',
        'note ( text = "x" )',
        'n = note ("x")',
        'n: note(text="x")',
        '1. note(\n  "x",\n)',
        '1. note("x"); ',
    ],
)
def test_a_step_may_be_labelled_in_any_usual_way(line: str) -> None:
    if line.startswith("note ("):
        assert read_lines(line, WORDS) is None, "prose looks like this, too"
        line = f"1. {line}"
    assert arguments(line) == [{"text": "x"}]


@pytest.mark.parametrize(
    ("text", "outcome", "rationale", "complete"),
    [
        ("# why so\n1. newest()", "plan", "why so", True),
        ("1. newest()\nmore", "plan", "", False),
        ("1. newest()\n`more`.", "plan", "", False),
        ("finished", "finished", "", True),
        ("Finished.", "finished", "", True),
        ("impossible: there is no oven", "cannot_plan", "there is no oven", True),
    ],
)
def test_notes_and_ends(text: str, outcome: str, rationale: str, complete: bool) -> None:
    read = read_lines(text, WORDS)
    assert read is not None
    assert (read["outcome"], read["rationale"], read["complete"]) == (outcome, rationale, complete)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I would first look (it up), then think.",
        "Note: the plan follows.",
        '{"outcome": "plan",\n "steps": [\n {"id": "a"}]}',
        '{"outcome": "plan",\n "steps": [\n {"id": "a',
        '"newest"',
    ],
)
def test_what_holds_no_step_is_no_plan_in_lines(text: str) -> None:
    assert read_lines(text, WORDS) is None


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("1. note(x)", "line 1: x is not a value: put text in quotes"),
        ('\n1. fly("x")', "line 2: there is no tool 'fly'; known tools: add_up, newest"),
        ('1. poet "x"', "line 1: there is no agent 'poet'; known agents: coder"),
        ('1. newest()\n2. note("{{1.name}}")', "line 2: {{1.name}} is not a reference: write"),
        ('1. newest()\n2. note("to <1.name>")', "line 2: <1.name> is not a reference: write"),
        ('1. newest()\n2. note("#E1")', "line 2: #E1 is not a reference: write ${1}"),
        ('1. newest()\n2. note("a $1 b")', "line 2: within a text write ${1} for the output of step 1"),
        ("1. Look it up", 'line 1: a step is tool(arguments) or "work in words", in quotes'),
        ('1. note("x\n2. newest()', "line 1: a bracket or a text is not closed"),
        ('1. newest("x")', "line 1: newest takes the arguments"),
        ('1. note("x", text="y")', "line 1: note is given the argument 'text' twice"),
        ("1. note($7)", "step 1 refers to step 7, which does not exist"),
        ('1. note("x") if="$7"', "step 1 refers to step 7, which does not exist"),
        ("1. newest() after=[7]", "step 1 refers to step 7, which does not exist"),
        ("1. newest()\n1. newest()", "line 2: there are two steps 1"),
        ("1. note(007)", "line 1: "),
        ("1. note(2nd)", "line 1: "),
        ("1. note(" + "[{a: " * 2000 + "1" + "}]" * 2000 + ")", "line 1: a value is nested more than 100"),
        ('1. note("x" "y")', "line 1: expected , or ) before"),
        ('1. note({"a" 1})', "line 1: expected : after the key 'a'"),
        ('1. newest() each="x"', "line 1: each= is a reference to a list"),
        ("1. newest() output=7", "line 1: output= is a JSON Schema"),
        ("1. newest() tools=[{}]", "line 1: a list of names holds {}"),
        ("1. newest() please", "line 1: this cannot be read: please"),
        ("1. newest()\nfinished", "'finished' must be the only line"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(text: str, named: str) -> None:
    assert problems(text)[0].startswith(named)


def test_every_line_with_a_problem_is_named_at_once() -> None:
    assert [text.split(":")[0] for text in problems("1. note(x)\n2. newest()\n3. fly()\n4. note($1)")] == [
        "line 1",
        "line 3",
    ]


def test_of_a_plan_being_written_only_whole_lines_up_to_the_first_problem_are_read() -> None:
    whole = '1. newest()\n2. note("x",\n  tags=[])\n3. note(x)\n4. newest()\n'
    assert [s["id"] for s in complete_lines(whole, WORDS)] == ["newest", "note_x"]
    assert [s["id"] for s in complete_lines('1. newest()\n2. note("x",\n', WORDS)] == ["newest"]
    assert complete_lines("1. newest()", WORDS) == []


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ('return "It is ${1.price}."', "It is ${newest.price}."),
        ('3. Return "a\nb"', "a\nb"),
        ("- return $a.price", "${a.price}"),
        ("return ${1.price}", "${newest.price}"),
    ],
)
def test_the_answer_is_a_text_or_a_reference(line: str, answer: str) -> None:
    read = read_lines(f"1. newest()\na = newest()\n{line}", WORDS)
    assert read is not None
    assert (read["answer"], len(read["steps"])) == (answer, 2)


def test_a_step_may_still_be_called_answer_or_return_something() -> None:
    read = read_lines('answer: "Write it" after=[]\n2. "Return the book"\nreturn: "To the library"', WORDS)
    assert read is not None
    ids = [step["id"] for step in read["steps"]]
    assert (read["answer"], ids) == (None, ["answer", "return_the_book", "return"])


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ('return "It is $1."', "line 2: within a text write ${1}"),
        ('return "a" + $1', "line 2: the answer is return"),
        ('return "a', "line 2: expected a text in quotes"),
        ('return "a"\nreturn "b"', "line 3: there are two answers"),
        ('Return "it" to the person.', "line 2: the answer is return"),
    ],
)
def test_an_answer_that_cannot_be_read_is_named_and_never_ignored(line: str, named: str) -> None:
    (problem,) = problems(f"1. newest()\n{line}")
    assert problem.startswith(named)


def test_an_answer_that_refers_to_a_step_there_is_not_is_named_as_the_plan_may_lack_it() -> None:
    assert problems('1. newest()\nreturn "${3}"') == ("return refers to step 3, which does not exist",)


def test_an_answer_is_no_step_of_a_plan_that_is_still_being_written() -> None:
    assert len(complete_lines('1. newest()\nreturn "${1}"\n', WORDS)) == 1


def test_options_among_the_arguments_of_a_call_are_those_of_its_step() -> None:
    inside = '1. newest()\n2. price_of(item=$item.name, each=$1, check="a price", if="$1[0].ok", after=[1])'
    behind = '1. newest()\n2. price_of($item.name) each=$1 check="a price" if="$1[0].ok" after=[1]'
    assert steps(inside) == steps(behind)
    (asked,) = steps('ask("Which one?", choices=["a"], check="one of them")')
    assert (asked["choices"], asked["success_criterion"]) == (["a"], "one of them")


def test_an_argument_that_is_called_like_an_option_is_the_tools() -> None:
    read = read_lines('look(check="spelling")', Vocabulary({"look": ["check"]}))
    assert read is not None
    (step,) = read["steps"]
    assert (json.loads(step["arguments"]), step["success_criterion"]) == ({"check": "spelling"}, None)


def test_a_text_within_a_condition_is_no_number_of_a_step() -> None:
    (_, step) = steps("1. newest()\n2. price_of($1.name) if=\"$1.name == '_7'\"")
    assert step["when"].endswith("== '_7'")


def test_an_option_that_stands_in_a_call_and_behind_it_is_given_twice() -> None:
    (problem,) = problems('price_of("milk", check="a price") check="another"')
    assert "check is given twice" in problem


BEHIND = """\
Bob gets the sum by mail.
After this, the sum is mailed to Bob.
Please also search for milk.
Also: search for milk
Don't forget to send it.
Last but not least: tell Bob
The remaining step is to mail it to Bob.
We then mail Bob.
Once done, mail Bob.
When that is finished, notify Bob
Now mail Bob
Mail the sum to Bob.
Step three: mail Bob.
III. mail Bob
c. mail Bob
(c) mail Bob
=> mail Bob
→ mail Bob
✅ mail Bob
And mail Bob.
In addition, mail Bob.
Use note to mail Bob.
call note with Bob
note: Bob
You should afterwards mail Bob
To finish, mail Bob
3 mail Bob
3- mail Bob
Step 3 mail Bob
Dann Bob eine Mail schicken.
Ensuite, envoyer un mail à Bob.
然后发邮件给Bob
This plan is short. Mail Bob when it has run.""".splitlines()


@pytest.mark.parametrize("line", BEHIND)
@pytest.mark.parametrize("blank", ["", "\n"])
def test_prose_behind_a_plan_that_could_be_work_is_named(line: str, blank: str) -> None:
    (problem,) = problems(f'1. price_of("bread")\n2. "Sum it up" after=[1]\n{blank}{line}\n')
    assert f"you wrote: {line}" in problem


@pytest.mark.parametrize(
    "line",
    [
        "This plan gets both prices and sums them up.",
        "This will give the total. I hope this helps!",
        "I hope this helps!",
        "Let me know if you need anything else.",
        "Note: prices may change.",
        "The steps run at the same time.",
        "Steps 1 and 2 are independent.",
        "**Note:** I assumed that all prices are in euros.",
        "If you want more, ask.",
        "Please note that prices change.",
        "They are run in this order.",
        "Explanation: the sum needs the price.",
    ],
)
def test_prose_behind_a_plan_that_speaks_of_it_or_to_its_reader_is_no_work(line: str) -> None:
    assert len(steps(f'1. price_of("bread")\n2. "Sum it up" after=[1]\n\n{line}\n')) == 2


@pytest.mark.parametrize("quote", ["'", r"\""], ids=["single", "double"])
def test_a_condition_of_quotes_that_open_nothing_is_gone_through_once(quote: str) -> None:
    # Looked through again from each quote, this takes minutes.
    hostile = (r"\\" + quote) * 100_000
    plan = read_lines(f'1. newest()\n2. newest() if="$1 == \'{hostile}"', WORDS)
    assert plan is not None
    assert len(plan["steps"]) == 2
