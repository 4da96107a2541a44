"""Connect a tool call to the run: its questions go to a person, and its progress becomes events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langgraph.config import get_stream_writer
from langgraph.errors import GraphInterrupt
from langgraph.runtime import Runtime

from ..errors import ToolFailedError
from ..people.asking import ask_person
from ..people.forms import choices_of, fields_in_words, filled_in
from ..run import StepScope, emit
from ..safety.markdown import code_span, plain_line
from ..state import digest
from ..storage.ids import CallId
from ..tools.caller import Reply, ToolQuestion

__all__ = ["CallerOfTool"]

Json = Any
_LONGEST_WORD = 300
_DONE, _YES, _NO = "done", "yes", "no"


class CallerOfTool:
    """The run behind one call; see :class:`~plan_execute.tools.caller.Caller`."""

    def __init__(self, scope: StepScope, tool: str, call: CallId, call_id: str) -> None:
        self._scope, self._run, self._tool, self._call, self._call_id = scope, scope.run, tool, call, call_id

    async def ask(self, questions: Sequence[ToolQuestion], first: int) -> list[Reply]:
        """Ask all questions at once; each has an id made from its call, place and text."""
        replies: list[Reply] = []
        open_questions: list[Any] = []
        for place, question in enumerate(questions, first):
            try:
                replies.append(await self._ask(question, place))
            except GraphInterrupt as stop:
                open_questions += stop.args[0]
        if open_questions:
            raise GraphInterrupt(tuple(open_questions))
        return replies

    async def _ask(self, question: ToolQuestion, place: int) -> Reply:
        if not self._run.can_ask:
            raise ToolFailedError(
                f"{self._tool}: {question.server} asks the person {question.message!r}, but nobody can "
                "be asked, because there is no checkpointer"
            )
        asked = [question.message, dict(question.schema), question.url]
        key = [self._call.work.plan_id, self._call.row_key, place, digest(asked)]
        proposal, words, step_id = _proposal(question), self._words(question), self._scope.step_id
        answer = await ask_person(self._run, key, "ask_person", proposal, words, step_id=step_id)
        if answer["type"] == "reject":
            return None
        said = answer["args"]["answer"]
        if _is_form(question):
            return filled_in(question.schema, said)
        return None if said == _NO else {}

    def _words(self, question: ToolQuestion) -> str:
        who, message = plain_line(question.server), plain_line(question.message)
        lines = [f"Step **{self._scope.step_id}** calls {code_span(self._tool)}, and {who} asks: {message}"]
        if question.url:
            lines += ["", f"It wants you to open {code_span(question.url)} before it goes on."]
        lines += [f"- {plain_line(field)}" for field in fields_in_words(question.schema)]
        return "\n".join(lines)

    async def kept(self) -> dict[str, Json] | None:
        """Return the state that the call had when it asked, if an earlier run of this thread began it."""
        return await self._run.ledger.stand_of_call(self._call) if self._run.resumed else None

    async def keep(self, stand: dict[str, Json]) -> None:
        """Keep the state of the call, unless it contains a secret; then the call starts over."""
        if self._run.can_ask and self._run.redact(stand) == stand:
            await self._run.ledger.record_stand_of_call(self._call, stand)

    def tell(self, progress: float, total: float | None, message: str | None) -> None:
        """Send an event with the progress of the call."""
        emit(
            Runtime(stream_writer=get_stream_writer()),
            self._run,
            "tool_progress",
            step_id=self._scope.step_id,
            tool=self._tool,
            call_id=self._call_id,
            progress=progress,
            total=total,
            message=(message or "")[:_LONGEST_WORD],
        )


def _is_form(question: ToolQuestion) -> bool:
    return not question.url and bool(question.schema.get("properties"))


def _proposal(question: ToolQuestion) -> dict[str, Json]:
    asked: dict[str, Json] = {"question": question.message, "choices": [], "answer": ""}
    if _is_form(question):
        return asked | {"choices": choices_of(question.schema), "form": dict(question.schema)}
    return asked | {"choices": [_DONE if question.url else _YES, _NO]}
