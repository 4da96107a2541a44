"""The HTML report: every section is there, it is well-formed, and no text of a run becomes markup."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest
from reported import HOSTILE, Page

from plan_execute.report import make_report, run_record, write_report
from plan_execute.safety.visible_text import visible

SECTIONS = {
    "answer": "Answer",
    "plan": "Plan",
    "timeline": "What ran when",
    "steps": "Steps",
    "decisions": "Decisions",
    "usage": "What was spent",
    "settings": "Settings",
}


@pytest.mark.parametrize("run", ["small", "revised", "waiting", "hostile", "many"])
def test_a_report_is_well_formed_and_every_link_leads_to_something_in_it(run, request):
    page = Page(write_report(request.getfixturevalue(run)))
    assert len(set(page.ids)) == len(page.ids)
    targets = {attributes["href"] for tag, attributes in page.tags if tag == "a"}
    assert targets
    assert targets <= {f"#{name}" for name in page.ids}


def test_it_has_every_section_and_what_belongs_there(small):
    page = Page(write_report(small))
    assert set(SECTIONS) <= set(page.ids)
    assert all(title in page.text for title in SECTIONS.values())
    said = [
        "Plan a weekend in Oslo",
        small["thread"],
        "Lookups first.",
        "the planner",
        "names a tent",
        "✓ met",
    ]
    said += [
        "look_up",
        "no approval was required",
        "The planner wrote a plan",
        "evaluator",
        "Take a",
        "1.0 at a time",
    ]
    missing = [words for words in said[:-1] if words not in page.text]
    assert not missing
    assert (
        len(page.named("a", "node"))
        == len(page.named("a", "entry"))
        == len(page.named("details", "step"))
        == 4
    )


def test_the_plan_is_coloured_and_marked_by_outcome_and_the_critical_path_too(small, revised):
    assert Page(write_report(small)).named("path", "line critical")
    html = write_report(revised)
    page = Page(html)
    assert len(page.named("a", "node done")) == 2
    assert len(page.named("a", "node skipped")) == 1
    assert len(page.named("a", "entry failed critical")) == 1
    assert {"✓", "–", "✗", "⊘", "◆"} <= set(page.text)
    assert "Never ran: merge, maybe" in page.text
    assert "+ added: fetch_r2" in page.text
    assert "− removed: fetch, merge" in page.text
    assert len(page.named("a", "node failed critical gone")) == 1, "the first try stands in its place"
    assert page.named("path", "line instead"), "and leads to what took its place"
    sections = re.findall(r"<b><bdi>(\w+)</bdi></b>", html)
    assert sections == ["list", "fetch", "merge", "maybe", "fetch_r2"]


def test_a_failed_or_waiting_step_is_unfolded_and_others_are_not(revised, waiting):
    assert [a["class"] for a in Page(write_report(revised)).named("details", "step") if "open" in a] == [
        "step failed"
    ]
    page = Page(write_report(waiting))
    assert [a["class"] for a in page.named("details", "step") if "open" in a] == ["step waiting"]
    assert "Not finished: it waits for a person's answer." in page.text
    assert "A step failed" in page.text


@pytest.mark.parametrize("run", ["small", "hostile"])
def test_the_page_can_neither_run_nor_load_anything(run, request):
    html = write_report(request.getfixturevalue(run))
    page = Page(html)
    assert not [
        tag for tag, _ in page.tags if tag in ("script", "img", "iframe", "object", "link", "form", "base")
    ]
    attributes = {name for _, found in page.tags for name in found}
    assert not {name for name in attributes if name.startswith("on")} | attributes & {
        "src",
        "style",
        "srcset",
    }
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)[1]
    assert "url(" not in style
    assert "@import" not in style
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    (policy,) = [a["content"] for a in page.named("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}'")


def test_hostile_text_is_shown_whole_and_visible_wherever_it_comes_from(hostile):
    html = write_report(hostile)
    shown = Page(html).text
    assert not re.search(
        "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\ufeff\ud800-\udfff]", html
    )
    html.encode()
    # goal, rationale; task, argument and error of steps; evidence; the run's own answer
    assert shown.count("<script>document.title='pwned'</script>") > 10
    assert visible(HOSTILE) in shown
    assert "⟨U+202E⟩evil⟨U+202C⟩" in shown
    assert "\U0001f469\u200d\U0001f469\u200d\U0001f467 \u05e9\u05dc\u05d5\u05dd" in shown, (
        "emoji and scripts stay"
    )


def test_hostile_names_stay_text_too():
    """Ids, tools, roles, settings, decisions and questions, which a forged state may hold."""
    bad = HOSTILE[:200] + "\ud800"
    result = {
        "step_id": bad,
        "status": "done",
        "output": bad,
        "verdict": bad,
        "evidence": [{"tool": bad, "effect": bad}],
    }
    event = {"at": bad, "event": bad, "step_id": bad, "decision": bad, "by": bad, "difference": {bad: [bad]}}
    state = {
        "goal": bad,
        "status": bad,
        "plan": {
            "id": bad,
            "revision": bad,
            "steps": [{"id": bad, "call": {"tool": bad, "args": {bad: bad}}}],
        },
        "results": {
            bad: {**result, "criteria": [{"type": bad, "gap": bad}], "error": {"code": bad, "message": bad}}
        },
        "audit": [{**event, "trigger": bad, "evidence": [bad]}],
        "approval": {"decision": bad, "feedback": [bad], "grants": {"tools": [bad], "effects": [bad]}},
        "settings": {bad: bad, "approval": bad},
        "usage": {"model_calls": 1, "by_role": {bad: {"model_calls": 1}}},
        "final_answer": bad,
    }
    html = make_report(state, thread=bad)
    page = Page(html)
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "img"})
    assert page.text.count("<script>") > 20
    assert {a["href"] for a in page.named("a")} <= {f"#{name}" for name in page.ids}


def test_the_answer_is_rendered_without_links_images_or_html(small):
    html = write_report(small)
    answer = html[html.index('id="answer"') : html.index('id="plan"')]
    assert "<h4>Packing</h4>" in answer
    assert "<strong>Take</strong>" in answer
    assert "[tent](https://shop.example) &lt;b&gt;now&lt;/b&gt;" in answer
    assert "<a" not in answer


def test_a_stopped_run_is_not_said_to_run_elsewhere():
    record = run_record({"goal": "g", "status": "running"}, thread="t", status="stopped")
    shown = Page(write_report(record)).text
    assert "stopped before its end" in shown
    assert "elsewhere" not in shown


def test_cost_is_shown_where_there_is_one():
    spent = {
        "model_calls": 2,
        "total_tokens": 1200,
        "cost": 0.01234,
        "by_role": {"planner": {"model_calls": 2, "cost": 0.01234}},
    }
    step = {"id": "a", "call": {"tool": "t", "args": {}}, "depends_on": []}
    result = {"step_id": "a", "status": "done", "output": 1, "usage": {"cost": 0.5}}
    state = {"status": "done", "plan": {"steps": [step]}, "results": {"a": result}, "usage": spent}
    page = Page(make_report(state))
    assert "cost 0.5" in page.text
    assert page.text.count("0.01234") == 3
    assert "Cost" not in Page(make_report({**state, "usage": {}})).text


@pytest.mark.parametrize("form", ["html", "md"])
def test_what_each_model_was_used_for_is_shown(form):
    spent = {
        "model_calls": 2,
        "by_model": {"small-1": {"model_calls": 1, "cost": 0.25}, "big-1": {"model_calls": 1}},
    }
    step = {"id": "a", "task": "t", "tools": [], "model": "fast", "escalate": "strong", "depends_on": []}
    result = {"step_id": "a", "status": "done", "output": 1, "usage": spent}
    report = make_report(
        {"status": "done", "plan": {"steps": [step]}, "results": {"a": result}, "usage": spent}, format=form
    )
    said = Page(report).text if form == "html" else report
    assert said.count("small-1") >= 2, "of the step and of the run"
    assert "small-1: 1 model call, cost 0.25" in said


def test_a_long_output_is_cut_with_a_note_that_says_how_to_get_the_whole():
    step = {"id": "a", "call": {"tool": "t", "args": {}}}
    result = {"step_id": "a", "status": "done", "output": "z" * 50_000, "verdict": "met"}
    state = {"status": "done", "plan": {"steps": [step]}, "results": {"a": result}}
    page = Page(make_report(state, thread="my thread"))
    assert "… 30,000 more characters" in page.text
    assert "plan-execute show 'my thread' --step a" in page.text
    assert page.text.count("z") < 21_000
    assert "z" * 50_000 in make_report(state, format="json"), "a program gets everything"


def test_two_hundred_steps_are_drawn_and_fit_in_a_file_that_can_be_mailed(many):
    html = write_report(many)
    assert len(Page(html).named("a", "node")) == 200
    assert len(html) < 1_000_000
    assert "no route to host" in html


def test_a_plan_too_large_to_be_drawn_is_listed(monkeypatch):
    monkeypatch.setattr("plan_execute.report.html.MOST_DRAWN", 20)
    steps = [{"id": f"s{n}", "tools": [], "depends_on": []} for n in range(21)]
    page = Page(make_report({"status": "running", "plan": {"steps": steps}}))
    assert "21 steps are not drawn" in page.text
    assert len(page.named("details", "step")) == 21
