"""The report as one HTML file that needs nothing else: no script, no font, no request."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from ..safety.visible_text import one_line, visible
from .drawings import MOST_DRAWN, draw_gantt, draw_plan, fit
from .html_facts import Fact, fact_list, spent_facts, status_badge
from .html_steps import badge, step_links, step_section, value_block
from .markup import Markup, element, join
from .record import RunRecord
from .story import Break, Change, Decided, Decision
from .words import (
    OUTCOMES,
    Share,
    say_cost,
    say_count,
    say_critical_path,
    say_roles,
    say_seconds,
    say_time,
    say_timeline,
    say_usage,
    settings_that_matter,
    shortened,
    signature,
)

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

__all__ = ["PARTS", "anchored", "html_policy", "markdown", "part", "story_columns", "style", "write_html"]

_ANSWER_CHARACTERS = 200_000


def write_html(record: RunRecord) -> str:
    """Write the report of a run as an HTML document."""
    anchors = anchored(record)
    there = [(key, title, body) for key, (title, _) in PARTS.items() if (body := part(key, record, anchors))]
    parts = [element("section", element("h2", title), body, id=key) for key, title, body in there]
    links = [element("a", title, href=f"#{key}") for key, title, _ in there]
    body = element("body", _header(record, links), element("main", *parts), _footer(record))
    page = element("html", _head(record), body, lang="en")
    return f"<!DOCTYPE html>\n{page}\n"


def anchored(record: RunRecord) -> dict[str, str]:
    """Name the section of each step."""
    anchors: dict[str, str] = {}
    for at, step in enumerate(record["steps"], start=1):
        anchors.setdefault(step["id"], f"step-{at}")  # a refused plan may name two steps alike
    return anchors


def part(key: str, record: RunRecord, anchors: Mapping[str, str]) -> Markup | str:
    """Write what stands under a title of `PARTS`; "" where the run has nothing of it."""
    return PARTS[key][1](record, anchors)


# --- the frame ---------------------------------------------------------------------------


@cache
def style() -> str:
    """Return the style sheet of reports; the page of `serve` has it too."""
    return files(__package__).joinpath("page.css").read_text(encoding="utf-8")


@cache
def html_policy() -> str:
    """Return the content security policy under which a report shows: its own style, and nothing else."""
    digest = base64.b64encode(hashlib.sha256(style().encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def _head(record: RunRecord) -> Markup:
    title = one_line(record["goal"])[:80] or record["thread"]
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=html_policy()),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="referrer", content="no-referrer"),
        element("meta", name="generator", content=f"plan-execute report {version('plan-execute')}"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{title} – run report"),
        Markup(f"<style>{style()}</style>"),
    )


def _header(record: RunRecord, links: Sequence[Markup]) -> Markup:
    return element(
        "header",
        element("p", "Run report", class_="eyebrow"),
        element("h1", record["goal"] or "(no goal)", dir="auto"),
        element(
            "p", status_badge(record["status"]), element("span", record["status_words"]), class_="status"
        ),
        element("p", one_line(record["reason"])[:600], class_="muted", dir="auto")
        if record["reason"]
        else "",
        story_columns(record, anchored(record)),
        _facts(record),
        element("nav", *links, aria_label="Sections"),
    )


# --- what happened -----------------------------------------------------------------------

_MOST_TOLD = 6
"""Lines of a column, and steps named in a line; the sections below have all."""


def story_columns(record: RunRecord, anchors: Mapping[str, str]) -> Markup | str:
    """Write what broke, who decided and what changed, beside each other; "" where there is no plan."""
    story = record["story"]
    if record["plan"] is None and not story["decided"]:
        return ""
    broke = [_broken(one, anchors) for one in story["broke"]]
    if story["unverified"]:
        broke.append(join(["Nobody could check ", _some_steps(story["unverified"], anchors), "."]))
    columns = (
        ("What broke", broke, "Nothing failed." if record["timeline"]["bars"] else "Nothing ran."),
        ("Who decided", [_decided_by(one, anchors) for one in story["decided"]], "Nobody had to decide."),
        ("What changed", [_change(one, anchors) for one in story["changed"]], "No write is on record."),
    )
    return element("div", *(_column(*column) for column in columns), class_="story")


def _column(title: str, lines: Sequence[Markup], nothing: str) -> Markup:
    listed = [element("li", line, dir="auto") for line in lines[:_MOST_TOLD]]
    more = len(lines) - len(listed)
    note = element("li", f"and {more:,} more, below", class_="muted") if more else ""
    body = element("ul", *listed, note) if listed else element("p", nothing, class_="muted")
    return element("section", element("h2", title), body)


def _some_steps(step_ids: Sequence[str], anchors: Mapping[str, str]) -> Markup:
    more = f" and {len(step_ids) - _MOST_TOLD:,} more" if len(step_ids) > _MOST_TOLD else ""
    return join([step_links(step_ids[:_MOST_TOLD], anchors), more])


def _broken(one: Break, anchors: Mapping[str, str]) -> Markup:
    times = f" {one['failures']} times" if one["failures"] > 1 else ""
    error = element("span", fit(one["error"], 160), class_="error")
    blocked = join([" Not run because of it: ", _some_steps(one["blocked"], anchors), "."])
    return join(
        [
            element("b", step_links([one["step_id"]], anchors)),
            f" failed{times}: ",
            error,
            f" – {one['then']}.",
            blocked if one["blocked"] else "",
        ]
    )


def _decided_by(one: Decided, anchors: Mapping[str, str]) -> Markup:
    who = element("b", one["who"] or "nobody yet", class_="" if one["who"] else "badge waiting")
    about = join([" · ", step_links([one["step_id"]], anchors)]) if one["step_id"] else ""
    waited = f", after {say_seconds(one['waited_s'])}" if (one["waited_s"] or 0) >= 1 else ""
    return join([who, " ", one["did"], about, waited])


def _change(one: Change, anchors: Mapping[str, str]) -> Markup:
    if one["kind"] == "call":
        return join(
            [element("code", fit(one["said"], 64)), " · ", step_links([one["step_id"] or ""], anchors)]
        )
    signs = [
        element("span", sign, _some_steps(ids, anchors), class_=kind)
        for kind, sign, ids in (("added", " + ", one["added"]), ("removed", " − ", one["removed"]))
        if ids
    ]
    return join([one["said"], ":" if signs else "", *signs])


def _facts(record: RunRecord) -> Markup:
    usage, timeline = record["usage"], record["timeline"]
    first = {step["outcome"]: at for at, step in reversed(list(enumerate(record["steps"], start=1)))}
    counts = [
        badge(outcome, f" {record['outcomes'][outcome]:,}", href=f"#step-{first[outcome]}")
        for outcome in OUTCOMES
        if outcome in record["outcomes"]
    ]
    facts = [
        Fact("Thread", element("bdi", record["thread"])),
        Fact("Started", say_time(record["started_at"])),
        Fact("Ended" if record["ended"] else "Last recorded", say_time(record["last_at"])),
        Fact("Running time", say_seconds(usage.get("seconds"))),
        Fact("Steps ran for", say_seconds(timeline["active_s"]) if timeline["bars"] else ""),
        Fact("Revision", _revision(record)),
        Fact("Models", ", ".join(sorted(usage.get("by_model") or {}))),
        *spent_facts(usage),
    ]
    steps = element("div", element("dt", "Steps"), element("dd", join(counts, " ")), class_="wide")
    return fact_list((one for one in facts if one.value), *([steps] if counts else []))


def _revision(record: RunRecord) -> str:
    plan = record["plan"]
    return (
        f"{plan['revision']}, {say_count(record['replans'], 'replan')}" if plan and plan["revision"] else ""
    )


def _footer(record: RunRecord) -> Markup:
    note = "What models and tools wrote is shown as text; invisible characters are shown as ⟨U+…⟩."
    return element("footer", element("p", signature(record), " ", note))


# --- what was asked and answered ---------------------------------------------------------


def _questions(record: RunRecord, anchors: Mapping[str, str]) -> Markup:
    return join(
        element(
            "div",
            element("h3", question["title"], " ", _about(question["step_id"], anchors)),
            markdown(question["description"]),
            class_="panel waiting",
            dir="auto",
        )
        for question in record["questions"]
    )


def _about(step_id: str | None, anchors: Mapping[str, str]) -> Markup | str:
    return join(["· ", step_links([step_id], anchors)]) if step_id else ""


def _issues(record: RunRecord, _: Mapping[str, str]) -> Markup | str:
    if not record["plan_issues"]:
        return ""
    listed = [
        element(
            "li",
            element("code", str(issue.get("code"))),
            " ",
            element("span", str(issue.get("message")), dir="auto"),
        )
        for issue in record["plan_issues"]
    ]
    return element("div", element("ul", *listed), class_="panel failed")


def _answer(record: RunRecord, _: Mapping[str, str]) -> Markup | str:
    if not record["answer"] and record["output"] is None:
        return ""
    shown, note = shortened(record["answer"], _ANSWER_CHARACTERS)
    parts = [element("div", markdown(shown), class_="panel answer", dir="auto")] if shown else []
    parts += [element("p", note, class_="cut")] if note else []
    if record["output"] is not None:
        parts += [element("h3", "Structured output"), value_block(record["output"], _ANSWER_CHARACTERS)]
    return join(parts)


@cache
def _renderer() -> MarkdownIt:
    # Imported late: it takes longer than everything else here.
    from markdown_it import MarkdownIt

    renderer = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    # Links and images stay as they were written, as text.
    return renderer.disable(["link", "image", "autolink", "reference", "html_block", "html_inline"])


def markdown(words: str) -> Markup:
    """Render Markdown that a model or a tool wrote; its headings stand below those of the page."""
    tokens = _renderer().parse(visible(words))
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1:]) + 2)}"
    return Markup(_renderer().renderer.render(tokens, _renderer().options, {}))


# --- the plan ----------------------------------------------------------------------------


def _plan(record: RunRecord, anchors: Mapping[str, str]) -> Markup | str:
    steps = [step for step in record["steps"] if step["in_plan"] or step["started_at"]]
    plan = record["plan"]
    if plan is None:
        return ""
    words = (
        [element("p", "This plan was refused; nothing of it ran.", class_="error")]
        if record["refused_plan"]
        else []
    )
    words += [element("p", plan["rationale"], dir="auto")] if plan["rationale"] else []
    words += (
        [element("p", f"Written by: {_SOURCES.get(plan['source'], plan['source'])}.", class_="muted")]
        if plan["source"]
        else []
    )
    words += [] if plan["complete"] else [element("p", "More steps were to be planned when these had ended.")]
    if record["inputs"]:
        words += [element("h3", "Inputs"), value_block(record["inputs"], Share.of(len(record["steps"])).text)]
    return join([*words, _drawn(record, steps, anchors)])


_SOURCES = {
    "planner": "the planner",
    "replanner": "the replanner",
    "person": "a person",
    "given": "the caller, who gave it",
    "cache": "an earlier run, from the cache",
}


def _drawn(record: RunRecord, steps: Sequence[Any], anchors: Mapping[str, str]) -> Markup:
    if not steps:
        return Markup("")
    if len(steps) > MOST_DRAWN:
        return element("p", f"{len(steps):,} steps are not drawn; they are listed below.", class_="muted")
    critical = [link["step_id"] for link in record["timeline"]["critical_path"]]
    drawing, left_out = draw_plan(steps, anchors, critical)
    note = f"{left_out:,} dependencies that follow from others are not drawn. " if left_out else ""
    if not all(step["in_plan"] for step in steps):
        note += "A faint box is a step of an earlier revision; a dashed line leads to its replacement. "
    parts = [_legend(record, critical=bool(critical)), element("div", drawing, class_="scroll", tabindex="0")]
    return join([*parts, element("p", note, "Click a box to see its step.", class_="muted")])


def _legend(record: RunRecord, *, critical: bool) -> Markup:
    entries = [
        element("li", element("b", OUTCOMES[outcome].mark), OUTCOMES[outcome].meaning, class_=outcome)
        for outcome in OUTCOMES
        if outcome in record["outcomes"]
    ]
    if critical:
        entries.append(element("li", element("b", "◆"), "on the critical path", class_="critical-key"))
    return element("ul", *entries, class_="legend")


# --- time --------------------------------------------------------------------------------


_BECAUSE = {
    "start": "at the start",
    "dependency": "after",
    "slot": "when a slot became free, after",
    "revision": "in a revision, after",
}


def _timeline(record: RunRecord, anchors: Mapping[str, str]) -> Markup | str:
    timeline = record["timeline"]
    if not timeline["bars"]:
        return ""
    by_id = {step["id"]: step for step in record["steps"]}
    axis, bars = draw_gantt(timeline, by_id, anchors)
    failed = any(bar["attempts_s"] for bar in timeline["bars"])
    marks = "Red at the start of a bar: attempts that failed. " if failed else ""
    marks += "A dashed bar: a person was asked. " if timeline["waits"] else ""
    never = timeline["never_ran"]
    parts = [
        element("p", say_timeline(timeline)),
        element("div", axis, bars, class_="scroll", tabindex="0"),
        element("p", marks, "Click a bar to see its step.", class_="muted"),
        _critical_path(record, anchors),
    ]
    if never:
        shown = [*never[:60]]
        more = f" and {len(never) - len(shown):,} more" if len(never) > len(shown) else ""
        title = "Never ran: " if record["ended"] else "Not ended: "
        parts.append(element("p", element("b", title), step_links(shown, anchors), more))
    return join(parts)


def _critical_path(record: RunRecord, anchors: Mapping[str, str]) -> Markup:
    timeline = record["timeline"]
    seconds = {bar["step_id"]: bar["worked_s"] for bar in timeline["bars"]}
    path = timeline["critical_path"]
    listed = [
        element(
            "li",
            step_links([link["step_id"]], anchors),
            f" {say_seconds(seconds[link['step_id']])}, {_BECAUSE[link['because']]} ",
            step_links([link["after"]], anchors) if link["after"] else "",
            f", {say_seconds(link['waited_s'])} later" if link["waited_s"] >= 0.05 else "",
            f", with {say_seconds(link['asked_s'])} of waiting for a person" if link["asked_s"] else "",
        )
        for link in path
    ]
    return element(
        "details",
        element("summary", element("b", "◆ ", class_="critical-mark"), say_critical_path(timeline)),
        element("ol", *listed, class_="path"),
    )


# --- steps and decisions -----------------------------------------------------------------


def _steps(record: RunRecord, anchors: Mapping[str, str]) -> Markup:
    critical = {link["step_id"] for link in record["timeline"]["critical_path"]}
    share = Share.of(len(record["steps"]))

    return join(
        step_section(step, f"step-{at}", anchors, share, record["thread"], critical=step["id"] in critical)
        for at, step in enumerate(record["steps"], start=1)
    )


def _decisions(record: RunRecord, anchors: Mapping[str, str]) -> Markup:
    own = [_decision(one, anchors) for one in record["decisions"] if not one["earlier_goal"]]
    earlier = [_decision(one, anchors) for one in record["decisions"] if one["earlier_goal"]]
    parts = [_approvals(record)]
    if earlier:
        summary = element(
            "summary", f"{say_count(len(earlier), 'decision')} about earlier goals of this thread"
        )
        parts.append(element("details", summary, element("ol", *earlier, class_="decisions")))
    return join([*parts, element("ol", *own, class_="decisions") if own else ""])


def _approvals(record: RunRecord) -> Markup | str:
    words = {
        "approved": "approved by a person",
        "edited": "edited, and thereby approved, by a person",
        "edit": "an edit by a person",
        "not_required": "no approval was required",
        "needed": "an approval is needed",
        "rejected": "rejected by a person",
    }
    listed = [
        element(
            "li",
            words.get(str(one.get("decision")), str(one.get("decision"))),
            f" ({who})" if (who := (one.get("by") or {}).get("id")) else "",
            _granted(one),
            " ",
            _at(one.get("at")),
        )
        for one in record["approvals"]
    ]
    listed += [element("li", "Feedback: ", element("span", said, dir="auto")) for said in record["feedback"]]
    return join([element("h3", "Approvals on record"), element("ul", *listed)]) if listed else ""


def _granted(approval: Mapping[str, Any]) -> Markup | str:
    grants = approval.get("grants") or {}
    tools = [element("code", str(name)) for name in grants.get("tools") or ()]
    effects = ", ".join(map(str, grants.get("effects") or ()))
    return join([" — for ", join(tools, " "), f" ({effects})" if effects else ""]) if tools else ""


def _at(moment: Any) -> Markup | str:
    return element("time", say_time(moment), datetime=moment) if isinstance(moment, str) and moment else ""


def _decision(one: Decision, anchors: Mapping[str, str]) -> Markup:
    head: list[object] = [element("b", one["title"])]
    head += [_decided(one["decision"])] if one["decision"] else []
    head += [step_links([one["step_id"]], anchors)] if one["step_id"] else []
    head += [f"by {one['by']}"] if one["by"] else []
    head += [f"revision {one['revision']}"] if one["revision"] else []
    head += [_at(one["at"])]
    spent = " · ".join(say_usage(one["usage"]))
    trigger = _TRIGGERS.get(one["trigger"], one["trigger"])
    evidence = [piece for piece in one["evidence"] if piece != one["trigger"]]
    return element(
        "li",
        element("p", join(head, " · ")),
        element("p", shortened(trigger, 2000)[0], class_="said", dir="auto") if trigger else "",
        element("ul", *(element("li", shortened(piece, 1000)[0], dir="auto") for piece in evidence))
        if evidence
        else "",
        _difference(one["difference"], anchors),
        element("p", f"spent by then: {spent}", class_="muted") if spent else "",
    )


_TRIGGERS = {
    "planner": "The planner's plan.",
    "replanner": "The replanner's revision.",
    "person": "A person's edit.",
    "given": "The plan that the caller gave.",
    "cache": "The plan from the cache.",
}


def _decided(decision: str) -> Markup:
    """Write a decision in the colour of what it means."""
    kinds = {"continue": "done", "done": "done", "retry": "unverified", "skip": "skipped", "ask": "waiting"}
    kinds |= {"abort": "failed", "failed": "failed", "rejected": "failed", "partial": "unverified"}
    return element("span", decision, class_=f"badge {kinds.get(decision, 'unverified')}")


_MOST_NAMED = 30
_SIGNS = {"added": "+", "removed": "−", "changed": "~", "unchecked": "?"}


def _difference(difference: Mapping[str, Sequence[str]], anchors: Mapping[str, str]) -> Markup:
    lines = [element("li", *_changed(what, ids, anchors), class_=what) for what, ids in difference.items()]
    return element("ul", *lines) if lines else Markup("")


def _changed(what: str, ids: Sequence[str], anchors: Mapping[str, str]) -> list[Markup]:
    """Name the steps; more than a few are folded."""
    title, links = f"{_SIGNS.get(what, '')} {what}: ", step_links(ids, anchors)
    if len(ids) <= _MOST_NAMED:
        return [join([title]), links]
    return [element("details", element("summary", title, say_count(len(ids), "step")), links)]


# --- what was said ------------------------------------------------------------------------

_MESSAGES = 60
_WORDS = 4000
"""Characters of a message."""


def _conversation(record: RunRecord, _: Mapping[str, str]) -> Markup | str:
    said = record["conversation"][-_MESSAGES:]
    if not said:
        return ""
    listed = [
        element(
            "li",
            element("b", one["who"]),
            element("div", markdown(shortened(one["words"], _WORDS)[0]), dir="auto"),
            class_="said-by",
        )
        for one in said
    ]
    earlier = len(record["conversation"]) - len(said)
    words = f"{say_count(earlier, 'earlier message')} in the JSON." if earlier else ""
    summary = element("summary", say_count(len(record["conversation"]), "message"))
    note = element("p", words, class_="muted") if words else ""
    return element("details", summary, note, element("ol", *listed, class_="talk", tabindex="0"))


# --- what was spent, and by which settings -----------------------------------------------


def _usage(record: RunRecord, _: Mapping[str, str]) -> Markup | str:
    usage = record["usage"]
    if not say_usage(usage):
        return ""
    spent = element("ul", *(element("li", line) for line in record["spent"])) if record["spent"] else ""
    calls, seconds = usage.get("tool_calls") or 0, usage.get("seconds") or 0.0
    said = say_count(calls, "tool call") + (f", {say_seconds(seconds)} of running time" if seconds else "")
    parts = {"Role": usage.get("by_role"), "Model": usage.get("by_model")} if usage.get("model_calls") else {}
    tables = [_usage_table(title, part, usage) for title, part in parts.items() if part]
    return join([*tables, element("p", said, "."), spent])


def _usage_table(title: str, parts: Mapping[str, Any], usage: Mapping[str, Any]) -> Markup:
    roles = {name: used for name, used in parts.items() if isinstance(used, Mapping)}
    columns = ["model_calls", "input_tokens", "output_tokens"] + (
        ["cost"] if usage.get("cost") is not None else []
    )
    titles = {"model_calls": "model calls", "input_tokens": "tokens in", "output_tokens": "tokens out"}
    names = [title, *(titles.get(name, name) for name in columns)]
    head = element("tr", *(element("th", name, scope="col") for name in names))
    total = {**{name: sum(used.get(name) or 0 for used in roles.values()) for name in columns}, **usage}
    rows = [(role, used) for role, used in sorted(roles.items())] + [("all", total)]
    body = [
        element(
            "tr",
            element("th", role, element("small", did) if (did := say_roles(used)) else "", scope="row"),
            *(_cell(used, name) for name in columns),
        )
        for role, used in rows
    ]
    table = element("table", element("thead", head), element("tbody", *body), class_="numbers")
    return element("div", table, class_="table")


def _cell(used: Mapping[str, Any], name: str) -> Markup:
    value = used.get(name)
    if value is None:
        return element("td", "–")
    return element("td", say_cost(value) if name == "cost" else f"{value:,}")


def _settings(record: RunRecord, _: Mapping[str, str]) -> Markup | str:
    rows = settings_that_matter(record["settings"])
    return fact_list(Fact(title, value) for title, value in rows) if rows else ""


Part = Callable[[RunRecord, Mapping[str, str]], "Markup | str"]

PARTS: dict[str, tuple[str, Part]] = {
    "questions": ("Waiting for an answer", _questions),
    "issues": ("Why the plan cannot run", _issues),
    "answer": ("Answer", _answer),
    "plan": ("Plan", _plan),
    "timeline": ("What ran when", _timeline),
    "steps": ("Steps", _steps),
    "decisions": ("Decisions", _decisions),
    "conversation": ("Conversation", _conversation),
    "usage": ("What was spent", _usage),
    "settings": ("Settings", _settings),
}
"""The parts of a report in their order: each has a title, and is left out where it is empty."""
