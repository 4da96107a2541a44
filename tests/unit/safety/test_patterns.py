"""Patterns of others: JavaScript's form is understood, and matching has an end."""

import pytest

from plan_execute.errors import WorkLimitError
from plan_execute.safety.patterns import PatternError, compile_pattern, compile_schema_pattern, is_found
from plan_execute.safety.work import Work, within

ENDLESS = "^(a|a)*$"


@pytest.mark.parametrize(
    ("pattern", "fits", "does_not"),
    [
        (r"^\p{L}+$", "äé", "1"),
        (r"^\p{Script=Greek}$", "α", "a"),
        (r"^(?<year>\d{4})-\k<year>$", "2020-2020", "2020-2021"),
        (r"^\d$", "1", "١"),
        (r"^\w+$", "ab_1", "é"),
        (r"^[\w-.]+$", "a-.b", "é"),
        (r"^[^\d]$", "a", "1"),
        (r"^[\W]$", "é", "_"),
        (r"^\u{1F600}$", "😀", "a"),
        (r"^\ud83d\ude00$", "😀", "a"),
        (r"^[\u{41}-\u{43}]$", "B", "D"),
        (r"^[^]$", "\n", ""),
        (r"^a\/b$", "a/b", "ab"),
        (r"^\cJ$", "\n", "j"),
        (r"^x{e}$", "x{e}", "x"),
        (r"^a{2,3}$", "aa", "a"),
        (r"^a$", "a", "a\n"),
        (r"^[[]$", "[", "[\n"),
        (r"^[a\]]$", "]", "\\"),
        (r"^(?=.*[A-Z])(?=.*\d).{8,}$", "Abcdefg1", "abcdefg1"),
    ],
)
def test_a_pattern_of_a_schema_means_what_it_means_in_javascript(pattern, fits, does_not):
    compiled = compile_schema_pattern(pattern)
    assert is_found(compiled, fits)
    assert not is_found(compiled, does_not)


@pytest.mark.parametrize(
    "pattern", ["(", "[a-z", r"\p{Nope}", "(" * 4000, r"\u{999999}", "a" * 20_000, 3, {}]
)
def test_what_is_no_pattern_is_said_to_be_none(pattern):
    with pytest.raises(PatternError):
        compile_schema_pattern(pattern)
    if pattern != r"\u{999999}":
        with pytest.raises(PatternError):
            compile_pattern(pattern)


def test_the_patterns_of_one_check_share_its_seconds():
    endless, simple = compile_pattern(ENDLESS), compile_pattern("b")

    def check():
        with pytest.raises(WorkLimitError, match=r"longer than 0\.05 seconds"):
            is_found(endless, "a" * 40 + "!")
        return is_found(simple, "b")

    with pytest.raises(WorkLimitError):
        within(Work(seconds=0.05), check)
    assert within(Work(), is_found, simple, "b")
