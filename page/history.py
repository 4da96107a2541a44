"""A run as it was: the moments that LangGraph has kept of it, and what each of them changed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ..errors import known
from ..report.markup import Markup, element, join
from ..report.steps import outcome_of
from ..report.words import OUTCOMES, event_title, say_count, say_time
from ..state import decider_in_words
from .frame import Frame

if TYPE_CHECKING:
    from langgraph.types import StateSnapshot

    from ..graph.control import Outlook
    from ..report.record import RunRecord

__all__ = [
    "AFTER",
    "Moment",
    "address",
    "as_of",
    "checkpoint_of",
    "fork_page",
    "moments_list",
    "moments_of",
    "past_panel",
]

AFTER = "@"
"""Separates the checkpoint from the step in a moment's name."""


@dataclass(frozen=True)
class Moment:
    """Something that happened in a run, after which it can be seen as it was.

    LangGraph keeps a checkpoint when all steps that were sent together have ended. The moments in between
    are made from the times of the results.

    Attributes:
        at: Its name in addresses: a checkpoint's id, followed by the step whose end it is, if any.
        when: When it was, ISO 8601.
        words: What happened.
        forks_from: The checkpoint from which a run can go on; "" if the run had ended.
        left: Whether the run later went on from an earlier moment, so that this one is on an old branch.
    """

    at: str
    when: str
    words: str
    forks_from: str
    left: bool = False


def checkpoint_of(snapshot: StateSnapshot) -> str:
    """Return the id of a state's checkpoint."""
    return str(snapshot.config["configurable"].get("checkpoint_id") or "")


def moments_of(history: Sequence[StateSnapshot]) -> list[Moment]:
    """List what happened, oldest first.

    Args:
        history: The states of the thread, newest first.
    """
    by_id = {checkpoint_of(one): one for one in history}
    kept, one = set[str](), history[0] if history else None
    while one is not None:
        kept.add(checkpoint_of(one))
        one = by_id.get(_parent(one))
    return [
        moment
        for one in reversed(history)
        for moment in _moments(one, by_id.get(_parent(one)), left=checkpoint_of(one) not in kept)
    ]


def _parent(snapshot: StateSnapshot) -> str:
    return str(((snapshot.parent_config or {}).get("configurable") or {}).get("checkpoint_id") or "")


def _moments(one: StateSnapshot, before: StateSnapshot | None, *, left: bool) -> Iterator[Moment]:
    values, earlier = one.values, before.values if before is not None else {}
    here, created = checkpoint_of(one), str(one.created_at or "")
    old, since = earlier.get("results") or {}, str(before.created_at if before is not None else "")
    new = {step: result for step, result in (values.get("results") or {}).items() if old.get(step) != result}
    kept = [step for step, result in new.items() if "" < _ended(result) < since]
    for step in sorted(new.keys() - kept, key=lambda step: _ended(new[step])):
        label = OUTCOMES[outcome_of(new[step])].label
        when = _ended(new[step]) or created
        yield Moment(f"{here}{AFTER}{step}", when, f"{step} {label}", _parent(one), left)
    audit, already = values.get("audit") or [], earlier.get("audit") or []
    words = [_event(event) for event in audit[len(already) :]]
    if kept:
        words.append(f"Kept from before: {known(kept, limit=10)}")
    if values.get("goal") and (before is None or not earlier.get("goal") or _begins(before)):
        words.insert(0, "The goal was given")
    if words:
        yield Moment(here, created, "; ".join(words), here if one.tasks else "", left)


def _ended(result: Mapping[str, Any]) -> str:
    return str(result.get("finished_at") or "")


def _begins(before: StateSnapshot) -> bool:
    return (before.metadata or {}).get("source") == "input"


def _event(event: Mapping[str, Any]) -> str:
    decision = str(event.get("decision") or "")
    about = f": {decision}" if event.get("event") in ("evaluated", "step_failure", "finished") else ""
    step = f" ({event['step_id']})" if event.get("step_id") else ""
    by = decider_in_words(event.get("by"))
    who = f" by {by.removeprefix('person').strip() or 'a person'}" if by.startswith("person") else ""
    return f"{event_title(event)}{about}{step}{who}"


def as_of(snapshot: StateSnapshot, at: str) -> StateSnapshot:
    """Take away from a checkpoint's state what had not ended yet when the named step did."""
    step = at.partition(AFTER)[2]
    results = snapshot.values.get("results") or {}
    if step not in results:
        return snapshot
    until = _ended(results[step])
    then = {name: result for name, result in results.items() if "" < _ended(result) <= until or name == step}
    return snapshot._replace(values={**snapshot.values, "results": then}, interrupts=())


# --- what is shown of it -----------------------------------------------------------------


def past_panel(frame: Frame, record: RunRecord, moments: Sequence[Moment], here: int) -> Markup:
    """Say that a page shows the past, with links to other moments and to now.

    It tells the browser which plan is drawn and how each step stood, so that only colours need to change.
    """
    thread = record["thread"]
    moment, run = moments[here], frame.link("runs", thread)

    def link(words: str, to: int, rel: str) -> Markup:
        there = 0 <= to < len(moments)
        return element("a", words, href=address(frame, thread, moments[to]) if there else None, rel=rel)

    which = " on a branch that was left behind" if moment.left else ""
    said = [element("b", f"As it was{which}"), f" at {say_time(moment.when)}: "]
    slider = element(
        "input",
        type="range",
        name="moment",
        min="1",
        max=len(moments),
        value=here + 1,
        aria_label="Moment",
        aria_valuetext=f"{here + 1} of {len(moments)}: {moment.words}",
    )
    scrub = element(
        "form",
        link("← Earlier", here - 1, "prev"),
        slider,
        link("Later →", here + 1, "next"),
        element("span", f"{here + 1:,} of {len(moments):,}", class_="muted count-of"),
        element("button", "Show"),
        method="get",
        action=run,
        id="scrub",
    )
    ways = [element("a", "Back to now", href=run)]
    if moment.forks_from and not frame.read_only:
        target = f"{frame.link('runs', thread, 'fork')}?at={quote(moment.at)}"
        ways.append(element("a", "Go on from here …", href=target))
    return element(
        "section",
        element("p", *said, element("span", moment.words, dir="auto"), role="status"),
        scrub,
        element("p", join(ways, " "), class_="buttons"),
        id="past",
        class_="panel past",
        aria_label="As it was",
        data_live=True,
        data_plan=json.dumps([step["id"] for step in record["steps"]]),
        data_steps=json.dumps({step["id"]: step["outcome"] for step in record["steps"]}),
    )


def moments_list(frame: Frame, thread: str, moments: Sequence[Moment], here: int) -> Markup:
    """List all moments, each as a link."""
    listed = [
        element(
            "li",
            element("time", say_time(one.when), datetime=one.when),
            " ",
            element(
                "a",
                one.words,
                href=address(frame, thread, one),
                aria_current="step" if number == here else None,
                dir="auto",
            ),
            element("span", " (left behind)", class_="muted") if one.left else "",
        )
        for number, one in enumerate(moments)
    ]
    summary = element("summary", f"All {say_count(len(moments), 'moment')}")
    return element("details", summary, element("ol", *listed, class_="moments", tabindex="0"), id="moments")


def address(frame: Frame, thread: str, moment: Moment) -> str:
    """Return where a run is shown as it was then."""
    return f"{frame.link('runs', thread)}?at={quote(moment.at)}"


def fork_page(frame: Frame, thread: str, moment: Moment, outlook: Outlook) -> str:
    """Ask whether a run is to go on from an earlier moment, and say which steps stay and which run."""
    said = [
        f"The run goes on from {say_time(moment.when)}: {moment.words}.",
        "A new plan is written first." if outlook.plans else "",
        f"Kept, and not run again: {known(outlook.kept, limit=40)}." if outlook.kept else "",
        f"These steps run: {known(outlook.runs, limit=40)}." if outlook.runs else "",
        "You are asked before a write is repeated that was made, or may have been made. "
        "Questions that were answered after this moment are asked again.",
        "What the run has done since then stays in its history.",
    ]
    form = frame.form(
        frame.link("runs", thread, "fork"),
        element("input", type="hidden", name="at", value=moment.at),
        element("button", "Go on from here", class_="approve"),
        " ",
        element("a", "Leave it as it is", href=address(frame, thread, moment)),
        class_="buttons",
    )
    title = "Go on from an earlier moment"
    return frame.document(
        title, element("h1", title), *[element("p", words, dir="auto") for words in said if words], form
    )
