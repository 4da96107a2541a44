"""Links, images and HTML of a Markdown text lose their power and keep their words."""

from __future__ import annotations

import time

import pytest

from plan_execute.safety.markdown import code_span, link_targets, neutralise_links, plain_line, without_html

OWN = link_targets(["Compare https://own.example/a_b?x=1&y=2. Thanks, [docs](https://own.example/docs)"])

CASES = [
    ("[words](https://evil.example/?q=1)", "words (`https://evil.example/?q=1`)"),
    ("![alt](https://evil.example/p.png?d=secret)", "alt (`https://evil.example/p.png?d=secret`)"),
    ("![](https://evil.example/p.png)", "image (`https://evil.example/p.png`)"),
    ('[a *b*](<https://evil.example/x y> "title")', "a *b* (`https://evil.example/x%20y`)"),
    ("<https://evil.example>", "`https://evil.example`"),
    ("see https://evil.example/a.", "see `https://evil.example/a`."),
    ("www.evil.example", "`www.evil.example`"),
    ("mail me@evil.example", "mail `me@evil.example`"),
    ("[x](javascript:alert(1))", "x (`javascript:alert(1)`)"),
    ("![x](data:image/svg+xml;base64,AA)", "x (`data:image/svg+xml;base64,AA`)"),
    ("[x](//evil.example/a)", "x (`//evil.example/a`)"),
    ("[x](/logout)", "x (`/logout`)"),
    ("h&#116;tps&colon;//evil.example", "`https://evil.example`"),
    ("https\\://evil.example", "`https://evil.example`"),
    (
        "[![pic](https://evil.example/1)](https://evil.example/2)",
        "pic (`https://evil.example/1`) (`https://evil.example/2`)",
    ),
    (
        "[![pic](https://evil.example/1)](https://own.example/docs)",
        "[pic (`https://evil.example/1`)](<https://own.example/docs>)",
    ),
    ('<img src="https://evil.example">', '&lt;img src="`https://evil.example`">'),
    ("a <a href=x>y</a>", "a &lt;a href=x>y&lt;/a>"),
    ("<details>hidden</details>", "&lt;details>hidden&lt;/details>"),
    ("a <!-- b", "a &lt;!-- b"),
    ("> - [x](https://evil.example)", "> - x (`https://evil.example`)"),
    ("## [x](https://evil.example) ##", "## x (`https://evil.example`) ##"),
    ("1. 1 https://evil.example", "1. 1 `https://evil.example`"),
    ("| [x](https://evil.example) | y |\n|---|---|", "| x (`https://evil.example`) | y |\n|---|---|"),
]


@pytest.mark.parametrize(("text", "shown"), CASES)
def test_what_leads_elsewhere_is_shown_as_text(text: str, shown: str) -> None:
    assert neutralise_links(text, OWN) == shown


def test_reference_links_lose_their_definition() -> None:
    text = "see [the docs][d], [d] and ![p][d]\n\n[d]: https://evil.example/x 'title'\n[D]: https://evil.example/y"
    safe = neutralise_links(text, OWN)
    assert safe.startswith("see the docs (`https://evil.example/x`), d (`https://evil.example/x`) and p (`")
    assert "[d]:" not in safe.lower()


@pytest.mark.parametrize(
    "text",
    [
        "Nothing here: *em*, `code`, foo_bar, 1 < 2 & 3 > 2, [1], a * b\n\n- item\n\n\ttabbed\r\nline",
        "[docs](https://own.example/docs) and https://own.example/a_b?x=1&y=2, also <https://own.example/docs>",
        "`https://evil.example` and\n\n```\n![x](https://evil.example)\n<img src=x>\n```\n\n    https://evil.example",
        "[up](#top)",
        "H<sub>2</sub>O<br>\nnext",
        "",
    ],
)
def test_what_is_harmless_or_the_persons_own_stays_to_the_letter(text: str) -> None:
    assert neutralise_links(text, OWN) == text


def test_an_own_link_stays_beside_a_foreign_one() -> None:
    text = "[docs](https://own.example/docs) or [x](https://evil.example), https://own.example/a_b?x=1&y=2."
    safe = neutralise_links(text, OWN)
    assert safe == (
        "[docs](<https://own.example/docs>) or x (`https://evil.example`), https://own.example/a_b?x=1&y=2."
    )


def test_more_of_an_own_address_is_not_the_same_address() -> None:
    assert "`" in neutralise_links("https://own.example/docs?d=secret", OWN)
    assert "`" in neutralise_links("![x](https://own.example/docs/../../secret)", OWN)


def test_what_would_start_a_block_is_still_a_line() -> None:
    safe = neutralise_links("1986\\. A https://evil.example\n\\# B https://evil.example", OWN)
    assert safe == "1986\\. A `https://evil.example`\n\\# B `https://evil.example`"


@pytest.mark.parametrize(
    "text", ["x <!-- y", "<!-- y", "```\nx", "~~~", "<script>", "<details>\n\nx", "- a\n  ```\n"]
)
def test_what_stands_below_is_seen(text: str) -> None:
    from markdown_it import MarkdownIt

    shown = MarkdownIt("commonmark").render(f"{without_html(text)}\n\nThe run failed.")
    assert shown.endswith("<p>The run failed.</p>\n")
    assert not any(tag in shown for tag in ("<!--", "<script", "<details"))


def test_a_plain_line_is_one_paragraph_of_its_words() -> None:
    from markdown_it import MarkdownIt

    text = "# all\n\n**Reads only.** ![p](https://e.x) <!-- `x\n- y &amp; [a]: b\n1. z ~~s~~ _e_ <b>"
    shown = MarkdownIt("commonmark").render(plain_line(text))
    assert shown.count("<") == 2, "only <p> and </p>"
    assert "**Reads only.** ![p](https://e.x) &lt;!-- `x - y &amp;amp; [a]: b" in shown


@pytest.mark.parametrize("text", ["a", "`", "``", "a`b``c", " a ", "", "a\nb", "`x` y"])
def test_code_is_shown_whatever_backticks_it_holds(text: str) -> None:
    from markdown_it import MarkdownIt

    (paragraph,) = [t for t in MarkdownIt("commonmark").parse(f"x {code_span(text)} y") if t.type == "inline"]
    kinds = [child.type for child in paragraph.children or []]
    assert kinds == ["text", "code_inline", "text"]
    assert (paragraph.children or [])[1].content.strip() == text.replace("\n", " ").strip()


@pytest.mark.parametrize("part", ["a", "a.", "a-", "a@", "a@b.", "a@b.c+", "www.", "a:", "<!--", "<b ", "= "])
def test_a_long_text_without_any_gap_is_read_in_one_go(part: str) -> None:
    text = part * (300_000 // len(part))
    began = time.process_time()
    without_html(text)
    neutralise_links(text, ())
    assert time.process_time() - began < 120, "it is seconds, where time grew with the square it was an hour"


def test_addresses_that_follow_each_other_are_all_neutralised() -> None:
    assert neutralise_links("a@b.de+c@d.de e.f@g.de", ()) == "`a@b.de+c@d.de` `e.f@g.de`"
    assert neutralise_links("x@y a@b.de@c.de", ()) == "x@y `a@b.de@c.de`"
