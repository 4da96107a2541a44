"""The page of one run: its plan drawn as it runs, and all that was asked, said and decided."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote

from ..people.questions import OpenQuestion
from ..report.html import PARTS, part
from ..report.html_facts import Fact, fact_list, spent_facts, status_badge
from ..report.html_steps import step_section
from ..report.markup import Markup, element, join
from ..report.record import RunRecord
from ..report.steps import StepRecord
from ..report.words import OUTCOMES, Share, say_seconds
from ..state import FINAL_STATUSES
from .asking import question_card
from .frame import Frame, note
from .history import moments_list, past_panel
from .threads import Past

__all__ = ["Shown", "anchors_of", "one_run", "step_drawer", "time_chart"]

_TO_COME = ("running", "done", "failed", "waiting")


@dataclass(frozen=True)
class Shown:
    """What is shown of a run: the record, and what the record does not hold.

    Attributes:
        status: As in the list of runs.
        busy: Whether this process runs it.
        words: The answer as far as a model has written it.
        fault: Why a run of this process stopped.
        kept: Questions whose answers have come and wait.
        impossible: Decisions that could not be carried out.
        refused: The answer that was not taken: the question, why, and what the form held.
        past: The moment that is shown; None for now.
        version: That of the run's `Live` before all this was read.
    """

    record: RunRecord
    status: str
    busy: bool
    questions: Sequence[OpenQuestion]
    kept: Collection[str]
    impossible: Collection[str]
    words: str = ""
    fault: str = ""
    refused: tuple[str, str, Mapping[str, str]] | None = None
    version: int = 0
    past: Past | None = None


def anchors_of(record: RunRecord) -> dict[str, str]:
    """Name each step's place, so that a browser can find it by the step's id."""
    return {step["id"]: f"step-{step['id']}" for step in record["steps"]}


def one_run(frame: Frame, shown: Shown, *, rest_only: bool = False) -> str:
    """Write the page, without the drawings if the browser has them. A past moment is read-only."""
    record, past, page = shown.record, shown.past, frame
    title, thread = record["goal"] or record["thread"], record["thread"]
    panel: Markup | str = ""
    if past is not None:
        panel = past_panel(frame, record, past.moments, past.number)
        if not rest_only:
            panel = join([panel, moments_list(frame, thread, past.moments, past.number)])
        frame = replace(frame, read_only=True)
    aside = element(
        "div",
        _live("questions", _questions(frame, shown)),
        _live("answer", _answer(shown), _titled("issues", record)),
        _live("conversation", _titled("conversation", record)),
        _live("decisions", _titled("decisions", record)),
        _live("usage", _titled("usage", record)),
        _live("settings", _titled("settings", record)),
        class_="aside",
    )
    drawings = "" if rest_only else _drawings(record)
    follows = f"{frame.link('runs', thread, 'events')}?since={shown.version}"
    return page.document(
        title[:80],
        panel,
        _head(frame, shown),
        element("div", drawings, aside, class_="columns"),
        _drawer(),
        data_follows=follows if past is None else None,
        data_run=frame.link("runs", thread),
        data_outcomes=json.dumps({name: [one.mark, one.label] for name, one in OUTCOMES.items()}),
    )


def _live(key: str, *parts: object) -> Markup:
    return element("section", *parts, id=key, data_live=True)


def _titled(key: str, record: RunRecord) -> Markup | str:
    body = part(key, record, anchors_of(record))
    return join([element("h2", PARTS[key][0]), body]) if body else ""


def _answer(shown: Shown) -> Markup | str:
    """Write the answer; while a model writes it, the text so far."""
    if not shown.words:
        return _titled("answer", shown.record)
    words = element("div", shown.words, id="words", class_="panel answer", dir="auto", tabindex="0")
    return join([element("h2", PARTS["answer"][0], " ", element("small", "is being written")), words])


# --- the head ----------------------------------------------------------------------------


def _head(frame: Frame, shown: Shown) -> Markup:
    record = shown.record
    words = element("span", record["reason"] or "", class_="muted", dir="auto")
    links: Markup | str = ""
    if shown.past is None:
        run, report = (frame.link("runs", record["thread"], *more) for more in ((), ("report",)))
        # The command line asks for the thread's id.
        thread = element("code", record["thread"], title="thread", class_="muted")
        history = element("a", "History", href=f"{run}?moment=last")
        ways = [element("a", "Report", href=report), history, thread]
        links = join(ways, " ")
    return element(
        "div",
        element("h1", record["goal"] or "(no goal)", dir="auto"),
        element(
            "div",
            element(
                "p", status_badge(shown.status, maybe_elsewhere=True), " ", links, " ", words, class_="status"
            ),
            note(f"It stopped: {shown.fault}") if shown.fault else "",
            _actions(frame, shown),
            _facts(record),
            id="head",
            data_live=True,
        ),
    )


def _actions(frame: Frame, shown: Shown) -> Markup:
    thread, status = shown.record["thread"], shown.status
    failed = any(step["outcome"] in ("failed", "blocked") for step in shown.record["steps"])
    buttons = []
    if status == "stopped":
        buttons.append(("go-on", "Go on", "approve"))
    if shown.busy:
        buttons.append(("stop", "Stop", ""))
    if status not in FINAL_STATUSES:
        buttons.append(("cancel", "End this run", ""))
    if status in ("done", "partial", "failed") and failed:
        buttons.append(("retry", "Retry what failed", ""))
    forms: list[object] = [
        frame.form(frame.link("runs", thread, action), element("button", words, class_=kind), class_="inline")
        for action, words, kind in buttons
    ]
    if shown.record["plan"] and not frame.read_only:
        forms.append(element("a", "Edit the plan", href=frame.link("runs", thread, "plan")))
    return element("div", *forms, class_="actions")


def _facts(record: RunRecord) -> Markup:
    usage, counts = record["usage"], record["outcomes"]
    done = sum(counts.get(outcome, 0) for outcome in ("done", "empty", "unverified"))
    seconds = say_seconds(usage.get("seconds") or record["timeline"]["active_s"] or None)
    facts = [
        Fact("Steps done", f"{done} of {sum(counts.values())}", "done"),
        Fact("Running time", seconds, "seconds"),
        *spent_facts({"model_calls": 0, "total_tokens": 0, "tool_calls": 0, **usage}),
    ]
    return fact_list(one._replace(value=one.value or "–") for one in facts)


def _questions(frame: Frame, shown: Shown) -> Markup | str:
    refused_id, why, typed = shown.refused or ("", "", {})
    cards = [
        question_card(
            frame,
            shown.record["thread"],
            question,
            impossible=shown.impossible,
            busy=shown.busy,
            kept=question.id in shown.kept,
            refused=why if question.id == refused_id else "",
            typed=typed if question.id == refused_id else {},
        )
        for question in shown.questions
    ]
    return join([element("h2", "Waiting for an answer"), *cards]) if cards else ""


# --- the drawings ------------------------------------------------------------------------


def _drawings(record: RunRecord) -> Markup:
    anchors = anchors_of(record)
    ids = [element("option", value=step["id"]) for step in record["steps"]]
    find = element(
        "form",
        element("label", "Step ", element("input", name="step", list="steps", autocomplete="off")),
        element("datalist", *ids, id="steps"),
        element("button", "Show"),
        id="find",
    )
    zoom = element(
        "div",
        *(
            element("button", words, type="button", data_zoom=by, aria_label=label)
            for words, by, label in (
                ("−", "out", "Smaller"),
                ("+", "in", "Larger"),
                ("fit", "fit", "Fit the plan in"),
            )
        ),
        class_="zoom",
        role="group",
        aria_label="Size of the drawing",
    )
    tools = element(
        "div", zoom, find, element("p", id="now", class_="now muted", aria_live="off"), class_="tools"
    )
    # The key names what the drawing will show, too.
    to_come = {} if record["ended"] else dict.fromkeys(_TO_COME, 0)
    shown: RunRecord = {**record, "outcomes": {**record["outcomes"], **to_come}}
    plan = part("plan", shown, anchors) or element("p", "There is no plan yet.", class_="empty-page")
    return element(
        "div",
        element("section", element("h2", "Plan"), tools, element("div", plan, id="plan", data_drawn=True)),
        time_chart(record),
        class_="drawings",
    )


def time_chart(record: RunRecord) -> Markup:
    """Write what ran when."""
    chart = part("timeline", record, anchors_of(record))
    nothing = element("p", "Nothing has ended yet.", class_="muted")
    title = element("h2", PARTS["timeline"][0])
    return element("section", title, chart or nothing, id="timeline", data_drawn=True)


# --- one step ----------------------------------------------------------------------------


def _drawer() -> Markup:
    close = element("button", "×", type="button", id="close", aria_label="Close")
    return element(
        "aside", close, element("div", id="step"), id="drawer", aria_label="Step", tabindex="-1", hidden=True
    )


def step_drawer(record: RunRecord, step_id: str, frame: Frame, *, runs: bool) -> Markup | None:
    """Write all about one step, and what can be done about it; None: there is no such step.

    Args:
        record: The run.
        step_id: The step.
        frame: The page.
        runs: Whether this process runs it; a change then stops it first.
    """
    step = next((one for one in record["steps"] if one["id"] == step_id), None)
    if step is None:
        return None
    critical = any(link["step_id"] == step_id for link in record["timeline"]["critical_path"])
    section = step_section(
        step, "step-body", anchors_of(record), Share.of(1), record["thread"], critical=critical, opened=True
    )
    return join([element("h2", step_id), _ways_with(step, record["thread"], frame, runs=runs), section])


def _ways_with(step: StepRecord, thread: str, frame: Frame, *, runs: bool) -> Markup | str:
    if frame.read_only or not step["in_plan"]:
        return ""
    parts: list[object] = []
    if step["status"]:
        retry = frame.form(
            frame.link("runs", thread, "retry"),
            element("input", type="hidden", name="step", value=step["id"]),
            element("input", type="hidden", name="stop", value="1") if runs else "",
            # It may have ended when the order comes.
            element("input", type="hidden", name="ended", value=step["finished_at"] or ""),
            element("button", "Stop, and run this step again" if runs else "Run this step again"),
            class_="inline",
        )
        parts.append(retry)
    if step["status"] != "done":  # what is finished stays as it is
        edit = f"{frame.link('runs', thread, 'plan')}?step={quote(step['id'])}"
        parts.append(element("a", "Edit or skip it", href=edit))
    return element("div", *parts, class_="actions")
