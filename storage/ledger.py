"""Record durably what was started and finished, outside the graph's state, in any LangGraph store."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from ..safety.redaction import Redactor
from ..state import Attempt, By, Usage
from .ids import CallId, WorkId
from .rows import ROOT, decode, deletion, dump, encode, is_replaceable, load, put, read, read_all, search

if TYPE_CHECKING:
    # Who only looks at what is on record does not load LangGraph.
    from langgraph.store.base import BaseStore, Op

__all__ = [
    "QUEUE",
    "GivenAnswer",
    "Ledger",
    "Opening",
    "Wait",
    "ledger_of",
    "must_last",
    "queue_of_thread",
    "thread_of",
]

QUEUE = "queue"
"""The kind of the row of a thread that waits for a worker."""
_KINDS = ("approvals", "results", "attempts", "items", "answers", "effects", QUEUE, "threads")

_LASTING = frozenset((ROOT, kind) for kind in (*_KINDS, "spend") if kind != "threads")
"""Beginnings of the namespaces that the promises rest on."""


def must_last(ops: Iterable[Op]) -> bool:
    """Tell whether operations put a row that the disk must have before anything goes on.

    The rest may be lost with the power, never by a kill: a thread's settings, requests to stop, and results
    that can be had again without harm.
    """
    from langgraph.store.base import PutOp

    puts = (op for op in ops if isinstance(op, PutOp))
    return any(op.namespace[:2] in _LASTING and not is_replaceable(op) for op in puts)


@dataclass(frozen=True)
class Opening:
    """What a run must know about its thread before it starts.

    Attributes:
        settings: The settings at the thread's start; None if nothing is recorded.
        unbooked_s: Seconds that earlier runs of the goal spent after their last node.
        extensions: Extensions of the goal's budgets by a person.
        calls: ``{"since", "calls"}``: how many calls the goal has begun, and since which checkpoint it runs.
        requesters: Who gave each goal of the conversation, by how many had ended before it.
    """

    settings: dict[str, Any] | None
    unbooked_s: float
    extensions: dict[str, Any]
    calls: dict[str, Any] | None
    requesters: Mapping[str, Sequence[str]]


class GivenAnswer(NamedTuple):
    """The answer to a question, whose it is, and when it was given (ISO 8601, UTC; None: not on record)."""

    answer: Any
    by: By
    at: str | None


class Wait(NamedTuple):
    """A question from when it was asked to when it was answered (ISO 8601, UTC); None: it was not."""

    question_id: str
    name: str
    step_id: str | None
    asked_at: str
    answered_at: str | None
    by: By | None


class Ledger:
    """The records of one thread, in a store whose async methods work (see `async_store`).

    Values are stored as JSON text inside the store's JSON value, because stores change bare JSON: SqliteStore
    3.1.2 refuses integers over 64 bits, PostgreSQL's jsonb refuses NUL and reorders keys, and InMemoryStore
    keeps the caller's own object.

    Args:
        store: Holds the rows.
        thread_id: The thread.
        redactor: Keeps secrets out of the rows; None if nothing new will be recorded.

    Raises:
        TypeError: By every ``record_*``, ``begin_*`` and ``finish_*``, for a value that is not JSON.
        ValueError: By the same, for NaN and infinity.
    """

    def __init__(self, store: BaseStore, thread_id: str, redactor: Redactor | None = None) -> None:
        self.store = store
        self._redactor = redactor or Redactor()
        self.thread_id = thread_id
        self._approvals: dict[str, dict[str, dict[str, Any]]] = {}
        self._empty: set[tuple[str, ...]] = set()
        """Kinds of records, each with the plan of which there are no rows."""

    def begin_plan(self, plan_id: str) -> None:
        """Note that a plan's id is new, so that this ledger has written all its records."""
        self._empty |= {(kind, encode(plan_id)) for kind in ("approvals", "results", "attempts", "items")}
        self._empty.add(("origin", plan_id))

    # Approvals. A thread has one runner at a time, so they are read once.

    async def approval(self, plan_id: str, plan_hash: str) -> dict[str, Any] | None:
        """Return the approval recorded for this plan hash."""
        row = (await self._approvals_of(plan_id)).get(plan_hash)
        return None if row is None else row["approval"]

    async def approvals(self, plan_id: str) -> list[dict[str, Any]]:
        """Return the plan's approvals in the order they were recorded."""
        rows = (await self._approvals_of(plan_id)).values()
        return [row["approval"] for row in sorted(rows, key=lambda row: row["number"])]

    async def record_approval(self, plan_id: str, plan_hash: str, approval: dict[str, Any]) -> None:
        """Record an approval; a second one for the same hash replaces the first and counts as the latest."""
        known = await self._approvals_of(plan_id)
        row = {"number": 1 + max((row["number"] for row in known.values()), default=-1), "approval": approval}
        by_nobody = approval.get("decision") == "not_required"
        space = self._space("approvals", plan_id)
        stored = await self._put(space, plan_hash, row, replaceable=by_nobody)
        known[plan_hash] = json.loads(dump(stored))

    async def _approvals_of(self, plan_id: str) -> dict[str, dict[str, Any]]:
        if plan_id not in self._approvals:
            self._approvals[plan_id] = await self._rows(self._space("approvals", plan_id))
        return self._approvals[plan_id]

    async def approved_plans(self) -> set[str]:
        """List the thread's plans that have an approval, by whatever decision."""
        rows = await search(self.store, self._space("approvals"), below=True)
        return {decode(row.namespace[-1]) for row in rows}

    async def grant(self) -> dict[str, Any] | None:
        """Return what a standing grant allows the thread's plan to do without asking."""
        return await self._get(self._space("approvals"), "grant")

    async def record_grant(self, grant: dict[str, Any]) -> None:
        """Record a standing grant; it replaces an earlier one."""
        await self._put(self._space("approvals"), "grant", grant)

    # The thread.

    async def opening(self) -> Opening:
        """Read, in one go, what a run must know before it starts."""
        names = ("settings", "unbooked", "budgets", "calls", "requesters")
        found = await read_all(self.store, self._space("threads"), names)
        settings, unbooked, budgets, calls, requesters = found
        return Opening(
            settings,
            float(unbooked["seconds"]) if unbooked is not None else 0.0,
            dict(budgets["extensions"]) if budgets is not None else {},
            calls,
            requesters or {},
        )

    async def record_requesters(self, requesters: Mapping[str, Sequence[str]]) -> None:
        """Record who gave each goal of the conversation; after a fork there may be several."""
        await self._put(self._space("threads"), "requesters", dict(requesters))

    async def record_settings(self, settings: dict[str, Any]) -> None:
        """Record the settings that the thread was started with."""
        await self._put(self._space("threads"), "settings", settings)

    # The origin of plans.

    async def origin(self, plan_id: str) -> dict[str, Any] | None:
        """Return the recorded origin of a plan (see ``plan/reuse.py``)."""
        if ("origin", plan_id) in self._empty:
            return None
        return await self._get(self._space("threads"), _origin(plan_id))

    async def record_origin(self, plan_id: str, origin: dict[str, Any]) -> None:
        """Record the origin of a plan; the same plan replaces it."""
        self._empty.discard(("origin", plan_id))
        await self._put(self._space("threads"), _origin(plan_id), origin)

    async def forget_origin(self, plan_id: str) -> None:
        """Forget the origin of a plan."""
        await self.store.adelete(self._space("threads"), encode(_origin(plan_id)))

    # Time.

    async def leave_unbooked_seconds(self, seconds: float) -> None:
        """Record what a run spent after its last node, for the next run of this goal."""
        await self._put(self._space("threads"), "unbooked", {"seconds": seconds})

    # Calls.

    async def record_calls(self, calls: Mapping[str, float], since: str) -> None:
        """Record the number of begun calls of the goal that runs since this checkpoint."""
        await self._put(self._space("threads"), "calls", {"since": since, "calls": calls})

    async def spent_by_others(self, work: WorkId) -> Usage:
        """Return what models used that others, such as middleware, have called in an attempt."""
        found: Any = await self._get(self._space("threads"), _spent(work))
        return found or Usage()

    async def record_spent_by_others(self, work: WorkId, usage: Usage) -> None:
        """Record what models used that others have called in an attempt; it replaces an earlier record."""
        await self._put(self._space("threads"), _spent(work), dict(usage))

    async def record_budget_extensions(self, extensions: Mapping[str, Any]) -> None:
        """Record all extensions of this goal's budgets."""
        await self._put(self._space("threads"), "budgets", {"extensions": dict(extensions)})

    # The former runner.

    async def record_lost_runner(self, runner: dict[str, Any]) -> None:
        """Record a runner that stopped without a sign and may be alive; a later one replaces it."""
        await self._put(self._space("threads"), "lost_runner", runner)

    async def lost_runner(self) -> dict[str, Any] | None:
        """Return the last such runner: ``{"runner", "last_seen", "lease_ends"}``; see `Hold.former`."""
        return await self._get(self._space("threads"), "lost_runner")

    # Stopping.

    async def request_stop(self) -> None:
        """Ask the runner of this thread to stop."""
        await self._put(self._space("threads"), "stop", {"at": time.time()})

    async def stop_requested(self, *, since: float) -> bool:
        """Tell whether somebody has asked the run to stop ``since`` a time in seconds since the epoch."""
        row = await self._get(self._space("threads"), "stop")
        return row is not None and row["at"] >= since

    # Results.

    async def result(self, plan_id: str, step_id: str, fingerprint: str) -> dict[str, Any] | None:
        """Return the step's result if it was recorded under the same fingerprint."""
        row = await self._get(self._space("results", plan_id), step_id)
        return row["result"] if row is not None and row["fingerprint"] == fingerprint else None

    async def results(self, plan_id: str) -> dict[str, dict[str, Any]]:
        """Return ``{"fingerprint", "result"}`` of every finished step by its id."""
        return await self._rows(self._space("results", plan_id))

    async def record_result(
        self,
        plan_id: str,
        step_id: str,
        fingerprint: str,
        result: dict[str, Any],
        *,
        replaceable: bool = False,
    ) -> None:
        """Record a finished step."""
        row = {"fingerprint": fingerprint, "result": result}
        await self._put(self._space("results", plan_id), step_id, row, replaceable=replaceable)

    async def forget_result(self, plan_id: str, step_id: str) -> None:
        """Forget a step's result and attempts, so that it runs again on a person's order.

        Its effects stay recorded, because they happened. Succeeded items of a failed step stay too.
        """
        attempts, items = self._space("attempts", plan_id, step_id), self._space("items", plan_id, step_id)
        finished = await self._get(self._space("results", plan_id), step_id) is not None
        found = [row for row in await search(self.store, items) if finished or not _succeeded(load(row))]
        rows = [(row.namespace, row.key) for row in [*await search(self.store, attempts), *found]]
        rows_to_delete = [(self._space("results", plan_id), encode(step_id)), *rows]
        await self.store.abatch([deletion(namespace, key) for namespace, key in rows_to_delete])

    # Attempts.

    async def attempts(self, plan_id: str, step_id: str, fingerprint: str) -> list[Attempt]:
        """Return the step's attempts under this fingerprint, in order."""
        rows = await self._rows(self._space("attempts", plan_id, step_id))
        mine = [row for row in rows.values() if row["fingerprint"] == fingerprint]
        return [row["attempt"] for row in sorted(mine, key=lambda row: row["number"])]

    async def attempts_of_plan(self, plan_id: str) -> dict[tuple[str, str], list[Attempt]]:
        """Return all attempts of a plan's steps, in order, by (step id, fingerprint)."""
        space = self._space("attempts", plan_id)
        rows = [] if self._is_empty(space) else await search(self.store, space, below=True)
        loaded = [(decode(row.namespace[-1]), load(row)) for row in rows]
        found: dict[tuple[str, str], list[Attempt]] = {}
        for step_id, row in sorted(loaded, key=lambda one: one[1]["number"]):
            found.setdefault((step_id, row["fingerprint"]), []).append(row["attempt"])
        return found

    async def record_attempt(
        self, plan_id: str, step_id: str, fingerprint: str, number: int, attempt: Attempt
    ) -> None:
        """Record one attempt; the same number replaces it."""
        row = {"fingerprint": fingerprint, "number": number, "attempt": attempt}
        await self._put(self._space("attempts", plan_id, step_id), f"{fingerprint}/{number}", row)

    # Items of a for_each.

    async def items(self, plan_id: str, step_id: str, fingerprint: str) -> dict[int, dict[str, Any]]:
        """Return ``{"item", "attempt"}`` of every item that was attempted, by its index.

        ``item`` is a digest of the item's value; ``attempt`` is the last one made.
        """
        rows = await self._rows(self._space("items", plan_id, step_id))
        mine = {key: row for key, row in rows.items() if row["fingerprint"] == fingerprint}
        return {row["index"]: row for row in mine.values() if "index" in row}

    async def record_item(
        self,
        plan_id: str,
        step_id: str,
        fingerprint: str,
        index: int,
        item: str,
        attempt: Attempt,
        *,
        replaceable: bool = False,
    ) -> None:
        """Record the last attempt at one item; ``item`` is a digest of its value."""
        row = {"fingerprint": fingerprint, "index": index, "item": item, "attempt": attempt}
        key = f"{fingerprint}/{index}"
        await self._put(self._space("items", plan_id, step_id), key, row, replaceable=replaceable)

    # Answers to questions.

    async def answer(self, question_id: str) -> GivenAnswer | None:
        """Return the answer to a question; None if there is none."""
        row = await self._get(self._space("answers"), question_id)
        if row is None:
            return None
        answer = row["answer"]
        if "by" in row:
            return GivenAnswer(answer, row["by"], row.get("at"))
        # An earlier version put it into the answer.
        by_nobody = isinstance(answer, dict) and answer.get("by") == "timeout"
        return GivenAnswer(answer, {"kind": "timeout" if by_nobody else "person"}, None)

    async def record_answer(self, question_id: str, answer: Any, by: By) -> GivenAnswer:
        """Record the answer to a question, and who gave it; another one replaces it."""
        given = GivenAnswer(answer, by, _now())
        await self._put(self._space("answers"), question_id, given._asdict())
        return given

    async def forget_answer(self, question_id: str) -> None:
        """Forget the answer to a question, because it does not fit."""
        await self.store.adelete(self._space("answers"), encode(question_id))

    async def record_question(self, question_id: str, name: str, step_id: str | None) -> None:
        """Record when a question was asked first, for reports."""
        if await self._get(self._space("threads"), _asked(question_id)) is None:
            row = {"name": name, "step_id": step_id, "at": _now()}
            await self._put(self._space("threads"), _asked(question_id), row)

    async def waits(self) -> list[Wait]:
        """List what the thread has waited for people for, in the order in which it was asked."""
        rows = await self._rows(self._space("threads"))
        asked = {key.removeprefix(_ASKED): row for key, row in rows.items() if key.startswith(_ASKED)}
        answers = await self._rows(self._space("answers")) if asked else {}
        found = [
            Wait(
                id,
                row["name"],
                row["step_id"],
                row["at"],
                (given := answers.get(id, {})).get("at"),
                given.get("by"),
            )
            for id, row in asked.items()
        ]
        return sorted(found, key=lambda wait: wait.asked_at)

    async def forget_answers(self) -> None:
        """Forget all answers, so that an older checkpoint asks its questions again."""
        asked = [
            row
            for row in await search(self.store, self._space("threads"))
            if decode(row.key).startswith(_ASKED)
        ]
        if rows := [*await search(self.store, self._space("answers")), *asked]:
            await self.store.abatch([deletion(row.namespace, row.key) for row in rows])

    async def bare_answers(self, namespace: str) -> list[str]:
        """Return digests of the answers without an id from a parent graph, in order."""
        row = await self._get(self._space("answers"), _bare(namespace))
        return [] if row is None else list(row["digests"])

    async def record_bare_answers(self, namespace: str, digests: list[str]) -> None:
        """Record digests of the answers without an id from a parent graph, in order."""
        await self._put(self._space("answers"), _bare(namespace), {"digests": digests})

    async def uses(self, question_ids: Sequence[str]) -> list[list[dict[str, Any]]]:
        """Return what calls each of these questions is about, which tools or agents ask themselves."""
        found = await read_all(self.store, self._space("answers"), map(_uses, question_ids))
        return [[] if row is None else row["uses"] for row in found]

    async def record_uses(self, question_id: str, uses: Sequence[Mapping[str, Any]]) -> None:
        """Record what calls such a question is about."""
        await self._put(self._space("answers"), _uses(question_id), {"uses": [*uses]})

    async def tool_question(self, call: CallId) -> dict[str, Any] | None:
        """Return the last question of a call's tool; None if it has not asked."""
        return await self._get(self._space("answers"), _tool(call))

    async def record_tool_question(self, call: CallId, question: dict[str, Any]) -> None:
        """Record the question of a call's tool: ``{"start", "id", "value", "schema"}``."""
        await self._put(self._space("answers"), _tool(call), question)

    async def stand_of_call(self, call: CallId) -> dict[str, Any] | None:
        """Return a call's state from when its server asked; None if it has not asked, or starts over."""
        return await self._get(self._space("answers"), _stand(call))

    async def record_stand_of_call(self, call: CallId, stand: dict[str, Any]) -> None:
        """Record the state of a call, so that it continues from there after the answer."""
        await self._put(self._space("answers"), _stand(call), stand)

    # Effects; see `EffectLog`.

    async def effects(self, plan_id: str) -> dict[str, dict[str, Any]]:
        """Return the rows of a root plan's calls with an effect, by key."""
        return await self._rows(self._space("effects", plan_id))

    async def effects_of_thread(self) -> list[tuple[str, str, dict[str, Any]]]:
        """Return the rows of all the thread's calls with an effect, each with its root plan and key."""
        rows = await search(self.store, self._space("effects"), below=True)
        return [(decode(row.namespace[-1]), decode(row.key), load(row)) for row in rows]

    async def record_effect(self, call: CallId, row: dict[str, Any]) -> None:
        """Record a call's state. Return when the record is durable."""
        await self._put(self._space("effects", call.work.plan_id), call.row_key, row)

    async def forget_effect(self, call: CallId) -> None:
        """Forget a call that was not made."""
        await self.store.adelete(self._space("effects", call.work.plan_id), encode(call.row_key))

    # Rows.

    def _space(self, kind: str, *ids: str) -> tuple[str, ...]:
        return (ROOT, kind, encode(self.thread_id), *map(encode, ids))

    async def _get(self, namespace: tuple[str, ...], key: str) -> dict[str, Any] | None:
        return await read(self.store, namespace, key)

    async def _put(
        self, namespace: tuple[str, ...], key: str, row: dict[str, Any], *, replaceable: bool = False
    ) -> dict[str, Any]:
        """Store a row without its secrets, and return it so."""
        self._empty.discard(namespace[1:4:2])
        clean = self._redactor.value(row)
        await self.store.abatch([put(namespace, key, clean, replaceable=replaceable)])
        return clean

    async def _rows(self, namespace: tuple[str, ...]) -> dict[str, dict[str, Any]]:
        found = [] if self._is_empty(namespace) else await search(self.store, namespace)
        return {decode(item.key): load(item) for item in found}

    def _is_empty(self, namespace: tuple[str, ...]) -> bool:
        """Tell whether it is known that the namespace's plan has no such rows."""
        return namespace[1:4:2] in self._empty


def _uses(question_id: str) -> str:
    return f"uses/{question_id}"


def _tool(call: CallId) -> str:
    return f"tool/{call.work.plan_id}/{call.row_key}"


def _stand(call: CallId) -> str:
    return f"stand/{call.work.plan_id}/{call.row_key}"


def _bare(namespace: str) -> str:
    return f"bare/{namespace}"


def _spent(work: WorkId) -> str:
    return f"spent/{work.digest}"


def _origin(plan_id: str) -> str:
    return f"origin/{plan_id}"


_ASKED = "asked/"


def _asked(question_id: str) -> str:
    return _ASKED + question_id


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def queue_of_thread(thread_id: str) -> tuple[str, ...]:
    """Return the namespace of a thread's row in the queue."""
    return (ROOT, QUEUE, encode(thread_id))


def ledger_of(thread_id: str) -> list[tuple[str, ...]]:
    """List the namespaces that contain all records of a thread."""
    return [(ROOT, kind, encode(thread_id)) for kind in _KINDS]


def _succeeded(row: dict[str, Any]) -> bool:
    return "attempt" in row and row["attempt"]["error"] is None


def thread_of(namespace: tuple[str, ...]) -> str | None:
    """Return the id of the thread whose records are in a namespace; None if it contains something else."""
    is_thread_s = namespace[:1] == (ROOT,) and len(namespace) > 2 and namespace[1] in (*_KINDS, "artifacts")
    return decode(namespace[2]) if is_thread_s else None
