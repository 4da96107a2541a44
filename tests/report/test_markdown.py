"""The Markdown report: what a run's texts say stays text, in whatever renders it."""

from __future__ import annotations

import re

import pytest
from markdown_it import MarkdownIt
from reported import HOSTILE

from plan_execute.report import make_report, write_report


def tokens(text):
    flat = []
    for token in MarkdownIt("commonmark", {"linkify": False}).enable("table").parse(text):
        flat += [token, *(token.children or ())]
    return flat


def active(text):
    """List what leads away, loads, or may do something; bold type in an answer does nothing."""
    wanted = {"link_open", "image", "html_inline", "html_block"}
    return [t.content for t in tokens(text) if t.type in wanted and t.content not in ("<b>", "</b>")]


@pytest.mark.parametrize("run", ["small", "revised", "waiting", "hostile", "many"])
def test_no_text_of_a_run_becomes_a_link_an_image_or_html(run, request):
    text = write_report(request.getfixturevalue(run), "md")
    assert not active(text)
    text.encode()


def test_no_text_of_a_run_makes_a_heading_of_its_own(hostile):
    text = write_report(hostile, "md")
    headings = re.findall(r"^#{1,6} .*", text, re.MULTILINE)
    sections = [line for line in headings if line.startswith("## ")]
    assert sections == [
        "## What happened",
        "## Answer",
        "## Plan",
        "## What ran when",
        "## Steps",
        "## Decisions",
        "## Settings",
    ]
    parsed = [token.tag for token in tokens(text) if token.type == "heading_open" and token.level == 0]
    assert parsed.count("h2") == 7
    assert parsed.count("h3") == 3


def test_it_tells_the_same_as_the_page(revised):
    text = write_report(revised, "md")
    for said in (
        "**done** — The run ended, and its work is done.",
        "flowchart TD",
        '["✓ fetch_r2"]:::done',
        "Critical path: `list` → `fetch` → `fetch_r2`",
        "Never ran: `merge`, `maybe`",
        "### ✗ `fetch` — failed",
        "- Attempt 1: `tool_failed`",
        "   - removed: `fetch`, `merge`",
        "| replanner |",
        "Done by the mirror.",
    ):
        assert said in text, said


def test_a_question_that_is_open_comes_first(waiting):
    text = write_report(waiting, "md")
    assert text.index("## Waiting for an answer") < text.index("## Plan")
    assert "**A step failed** about `fetch`" in text
    assert "- **Decided:** nobody yet – A step failed (`fetch`)" in text


def test_mermaid_and_the_chart_hold_nothing_of_a_hostile_name():
    steps = [{"id": HOSTILE, "tools": []}, {"id": "```\n# x", "tools": [], "depends_on": [HOSTILE]}]
    moment = "2026-07-01T08:00:00+00:00"
    results = {step["id"]: {"status": "done", "started_at": moment, "finished_at": moment} for step in steps}
    text = make_report({"status": "done", "plan": {"steps": steps}, "results": results}, format="md")
    drawn = re.search(r"```mermaid\n(.*?)\n```\n", text, re.DOTALL)[1]
    assert re.search(r'^  s\d+\["✓ [\w]+"\]:::done$', drawn, re.MULTILINE)
    assert "<" not in drawn
    assert not active(text)
    assert [t.tag for t in tokens(text) if t.type == "heading_open" and t.tag == "h1"] == ["h1"]
