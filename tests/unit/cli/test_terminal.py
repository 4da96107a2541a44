"""What a window makes of Markdown."""

import pytest

from plan_execute.cli.terminal import _in_bold


def strong(markdown, width=80):
    shown = _in_bold(markdown, width)
    return shown.plain, [shown.plain[span.start : span.end] for span in shown.spans]


def test_headings_and_strong_words_are_bold_and_lose_their_marks():
    assert strong("## What **we** found ##") == ("What we found", ["What we found"])
    assert strong("- **tea**: hot, **very**") == ("- tea: hot, very", ["tea", "very"])
    plain, bold = strong("one **two three four** five", width=12)
    assert (plain, bold) == ("one two\nthree four\nfive", ["two\nthree four"])


@pytest.mark.parametrize(
    "text",
    [
        "f(**options, **more) and 2**3 or 4**5",
        "`**code**` and `# x`",
        "```\n# a comment\n**x**\n```",
        "| **a** | b |\n|---|---|",
        "__init__.py and *one* _word_",
        "#tag, and a lone ** here",
        "- a\n  - b\n\n1. c",
        "text:\n\n    # a comment\n    f(**more) or **x**\n\n    **y**",
        "- a\n\n      **x**",
        "````\n```\n**x**\n````",
    ],
)
def test_what_only_looks_like_markdown_and_code_and_tables_stay_as_they_are(text):
    assert strong(text) == (text, [])


def test_strong_words_in_a_list_below_a_list_and_in_a_paragraphs_next_line_are_bold():
    assert strong("- a\n    - **b**\n\ntext\n    **c**") == ("- a\n    - b\n\ntext\n    c", ["b", "c"])


def test_each_mark_is_paired_with_the_next_that_can_end_it():
    assert strong("**a **b** c**d **e**") == ("a **b c**d e", ["a **b", "e"])


@pytest.mark.parametrize(
    "text", ["**a " * 100_000, "`" * 400_000, "# a" + " " * 200_000 + "b"], ids=lambda t: t[:4]
)
def test_a_long_text_of_marks_that_end_nothing_is_read_to_its_end(text):
    shown, _ = strong(text, width=10**6)
    assert shown == text.removeprefix("# ").rstrip(" ")
