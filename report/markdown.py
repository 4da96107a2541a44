"""The report as Markdown: for a terminal, a pull request, a chat."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..safety.markdown import as_code, code_span, neutralise_links, plain_line
from ..safety.visible_text import one_line, visible
from ..state import decider_in_words
from ..tools.calls import last_line
from ..tools.texts import shortened as both_ends
from .drawings import instead_of
from .html_steps import KINDS
from .record import RunRecord
from .steps import StepRecord
from .story import Change, Decision
from .timeline import Piece
from .words import (
    OUTCOMES,
    Share,
    say_cost,
    say_count,
    say_critical_path,
    say_models,
    say_roles,
    say_seconds,
    say_time,
    say_timeline,
    say_usage,
    settings_that_matter,
    shortened,
    signature,
    way_to_output,
)

__all__ = ["write_markdown"]

_DRAWN_UP_TO = 80
"""Steps up to which the plan is drawn with Mermaid, which GitHub and others show."""
_CHART_UP_TO = 200
_CHART_COLUMNS = 40
_ANSWER_CHARACTERS = 200_000


def write_markdown(record: RunRecord) -> str:
    """Write the report of a run as Markdown (CommonMark with tables)."""
    share = Share.of(len(record["steps"]))
    sections = [
        ("What happened", _story(record)),
        ("Waiting for an answer", _questions(record)),
        ("Why the plan cannot run", _issues(record)),
        ("Answer", _answer(record)),
        ("Plan", _plan(record)),
        ("What ran when", _timeline(record)),
        ("Steps", [block for step in record["steps"] for block in _step(step, share, record["thread"])]),
        ("Decisions", _decisions(record)),
        ("What was spent", _usage(record)),
        (
            "Settings",
            [f"- {title}: {plain(value)}" for title, value in settings_that_matter(record["settings"])],
        ),
    ]
    blocks = [f"# {plain(record['goal']) or '(no goal)'}", *_head(record)]
    for title, body in sections:
        written = list(body)
        blocks += [f"## {title}", *written] if written else []
    blocks.append(f"---\n\n{signature(record)}")
    return "\n\n".join(_gather(blocks)) + "\n"


def _gather(blocks: Iterable[str]) -> Iterator[str]:
    """Put neighbouring items of a list into one block."""
    items: list[str] = []
    for block in blocks:
        if block.startswith("- "):
            items.append(block)
            continue
        if items:
            yield "\n".join(items)
            items = []
        yield block
    if items:
        yield "\n".join(items)


def plain(text: object) -> str:
    """Write a text as one line that means nothing but its words."""
    return plain_line(one_line(str(text)))


def code(text: object) -> str:
    """Write a text as inline code."""
    return code_span(one_line(str(text)))


def _block(value: Any, limit: int) -> str:
    shown, note = shortened(value, limit)
    return as_code(visible(shown)) + (f"\n\n{note}" if note else "")


# --- the head ----------------------------------------------------------------------------


def _head(record: RunRecord) -> Iterator[str]:
    counts = ", ".join(
        f"{count:,} {OUTCOMES[outcome].mark} {OUTCOMES[outcome].label}"
        for outcome in OUTCOMES
        if (count := record["outcomes"].get(outcome))
    )
    yield f"**{plain(record['status'])}** — {record['status_words']}"
    yield f"- Thread: {code(record['thread'])}"
    if record["started_at"]:
        yield f"- From {say_time(record['started_at'])} to {say_time(record['last_at'])}"
    if counts:
        yield f"- Steps: {counts}"
    if plan := record["plan"]:
        yield f"- Revision {plan['revision'] or 1}, {say_count(record['replans'], 'replan')}"
    if spent := say_usage(record["usage"]):
        yield f"- Spent: {', '.join(spent)}"


def _story(record: RunRecord) -> Iterator[str]:
    story = record["story"]
    for broken in story["broke"]:
        times = f" {broken['failures']} times" if broken["failures"] > 1 else ""
        error = plain(shortened(broken["error"], 300)[0])
        blocked = ", ".join(map(code, broken["blocked"]))
        not_run = f" Not run because of it: {blocked}." if blocked else ""
        failed = f"{code(broken['step_id'])} failed{times}: {error} – {plain(broken['then'])}."
        yield f"- **Broke:** {failed}{not_run}"
    if story["unverified"]:
        yield f"- **Not checked:** {', '.join(map(code, story['unverified']))}"
    for one in story["decided"]:
        about = f" ({code(one['step_id'])})" if one["step_id"] else ""
        waited = f", after {say_seconds(one['waited_s'])}" if (one["waited_s"] or 0) >= 1 else ""
        yield f"- **Decided:** {plain(one['who'] or 'nobody yet')} – {plain(one['did'])}{about}{waited}"
    for change in story["changed"]:
        yield f"- **Changed:** {_change(change)}"


def _change(change: Change) -> str:
    if change["kind"] == "call":
        return f"{code(shortened(change['said'], 200)[0])} by {code(change['step_id'])}"
    parts = [
        f"{sign} {', '.join(map(code, ids))}"
        for sign, ids in (("+", change["added"]), ("−", change["removed"]))
        if ids
    ]
    return f"{plain(change['said'])}{': ' if parts else ''}{'; '.join(parts)}"


def _questions(record: RunRecord) -> Iterator[str]:
    for question in record["questions"]:
        about = f" about {code(question['step_id'])}" if question["step_id"] else ""
        yield f"**{plain(question['title'])}**{about}"
        yield _quoted(question["description"])


def _quoted(words: str) -> str:
    """Quote Markdown that others wrote: without links, and with nothing that reaches beyond the quotation."""
    return "\n".join(f"> {line}".rstrip() for line in neutralise_links(visible(words), ()).split("\n"))


def _issues(record: RunRecord) -> Iterator[str]:
    yield from (
        f"- {code(issue.get('code'))} {plain(issue.get('message'))}" for issue in record["plan_issues"]
    )


def _answer(record: RunRecord) -> Iterator[str]:
    if record["answer"]:
        shown, note = shortened(record["answer"], _ANSWER_CHARACTERS)
        yield _quoted(shown)
        yield from [note] if note else []
    if record["output"] is not None:
        yield "Structured output:"
        yield _block(record["output"], _ANSWER_CHARACTERS)


# --- the plan and its time ---------------------------------------------------------------


def _plan(record: RunRecord) -> Iterator[str]:
    plan = record["plan"]
    if plan is None:
        return
    if record["refused_plan"]:
        yield "This plan was refused; nothing of it ran."
    if plan["rationale"]:
        yield plain(plan["rationale"])
    if record["inputs"]:
        yield "Inputs:"
        yield _block(record["inputs"], 2000)
    steps = [step for step in record["steps"] if step["in_plan"] or step["started_at"]]
    if 0 < len(steps) <= _DRAWN_UP_TO:
        yield _mermaid(steps)


def _mermaid(steps: Sequence[StepRecord]) -> str:
    return "\n".join(["```mermaid", mermaid_of(steps), "```"])


def mermaid_of(steps: Sequence[StepRecord]) -> str:
    """Write the plan as a Mermaid flowchart."""
    number = {step["id"]: at for at, step in enumerate(steps)}
    lines = ["flowchart TD"]
    for at, step in enumerate(steps):
        lines.append(f'  s{at}["{OUTCOMES[step["outcome"]].mark} {_label(step["id"])}"]:::{step["outcome"]}')
        lines += [f"  s{number[dep]} --> s{at}" for dep in step["depends_on"] if dep in number]
        lines += [f"  s{number[failed]} -.-> s{at}" for failed in instead_of(step, steps) if failed in number]
    used = dict.fromkeys(step["outcome"] for step in steps)
    lines += [f"  classDef {outcome} {_COLOURS[outcome]}" for outcome in used]
    return "\n".join(lines)


def _label(step_id: str) -> str:
    """Keep of a step's id what means nothing to Mermaid; a valid id stays as it is."""
    return "".join(char if char.isalnum() or char == "_" else "_" for char in step_id[:64]) or "_"


_COLOURS = {
    "done": "fill:#e3f5e8,stroke:#1a7f37,color:#1c2128",
    "empty": "fill:#dff3f6,stroke:#0f7483,color:#1c2128",
    "unverified": "fill:#fdf1d0,stroke:#8a5a00,color:#1c2128",
    "failed": "fill:#fde7e8,stroke:#c01c28,color:#1c2128",
    "waiting": "fill:#fdeadb,stroke:#a3460a,color:#1c2128",
    "blocked": "fill:#f0eafb,stroke:#6f42c1,color:#1c2128,stroke-dasharray:2 3",
    "skipped": "fill:#eceff2,stroke:#57606a,color:#1c2128,stroke-dasharray:5 3",
    "open": "fill:#ffffff,stroke:#57606a,color:#1c2128,stroke-dasharray:5 3",
}


def _timeline(record: RunRecord) -> Iterator[str]:
    timeline = record["timeline"]
    if not timeline["bars"]:
        return
    waits = " Dots: a person was asked." if timeline["waits"] else ""
    yield f"{say_timeline(timeline)} `*` is on the critical path.{waits}"
    yield "\n".join(["```text", *_chart(record), "```"])
    chain = " → ".join(code(link["step_id"]) for link in timeline["critical_path"])
    yield f"Critical path: {chain}"
    yield say_critical_path(timeline)
    if never := timeline["never_ran"]:
        yield f"Never ran: {', '.join(code(step_id) for step_id in never)}"


def _chart(record: RunRecord) -> Iterator[str]:
    timeline = record["timeline"]
    outcomes = {step["id"]: OUTCOMES[step["outcome"]].mark for step in record["steps"]}
    bars, total = timeline["bars"][:_CHART_UP_TO], timeline["seconds"] or 1.0
    waits = [wait for wait in timeline["waits"] if wait["step_id"] not in outcomes]
    room = max(map(len, [*(bar["step_id"] for bar in bars), *(wait["title"] for wait in waits)]), default=0)
    for bar in bars:
        drawn = _drawn(bar["pieces"], bar["waits"], total)
        mark = "*" if bar["critical"] else " "
        # A fence cannot end here: an id has no line break, and a line does not begin with it.
        name = f"{mark} {outcomes[bar['step_id']]} {one_line(bar['step_id']):<{room}}"
        waited = sum(end - start for start, end in bar["waits"])
        took = [say_seconds(bar["worked_s"])] if bar["pieces"] else []
        took += [f"{say_seconds(waited)} waiting"] if waited else []
        yield f"{name} |{drawn}| {' + '.join(took)}"
    for wait in waits:
        if True:
            drawn = _drawn((), [[wait["start_s"], wait["start_s"] + wait["seconds"]]], total)
            yield f"  ‖ {wait['title']:<{room}} |{drawn}| {say_seconds(wait['seconds'])}"
    if left_out := len(timeline["bars"]) - len(bars):
        yield f"… and {left_out:,} more"


def _drawn(worked: Sequence[Piece], waited: Sequence[Piece], total: float) -> str:
    """Draw work as blocks and waiting for people as dots."""
    columns = [" "] * _CHART_COLUMNS
    for sign, pieces in (("·", waited), ("█", worked)):
        for start, end in pieces:
            first = min(round(start / total * _CHART_COLUMNS), _CHART_COLUMNS - 1)
            last = max(first + 1, round(end / total * _CHART_COLUMNS))
            columns[first:last] = sign * (min(last, _CHART_COLUMNS) - first)
    return "".join(columns)


# --- steps -------------------------------------------------------------------------------


def _step(step: StepRecord, share: Share, thread: str) -> Iterator[str]:
    outcome = OUTCOMES[step["outcome"]]
    took = f", {say_seconds(step['seconds'])}" if step["started_at"] and step["seconds"] is not None else ""
    tries = f", {step['attempts']} attempts" if step["attempts"] > 1 else ""
    yield f"### {outcome.mark} {code(step['id'])} — {outcome.label}{took}{tries}"
    if step["task"] or step["sub_goal"]:
        yield plain(shortened(step["task"] or step["sub_goal"], share.brief)[0])
    yield from _facts(step, share)
    if step["has_output"]:
        yield "Output:"
        if step["artifact"] is None:
            yield _block(step["output"], share.text)
        else:
            yield _block(step["artifact"].get("preview"), share.text)
            size = f"{step['artifact'].get('bytes', 0):,} bytes in all"
            yield f"({size}; the whole: {code(way_to_output(thread, step['id']))})"


def _facts(step: StepRecord, share: Share) -> Iterator[str]:
    kind = KINDS[step["kind"]] + ("" if step["in_plan"] else ", of an earlier revision")
    yield f"- Kind: {kind}" + (f" {code(step['agent'])}" if step["agent"] else "")
    if step["call"]:
        args = shortened(_compact(step["call"].get("args")), share.brief)[0]
        yield f"- Call: {code(step['call'].get('tool'))} {code(args)}"
    elif step["tools"]:
        yield f"- Tools granted: {', '.join(map(code, step['tools']))}"
    if step["depends_on"]:
        yield f"- Depends on: {', '.join(map(code, step['depends_on']))}"
    yield from (
        f"- {name}: {code(shortened(_compact(value), share.brief)[0])}"
        for name, value in step["options"].items()
    )
    for given in step["inputs"]:
        value = (
            code(shortened(_compact(given["value"]), 300)[0])
            if "value" in given
            else plain(given.get("missing", ""))
        )
        yield f"- Input {code('${' + given['expression'] + '}')}: {value}"
    if error := step["error"]:
        yield f"- Error: {code(error.get('code'))} {plain(error.get('message'))}"
    yield from (_criterion(one) for one in step["criteria"])
    yield from (
        f"- Item {item.get('index')} failed: {_error(item.get('error'))}"
        for item in step["failed_items"][: share.calls]
    )
    for call in step["evidence"][: share.calls]:
        yield _tool_call(call)
    if (left_out := len(step["evidence"]) - share.calls) > 0:
        yield f"- … and {say_count(left_out, 'more call')}"
    yield from (
        f"- Attempt {made.get('number')}: {_error(made.get('error'))}"
        + (f" → {plain(made['decision'])}" if made.get("decision") else "")
        for made in step["tries"]
    )
    if spent := say_usage(step["usage"]):
        yield f"- Spent: {', '.join(spent)}"
    yield from (f"- Model {plain(said)}" for said in say_models(step["usage"]))


def _compact(value: Any) -> str:
    return value if isinstance(value, str) else " ".join(shortened(value, 10_000)[0].split())


def _error(error: Mapping[str, Any] | None) -> str:
    return f"{code(error.get('code'))} {plain(last_line(str(error.get('message'))))}" if error else "ended"


def _criterion(one: Mapping[str, Any]) -> str:
    verdict = {True: "✓ met", False: "✗ not met", None: "? could not be checked"}[one["passed"]]
    wanted = f" {code(shortened(_compact(one['wanted']), 300)[0])}" if one["wanted"] is not None else ""
    gap = f" — {plain(one['gap'])}" if one["gap"] else ""
    return f"- Criterion {plain(one['type'])}{wanted}: {verdict if one['checked'] else '○ not checked'}{gap}"


def _tool_call(call: Mapping[str, Any]) -> str:
    args = code(shortened(_compact(call.get("args") or {}), 300)[0])
    said = (
        f" → {plain(both_ends(_compact(call.get('output_preview') or ''), 300))}"
        if call.get("output_preview")
        else ""
    )
    effect = f" [{plain(call.get('effect'))}]" if call.get("effect") else ""
    return f"- Evidence: {'✓' if call.get('ok') else '✗'} {code(call.get('tool'))}{effect} {args}{said}"


# --- decisions and what was spent --------------------------------------------------------


def _decisions(record: RunRecord) -> Iterator[str]:
    for one in record["approvals"]:
        by = f" by {plain(decider_in_words(one['by']))}" if one.get("by") else ""
        yield f"- Approval on record: {plain(one.get('decision'))}{by} {say_time(one.get('at'))}".rstrip()
    yield from (f"- Feedback: {plain(said)}" for said in record["feedback"])
    for number, decision in enumerate(record["decisions"], start=1):
        yield _decision(number, decision)


def _decision(number: int, one: Decision) -> str:
    head = [f"**{plain(one['title'])}**", *([code(one["decision"])] if one["decision"] else [])]
    head += [f"step {code(one['step_id'])}"] if one["step_id"] else []
    head += [f"by {plain(one['by'])}"] if one["by"] else []
    head += [f"revision {one['revision']}"] if one["revision"] else []
    head += [say_time(one["at"])] + (["(an earlier goal)"] if one["earlier_goal"] else [])
    lines = [f"{number}. {', '.join(head)}"]
    lines += [f"   - {plain(shortened(one['trigger'], 1000)[0])}"] if one["trigger"] else []
    lines += [
        f"   - {plain(shortened(piece, 500)[0])}" for piece in one["evidence"] if piece != one["trigger"]
    ]
    lines += [f"   - {plain(what)}: {', '.join(map(code, ids))}" for what, ids in one["difference"].items()]
    spent = say_usage(one["usage"])
    return "\n".join([*lines, *([f"   - spent by then: {', '.join(spent)}"] if spent else [])])


def _usage(record: RunRecord) -> Iterator[str]:
    yield from (f"- {plain(line)}" for line in record["spent"])
    for what in ("role", "model"):
        if used := record["usage"].get(f"by_{what}"):
            yield ""
            yield _usage_table(what, used)


def _usage_table(what: str, spent: Mapping[str, Any]) -> str:
    lines = [
        f"| {what} | did | model calls | tokens in | tokens out | cost |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for name, used in sorted(spent.items()):
        cost = say_cost(used["cost"]) if used.get("cost") is not None else "–"
        cells = [
            say_roles(used),
            *(f"{used.get(part) or 0:,}" for part in ("model_calls", "input_tokens", "output_tokens")),
        ]
        lines.append(f"| {plain(name).replace('|', '/')} | {' | '.join(cells)} | {cost} |")
    return "\n".join(lines)
