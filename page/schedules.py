"""The page of schedules: plans that run at set times, and the form that adds one."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from ..context import run_redactor
from ..errors import ConfigurationError, InvalidInputError, PlanExecuteError
from ..report.markup import Markup, element, join
from ..threads.schedules import Schedule, new_schedule, read_grant
from .frame import Frame, field, note
from .guard import person_of, read_form
from .typed_plans import Declared, declared_inputs, input_fields, plan_field, typed_inputs

if TYPE_CHECKING:
    from .board import Board

__all__ = ["ScheduleRoutes", "schedule_list"]

_ONE = "/schedules/{name}"


def schedule_list(frame: Frame, schedules: Sequence[Schedule] | ConfigurationError) -> str:
    """Write the schedules, or what they need."""
    title = element("h1", "Schedules")
    if isinstance(schedules, ConfigurationError):
        why = element("p", f"{str(schedules)[:1].upper()}{str(schedules)[1:]}", class_="empty-page")
        return frame.document("Schedules", title, why, here="schedules")
    add = element("a", "New schedule", href=frame.link("schedules", "new"))
    nothing = element("p", "There are no schedules yet.", class_="empty-page")
    rows = element("ul", *(_row(frame, one) for one in schedules), class_="plain schedules")
    parts = [title, "" if frame.read_only else element("p", add), rows if schedules else nothing]
    return frame.document("Schedules", *parts, here="schedules")


def _row(frame: Frame, one: Schedule) -> Markup:
    last = element("a", one.thread, href=frame.link("runs", one.thread)) if one.thread else ""
    about = [
        element("b", one.name),
        element("span", one.plan.get("goal") or "", class_="muted", dir="auto"),
        element("span", "Runs without asking, as far as its grant allows.", class_="muted")
        if one.grant
        else "",
        element("span", one.note, class_="error") if one.note else "",
        element("span", "Last run: ", last, class_="muted") if last else "",
    ]
    actions = [
        ("run-now", "Run now"),
        ("go-on", "End the pause") if one.paused else ("pause", "Pause"),
        ("remove", "Remove"),
    ]
    forms = [
        frame.form(frame.link("schedules", one.name, action), element("button", words), class_="inline")
        for action, words in actions
    ]
    return element(
        "li",
        element("div", *about, class_="goal"),
        element("span", element("code", one.cron), " ", one.timezone),
        element("span", "paused", class_="badge waiting") if one.paused else _moment(one.due, one.timezone),
        element("div", *forms, class_="actions"),
    )


def _moment(due: float, zone: str) -> Markup:
    at = datetime.fromtimestamp(due, ZoneInfo(zone))
    return element("span", "next ", element("time", f"{at:%a %Y-%m-%d %H:%M}", datetime=at.isoformat()))


# --- the form ----------------------------------------------------------------------------

_OVERLAP = {"skip": "leave this run out", "queue": "let it wait", "cancel": "cancel the last one"}
_MISSED = {"once": "run the last of them", "skip": "run none", "all": "run all, one after the other"}
_GRANT = {
    "tools": "Which tools, separated by commas. If you name none, its runs ask like any other run.",
    "effects": "read, idempotent, write (default: read)",
    "resources": "Patterns, such as mail:*",
    "until": "A date, such as 2027-01-31",
}


def _form(
    frame: Frame, typed: Mapping[str, str], refused: str = "", inputs: list[Declared] | None = None
) -> str:
    grant = [
        field(part, f"grant.{part}", typed.get(f"grant.{part}", ""), hint=hint)
        for part, hint in _GRANT.items()
    ]
    cron = "Minute, hour, day of the month, month, day of the week: 0 7 * * 1 is Mondays at seven."
    form = frame.form(
        frame.link("schedules"),
        note(refused) if refused else "",
        field("Name", "name", typed.get("name", ""), hint="The names of its runs' threads begin with it."),
        field("When", "cron", typed.get("cron", ""), hint=cron),
        field("Time zone", "timezone", typed.get("timezone", "UTC"), hint="Such as Europe/Berlin."),
        plan_field(typed.get("plan", ""), "YAML or JSON."),
        input_fields(inputs or []),
        _choice("While the last run has not ended", "overlap", _OVERLAP, typed),
        _choice("Of runs that no worker started in time", "missed", _MISSED, typed),
        element(
            "details",
            element("summary", "What its runs may do without asking"),
            *grant,
            open=any(typed.get(f"grant.{name}") for name in _GRANT),
        ),
        element("p", element("button", "Schedule", class_="approve"), class_="buttons"),
        class_="new",
    )
    return frame.document("New schedule", element("h1", "New schedule"), join([form]), here="schedules")


def _choice(label: str, name: str, choices: Mapping[str, str], typed: Mapping[str, str]) -> Markup:
    options = [
        element("option", words, value=value, selected=value == typed.get(name))
        for value, words in choices.items()
    ]
    chosen = element("select", *options, name=name)
    return element("label", element("span", label, class_="label"), chosen, class_="field")


class ScheduleRoutes:
    """Answers requests that add schedules, or change them.

    Args:
        board: Whose database has the schedules.
        frame: Makes the frame of a request's page.
    """

    def __init__(self, board: Board, frame: Callable[[Request], Awaitable[Frame]]) -> None:
        self._board, self._frame = board, frame

    def routes(self) -> list[Route]:
        """List the addresses."""
        return [
            Route("/schedules/new", self.new, methods=["GET", "POST"]),
            Route("/schedules", self.add, methods=["POST"]),
            Route(f"{_ONE}/{{action}}", self.change, methods=["POST"]),
        ]

    async def new(self, request: Request) -> Response:
        """Show the form, with the plan that somebody was about to start."""
        form = await read_form(request) if request.method == "POST" else {}
        await self._board.schedules()
        if form and not form.get("plan", "").strip():
            refused = (
                "A schedule runs a plan: write one here, or let `plan-execute plan GOAL -o FILE` make it."
            )
            return HTMLResponse(_form(await self._frame(request), form, refused), 422)
        try:
            return HTMLResponse(_form(await self._frame(request), form, inputs=declared_inputs(form)))
        except PlanExecuteError as error:
            return HTMLResponse(_form(await self._frame(request), form, _said(error)), 422)

    async def add(self, request: Request) -> Response:
        """Add a schedule, or ask for the inputs of its plan first."""
        form = await read_form(request)
        inputs: list[Declared] = []
        try:
            inputs = declared_inputs(form)
            if any(f"input.{name}" not in form for name, _, _ in inputs):
                return HTMLResponse(_form(await self._frame(request), form, inputs=inputs))
            made = self._made(form, person_of(request))
            await (await self._board.schedules()).add(made)
        except PlanExecuteError as error:
            return HTMLResponse(_form(await self._frame(request), form, _said(error), inputs), 422)
        return await self._back(request)

    def _made(self, form: Mapping[str, str], person: str | None) -> Schedule:
        _require_plan(form)
        plan, given = self._board.read_plan(form["plan"], typed_inputs(form), {})
        names = ("name", "cron", "timezone", "overlap", "missed")
        fields = {name: form.get(name, "").strip() for name in names}
        return new_schedule(time.time(), plan=plan, inputs=given, grant=_grant(form, person), **fields)

    async def change(self, request: Request) -> Response:
        """Pause a schedule, end its pause, run it now, or remove it."""
        await read_form(request)
        name, now = request.path_params["name"], time.time()
        schedules = await self._board.schedules()
        actions: dict[str, Callable[[], Awaitable[Any]]] = {
            "pause": lambda: schedules.pause(name, now),
            "go-on": lambda: schedules.pause(name, now, paused=False),
            "run-now": lambda: schedules.run_now(name, now),
            "remove": lambda: schedules.remove(name),
        }
        if (act := actions.get(request.path_params["action"])) is None:
            return Response(status_code=404)
        await act()
        self._board.changed()
        return await self._back(request)

    async def _back(self, request: Request) -> Response:
        return RedirectResponse((await self._frame(request)).link("schedules"), 303)


def _require_plan(form: Mapping[str, str]) -> None:
    if not form.get("plan", "").strip():
        raise InvalidInputError(
            "a schedule runs a plan: write one, or let `plan-execute plan GOAL -o FILE` make one from a goal"
        )


def _grant(form: Mapping[str, str], person: str | None) -> dict[str, Any] | None:
    words = {name: text for name in _GRANT if (text := form.get(f"grant.{name}", "").strip())}
    if not words:
        return None
    by = {"kind": "person", "id": person} if person else {"kind": "person"}
    return read_grant(words, by, datetime.now(UTC))


def _said(error: Exception) -> str:
    return run_redactor().text(str(error))
