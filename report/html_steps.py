"""The section of one step in the HTML report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..safety.visible_text import one_line
from ..tools.calls import last_line
from ..tools.texts import shortened as both_ends
from .markup import Markup, element, join
from .steps import Criterion, Given, StepRecord, Try
from .words import (
    OUTCOMES,
    Share,
    say_count,
    say_models,
    say_seconds,
    say_time,
    say_usage,
    shortened,
    way_to_output,
)

__all__ = ["KINDS", "badge", "step_links", "step_section", "value_block"]

Json = Any

KINDS = {
    "call": "tool call, no model",
    "tools": "agent",
    "agent": "named agent",
    "ask": "question to a person",
    "plan": "sub-plan",
    "unknown": "not on record",
}
_VERDICTS = {True: "✓ met", False: "✗ not met", None: "? could not be checked"}
_OPEN_AT_FIRST = {"failed", "waiting"}


def badge(outcome: str, *more: object, **attributes: object) -> Markup:
    """Write how something ended: mark and word, in its colour."""
    mark, label, _ = OUTCOMES[outcome]
    name = "a" if "href" in attributes else "span"
    return element(name, f"{mark} {label}", *more, class_=f"badge {outcome}", **attributes)


def step_links(step_ids: Sequence[str], anchors: Mapping[str, str]) -> Markup:
    """Name steps, each a link to its section if it has one."""
    return join((_step_link(step_id, anchors) for step_id in step_ids), ", ")


def _step_link(step_id: str, anchors: Mapping[str, str]) -> Markup:
    name = element("bdi", step_id)
    return element("a", name, href=f"#{anchors[step_id]}") if step_id in anchors else element("code", name)


def value_block(value: Json, limit: int, whole: object = "") -> Markup:
    """Show a value as text or indented JSON, cut with a note that says where the ``whole`` is."""
    shown, note = shortened(value, limit)
    block = element("pre", shown, dir="auto")
    if not note:
        return block
    return join([block, element("p", note, "; the whole: " if whole else "", whole, class_="cut")])


def step_section(
    step: StepRecord,
    anchor: str,
    anchors: Mapping[str, str],
    share: Share,
    thread: str,
    *,
    critical: bool,
    opened: bool = False,
) -> Markup:
    """Write everything about one step, folded unless it is ``opened`` or somebody has to look at it.

    The ``anchor`` is inside the folded part, so that a browser that goes to it unfolds the section.
    """
    body = element("div", _fields(step, anchors, share, thread), class_="body", id=anchor)
    opened = opened or step["outcome"] in _OPEN_AT_FIRST
    return element(
        "details", _summary(step, critical=critical), body, class_=f"step {step['outcome']}", open=opened
    )


def _summary(step: StepRecord, *, critical: bool) -> Markup:
    outcome = OUTCOMES[step["outcome"]]
    end = [outcome.label, say_seconds(step["seconds"]) if step["started_at"] else ""]
    end += [f"{step['attempts']} attempts" if step["attempts"] > 1 else ""]
    said = step["task"] or step["sub_goal"] or ""
    return element(
        "summary",
        element("span", outcome.mark, class_="mark", aria_hidden="true"),
        element("b", element("bdi", step["id"] or "(no id)")),
        element("span", "of an earlier revision", class_="muted") if not step["in_plan"] else "",
        element("span", "◆", class_="critical-mark mono", title="on the critical path") if critical else "",
        element("span", one_line(said)[:240], class_="said", dir="auto"),
        element("span", " · ".join(word for word in end if word), class_="end"),
    )


def _fields(step: StepRecord, anchors: Mapping[str, str], share: Share, thread: str) -> Markup:
    rows: list[tuple[str, object]] = [
        ("Task", _paragraph(step["task"], share.text)),
        ("Kind", _kind(step)),
        ("Call", _call(step, share)),
        ("Goal of its own", _paragraph(step["sub_goal"] or "", share.text)),
        (
            "Tools granted",
            join((element("code", name) for name in step["tools"]), " ") if step["tools"] else "",
        ),
        ("Depends on", step_links(step["depends_on"], anchors) if step["depends_on"] else ""),
        *_options(step, share),
        ("Inputs", _given(step["inputs"], share)),
        ("Error", _error(step["error"])),
        ("Output", _output(step, share, thread)),
        ("Items that failed", _failed_items(step["failed_items"], share)),
        ("Criteria", _criteria(step["criteria"], share)),
        ("Evidence", _evidence(step["evidence"], share)),
        ("Attempts", _attempts(step)),
        ("Time", _time(step)),
        ("Spent", " · ".join(say_usage(step["usage"]))),
        ("Models", "; ".join(say_models(step["usage"]))),
    ]
    written = [join([element("dt", name), element("dd", value)]) for name, value in rows if value]
    return element("dl", *written, class_="fields")


def _paragraph(words: str, limit: int) -> Markup | str:
    shown, note = shortened(words, limit)
    if not shown:
        return ""
    return join([element("span", shown, dir="auto", class_="said"), _cut(note)])


def _cut(note: str) -> Markup:
    return element("span", f" {note}", class_="cut") if note else Markup("")


def _kind(step: StepRecord) -> Markup:
    kind = KINDS[step["kind"]] + ("" if step["in_plan"] else ", of an earlier revision")
    named = element("code", step["agent"]) if step["agent"] else ""
    verdict = f" · verdict {step['verdict']}" if step["verdict"] else ""
    return join([kind, " " if named else "", named, verdict])


def _call(step: StepRecord, share: Share) -> Markup | str:
    if not step["call"]:
        return ""
    args = step["call"].get("args")
    tool = element("code", str(step["call"].get("tool")))
    return join([tool, value_block(args, share.brief)]) if args else tool


def _options(step: StepRecord, share: Share) -> list[tuple[str, object]]:
    names = {
        "for_each": "Once for each of",
        "when": "Only when",
        "else_of": "Instead of",
        "if_failed": "If one fails of",
        "on_failure": "On failure",
        "approve": "Asks first",
        "ask": "Asks",
        "confirm": "Confirmed with its arguments",
        "model": "Model",
        "escalate": "Tries again with",
    }
    return [
        (names.get(name, name), element("code", shortened(value, share.brief)[0]))
        for name, value in step["options"].items()
    ]


def _given(given: Sequence[Given], share: Share) -> Markup | str:
    if not given:
        return ""
    return element("div", *(_one_given(one, share) for one in given))


def _one_given(one: Given, share: Share) -> Markup:
    name = element("code", "${" + one["expression"] + "}")
    if "value" not in one:
        return element("p", name, " ", element("span", one.get("missing", ""), class_="muted"))
    shown, note = shortened(one["value"], share.brief)
    if len(shown) <= 80 and "\n" not in shown:
        return element("p", name, " = ", element("code", shown if shown else '""', dir="auto"))
    return element("div", name, element("pre", shown, dir="auto"), _cut(note))


def _error(error: Mapping[str, Any] | None, *, brief: bool = False) -> Markup | str:
    if not error:
        return ""
    code = element("code", str(error.get("code")))
    message = last_line(str(error.get("message"))) if brief else str(error.get("message"))
    return element("span", code, " ", element("span", message, dir="auto"), class_="error")


def _output(step: StepRecord, share: Share, thread: str) -> Markup | str:
    if not step["has_output"]:
        return ""
    way = element("code", way_to_output(thread, step["id"]))
    if step["artifact"] is None:
        return value_block(step["output"], share.text, way)
    about = step["artifact"]
    size = f"{about.get('type')}, {about.get('bytes', 0):,} bytes"
    items = f", {say_count(about['items'], 'item')}" if isinstance(about.get("items"), int) else ""
    return join(
        [
            element("p", f"Kept outside the state ({size}{items}). It begins:", class_="muted"),
            element("pre", str(about.get("preview")), dir="auto"),
            element("p", "The whole: ", way, class_="cut"),
        ]
    )


def _failed_items(items: Sequence[Mapping[str, Any]], share: Share) -> Markup | str:
    if not items:
        return ""
    listed = [
        element(
            "li", f"[{item.get('index')}] ", _error(item.get("error")), f" ({item.get('attempts')} attempts)"
        )
        for item in items[: share.calls]
    ]
    return element("ul", *listed, _more(len(items), share.calls, "item"))


def _more(count: int, shown: int, thing: str) -> Markup | str:
    return (
        element("li", f"… and {say_count(count - shown, f'more {thing}')}", class_="cut")
        if count > shown
        else ""
    )


def _criteria(criteria: Sequence[Criterion], share: Share) -> Markup | str:
    return element("ul", *(_criterion(one, share) for one in criteria)) if criteria else ""


def _criterion(one: Criterion, share: Share) -> Markup:
    verdict = _VERDICTS[one["passed"]] if one["checked"] else "○ not checked"
    kind = {True: "done", False: "failed", None: "unverified"}[one["passed"]] if one["checked"] else "open"
    wanted = one["wanted"]
    said = element("code", shortened(wanted, share.brief)[0], dir="auto") if wanted is not None else ""
    gap = join([" — ", element("span", one["gap"], dir="auto")]) if one["gap"] else ""
    return element("li", element("span", verdict, class_=f"badge {kind}"), " ", one["type"], " ", said, gap)


def _evidence(calls: Sequence[Mapping[str, Any]], share: Share) -> Markup | str:
    if not calls:
        return ""
    listed = [_tool_call(call, share) for call in calls[: share.calls]]
    return element("ul", *listed, _more(len(calls), share.calls, "call"), class_="calls")


def _tool_call(call: Mapping[str, Any], share: Share) -> Markup:
    ok = bool(call.get("ok"))
    effect = str(call.get("effect") or "")
    args, note = shortened(call.get("args") or {}, share.brief)
    said = both_ends(call.get("output_preview") or "", share.brief)
    return element(
        "li",
        element(
            "span", "✓" if ok else "✗", class_="" if ok else "error", title="succeeded" if ok else "failed"
        ),
        " ",
        element("code", str(call.get("tool"))),
        " ",
        element("span", effect, class_=f"effect {effect}"),
        element("pre", args, dir="auto") if call.get("args") else "",
        _cut(note),
        element("div", "→ ", element("span", said, dir="auto")) if said else "",
    )


def _attempts(step: StepRecord) -> Markup | str:
    if step["attempts"] < 2 and not step["tries"]:
        return ""
    count = say_count(step["attempts"], "attempt") if step["attempts"] else ""
    return join([count, element("ul", *map(_attempt, step["tries"])) if step["tries"] else ""])


def _attempt(made: Try) -> Markup:
    decided = f" → {made['decision']}" if made.get("decision") else ""
    by = f" by {made['by']}" if made.get("by") and decided else ""
    at = f"Attempt {made.get('number')}, {say_time(made.get('started_at'))}: "
    return element("li", at, _error(made.get("error"), brief=True) or "ended", decided, by)


def _time(step: StepRecord) -> str:
    if not step["started_at"]:
        return ""
    began = say_time(step["started_at"])
    if step["seconds"] is None:
        return f"since {began}"
    waited = f", and {say_seconds(step['waited_s'])} waiting for a person" if step["waited_s"] else ""
    return f"{say_seconds(step['seconds'])}, from {began}{waited}"
