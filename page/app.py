"""The page as a Starlette application: which address shows or does what."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import Any

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from ..context import run_redactor
from ..errors import (
    ConfigurationError,
    InvalidInputError,
    PlanExecuteError,
    ThreadBusyError,
    ThreadNotFoundError,
    known,
)
from ..graph.control import fork_outlook
from ..people.editing import editable_plan
from ..people.questions import OpenQuestion
from ..plan.files.plan_files import dump_plan
from ..report import RunRecord, run_record, write_report
from ..report.html import html_policy, markdown, style
from ..report.markup import Markup, element
from .answers import answer_of, editable, is_editable
from .board import Board
from .editor import Edit, edit_page
from .frame import Frame, note
from .guard import Access, Guard, RefusedError, form_token, person_of, read_form
from .history import Moment, address, fork_page
from .lists import Wanted, inbox, new_run, runs
from .live import Live, Watch
from .one_run import Shown, one_run, step_drawer, time_chart
from .schedules import ScheduleRoutes, schedule_list
from .step_form import with_fields
from .threads import Past, Thread, Threads, config_of, questions_of, waiting_in
from .typed_plans import Declared, declared_inputs, typed_inputs

__all__ = ["create_app", "looking"]

Answer = Callable[[Request], Awaitable[Response]]

_STATIC = {
    "board.css": "text/css",
    "board.js": "text/javascript",
    "idiomorph.min.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}


def create_app(threads: Threads, access: Access) -> Starlette:
    """Make the application that shows threads to those with access; a `Board` it also changes."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with looking(threads):
            yield
        if isinstance(threads, Board):
            await threads.close()

    pages = _Changes(threads, access) if isinstance(threads, Board) else _Pages(threads, access)
    return Starlette(
        routes=pages.routes(),
        middleware=[Middleware(Guard, access=access)],
        exception_handlers={PlanExecuteError: pages.failed, RefusedError: pages.refused},
        lifespan=lifespan,
    )


@asynccontextmanager
async def looking(threads: Threads) -> AsyncIterator[None]:
    """Look for changes by other processes while the page is served."""
    await asyncio.to_thread(_warm_up)
    task = asyncio.create_task(threads.look_around())
    try:
        yield
    finally:
        task.cancel()


def _warm_up() -> None:
    """Load the files that are read only once: an event loop must not wait for them."""
    markdown("")
    style()
    for name in _STATIC:
        _file(name)


_NO_FORM: Mapping[str, str] = {}
_RUN = "/runs/{thread:id}"


class _Pages:
    """Answers requests that have passed the guard, and change nothing."""

    def __init__(self, threads: Threads, access: Access) -> None:
        self.threads = threads
        self.access = access

    def routes(self) -> list[Route]:
        """List the addresses."""
        return [
            Route("/", self.inbox),
            Route("/events", self.all_events),
            Route("/static/{file}", _static),
            Route("/runs", self.runs),
            Route("/schedules", self.schedules),
            Route(f"{_RUN}/events", self.events),
            Route(f"{_RUN}/report", self.report),
            Route(f"{_RUN}/steps/{{step:id}}", self.step),
            Route(_RUN, self.run),
        ]

    async def _frame(self, request: Request, listed: Sequence[Thread] | None = None) -> Frame:
        base = request.scope.get("root_path", "").rstrip("/")
        waiting = waiting_in(listed) if listed is not None else await self.threads.waiting()
        return Frame(base, form_token(request), self.access.read_only, waiting)

    # --- about many runs --------------------------------------------------------------------

    async def inbox(self, request: Request) -> Response:
        """Show what waits."""
        since, listed = self.threads.version, await self.threads.threads()
        return HTMLResponse(inbox(await self._frame(request, listed), listed, since))

    async def runs(self, request: Request) -> Response:
        """Show all runs that match."""
        since, listed = self.threads.version, await self.threads.threads()
        frame = await self._frame(request, listed)
        return HTMLResponse(runs(frame, listed, since, Wanted.of(request.query_params)))

    async def schedules(self, request: Request) -> Response:
        """Show the schedules, or what they need."""
        try:
            found = await (await self.threads.schedules()).all()
        except ConfigurationError as error:
            return HTMLResponse(schedule_list(await self._frame(request), error))
        return HTMLResponse(schedule_list(await self._frame(request), found))

    # --- one run ------------------------------------------------------------------------------

    async def run(self, request: Request) -> Response:
        """Show one run, or only its time chart; with a moment's number or name, as it was then."""
        thread, asked = request.path_params["thread"], request.query_params
        rest = "rest" in asked
        if "moment" in asked:
            moment = _moment(await self.threads.moments(thread), asked["moment"])
            where = address(await self._frame(request), thread, moment)
            return RedirectResponse(where + ("&rest=1" if rest else ""), 303)
        past = await self.threads.past(thread, asked["at"]) if "at" in asked else None
        shown = _as_it_was(thread, past) if past is not None else None
        if "timeline" in asked:
            record = shown.record if shown is not None else await self.threads.record(thread)
            return HTMLResponse(time_chart(record))
        if shown is not None:
            return HTMLResponse(one_run(await self._frame(request), shown, rest_only=rest))
        return HTMLResponse(await self._run_page(request))

    async def _run_page(
        self, request: Request, refused: tuple[str, str, Mapping[str, str]] | None = None
    ) -> str:
        thread, threads = request.path_params["thread"], self.threads
        version = threads.live(thread).version  # before anything is read, so that later changes are reported
        snapshot = await threads.snapshot(thread)
        shown = Shown(
            record=await threads.record(thread),
            status=threads.status_of(thread, snapshot),
            busy=threads.is_running(thread),
            questions=questions_of(snapshot),
            kept=threads.kept(thread),
            impossible=threads.impossible(snapshot.values),
            words=run_redactor().text(threads.live(thread).words),
            fault=threads.faults.get(thread, ""),
            refused=refused,
            version=version,
        )
        if not threads.hears(thread):
            threads.live(thread).see(snapshot.values, shown.questions)
        return one_run(await self._frame(request), shown, rest_only="rest" in request.query_params)

    async def step(self, request: Request) -> Response:
        """Show all about a step, as a piece of the run's page."""
        thread, step = request.path_params["thread"], request.path_params["step"]
        if at := request.query_params.get("at"):
            record = _as_it_was(thread, await self.threads.past(thread, at)).record
        else:
            record = await self.threads.record(thread)
        frame, runs = await self._frame(request), self.threads.is_running(thread)
        drawer = step_drawer(record, step, replace(frame, read_only=True) if at else frame, runs=runs)
        if drawer is None:
            named = known(one["id"] for one in record["steps"])
            return HTMLResponse(note(f"There is no step {step!r}; the steps are: {named}"), 404)
        return HTMLResponse(drawer)

    async def report(self, request: Request) -> Response:
        """Show the report, which is a file of its own."""
        record = await self.threads.record(request.path_params["thread"])
        return HTMLResponse(write_report(record), headers={"Content-Security-Policy": html_policy()})

    # --- what is new --------------------------------------------------------------------------

    async def all_events(self, request: Request) -> Response:
        """Tell a browser whenever anything about any run has changed."""
        return self._stream(None, request.query_params.get("since"))

    async def events(self, request: Request) -> Response:
        """Tell a browser what changes in a run."""
        thread = request.path_params["thread"]
        await self.threads.snapshot(thread)
        return self._stream(self.threads.live(thread), request.query_params.get("since"))

    def _stream(self, live: Live | None, since: str | None = None) -> Response:
        return EventSourceResponse(self._news(live, since), ping=20)

    async def _news(self, live: Live | None, since: str | None) -> AsyncIterator[ServerSentEvent]:
        watch = Watch()
        self.threads.watches.add(watch)
        if live is not None:
            live.watches.add(watch)
            watch.put("steps", dict(live.outcomes))
            if live.words:
                watch.put("words", live.words)
            if since is not None and since != str(live.version):
                watch.put("stale", {"plan": True, "rest": True})
        elif since is not None and since != str(self.threads.version):
            watch.put("changed", True)
        try:
            watch.put("waiting", await self.threads.waiting())
            async for news in watch.news():
                if "changed" in news:
                    news["waiting"] = await self.threads.waiting()
                yield ServerSentEvent(
                    json.dumps(run_redactor().value(news), ensure_ascii=False), event="news"
                )
        finally:
            self.threads.watches.discard(watch)
            if live is not None:
                live.watches.discard(watch)

    # --- what went wrong ----------------------------------------------------------------------

    async def failed(self, request: Request, error: Exception) -> Response:
        """Say what was refused, on a page of its own."""
        codes: dict[type, int] = {ThreadNotFoundError: 404, ThreadBusyError: 409}
        code = next((code for kind, code in codes.items() if isinstance(error, kind)), 422)
        frame = await self._frame(request)
        parts = [note(_said(error))]
        if thread := request.path_params.get("thread"):
            parts.append(_back(frame, thread))
        return HTMLResponse(frame.document("Not done", *parts), code)

    async def refused(self, request: Request, error: Exception) -> Response:
        """Say that a form was refused."""
        frame = await self._frame(request)
        return HTMLResponse(frame.document("Refused", note(str(error))), 403)


class _Changes(_Pages):
    """Answers requests that start runs, or change them."""

    def __init__(self, board: Board, access: Access) -> None:
        super().__init__(board, access)
        self.board = board

    def routes(self) -> list[Route]:
        """List the addresses."""
        question = f"{_RUN}/answers/{{question:id}}"
        return [
            Route("/new", self.new),
            Route("/new", self.start, methods=["POST"]),
            *ScheduleRoutes(self.board, self._frame).routes(),
            Route(f"{question}/edit", self.edit_question),
            Route(question, self.answer, methods=["POST"]),
            Route(f"{_RUN}/plan", self.edit_plan),
            Route(f"{_RUN}/plan", self.change_plan, methods=["POST"]),
            Route(f"{_RUN}/go-on", self.go_on, methods=["POST"]),
            Route(f"{_RUN}/cancel", self.cancel, methods=["POST"]),
            Route(f"{_RUN}/retry", self.retry, methods=["POST"]),
            Route(f"{_RUN}/stop", self.stop, methods=["POST"]),
            Route(f"{_RUN}/fork", self.ask_to_fork),
            Route(f"{_RUN}/fork", self.fork, methods=["POST"]),
            *super().routes(),
        ]

    async def _to(self, request: Request, *parts: str) -> Response:
        return RedirectResponse((await self._frame(request)).link(*parts), 303)

    async def new(self, request: Request) -> Response:
        """Show the form that starts a run."""
        return HTMLResponse(new_run(await self._frame(request), {}))

    async def start(self, request: Request) -> Response:
        """Start a run, or ask for the inputs of its plan first."""
        form = await read_form(request)
        inputs: list[Declared] = []
        try:
            inputs = declared_inputs(form)
            if any(f"input.{name}" not in form for name, _, _ in inputs):
                return HTMLResponse(new_run(await self._frame(request), form, inputs=inputs))
            settings = {"approval": form.get("approval") or "writes"}
            thread = await self.board.start(self._given(form), settings, person_of(request))
        except PlanExecuteError as error:
            return HTMLResponse(new_run(await self._frame(request), form, _said(error), inputs), 422)
        return await self._to(request, "runs", thread)

    def _given(self, form: Mapping[str, str]) -> dict[str, Any]:
        goal, plan = form.get("goal", "").strip(), form.get("plan", "").strip()
        if bool(goal) == bool(plan):
            raise InvalidInputError("give either a goal or a plan")
        if goal:
            return {"goal": goal}
        steps, typed = self.board.read_plan(form["plan"], typed_inputs(form), {})
        return {"plan": steps, "inputs": typed}

    async def answer(self, request: Request) -> Response:
        """Answer a question; if the answer does not fit, show why, and keep what was typed."""
        form, thread = await read_form(request), request.path_params["thread"]
        question = await self._question(request)
        if form.get("type") in ("edit", "check", "add", "remove"):
            return await self._answer_by_edit(request, question, form)
        try:
            await self.board.answer(thread, question.id, answer_of(question, form), person_of(request))
        except PlanExecuteError as error:
            refused = (question.id, _said(error), form)
            return HTMLResponse(await self._run_page(request, refused), 422)
        return await self._to(request, *(["runs", thread] if form.get("back") != "inbox" else []))

    async def _question(self, request: Request) -> OpenQuestion:
        snapshot = await self.board.snapshot(request.path_params["thread"])
        questions = [OpenQuestion.of(interrupt) for interrupt in snapshot.interrupts]
        found = next((one for one in questions if one.id == request.path_params["question"]), None)
        if found is None:
            raise InvalidInputError("this question is not open any more: somebody has answered it")
        return found

    # --- editing ------------------------------------------------------------------------------

    async def edit_question(self, request: Request) -> Response:
        """Show what a question is about, to be edited."""
        question = await self._question(request)
        if not is_editable(question):
            raise InvalidInputError("this question has nothing that can be edited")
        return await self._editor(request, await self._edit_of(request, question))

    async def _edit_of(self, request: Request, question: OpenQuestion) -> Edit:
        frame, thread = await self._frame(request), request.path_params["thread"]
        what = {"approve_plan": "the plan", "approve_step": "the step"}.get(question.name, "the call")
        return Edit(
            what,
            frame.link("runs", thread, "answers", question.id),
            frame.link("runs", thread),
            run_redactor().text(editable(question)),
            "A valid edit counts as approval.",
            tools=self._tools(thread) if question.name == "approve_plan" else None,
        )

    def _tools(self, thread: str) -> Sequence[str]:
        return sorted(self.board.agent_for(thread).toolbox.names)

    async def _answer_by_edit(
        self, request: Request, question: OpenQuestion, form: Mapping[str, str]
    ) -> Response:
        async def apply(thread: str, text: str, *, run: bool) -> None:
            answer = answer_of(question, {"type": "edit", "edited": text})
            if question.name == "approve_plan":
                await self._read_plan(thread, text)
            if run:
                await self.board.answer(thread, question.id, answer, person_of(request))

        return await self._apply(request, await self._edit_of(request, question), form, apply)

    async def edit_plan(self, request: Request) -> Response:
        """Show the plan of a run, to be edited."""
        return await self._editor(request, await self._edit_of_plan(request))

    async def change_plan(self, request: Request) -> Response:
        """Change the plan of a run, and go on."""
        form = await read_form(request)

        async def apply(thread: str, text: str, *, run: bool) -> None:
            plan = await self._read_plan(thread, text)
            await self.board.check_plan(thread, plan)
            if run:
                await self.board.change_plan(thread, plan, person_of(request), stop=True)

        return await self._apply(request, await self._edit_of_plan(request), form, apply)

    async def _edit_of_plan(self, request: Request) -> Edit:
        frame, thread = await self._frame(request), request.path_params["thread"]
        plan = (await self.board.snapshot(thread)).values.get("plan")
        if not plan:
            raise InvalidInputError("this run has no plan that could be edited")
        return Edit(
            "the plan",
            frame.link("runs", thread, "plan"),
            frame.link("runs", thread),
            run_redactor().text(dump_plan(editable_plan(plan), format="yaml")),
            "Finished steps stay, and changed steps run. An edit counts as approval, "
            "and withdraws open questions.",
            tools=self._tools(thread),
            stops=self.board.is_running(thread),
        )

    async def _read_plan(self, thread: str, text: str) -> dict[str, Any]:
        """Read an edited plan; where it cannot run, the error names the line of each mistake."""
        values = (await self.board.snapshot(thread)).values
        return self.board.read_plan(text, {}, values.get("inputs") or {})[0]

    async def _apply(
        self, request: Request, edit: Edit, form: Mapping[str, str], apply: Callable[..., Awaitable[None]]
    ) -> Response:
        """Check an edit, and apply it if that is wanted; else show what it changes or what is wrong."""
        text, run = form.get("edited", ""), form.get("type") == "edit"
        try:
            if edit.tools is not None:
                text, step = with_fields(text, form)
                form = {**form, "step": step}
            await apply(request.path_params["thread"], text, run=run)
        except PlanExecuteError as error:
            return await self._editor(request, edit, text, _said(error), 422 if run else 200, form)
        if not run:
            return await self._editor(request, edit, text, form=form)
        return await self._to(request, "runs", request.path_params["thread"])

    async def _editor(
        self,
        request: Request,
        edit: Edit,
        text: str | None = None,
        refused: str | None = None,
        code: int = 200,
        form: Mapping[str, str] = _NO_FORM,
    ) -> Response:
        step = form.get("step") or request.query_params.get("step", "")
        return HTMLResponse(edit_page(await self._frame(request), edit, text, refused, step), code)

    # --- changes of a run ---------------------------------------------------------------------

    async def go_on(self, request: Request) -> Response:
        """Go on with a run that stopped."""
        return await self._changed(request, lambda thread, _: self.board.go_on(thread, person_of(request)))

    async def stop(self, request: Request) -> Response:
        """Stop a run where it is."""
        return await self._changed(request, lambda thread, _: self.board.stop(thread))

    async def cancel(self, request: Request) -> Response:
        """End a run."""
        return await self._changed(request, lambda thread, _: self.board.cancel(thread, person_of(request)))

    async def retry(self, request: Request) -> Response:
        """Run failed steps again, or one that is named."""

        def again(thread: str, form: Mapping[str, str]) -> Awaitable[None]:
            step = form.get("step")
            seen = {step: form["ended"]} if step and "ended" in form else None
            named, stop = [step] if step else None, "stop" in form
            return self.board.retry(thread, named, person_of(request), stop=stop, seen=seen)

        return await self._changed(request, again)

    async def ask_to_fork(self, request: Request) -> Response:
        """Show which steps stay and which run again if a run goes on from an earlier moment."""
        thread, moment = await self._forked(request, request.query_params.get("at", ""))
        if self.board.is_running(thread):
            raise ThreadBusyError("this run is under way: stop it, and then go on from an earlier moment")
        outlook = await fork_outlook(self.board.agent_for(thread), config_of(thread, moment.forks_from))
        return HTMLResponse(fork_page(await self._frame(request), thread, moment, outlook))

    async def fork(self, request: Request) -> Response:
        """Go on from an earlier moment."""
        thread, moment = await self._forked(request, (await read_form(request)).get("at", ""))
        await self.board.fork(thread, moment.forks_from, person_of(request))
        return await self._to(request, "runs", thread)

    async def _forked(self, request: Request, at: str) -> tuple[str, Moment]:
        thread = request.path_params["thread"]
        past = await self.board.past(thread, at)
        moment = past.moments[past.number]
        if not moment.forks_from:
            raise InvalidInputError("the run had ended at this moment; choose one before it")
        return thread, moment

    async def _changed(
        self, request: Request, change: Callable[[str, Mapping[str, str]], Awaitable[None]]
    ) -> Response:
        form, thread = await read_form(request), request.path_params["thread"]
        await change(thread, form)
        return await self._to(request, "runs", thread)


def _moment(moments: Sequence[Moment], asked: str) -> Moment:
    """Find a moment by its number, from 1, or the ``last`` one."""
    numbered = {str(number): moment for number, moment in enumerate(moments, 1)}
    found = moments[-1] if moments and asked == "last" else numbered.get(asked)
    if found is None:
        raise InvalidInputError(f"there is no moment {asked[:20]!r}; this run has {len(moments)} so far")
    return found


def _as_it_was(thread: str, past: Past) -> Shown:
    record: RunRecord = run_redactor().value(run_record(past.snapshot, thread=thread))
    return Shown(
        record=record,
        status=record["status"],
        busy=False,
        questions=questions_of(past.snapshot),
        kept=(),
        impossible=(),
        past=past,
    )


def _back(frame: Frame, thread: str) -> Markup:
    return element("p", element("a", "Back to the run", href=frame.link("runs", thread)))


def _said(error: Exception) -> str:
    return run_redactor().text(str(error))


@cache
def _file(name: str) -> str:
    return files(__package__).joinpath("static", name).read_text(encoding="utf-8")


async def _static(request: Request) -> Response:
    name = request.path_params["file"]
    if name == "style.css":
        # The report's style sheet has the colours and the components; the page adds its own.
        return Response(style() + _file("board.css"), media_type="text/css")
    if name not in _STATIC:
        return Response(status_code=404)
    return Response(_file(name), media_type=_STATIC[name])
