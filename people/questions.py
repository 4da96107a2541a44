"""What a person is asked, and how their answer is read.

A question is an interrupt value in LangChain's human-in-the-loop format, so Studio, Agent Chat UI and Agent
Inbox can show it. An answer may come in any of their formats; :func:`read_answer` turns it into one canonical
form or says what is wrong with it.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, Required

from typing_extensions import TypedDict

from ..errors import InvalidAnswerError, known
from ..safety.depth import read_json
from ..safety.plain_json import plain_json
from ..state import By
from .forms import filled_in

if TYPE_CHECKING:
    # Who only lists questions does not load LangGraph.
    from langgraph.types import Interrupt, StateSnapshot
    from pydantic import RootModel

__all__ = [
    "QUESTIONS",
    "RUNNER_STOPPED",
    "Answer",
    "OpenQuestion",
    "Question",
    "answer_model",
    "is_ours",
    "may_still_run",
    "older_question_id",
    "overdue_answers",
    "question_id",
    "question_name",
    "question_value",
    "read_answer",
    "safe_answer",
    "safe_default_at",
    "with_refusal",
]

Json = Any
AnswerType = Literal["approve", "edit", "reject", "respond"]

_TYPES: dict[str, AnswerType] = {
    "approve": "approve",
    "accept": "approve",
    "edit": "edit",
    "reject": "reject",
    "ignore": "reject",
    "respond": "respond",
    "response": "respond",
}


@dataclass(frozen=True)
class Question:
    """One kind of question: the allowed answers, and the decisions it offers, if any.

    Attributes:
        name: The action's name, as clients see it.
        allowed: Types of answer.
        decisions: Values of ``args["decision"]``; empty if the answers are yes, no and edit.
        safe_default: The decision that a rejection or a missing answer means.
    """

    name: str
    allowed: tuple[AnswerType, ...]
    decisions: tuple[str, ...] = ()
    safe_default: str = "reject"


_ASK = "ask_person"
"""A question in words; the text is the answer."""

_DECIDE: tuple[AnswerType, ...] = ("approve", "edit", "reject", "respond")

QUESTIONS: dict[str, Question] = {
    question.name: question
    for question in (
        Question("approve_plan", ("approve", "edit", "reject", "respond")),
        Question("approve_step", ("approve", "edit", "reject")),
        Question("confirm_call", ("approve", "edit", "reject")),
        Question(_ASK, ("respond", "edit", "reject")),
        Question(
            "handle_step_failure",
            _DECIDE,
            ("retry", "skip", "patch", "replan", "supply", "abort"),
            safe_default="abort",
        ),
        Question("resolve_unknown_outcome", _DECIDE, ("happened", "run_again", "fail"), safe_default="fail"),
        Question("extend_budget", _DECIDE, ("extend", "finish", "abort"), safe_default="finish"),
    )
}


class Answer(TypedDict, total=False):
    """A person's answer in canonical form."""

    type: Required[AnswerType]
    decision: str
    args: dict[str, Json]
    message: str
    by: By
    at: str
    """When it was given (ISO 8601, UTC)."""


# --- what waits for an answer -------------------------------------------------------------


@dataclass(frozen=True)
class OpenQuestion:
    """A question that waits for a person; ``value`` is all of it, as LangGraph stores it."""

    id: str
    name: str
    args: dict[str, Any]
    description: str
    value: Any

    @classmethod
    def of(cls, interrupt: Interrupt) -> OpenQuestion:
        """Read an interrupt, also a foreign one (of a tool or a middleware)."""
        value = interrupt.value
        requests = value.get("action_requests") if isinstance(value, Mapping) else None
        first = requests[0] if requests else {}
        description = str(first.get("description") or "") if first else str(value)
        return cls(
            interrupt.id, str(first.get("name", "")), dict(first.get("args") or {}), description, value
        )

    @property
    def label(self) -> str:
        """The question's name and the start of its id, for messages."""
        return f"{self.name or 'a question'} [{self.id[:8]}]"

    def as_json(self) -> dict[str, Any]:
        """Describe the question for a program."""
        shown = {"id": self.id, "name": self.name, "args": self.args, "description": self.description}
        requests = self.value.get("action_requests", ()) if isinstance(self.value, Mapping) else ()
        return shown | ({"action_requests": requests} if len(requests) > 1 else {})


# --- asking ------------------------------------------------------------------------------


_OURS = hashlib.sha256(b"plan_execute").hexdigest()[:8]
"""The ending of our questions' ids; people name a question by the beginning of its id."""


def question_id(thread_id: str, key: Sequence[Json]) -> str:
    """Return the id of a question: 32 hexadecimal digits, as LangGraph's have.

    Args:
        thread_id: The asking thread.
        key: Distinguishes the question from all others of the thread.
    """
    text = json.dumps([thread_id, *key], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:24] + _OURS


def older_question_id(name: str, step_id: str | None) -> str:
    """Return the name of a question of an earlier version, whose id says nothing about its content."""
    return f"{name}/{step_id or ''}"


def is_ours(question_id: str) -> bool:
    """Tell whether an id belongs to a question that is answered by key, and not to a foreign one."""
    return question_id.endswith(_OURS)


def question_value(name: str, args: Mapping[str, Json], description: str) -> dict[str, Json]:
    """Return a question for clients, in LangChain's human-in-the-loop format.

    Args:
        name: One of :data:`QUESTIONS`.
        args: The proposal, which a person may edit.
        description: Markdown with what a person needs to decide.
    """
    question = QUESTIONS[name]
    # Agent Inbox writes a value into an edit field, and crashes on null.
    shown = {key: "" if value is None else value for key, value in args.items()}
    # Agent Inbox reads `arguments`, LangChain's own middleware and Agent Chat UI read `args`.
    request = {"name": question.name, "args": shown, "arguments": dict(shown), "description": description}
    config = {"action_name": question.name, "allowed_decisions": list(question.allowed)}
    return {"action_requests": [request], "review_configs": [config]}


def with_refusal(value: Json, refusal: str | None) -> Json:
    """Return a question's interrupt value with the reason why the last answer was not accepted."""
    if refusal is None:
        return value
    before = f"**Your answer was not accepted:** {refusal}\n\n"
    if isinstance(value, str):
        return before + value
    requests = value.get("action_requests") if isinstance(value, Mapping) else None
    if not requests:
        return value
    said = before + str(requests[0].get("description", ""))
    return {**value, "action_requests": [{**requests[0], "description": said}, *requests[1:]]}


def answer_model(value: Mapping[str, Json]) -> type[RootModel[Any]]:
    """Build a response schema with which LangGraph refuses a bad answer and keeps the question open."""
    from pydantic import RootModel, model_validator

    class HumanAnswer(RootModel[Any]):
        @model_validator(mode="before")
        @classmethod
        def _readable(cls, raw: Any) -> Any:
            try:
                read_answer(value, raw)
            except InvalidAnswerError as error:
                raise ValueError(str(error)) from error
            return raw

    return HumanAnswer


def question_name(value: Json) -> str:
    """Return the name of a question from its interrupt value; "" for a foreign one."""
    requests = value.get("action_requests") if isinstance(value, Mapping) else None
    return str(requests[0].get("name", "")) if requests else ""


def safe_answer(value: Json, waited_s: float) -> Json | None:
    """Return the safe default as an answer; None if the question has none.

    Args:
        value: The question's interrupt value.
        waited_s: How long it may wait, in seconds.
    """
    if not question_name(value):
        return None
    rejection = {"type": "reject", "message": f"nobody answered within {waited_s:g} seconds"}
    if question_name(value) in QUESTIONS:
        return rejection
    return {
        "decisions": [{"type": "reject", "message": rejection["message"]} for _ in value["action_requests"]]
    }


# --- reading answers ---------------------------------------------------------------------


def read_answer(value: Mapping[str, Json], raw: Json, by: By | None = None) -> Answer:
    """Read an answer to the question with this interrupt value.

    Accepts ``{"decisions": [{"type": …}]}``, Agent Inbox's ``[{"type": "accept", …}]``, and the shorthands
    ``{"type": …}``, ``{"decision": …}``, ``"approve"`` and a decision's name alone. ``by`` says who gave it;
    the answer itself does not.

    Raises:
        InvalidAnswerError: If it fits nothing; the message says what is allowed.
    """
    answer = _read(value, raw)
    answer["by"] = by or {"kind": "person"}
    return answer


def _read(value: Mapping[str, Json], raw: Json) -> Answer:
    question = QUESTIONS[question_name(value)]
    proposed = value["action_requests"][0]["args"]
    _require_json(question, raw)
    if question.name == _ASK:
        return _answered(question, raw, proposed)
    shape = _unwrap(question, raw)
    _require_json(question, shape)  # A text may hold JSON.
    kind = _answer_type(question, shape)
    answer: Answer = {"type": kind, "message": _message(shape)}
    if kind == "edit":
        answer["args"] = _edited_args(question, shape)
    if question.decisions:
        decided = _with_decision(question, answer, proposed)
        _require_stopped(question, value, decided)
        return decided
    return _check_edit(question, answer, proposed)


def _answered(question: Question, raw: Json, proposed: Mapping[str, Json]) -> Answer:
    """Read the answer to a question in words: a decision holds it, or it is all that was given."""
    if raw in ({}, []) and "form" not in proposed:
        raise _refuse(question, "it is empty")
    given = _parse_json(raw) if isinstance(raw, str) else raw
    if _is_decision(given, proposed):
        shape = _unwrap(question, given)
    elif isinstance(given, Mapping) and "answer" in given.keys() - _fields(proposed):
        shape = {"type": "edit", "args": {"answer": given["answer"]}}
    elif isinstance(raw, str):
        # Text that only looks like JSON is text.
        shape = {"type": given if isinstance(given, str) else raw}
    else:
        shape = {"type": "edit", "args": {"answer": raw}}
    if shape.keys() == {"type"} and isinstance(shape["type"], str) and _type_named(shape) != "reject":
        shape = {"type": "respond", "message": shape["type"]}
    kind = _answer_type(question, shape)
    if kind == "reject":
        return {"type": "reject", "message": _message(shape)}
    said = _message(shape) if kind == "respond" else _edited_args(question, shape).get("answer")
    answer = _answer_in_words(question, said, proposed)
    _require_json(question, answer)  # A text may hold JSON.
    return {"type": "edit", "args": {"answer": answer}, "message": ""}


_OF_A_DECISION = {"type", "decision", "decisions", "edited_action"}


def _is_decision(given: Json, proposed: Mapping[str, Json]) -> bool:
    """Tell whether this is a decision about a question in words, and not itself the answer."""
    one = given[0] if isinstance(given, list) and len(given) == 1 else given
    if not isinstance(one, Mapping):
        return False
    if "form" in proposed and _type_named(one) is None and ("type" in one or one.keys() <= _fields(proposed)):
        return False  # Values that are asked for may have such names too.
    return bool(one.keys() & _OF_A_DECISION)


def _fields(proposed: Mapping[str, Json]) -> set[str]:
    return set(proposed.get("form", {}).get("properties", ()))


def _answer_in_words(question: Question, given: Json, proposed: Mapping[str, Json]) -> Json:
    if "form" not in proposed or given is None:
        return _chosen(question, given, proposed.get("choices") or [])
    try:
        return filled_in(proposed["form"], given)
    except ValueError as error:
        raise _refuse(question, str(error)) from error


def _chosen(question: Question, given: Json, choices: Sequence[str]) -> Json:
    if given is None or (isinstance(given, str) and not given.strip()):
        raise _refuse(question, "it holds no answer")
    if not choices:
        return given
    listed = _parse_json(given) if isinstance(given, str) else given
    only = listed[0] if isinstance(listed, list) and len(listed) == 1 else given
    for said in (given, only):
        for choice in choices:
            if choice.strip().casefold() == str(said).strip().casefold():
                return choice
    raise _refuse(question, f"{given!r} is not one of the choices: {', '.join(choices)}")


def _refuse(question: Question, problem: str) -> InvalidAnswerError:
    decisions = f" with a decision of {known(question.decisions)}" if question.decisions else ""
    return InvalidAnswerError(
        f"this answer does not fit the open question {question.name!r}: {problem}. "
        f"Allowed: {known(question.allowed)}{decisions}. The question stays open."
    )


def _unwrap(question: Question, raw: Json) -> Mapping[str, Json]:
    if isinstance(raw, str):
        text = raw.strip()
        parsed = _parse_json(text) if text[:1] in ("{", "[", '"') else None
        # Text that only begins like JSON is text.
        raw = {"decision" if text in question.decisions else "type": text} if parsed is None else parsed
    if isinstance(raw, Mapping) and "decisions" in raw:
        raw = raw["decisions"]
    if isinstance(raw, Sequence) and not isinstance(raw, str):
        if len(raw) != 1:
            raise _refuse(question, f"it holds {len(raw)} decisions for one action")
        raw = raw[0]
    if isinstance(raw, str):
        raw = {"type": raw}
    if not isinstance(raw, Mapping) or not raw:
        raise _refuse(question, f"it is {_describe(raw)}")
    return raw


def _require_json(question: Question, raw: Json) -> None:
    try:
        plain_json(raw)
    except ValueError as error:
        raise _refuse(question, f"it is not plain JSON ({error})") from error


def _describe(raw: Json) -> str:
    return (
        "empty" if raw is None or raw == {} else f"{type(raw).__name__} {json.dumps(raw, default=str)[:80]}"
    )


def _answer_type(question: Question, shape: Mapping[str, Json]) -> AnswerType:
    if shape.get("type") is None and question.decisions and "decision" in shape:
        return "edit"
    kind = _type_named(shape)
    if kind is None or kind not in question.allowed:
        such = json.dumps({"type": question.allowed[0]})
        named = shape.get("type")
        raise _refuse(
            question, f"it is no decision such as {such}" if named is None else f"its type is {named!r}"
        )
    return kind


def _type_named(shape: Mapping[str, Json]) -> AnswerType | None:
    named = shape.get("type")
    return _TYPES.get(named.strip().lower()) if isinstance(named, str) else None


def _message(shape: Mapping[str, Json]) -> str:
    for key in ("message", "feedback", "args"):
        if isinstance(text := shape.get(key), str) and text.strip():
            return text.strip()
    return ""


def _edited_args(question: Question, shape: Mapping[str, Json]) -> dict[str, Json]:
    edited = shape.get("edited_action")
    args = edited.get("args") if isinstance(edited, Mapping) else shape.get("args")
    if args is None and "decision" in shape:
        args = {key: value for key, value in shape.items() if key not in ("type", "message")}
    args = _parsed(question, args)
    if (
        isinstance(args, Mapping)
        and isinstance(args.get("args"), Mapping | str)
        and set(args) <= {"action", "args"}
    ):
        args = _parsed(question, args["args"])
    if not isinstance(args, Mapping) or not args:
        raise _refuse(question, "an edit needs its args as a JSON object")
    return dict(args)


def _parsed(question: Question, value: Json) -> Json:
    if not isinstance(value, str):
        return value
    parsed = _parse_json(value)
    if parsed is None:
        raise _refuse(question, "the edited args are not JSON")
    return parsed


def _parse_json(text: str) -> Json:
    try:
        return read_json(text)
    except ValueError:
        return None


def _with_decision(question: Question, answer: Answer, proposed: Mapping[str, Json]) -> Answer:
    args = {**proposed, **answer.get("args", {})}
    decision = question.safe_default if answer["type"] == "reject" else args.get("decision")
    stated = decision in ("supply", "happened") and "output" in answer.get("args", {})
    if args.get("output") == proposed.get("output") == "" and not stated:
        args["output"] = None  # The field was left empty.
    if decision not in question.decisions:
        raise _refuse(question, f"its decision is {decision!r}")
    given = answer.get("args", {}) if decision != proposed.get("decision") else args
    if decision in ("supply", "happened") and "output" not in given:
        raise _refuse(question, f"the decision {decision!r} needs the args to hold an output")
    if decision == "extend":
        args["by"] = _amount(question, args.get("by"))
    message = answer.get("message") or ""
    if answer["type"] == "edit":
        message = message or str(args.get("instructions") or "")
    return {**answer, "decision": str(decision), "args": args, "message": message}


RUNNER_STOPPED = "runner_stopped"
"""The argument by which a person confirms that the thread's former runner has stopped."""


def may_still_run(former: Mapping[str, Json]) -> str:
    """Say who ran the thread before, when it was last seen, and when its lease ends."""
    seen, ends = (_time(former[key]) for key in ("last_seen", "lease_ends"))
    return (
        f"Its former runner (`{former['runner']}`) was last seen at {seen}. It may still be "
        f"alive and making that call. Its lease ends at {ends}. Until then `happened` and "
        f"`run_again` are accepted only with `{RUNNER_STOPPED}: true`, which says that you have "
        "made sure that it has stopped."
    )


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _require_stopped(question: Question, value: Mapping[str, Json], answer: Answer) -> None:
    """Refuse a decision about a write while its maker may still be making the call."""
    former = value.get("former_runner")
    if former is None or answer["decision"] not in ("happened", "run_again"):
        return
    left_s = former["lease_ends"] - time.time()
    if left_s > 0 and answer["args"].get(RUNNER_STOPPED) is not True:
        raise _refuse(
            question,
            f"its former runner ({former['runner']}), last seen at {_time(former['last_seen'])}, "
            f"may still be making the call. Answer when its lease has ended, in {left_s:.0f} s, "
            f"or make sure that it has stopped and add {RUNNER_STOPPED}: true",
        )


def _amount(question: Question, by: Json) -> float:
    if isinstance(by, bool) or not isinstance(by, int | float) or not 0 < by < math.inf:
        raise _refuse(question, f"a budget is extended by a number above 0, not {by!r}")
    return by


def _edited_calls(question: Question, given: Json, count: int) -> list[Json]:
    """Read the edited arguments of a loop's calls: one object for each, in order."""
    if isinstance(given, list) and len(given) == count and all(isinstance(one, Mapping) for one in given):
        return given
    raise _refuse(question, f"an edit needs args.tool_args as a list of {count} JSON objects")


def _check_edit(question: Question, answer: Answer, proposed: Mapping[str, Json]) -> Answer:
    if answer["type"] != "edit":
        return answer
    args = answer["args"]
    if question.name == "approve_plan":
        plan = _parsed(question, args.get("plan", args if "steps" in args else None))
        if not isinstance(plan, Mapping):
            raise _refuse(question, "an edit needs the whole plan as args.plan")
        return {**answer, "args": {"plan": dict(plan)}}
    if question.name == "confirm_call":
        call_args = _parsed(question, args.get("tool_args", args))
        if isinstance(calls := proposed.get("tool_args"), list):
            return {**answer, "args": {"tool_args": _edited_calls(question, call_args, len(calls))}}
        if not isinstance(call_args, Mapping):
            raise _refuse(question, "an edit needs args.tool_args as a JSON object")
        return {**answer, "args": {"tool_args": dict(call_args)}}
    given = _parsed(question, args.get("step", args))
    if not isinstance(given, Mapping) or not {"call", "task"} & set(given):
        raise _refuse(question, "an edit needs args.step, args.call or args.task")
    edited = dict(given)
    if "call" in edited:
        call = _parsed(question, edited["call"])
        call_args = _parsed(question, call.get("args")) if isinstance(call, Mapping) else None
        if not isinstance(call_args, Mapping):
            raise _refuse(question, "an edited call needs its args as a JSON object")
        edited["call"] = {"args": dict(call_args)}
    return {**answer, "args": edited}


# --- questions that nobody answered ------------------------------------------------------


def overdue_answers(snapshot: StateSnapshot | None, waits_s: float | None) -> dict[str, Any]:
    """Answer questions older than ``waits_s`` seconds with their safe default, by id."""
    if snapshot is None or waits_s is None:
        return {}
    return {
        question.id: answer
        for question in snapshot.interrupts
        if _age_s(question, snapshot) > waits_s
        and (answer := safe_answer(question.value, waits_s)) is not None
    }


def safe_default_at(snapshot: StateSnapshot, waits_s: float | None) -> float | None:
    """Return when the first open question gets its safe default, in seconds since the epoch; None: never."""
    if waits_s is None:
        return None
    ends = [q for q in snapshot.interrupts if safe_answer(q.value, waits_s) is not None]
    return min((_asked_at(question, snapshot) + waits_s for question in ends), default=None)


def _age_s(question: Interrupt, snapshot: StateSnapshot) -> float:
    """Return for how many seconds a question has been open."""
    return datetime.now(UTC).timestamp() - _asked_at(question, snapshot)


def _asked_at(question: Interrupt, snapshot: StateSnapshot) -> float:
    """Return since when a question has been open, in seconds since the epoch."""
    asked_at = question.value.get("asked_at") if isinstance(question.value, Mapping) else None
    since = datetime.fromisoformat(asked_at or snapshot.created_at or datetime.now(UTC).isoformat())
    return since.timestamp()
