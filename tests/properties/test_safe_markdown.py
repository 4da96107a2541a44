# ruff: noqa: E501 - the pieces are a table
"""No Markdown text, however it is put together, keeps a link, an image or HTML that leads elsewhere."""

from __future__ import annotations

from html.parser import HTMLParser

from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from plan_execute.safety.markdown import link_targets, neutralise_links, plain_line, without_html

OWN = "https://own.example/docs"
PIECES = st.sampled_from(
    [
        "[", "]", "(", ")", "<", ">", "!", "!" "[", "](", "\\", "`", "```\n", "*", "**", "_", "~~", "&", "&colon;",
        "&lt;", "\n", "\n\n", "\r\n", "> ", "- ", "1. ", "# ", "    ", "\t", "|", "|---|\n", "===\n", "---\n", ":",
        "[r]: ", "[r]", "[r][r]", "\n[r]: https://evil.example/r\n\n", "https://evil.example/a", "//evil.example",
        "www.evil.example", "http:", OWN, f"[own]({OWN})", f"<{OWN}>", "<https://evil.example>", "javascript:x",
        "data:image/png,x", "a@evil.example", "<img src='https://evil.example'>", "<a href=https://evil.example>",
        "</a>", "<!--", "-->", "<div>\n", "</div>", "<details>", "<br>", "<?php", "<![CDATA[", "\"", "'", "words ",
        "[x](https://evil.example/b)", "![x](https://evil.example/c 't')", "\0", "\u00a0", "\u2028", "é",
    ]
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=24).map("".join)


class Leads(HTMLParser):
    """What a browser would follow or run in rendered Markdown."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.tags: set[str] = set()
        parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
        self.feed(parser.render(text))
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.targets += [value or "" for name, value in attributes if name in ("href", "src")]

    def handle_comment(self, data: str) -> None:
        self.tags.add("!--")


@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_only_the_persons_own_targets_are_left(text: str) -> None:
    shown = Leads(neutralise_links(text, {OWN}))
    assert all(target in ("", OWN) or target.startswith("#") for target in shown.targets)
    assert not shown.tags & {"script", "details", "div", "!--", "iframe", "style"}


@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_nothing_is_left_to_do_the_second_time(text: str) -> None:
    safe = neutralise_links(text, {OWN})
    assert neutralise_links(safe, {OWN}) == safe


@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_what_is_ones_own_altogether_is_left_alone(text: str) -> None:
    once = without_html(text)
    assert neutralise_links(once, link_targets([once])) == once


@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_what_stands_below_any_text_is_seen(text: str) -> None:
    shown = MarkdownIt("commonmark").render(f"{without_html(text)}\n\nThe run failed.")
    assert shown.endswith("<p>The run failed.</p>\n")


@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_a_plain_line_leads_nowhere_and_is_one_line(text: str) -> None:
    line = plain_line(text)
    assert "\n" not in line
    assert Leads(f"**Goal:** {line}").targets == []
