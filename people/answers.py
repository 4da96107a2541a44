"""Match answers with open questions by id, and read them before the run continues."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import set_config_context
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.serde.types import INTERRUPT
from langgraph.errors import GraphInterrupt, is_invalid_resume
from langgraph.graph import END
from langgraph.types import Command, Interrupt, Send, StateSnapshot, interrupt
from pydantic import RootModel, ValidationError

from ..errors import (
    ConfigurationError,
    InvalidAnswerError,
    InvalidInputError,
    NothingToResumeError,
    ThreadNotFoundError,
    known,
)
from ..langgraph_private import path_text
from ..safety.plain_json import plain_json
from ..state import By, digest
from ..storage.ledger import Ledger
from .chat import current_question
from .questions import (
    QUESTIONS,
    answer_model,
    is_ours,
    older_question_id,
    question_name,
    read_answer,
)

__all__ = [
    "answers_of_earlier_version",
    "bare_answer",
    "check_command",
    "check_exists",
    "check_resumable",
    "is_by_id",
    "keep_answers",
    "open_questions",
    "refused_questions",
    "thread_name",
    "wrong_answers_named",
]


def check_resumable(snapshot: StateSnapshot | None, has_saver: bool) -> None:
    """Refuse to continue if there is nothing to continue.

    Raises:
        ConfigurationError: If there is no checkpointer.
        ThreadNotFoundError: If there is no such thread, or it has no such checkpoint.
        NothingToResumeError: If its run has ended.
    """
    if not has_saver or snapshot is None:
        raise ConfigurationError("there is nothing to resume from: the graph has no checkpointer=")
    check_exists(snapshot)
    if not snapshot.tasks:
        status = snapshot.values.get("status", "ended")
        raise NothingToResumeError(
            f"the run of thread {thread_name(snapshot)!r} has ended ({status}); nothing is open"
        )


def check_exists(snapshot: StateSnapshot) -> None:
    """Refuse a thread, or a checkpoint of one, that does not exist.

    Raises:
        ThreadNotFoundError: If there is none.
    """
    if snapshot.created_at is None:
        named = snapshot.config["configurable"].get("checkpoint_id")
        missing = f"checkpoint {named!r} of thread" if named else "thread"
        raise ThreadNotFoundError(f"there is no {missing} {thread_name(snapshot)!r}")


def thread_name(snapshot: StateSnapshot) -> str:
    """Return the thread's id, for messages."""
    return str(snapshot.config["configurable"].get("thread_id"))


def open_questions(interrupts: Sequence[Interrupt]) -> str:
    """Name the open questions with their ids, for messages."""
    return known((f"{question_name(i.value) or 'a question'} [{i.id}]" for i in interrupts), limit=10)


def check_command(
    command: Command[Any],
    snapshot: StateSnapshot | None,
    has_saver: bool,
    overdue: Mapping[str, Any],
    *,
    by_chat: bool = False,
) -> Command[Any]:
    """Read the answers of a ``Command``; a command without answers passes.

    Args:
        command: What the caller sent.
        snapshot: The thread's state.
        has_saver: Whether there is a checkpointer.
        overdue: Safe answers to questions that waited too long; a late answer does not count.
        by_chat: Whether it may come from a client of chat, which sends no ids: then an answer without one is
            for the question that those show.

    Raises:
        InvalidInputError: If it goes to a node.
        InvalidAnswerError: If an answer fits no open question; all of them stay open.
        ThreadError: If there is nothing to answer.
    """
    _refuse_goto(command)
    if command.resume is None and (command.goto or command.update):
        return command
    if command.update:
        raise InvalidAnswerError(
            "an answer cannot come with an update of the state: send the update first, then look at the "
            "question again and answer it"
        )
    check_resumable(snapshot, has_saver)
    assert snapshot is not None
    if not snapshot.interrupts:
        name = thread_name(snapshot)
        raise NothingToResumeError(f"no question is open on thread {name!r}; continue it with None as input")
    questions = {question.id: question for question in snapshot.interrupts}
    shown = current_question(snapshot.interrupts, snapshot.values.get("messages") or []) if by_chat else None
    answers = {} if set(overdue) == set(questions) else _answers(command.resume, questions, shown)
    return Command(graph=command.graph, resume={**answers, **overdue})


def _refuse_goto(command: Command[Any]) -> None:
    """Refuse to go to a node: LangGraph would run it next to open ones, or without its input."""
    targets = (
        command.goto if isinstance(command.goto, list | tuple) else [command.goto] if command.goto else []
    )
    names = [one.node if isinstance(one, Send) else str(one) for one in targets]
    instead = (
        "Use Command(resume=…) to answer, None as input to continue, retry_steps to run steps "
        f"again, edit_plan to change the plan, and goto={END!r} without an answer to end the "
        "run."
    )
    if inner := [name for name in names if name != END]:
        raise InvalidInputError(
            f"a run cannot be sent to {inner[0]!r}: what comes next follows from its state. {instead}"
        )
    if names and command.resume is not None:
        raise InvalidInputError(f"an answer cannot come with goto={names[0]!r}. {instead}")


@contextmanager
def wrong_answers_named() -> Iterator[None]:
    """Explain that an answer does not have the form that a tool or a middleware wants."""
    try:
        yield
    except ValidationError as error:
        if not is_invalid_resume(error):
            raise
        # The answer itself may contain a secret.
        problems = (
            f"{'.'.join(map(str, one['loc'])) or 'answer'}: {one['msg']}" for one in error.errors()[:5]
        )
        raise InvalidAnswerError(
            f"this answer does not fit the open question: {'; '.join(problems)}. The question stays open."
        ) from error


def _answers(resume: Any, questions: Mapping[str, Interrupt], shown: Interrupt | None) -> dict[str, Any]:
    """Match answers with open questions by id, and read each, so that a bad one never starts the run."""
    listed = open_questions(list(questions.values()))
    if resume is None or resume == {} or resume == []:
        raise InvalidAnswerError(f"the answer is empty. Open: {listed}")
    if is_by_id(resume):
        if unknown := sorted(set(resume) - set(questions)):
            raise InvalidAnswerError(f"no open question has the id {unknown[0]!r}. Open: {listed}")
        answers = dict(resume)
    elif len(questions) == 1 or shown is not None:
        answers = {shown.id if shown is not None else next(iter(questions)): resume}
    else:
        raise InvalidAnswerError(
            f"{len(questions)} questions are open, so answers must be given by id: {{id: answer}}. "
            f"Open: {listed}"
        )
    return {question_id: _read(questions[question_id], answer) for question_id, answer in answers.items()}


def refused_questions(given: Any, snapshot: StateSnapshot | None) -> list[str]:
    """Return our own questions for which an input was refused."""
    if snapshot is None:
        return []
    current = current_question(snapshot.interrupts, snapshot.values.get("messages") or [])
    answers: Any = given.resume if isinstance(given, Command) else None
    named = set(answers) if is_by_id(answers) else set()
    asked = [one.id for one in snapshot.interrupts if one.id in named and is_ours(one.id)]
    return asked or ([current.id] if current is not None and is_ours(current.id) else [])


def is_by_id(resume: Any) -> bool:
    """Tell whether a resume value names the questions that it answers."""
    return isinstance(resume, Mapping) and all(isinstance(key, str) and _is_id(key) for key in resume)


def _is_id(key: str) -> bool:
    return len(key) == 32 and all(char in "0123456789abcdef" for char in key)


def _read(question: Interrupt, answer: Any) -> Any:
    name = question_name(question.value)
    if name in QUESTIONS:
        read_answer(question.value, answer)
        return answer
    if is_ours(question.id) and _is_final(question):
        try:
            answer = plain_json(answer)
        except ValueError as error:
            raise InvalidAnswerError(
                f"the answer is not plain JSON ({error}); the question stays open"
            ) from error
    if name:
        return _tool_call_answer(question.value, answer)
    if answer is None:
        raise InvalidAnswerError("the answer is empty; the question stays open")
    return answer


def _tool_call_answer(question: Mapping[str, Any], answer: Any) -> dict[str, Any]:
    """Check an answer to LangChain's own human-in-the-loop middleware, which accepts one format only."""
    given = answer.get("decisions") if isinstance(answer, Mapping) and "decisions" in answer else answer
    decisions = list(given) if isinstance(given, list | tuple) else [given]
    requests, configs = question["action_requests"], question.get("review_configs") or []
    if len(decisions) != len(requests):
        raise InvalidAnswerError(
            f"{len(requests)} tool calls are waiting ({known(r['name'] for r in requests)}), "
            f"the answer holds {len(decisions)} decisions; the question stays open"
        )
    allowed = {config["action_name"]: config["allowed_decisions"] for config in configs}
    return {
        "decisions": [
            _tool_decision(decision, request, allowed.get(request["name"], ["approve", "edit", "reject"]))
            for decision, request in zip(decisions, requests, strict=True)
        ]
    }


_INBOX = {"accept": "approve", "ignore": "reject", "response": "respond"}


def _tool_decision(decision: Any, request: Mapping[str, Any], allowed: Sequence[str]) -> dict[str, Any]:
    given = {"type": decision} if isinstance(decision, str) else decision
    kind = given.get("type") if isinstance(given, Mapping) else None
    kind = _INBOX.get(str(kind), kind)
    if kind not in allowed or not isinstance(given, Mapping):
        raise InvalidAnswerError(
            f"{decision!r} is not a decision on the call of {request['name']!r}; allowed: "
            f"{known(allowed)}; the question stays open"
        )
    args = given.get("args")
    if kind == "edit" and "edited_action" not in given:
        inner = args.get("args", args) if isinstance(args, Mapping) else args
        if not isinstance(inner, Mapping):
            raise InvalidAnswerError(
                f"the edit of the call of {request['name']!r} needs its args as an object; "
                "the question stays open"
            )
        return {"type": "edit", "edited_action": {"name": request["name"], "args": dict(inner)}}
    if kind in ("reject", "respond") and isinstance(args, str) and "message" not in given:
        return {"type": kind, "message": args}
    if kind == "respond" and not isinstance(given.get("message"), str):
        raise InvalidAnswerError(
            f"a response to the call of {request['name']!r} needs a message; the question stays open"
        )
    return {**given, "type": kind}


# --- keeping answers ---------------------------------------------------------------------


def answers_of_earlier_version(resume: Mapping[str, Any], snapshot: StateSnapshot | None) -> dict[str, Any]:
    """Return the answers to questions of an earlier version, by their subject."""
    return {
        older_question_id(question_name(one.value), one.value.get("step_id")): resume[one.id]
        for one in (snapshot.interrupts if snapshot is not None else ())
        if one.id in resume and not is_ours(one.id) and question_name(one.value) in QUESTIONS
    }


async def keep_answers(
    command: Command[Any],
    snapshot: StateSnapshot,
    ledger: Ledger,
    saver: BaseCheckpointSaver[Any] | None,
    who_answered: Callable[[str], By],
) -> Command[Any] | None:
    """Record the answers to our questions, and return the rest for LangGraph to hand out.

    Args:
        command: The answers, by the id of their question.
        snapshot: The thread's state.
        ledger: Where they are kept.
        saver: Where the questions are marked as answered; None: nowhere.
        who_answered: Returns who gave the answer to a question.
    """
    given = command.resume if isinstance(command.resume, Mapping) else {}
    # Only the tool can tell whether an answer fits the tool's own schema.
    final = {one.id for one in snapshot.interrupts if is_ours(one.id) and _is_final(one)}
    ours = {key: answer for key, answer in given.items() if key in final}
    for key, answer in ours.items():
        await ledger.record_answer(key, answer, who_answered(key))
    if saver is None:
        return command
    for task in snapshot.tasks:
        if any(question.id in ours for question in task.interrupts):
            left = [question for question in task.interrupts if question.id not in ours]
            await saver.aput_writes(snapshot.config, [(INTERRUPT, left)], task.id, path_text(task.path))
    rest = {key: answer for key, answer in given.items() if key not in ours}
    return Command(resume=rest) if rest else None


def _is_final(question: Interrupt) -> bool:
    """Tell whether the answer has been read already, or will be accepted whatever it is."""
    return question_name(question.value) in QUESTIONS or question.response_schema is None


async def bare_answer(config: RunnableConfig, question: Interrupt, ledger: Ledger) -> dict[str, Any]:
    """Take an answer without an id, handed to a parent graph, for the one open question, if there is one.

    LangGraph 1.2.22 hands out such answers by position, and once more after a crash. Answers that were taken
    before are recorded and do not count again.

    Raises:
        pydantic.ValidationError: If it does not fit; the parent's question stays open.
    """
    configurable = config.get("configurable") or {}
    namespace = str(configurable.get("checkpoint_ns") or "")
    taken = await ledger.bare_answers(namespace)
    is_known = question_name(question.value) in QUESTIONS
    form: Any = answer_model(question.value) if is_known else question.response_schema
    with set_config_context(config) as context:
        try:
            for known_digest in taken:
                answer = context.run(interrupt, None)
                if digest(answer) != known_digest:
                    break  # The parent had forgotten those, and this one is new.
            else:
                answer = context.run(lambda: interrupt(question.value, response_schema=form))
        except GraphInterrupt:
            return {}
    answer = answer.root if isinstance(answer, RootModel) else answer
    await ledger.record_bare_answers(namespace, [*taken, digest(answer)])
    return {question.id: answer}
