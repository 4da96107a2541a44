"""Reuse plans that worked: compute their key, and decide when one is recalled, kept and dropped.

An entry of the plan cache is the planner's answer to exactly what its key covers, and a run has shown that it
works. So a plan is not kept if it depends on anything else: earlier messages, a person's feedback or edits,
the values of inputs (the planner is told only their names), and revisions, which are written with one run's
outputs in sight.
"""

from __future__ import annotations

import json
import re
import time
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import BaseMessage

from ..context import Context
from ..state import (
    SCHEMA_VERSION,
    AuditEvent,
    Plan,
    State,
    StepResult,
    digest,
)
from ..storage.ledger import Ledger
from ..storage.plan_cache import FORMAT, CachedPlan, CachedPlans, PlanCache, UnreadablePlanError, say_duration
from .identity import plan_hash
from .revision import first_revision

__all__ = [
    "PlanReuse",
    "Recalled",
    "describe_recalled",
    "input_types",
    "normalised_goal",
    "plan_key",
]

_NO_LIMITS = frozenset(
    {
        "approval",
        "decision_timeout_s",
        "escalate",
        "instructions",
        "max_parallel",
        "max_plan_attempts",
        "models",
        "on_failure",
        "soft_share",
    }
)
"""Settings about how a plan is approved and run. All others, including new ones, are part of the key."""


# --- what a plan is asked for ------------------------------------------------------------


def normalised_goal(goal: str) -> str:
    """Normalise a goal as far as that cannot change its meaning.

    Unicode is composed (NFC), line ends become LF, and runs of spaces in a line of prose become one. Case is
    kept, because file names and code depend on it. So are compatibility characters: NFKC would read ``10²``
    as ``102``. If the goal quotes something or has several lines, inner spaces may matter and are kept.
    """
    text = unicodedata.normalize("NFC", goal).replace("\r\n", "\n").replace("\r", "\n").strip()
    return text if re.search(r"[\n'\"`“”„«»‘’]", text) else " ".join(text.split())


def input_types(inputs: Mapping[str, Any]) -> dict[str, str]:
    """List the inputs with their JSON types: all that a planner may know if its plan serves other values."""
    return {name: _json_type(inputs[name]) for name in sorted(inputs)}


def _json_type(value: Any) -> str:
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")


def plan_key(
    *,
    goal: str,
    inputs: Mapping[str, Any],
    prompt: Sequence[BaseMessage],
    schema: Mapping[str, Any],
    model: str,
    settings: Context,
) -> str:
    """Hash everything that a planner's answer depends on.

    Args:
        goal: The goal, with any spacing.
        inputs: Values whose names and types count.
        prompt: The planner's prompt without a goal: its version, the instructions, and every tool and named
            agent with its description, effect and argument schema.
        schema: The form of the answer.
        model: The planner, with its endpoint.
        settings: The settings; their limits count.
    """
    limits = settings.model_dump(mode="json", exclude=set(_NO_LIMITS))
    return digest(
        {
            "formats": [FORMAT, SCHEMA_VERSION],
            "goal": normalised_goal(goal),
            "inputs": input_types(inputs),
            "prompt": [message.text for message in prompt],
            "schema": schema,
            "model": model,
            "limits": limits,
        }
    )


# --- the start of a run ------------------------------------------------------------------


@dataclass(frozen=True)
class Recalled:
    """A cached plan under an id of its own, and the hit: ``{"thread_id", "stored_at", "age_s"}``."""

    plan: Plan
    hit: dict[str, Any]


def describe_recalled(hit: Mapping[str, Any]) -> str:
    """Say where a recalled plan comes from."""
    return f"from the plan cache: it worked in thread {hit['thread_id']}, {say_duration(hit['age_s'])} ago"


_YEAR = re.compile(r"(?<!\d)(?:19|20)\d\d(?!\d)")


def _names_another_year(plan: Plan, goal: str) -> bool:
    """Tell whether a plan names a year that the goal does not; its planner took it from the date."""
    steps = json.dumps([plan["steps"], plan.get("answer", "")], ensure_ascii=False)
    return not set(_YEAR.findall(steps)) <= set(_YEAR.findall(goal))


def _did_its_part(result: StepResult | None) -> bool:
    """Tell whether a step is done, or was skipped by its condition."""
    if result is None or result.get("failed_items"):
        return False
    return result["status"] == "done" or (result["status"] == "skipped" and result["error"] is None)


_OWN = ("id", "revision", "goal")
"""Fields that belong to one run; a run that uses the plan again sets its own."""


class PlanReuse:
    """Finds, keeps and drops plans that worked.

    Args:
        policy: For how long plans are kept, and how many; None if this run keeps and recalls none.
        plans: The entries of the run's tenant; None without a policy.
        ledger: The records of what each plan was asked for.
        redact: Keeps secrets out of what is kept.
        note: Writes an audit event for a state with a plan.
    """

    def __init__(
        self,
        policy: PlanCache | None,
        plans: CachedPlans | None,
        ledger: Ledger,
        redact: Callable[[Any], Any],
        note: Callable[..., AuditEvent],
    ) -> None:
        self._policy, self._plans, self._ledger = policy, plans, ledger
        self._redact, self._note = redact, note

    async def recall(self, key: str, goal: str, new_id: str) -> tuple[Recalled | None, list[AuditEvent]]:
        """Look for a plan that worked for this key, and return what there is to note.

        An entry that cannot be read is ignored, and the audit says so.

        Args:
            key: The key.
            goal: The goal in its current wording.
            new_id: The plan's id in this run.
        """
        if self._plans is None or self._policy is None:
            return None, []
        now = self._policy.now()
        try:
            found = await self._plans.find(key, now=now, ttl_s=self._policy.ttl_s)
        except UnreadablePlanError as error:
            trigger = f"the entry of this goal in the plan cache cannot be read: {error}"
            return None, [self._note({}, "cached_plan_ignored", by="cache", trigger=trigger)]
        if found is None:
            return None, []
        await self._plans.count_hit(key)
        plan = first_revision({**found.plan, "goal": goal}, new_id)
        age_s = max(0.0, now - found.stored_at)
        hit = {"thread_id": found.thread_id, "stored_at": found.stored_at, "age_s": age_s}
        await self.note_origin(new_id, key, found.model, hit)
        evidence = [describe_recalled(hit)]
        event = self._note({"plan": plan}, "plan_recalled", by="cache", trigger="a goal", evidence=evidence)
        return Recalled(plan, hit), [event]

    async def note_origin(
        self, plan_id: str, key: str, model: str, hit: Mapping[str, Any] | None = None
    ) -> None:
        """Record what a plan was asked for, so that a later run of the thread can keep or drop it."""
        if self._plans is None or self._policy is None:
            return
        origin = {
            "namespace": self._plans.namespace,
            "key": key,
            "model": model,
            "ttl_s": self._policy.ttl_s,
            "max_entries": self._policy.max_entries,
            "hit": dict(hit) if hit else None,
        }
        await self._ledger.record_origin(plan_id, origin)

    async def recalled_from(self, plan_id: str) -> dict[str, Any] | None:
        """Return the hit of a recalled plan (see :class:`Recalled`); None for any other plan."""
        origin = await self._ledger.origin(plan_id)
        return origin["hit"] if origin else None

    async def withdraw(self, plan: Mapping[str, Any] | None, reason: str) -> list[AuditEvent]:
        """Drop a cached plan that cannot run unchanged."""
        plan_id = plan.get("id") if plan else None
        origin = await self._ledger.origin(plan_id) if plan_id else None
        if plan_id is None or origin is None:
            return []
        events = await self._drop({"plan": plan}, origin, reason)
        await self._ledger.forget_origin(plan_id)
        return events

    async def settle(self, state: State, status: str) -> list[AuditEvent]:
        """Keep the plan of a run that ended as done without changes; drop a hit whose run did not."""
        plan = state.get("plan")
        origin = await self._ledger.origin(plan.get("id", "")) if plan else None
        if plan is None or origin is None:
            return []
        worked = status == "done" and await self._worked_as_written(state, plan)
        if worked and origin["hit"] is None:
            return [await self._keep(state, plan, origin)]
        if worked or origin["hit"] is None:
            return []
        reason = "its run had to change it" if status == "done" else f"its run ended {status}"
        dropped = await self._drop(state, origin, reason)
        # From now on it is a plan like any other: if a person runs it again, it may be kept.
        await self._ledger.record_origin(plan["id"], {**origin, "hit": None})
        return dropped

    async def _worked_as_written(self, state: State, plan: Plan) -> bool:
        """Tell whether the plan did it all: nothing was revised, edited, left out or done by hand."""
        ran = [record for record in await self._ledger.approvals(plan["id"]) if "steps" in record]
        unchanged = {record["plan_hash"] for record in ran} == {plan_hash(plan, state.get("inputs"))}
        by_hand = any(
            event.get("plan_id") == plan["id"]
            and (event.get("decision") == "supply" or event.get("trigger") == "approve_step: edit")
            for event in state.get("audit") or ()
        )
        results = state.get("results") or {}
        did_all = all(_did_its_part(results.get(step["id"])) for step in plan["steps"])
        # Everybody who changes a plan (planner, replanner, person) makes the next revision of it.
        is_first = plan.get("revision") == 1 and plan.get("complete", True)
        is_of_a_day = _names_another_year(plan, state.get("goal") or "")
        return bool(is_first and unchanged and did_all) and not by_hand and not is_of_a_day

    async def _keep(self, state: State, plan: Plan, origin: Mapping[str, Any]) -> AuditEvent:
        now = self._policy.now() if self._policy else time.time()
        kept = {key: value for key, value in plan.items() if key not in _OWN}
        entry = CachedPlan(
            goal=self._redact(state.get("goal") or ""),
            plan=self._redact(kept),
            model=origin["model"],
            thread_id=self._ledger.thread_id,
            stored_at=now,
            expires_at=now + origin["ttl_s"],
        )
        await self._plans_of(origin).keep(origin["key"], entry, max_entries=origin["max_entries"])
        evidence = [f"kept for {say_duration(origin['ttl_s'])}"]
        return self._note(state, "plan_cached", by="cache", trigger="its run ended done", evidence=evidence)

    async def _drop(
        self, state: State | Mapping[str, Any], origin: Mapping[str, Any], reason: str
    ) -> list[AuditEvent]:
        hit = origin["hit"]
        if hit is None or not await self._plans_of(origin).drop(origin["key"], stored_at=hit["stored_at"]):
            return []
        return [self._note(state, "cached_plan_dropped", by="cache", trigger=reason)]

    def _plans_of(self, origin: Mapping[str, Any]) -> CachedPlans:
        """Find the tenant for which a plan was asked; a later run may not name it again."""
        store = self._plans.store if self._plans else self._ledger.store
        return CachedPlans(store, origin["namespace"])
