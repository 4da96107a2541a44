"""Say in a config who is asking, for which step of which plan: the one place for names, tags and metadata.

LangSmith and every other callback handler of LangChain see them; see docs/tracing.md for the whole list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from types import TracebackType
from typing import Any, Literal
from uuid import UUID

from langchain_core.callbacks import (
    AsyncCallbackManager,
    AsyncCallbackManagerForChainRun,
    BaseCallbackManager,
)
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config, var_child_runnable_config

from ..safety.redaction import Redactor

__all__ = [
    "AGENT",
    "ATTEMPT",
    "CALL",
    "ENTRY",
    "ITEM",
    "PART",
    "PLAN",
    "REVISION",
    "ROLE",
    "STEP",
    "TAG",
    "Part",
    "SpanKeeper",
    "TracedPart",
    "current_span",
    "plan_marks",
    "role_config",
    "with_marks",
]

ROLE = "plan_execute_role"
"""Who asks a model: planner, executor, evaluator, replanner, synthesizer."""
STEP = "plan_execute_step"
PLAN = "plan_execute_plan"
REVISION = "plan_execute_revision"
ATTEMPT = "plan_execute_attempt"
"""Number of the attempt at the step, from 1."""
ITEM = "plan_execute_item"
"""Index of the item of a ``for_each``, from 0; within a sub-plan, of the loop around it."""
AGENT = "plan_execute_agent"
"""The agent that does the step: ``step_agent`` is the ReAct agent of agent steps."""
CALL = "plan_execute_call"
"""The call of a bound step, as in the evidence of its result; LangChain knows no id of it."""
ENTRY = "plan_execute_run"
"""Names one run of the graph while it is watched: a sub-plan's is another one than its parent's."""
PART = "plan_execute_part"
"""On the run of a part itself and on nothing within it: what it is."""
TAG = "plan_execute"

Part = Literal["step", "attempt"]


def with_marks(
    config: RunnableConfig, marks: Mapping[str, Any], *, tags: Iterable[str] = (), name: str | None = None
) -> RunnableConfig:
    """Add marks, tags and a run name to a config; callbacks (managers too) stay as they are."""
    # Not merge_configs: it would merge a node's callback manager with itself.
    result: RunnableConfig = {
        **config,
        "tags": list(dict.fromkeys([*(config.get("tags") or []), *tags])),
        "metadata": {**(config.get("metadata") or {}), **marks},
    }
    if name is not None:
        result["run_name"] = name
    return result


def plan_marks(plan: Mapping[str, Any] | None) -> dict[str, Any]:
    """Give the marks of what belongs to a plan; none before there is one."""
    known = {PLAN: (plan or {}).get("id"), REVISION: (plan or {}).get("revision")}
    return {key: value for key, value in known.items() if value is not None}


def role_config(
    config: RunnableConfig | None, role: str, plan: Mapping[str, Any] | None = None
) -> RunnableConfig:
    """Mark a config with the role that is asking: ``planner``, or within a step ``executor weather``."""
    base = ensure_config(config)
    base.pop("run_id", None)
    step = (base.get("metadata") or {}).get(STEP)
    tags = [f"role:{role}"] if step is None else [f"role:{role}", f"step:{step}"]
    name = role if step is None else f"{role} {step}"
    return with_marks(base, {**plan_marks(plan), ROLE: role}, tags=tags, name=name)


class TracedPart:
    """A part of a run: callbacks are shown it as a run of its own, with what happens in its body below.

    Where nobody watches, nothing but the marks is made.

    Attributes:
        config: What is done within the part is called with it.
        outputs: What came of it; to be set before it ends.
    """

    def __init__(
        self,
        config: RunnableConfig,
        part: Part,
        name: str,
        marks: Mapping[str, Any],
        *,
        tags: Iterable[str] = (),
        inputs: Mapping[str, Any] | None = None,
    ) -> None:
        self.config = with_marks(config, marks, tags=tags)
        self.outputs: dict[str, Any] = {}
        self._part: Part = part
        self._name, self._inputs = name, inputs
        self._running: AsyncCallbackManagerForChainRun | None = None
        self._span: AbstractContextManager[object] = nullcontext()

    async def __aenter__(self) -> TracedPart:
        callbacks = self.config.get("callbacks")
        if callbacks.handlers if isinstance(callbacks, BaseCallbackManager) else callbacks:
            await self._show(callbacks)
        # LangChain and LangGraph merge the config that a call is given with the one around it, and where both
        # have callbacks the parent of the surrounding ones wins (langchain-core 1.7.2, langgraph 1.2.22).
        self._around = var_child_runnable_config.set(self.config)
        self._span.__enter__()
        return self

    async def _show(self, callbacks: Any) -> None:
        manager = AsyncCallbackManager.configure(
            inheritable_callbacks=callbacks,
            inheritable_tags=self.config["tags"],
            inheritable_metadata=self.config["metadata"],
            local_metadata={PART: self._part},
        )
        self._running = await manager.on_chain_start(None, dict(self._inputs or {}), name=self._name)
        self.config = {**self.config, "callbacks": self._running.get_child()}
        self._span = current_span(self.config)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._span.__exit__(kind, error, trace)
        finally:
            var_child_runnable_config.reset(self._around)
        if self._running is None:
            return
        if error is not None:
            await self._running.on_chain_error(error)
        else:
            await self._running.on_chain_end(self.outputs)


class SpanKeeper:
    """A callback handler whose spans can have those of other instrumentation below, as of an HTTP client."""

    redactors: dict[str, Redactor]
    """What keeps the secrets out of what it shows of the runs that it watches now, by their `ENTRY`."""

    def current(self, run_id: UUID) -> AbstractContextManager[None]:
        """Make the span of a run the current one, within one task."""
        raise NotImplementedError


def current_span(config: RunnableConfig) -> AbstractContextManager[object]:
    """Make the span that this config belongs to the current one.

    A handler cannot do that itself: LangChain tells the end of a run in another task than its start
    (``shielded`` in langchain-core 1.7.2), and what was begun could not be taken back.
    """
    callbacks = config.get("callbacks")
    if not isinstance(callbacks, BaseCallbackManager) or callbacks.parent_run_id is None:
        return nullcontext()
    keepers = [handler for handler in callbacks.handlers if isinstance(handler, SpanKeeper)]
    if not keepers:
        return nullcontext()
    with ExitStack() as kept:
        for keeper in keepers:
            kept.enter_context(keeper.current(callbacks.parent_run_id))
        return kept.pop_all()
