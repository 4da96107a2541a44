"""How often a run calls on its storage: each call costs a change of threads, or a way to a server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.store.base import Op, Result
from langgraph.store.memory import InMemoryStore
from toolset import Toolset

from plan_execute import Context, create_plan_execute_agent

CONFIG: Any = {"configurable": {"thread_id": "1"}}
FREE = Context(approval="never")


class CountedSaver(InMemorySaver):
    """Counts its calls; it locks threads, as those of a database do."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def thread_lock(self, _thread_id: str) -> AbstractContextManager[None]:
        return nullcontext()

    async def aget_tuple(self, *args: Any, **kwargs: Any) -> Any:
        self.calls["read"] += 1
        return await super().aget_tuple(*args, **kwargs)

    async def aput(self, *args: Any, **kwargs: Any) -> Any:
        self.calls["checkpoint"] += 1
        return await super().aput(*args, **kwargs)


class CountedStore(InMemoryStore):
    """Counts its transactions."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[list[Op]] = []

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        self.calls.append([*ops])
        return await super().abatch(self.calls[-1])


def plan(steps: int) -> dict[str, Any]:
    call = {"tool": "echo", "args": {"value": "x"}}
    chain = [{"id": f"s{n}", "depends_on": [f"s{n - 1}"] if n else [], "call": call} for n in range(steps)]
    return {"goal": "g", "steps": chain}


async def test_a_run_of_bound_steps_reads_and_writes_each_thing_once() -> None:
    saver, store = CountedSaver(), CountedStore()
    agent = create_plan_execute_agent(None, Toolset().tools, checkpointer=saver, store=store)
    result = await agent.ainvoke({"plan": plan(5)}, CONFIG, context=FREE)
    assert result["status"] == "done"
    assert saver.calls == {"read": 1, "checkpoint": 8}
    # What is on record of the thread, its settings, the approval, five results, what it leaves for later
    # runs; and the form of the outputs, which is new.
    assert len(store.calls) == 10, store.calls


async def test_the_next_goal_and_a_run_that_goes_on_see_what_was_written_since() -> None:
    saver, store, tools = CountedSaver(), CountedStore(), Toolset()
    agent = create_plan_execute_agent(None, tools.tools, checkpointer=saver, store=store)
    started = Context(approval="always")
    asked = await agent.ainvoke({"plan": plan(2)}, CONFIG, context=started)
    assert "__interrupt__" in asked
    await agent.aupdate_state(CONFIG, {"goal": "changed"}, as_node="validator")
    changed = await agent.aget_state(CONFIG)
    assert changed.values["goal"] == "changed"
    assert "__interrupt__" in await agent.ainvoke(None, CONFIG)
    answered: Any = {"messages": [("human", "yes")]}
    done = await agent.ainvoke(answered, CONFIG)
    assert (done["status"], done["goal"]) == ("done", "changed")
    again = await agent.ainvoke({"plan": plan(3)}, CONFIG, context=FREE)
    assert "__interrupt__" in again, "the thread was started with approval=always"
