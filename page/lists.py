"""The pages about many runs: what waits, all runs, a new one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ..errors import InvalidInputError, PlanExecuteError
from ..report.html_facts import status_badge
from ..report.markup import Markup, element, join
from ..report.words import say_cost, say_count
from ..storage.plan_cache import time_ago
from .asking import question_card
from .frame import Frame, field, moment, note
from .threads import Thread
from .typed_plans import Declared, input_fields, plan_field

__all__ = ["STATUSES", "Wanted", "inbox", "new_run", "runs"]

STATUSES = ("waiting", "planning", "running", "stopped", "done", "partial", "failed", "rejected")
_SHOWN = 100


def inbox(frame: Frame, threads: Sequence[Thread], since: int) -> str:
    """Write what waits, oldest first, and what has stopped; changes after ``since`` are sent later."""
    waiting = sorted((one for one in threads if one.questions), key=lambda one: one.at)
    stopped = [one for one in threads if one.status == "stopped"]
    cards = [
        question_card(
            frame,
            one.id,
            question,
            impossible=one.impossible,
            about=_about(frame, one),
            busy=one.busy,
        )
        for one in waiting
        for question in one.questions
    ]
    nothing = element("p", "Nothing waits for you.", class_="empty-page")
    parts = [
        element("h1", "Inbox"),
        element("div", *(cards or [nothing]), id="questions", data_live=True),
        _stopped(frame, stopped),
    ]
    return frame.document("Inbox", *parts, here="inbox", data_follows=_changes(frame, since))


def _changes(frame: Frame, since: int) -> str:
    """Name the address that tells of changes after a version of `Threads`."""
    return f"{frame.link('events')}?since={since}"


def _about(frame: Frame, one: Thread) -> Markup:
    name = element("a", one.goal or one.id, href=frame.link("runs", one.id), dir="auto")
    thread = element("code", one.id, title="thread", class_="muted")
    return element("p", name, " ", thread, " ", moment(one.at), class_="about")


def _stopped(frame: Frame, stopped: Sequence[Thread]) -> Markup:
    listed = [
        element(
            "li",
            element("a", one.goal or one.id, href=frame.link("runs", one.id), dir="auto"),
            " ",
            moment(one.at),
            frame.form(frame.link("runs", one.id, "go-on"), element("button", "Go on"), class_="inline"),
        )
        for one in stopped[:_SHOWN]
    ]
    words = "These runs have not ended, and this page does not run them. Nothing is lost."
    body = [
        element("h2", "Stopped, or run elsewhere"),
        element("p", words, class_="muted"),
        element("ul", *listed, class_="plain"),
    ]
    return element("section", *(body if listed else []), id="stopped", data_live=True)


# --- all runs ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Wanted:
    """Which runs a list shows; an empty field excludes none.

    Attributes:
        status: Their status.
        words: Words of the goal or the thread's id.
        started: How long ago they were started at most, such as ``7d``.
        cost: What they cost at least, as it was typed.
    """

    status: str = ""
    words: str = ""
    started: str = ""
    cost: str = ""

    @classmethod
    def of(cls, asked: Mapping[str, str]) -> Wanted:
        """Read what an address asks for."""
        return cls(*(asked.get(name, "").strip() for name in ("status", "q", "started", "cost")))

    def choose(self, threads: Sequence[Thread], now: datetime) -> list[Thread]:
        """Choose the runs that are wanted.

        Raises:
            InvalidInputError: If the cost is no number.
            ConfigurationError: If ``started`` is no length of time.
        """
        words = self.words.casefold().split()
        since = time_ago(self.started, now) if self.started else None
        least = self._least()
        return [
            one
            for one in threads
            if (not self.status or one.status == self.status)
            and all(word in f"{one.id} {one.goal}".casefold() for word in words)
            and (since is None or datetime.fromisoformat(one.started) >= since)
            and (least is None or (one.cost is not None and one.cost >= least))
        ]

    def _least(self) -> float | None:
        try:
            return float(self.cost) if self.cost else None
        except ValueError as error:
            raise InvalidInputError(f"{self.cost!r} is not a cost: write a number, such as 0.5") from error


def runs(frame: Frame, threads: Sequence[Thread], since: int, wanted: Wanted) -> str:
    """Write the list of the wanted runs; the browser is told of changes after ``since``."""
    refused: Markup | str = ""
    found: list[Thread] = []
    try:
        found = wanted.choose(threads, datetime.now(UTC))
    except PlanExecuteError as error:
        refused = note(str(error))
    search = element(
        "form",
        _chosen("Status ", "status", _STATUSES, wanted.status),
        _typed("Goal or thread ", "q", wanted.words, type="search"),
        _chosen("Started ", "started", _STARTED, wanted.started),
        _typed("Cost at least ", "cost", wanted.cost, inputmode="decimal", size=6),
        element("button", "Show"),
        method="get",
        action=frame.link("runs"),
        class_="filter",
        role="search",
    )
    count = say_count(len(found), "run") + (f", the newest {_SHOWN} of them" if len(found) > _SHOWN else "")
    names = ("Goal", "Status", "Steps", "Cost", "Started", "Last written")
    head = [element("th", name, scope="col") for name in names]
    rows = [_row(frame, one) for one in found[:_SHOWN]]
    table = element("table", element("thead", element("tr", *head)), element("tbody", *rows), class_="runs")
    body = table if rows else element("p", "No run matches.", class_="empty-page")
    listed = element("div", element("p", count, class_="muted"), body, id="list", data_live=True)
    parts = [element("h1", "Runs"), search, refused or listed]
    return frame.document("Runs", *parts, here="runs", data_follows=_changes(frame, since))


_STATUSES = {"": "any status"} | {status: status for status in STATUSES}
_STARTED = {
    "": "at any time",
    "1h": "in the last hour",
    "1d": "in the last day",
    "7d": "in 7 days",
    "30d": "in 30 days",
}


def _chosen(label: str, name: str, choices: Mapping[str, str], chosen: str) -> Markup:
    named = choices if chosen in choices else {**choices, chosen: chosen}
    options = [
        element("option", words, value=value, selected=value == chosen) for value, words in named.items()
    ]
    return element("label", element("span", label, class_="label"), element("select", *options, name=name))


def _typed(label: str, name: str, value: str, **more: object) -> Markup:
    box = element("input", name=name, value=value, **more)
    return element("label", element("span", label, class_="label"), box)


def _row(frame: Frame, one: Thread) -> Markup:
    name = element("a", one.goal or "(no goal)", href=frame.link("runs", one.id), dir="auto")
    asked = say_count(len(one.questions), "question") if one.questions else ""
    cells = [
        element("td", name, element("span", one.id, class_="muted mono thread"), class_="goal"),
        element(
            "td", status_badge(one.status, maybe_elsewhere=True), " ", element("span", asked, class_="muted")
        ),
        element("td", f"{one.done} of {one.steps}" if one.steps else "–"),
        element("td", say_cost(one.cost) if one.cost is not None else "–"),
        element("td", moment(one.started)),
        element("td", moment(one.at)),
    ]
    return element("tr", *cells, id=f"row-{one.id}")


# --- a new run ---------------------------------------------------------------------------

_APPROVALS = {
    "writes": "if the plan holds a write (default)",
    "always": "before every plan",
    "never": "never; writes run without a question",
}


def new_run(
    frame: Frame, typed: Mapping[str, str], refused: str = "", inputs: list[Declared] | None = None
) -> str:
    """Write the form that starts a run.

    Args:
        frame: The page.
        typed: What the form held.
        refused: Why it was not taken.
        inputs: The inputs that the plan declares.
    """
    chosen = typed.get("approval") or "writes"
    radios = [
        element(
            "label",
            element("input", type="radio", name="approval", value=name, checked=name == chosen),
            " ",
            element("b", name),
            element("span", f" – {meaning}", class_="muted"),
            class_="choice",
        )
        for name, meaning in _APPROVALS.items()
    ]
    plan = typed.get("plan", "")
    schedule = element("button", "Schedule …", formaction=frame.link("schedules", "new"))
    form = frame.form(
        frame.link("new"),
        note(refused) if refused else "",
        field("Goal", "goal", typed.get("goal", ""), rows=3, hint="What to achieve, in your words."),
        element(
            "details",
            element("summary", "Or a plan"),
            plan_field(plan, "YAML or JSON. Then no goal is needed."),
            open=bool(plan),
        ),
        input_fields(inputs or []),
        element("fieldset", element("legend", "Ask for approval"), *radios),
        element("p", element("button", "Start", class_="approve"), schedule, class_="buttons"),
        class_="new",
    )
    return frame.document("New run", element("h1", "New run"), join([form]), here="new")
