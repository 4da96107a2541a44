"""A request to stop reaches a run wherever it is, and over a fault of the store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from bounded import BoundedThread
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.store.base import GetOp
from langgraph.store.memory import InMemoryStore
from plans import FREE, agent_with, bound, draft, draft_step, statuses, think
from toolset import Toolset, make_tool
from virtual_clock import run_virtually, virtually

from plan_execute import Context, ScriptedModel
from plan_execute.errors import ThreadBusyError
from plan_execute.graph.control import cancel_run


@virtually
async def test_a_run_told_to_stop_while_it_plans_asks_nobody_to_approve_the_plan() -> None:
    tools = Toolset()
    model = ScriptedModel(
        {"planner": [draft(draft_step("b", "wr", {"text": "x"}))], "synthesizer": ["ok"]}, latency_s=1.0
    )
    thread = BoundedThread(agent_with(tools.tools, model), Context(approval="writes"))
    running = asyncio.create_task(thread.send({"goal": "g"}))
    await asyncio.sleep(0.2)
    assert await asyncio.wait_for(cancel_run(thread.agent, thread.config), 10) == "requested"
    result = await running
    assert not await thread.questions()
    assert result["status"] == "rejected"
    assert tools.calls == []


class CountingStore(InMemoryStore):
    """A store that counts how often a run looks for a request to stop, and may break the first time."""

    def __init__(self, *, blinks: bool = False) -> None:
        super().__init__()
        self.looks, self.blinks = 0, blinks

    async def abatch(self, ops: Iterable[Any]) -> list[Any]:
        ops = list(ops)
        if any(isinstance(op, GetOp) and op.key == "stop" for op in ops):
            self.looks += 1
            if self.blinks and self.looks == 1:
                raise ConnectionError("the connection broke")
        return await super().abatch(ops)


class LockingSaver(InMemorySaver):
    """A saver whose locks say nothing to their holders, as those of an SQLite file."""

    def __init__(self) -> None:
        super().__init__()
        self.held: set[str] = set()

    @contextmanager
    def thread_lock(self, thread_id: str) -> Iterator[None]:
        if thread_id in self.held:
            raise ThreadBusyError(f"thread {thread_id!r} is being run")
        self.held.add(thread_id)
        try:
            yield
        finally:
            self.held.discard(thread_id)


@virtually
async def test_a_run_is_stopped_at_once_by_the_process_it_runs_in_and_nothing_is_polled() -> None:
    tools, store = Toolset(), CountingStore()
    thread = BoundedThread(agent_with(tools.tools, store=store, checkpointer=LockingSaver()), FREE)
    running = asyncio.create_task(thread.run(bound("a", "wait", {"name": "a", "seconds": 60})))
    await asyncio.sleep(0.2)
    assert await cancel_run(thread.agent, thread.config) == "requested"
    assert statuses(await running) == {"a": "failed"}
    assert asyncio.get_running_loop().time() == pytest.approx(0.2, abs=0.01)
    assert (tools.cancelled, store.looks) == (["a"], 0)


def test_a_run_is_stopped_at_once_from_another_event_loop() -> None:
    tools = Toolset()
    thread = BoundedThread(agent_with(tools.tools), FREE)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(asyncio.run, thread.run(bound("a", "wait", {"name": "a", "seconds": 3600})))
        while not tools.calls:
            assert not running.done(), running.result()
        assert asyncio.run(cancel_run(thread.agent, thread.config)) == "requested"
        assert statuses(running.result(60)) == {"a": "failed"}


@virtually
async def test_a_run_looks_for_nothing_where_nobody_else_could_ask_it() -> None:
    tools, store = Toolset(), CountingStore()
    thread = BoundedThread(agent_with(tools.tools, store=store), FREE)
    result = await thread.run(bound("a", "wait", {"name": "a", "seconds": 5}))
    assert (statuses(result), store.looks) == ({"a": "done"}, 0)


@virtually
async def test_a_fault_of_the_store_does_not_make_a_run_deaf_to_a_later_request_to_stop(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tools, storage = Toolset(), {"store": CountingStore(blinks=True), "checkpointer": LockingSaver()}
    thread = BoundedThread(agent_with(tools.tools, **storage), FREE)
    running = asyncio.create_task(thread.run(bound("a", "wait", {"name": "a", "seconds": 60})))
    await asyncio.sleep(0.2)
    another = agent_with(tools.tools, **storage)
    with caplog.at_level(logging.WARNING):
        assert await asyncio.wait_for(cancel_run(another, thread.config), 10) == "requested"
        result = await running
    assert asyncio.get_running_loop().time() < 4
    assert statuses(result) == {"a": "failed"}
    assert tools.cancelled == ["a"]
    assert "cannot look for a request to stop" in caplog.text


def _slow_writer(started: asyncio.Event, written: list[str]) -> Any:
    async def save(text: str) -> str:
        """Save slowly."""
        started.set()
        await asyncio.sleep(5)
        written.append(text)
        return f"saved {text}"

    return make_tool(save, effect="write")


@virtually
async def test_a_step_whose_write_was_under_way_when_the_run_was_told_to_stop_is_done() -> None:
    started = asyncio.Event()
    written: list[str] = []
    thread = BoundedThread(agent_with([_slow_writer(started, written)]), FREE)
    steps = bound("a", "save", {"text": "t"}), bound("b", "save", {"text": "u"}, "a")
    running = asyncio.create_task(thread.run(*steps))
    await started.wait()
    assert await cancel_run(thread.agent, thread.config) == "requested"
    result = await running
    assert (written, statuses(result)) == (["t"], {"a": "done"})


@virtually
async def test_a_write_within_a_sub_plan_is_finished_when_the_run_is_told_to_stop() -> None:
    tools, started = Toolset(), asyncio.Event()
    written: list[str] = []
    inner = draft(draft_step("w", "save", {"text": "t"}), draft_step("v", "wr", {"text": "${w}"}))
    model = ScriptedModel({"planner": [inner], "synthesizer": ["ok"]}, strict=False)
    thread = BoundedThread(agent_with([*tools.tools, _slow_writer(started, written)], model), FREE)
    running = asyncio.create_task(thread.run({"id": "s", "plan": {"goal": "save it"}}))
    await started.wait()
    assert await cancel_run(thread.agent, thread.config) == "requested"
    result = await running
    assert (written, tools.named("wr"), result["status"]) == (["t"], [], "failed")


@virtually
async def test_a_write_of_an_agent_is_finished_when_the_run_is_told_to_stop_and_no_other_is_begun() -> None:
    started = asyncio.Event()
    written: list[str] = []
    calls = [ScriptedModel.tool_calls(("save", {"text": text})) for text in ("t", "u")]
    model = ScriptedModel({"executor": [*calls, "done"], "synthesizer": ["ok"]}, strict=False)
    thread = BoundedThread(agent_with([_slow_writer(started, written)], model), FREE)
    running = asyncio.create_task(thread.run(think("a", tools=["save"])))
    await started.wait()
    assert await cancel_run(thread.agent, thread.config) == "requested"
    result = await running
    assert (written, statuses(result)) == (["t"], {"a": "failed"})
    assert [call["ok"] for call in result["results"]["a"]["evidence"]] == [True]


_SKIP = Context(approval="never", on_failure="skip", max_attempts=1)


def _stubborn() -> Any:
    async def look() -> str:
        """Look, and ignore being cancelled."""
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            await asyncio.sleep(1)
        return "looked"

    return make_tool(look, effect="read")


@virtually
async def test_a_tool_that_ignores_its_cancellation_makes_no_success_of_a_stopped_step() -> None:
    thread = BoundedThread(agent_with([_stubborn()]), FREE)
    running = asyncio.create_task(thread.run(bound("a", "look", {})))
    await asyncio.sleep(0.2)
    assert await cancel_run(thread.agent, thread.config) == "requested"
    result = await running
    assert asyncio.get_running_loop().time() == pytest.approx(1.2, abs=0.01)
    assert statuses(result) == {"a": "failed"}
    assert result["results"]["a"]["error"]["message"] == "the run was told to stop"


@virtually
async def test_a_tool_that_ignores_its_cancellation_makes_no_success_of_a_step_out_of_time() -> None:
    thread = BoundedThread(agent_with([_stubborn()]), _SKIP)
    result = await thread.run(bound("a", "look", {}, timeout_s=2), bound("b", "look", {}))
    assert {i: one["status"] for i, one in result["results"].items()} == {"a": "skipped", "b": "done"}
    assert result["results"]["a"]["error"] == {"code": "timeout", "message": "no result within timeout_s=2"}


def _evasive(made: list[str], error: Exception) -> Any:
    async def look() -> str:
        """Look, and call a cancellation something else."""
        made.append("look")
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            raise error from None
        return "looked"

    return make_tool(look, effect="read")


_EVASIONS = pytest.mark.parametrize(
    "error", [ValueError("no"), TimeoutError("late")], ids=["final error", "transient error"]
)


@_EVASIONS
def test_a_call_that_makes_an_error_of_a_cancellation_is_not_made_again(error: Exception) -> None:
    made: list[str] = []

    async def run() -> None:
        settings = Context(approval="never", max_attempts=3)
        thread = BoundedThread(agent_with([_evasive(made, error)]), settings)
        running = asyncio.create_task(thread.run(bound("a", "look", {}, on_failure="retry")))
        await asyncio.sleep(0.2)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert asyncio.get_running_loop().time() == pytest.approx(0.2, abs=0.01)

    run_virtually(run())
    assert made == ["look"]


@_EVASIONS
def test_a_call_that_makes_an_error_of_its_time_limit_gets_no_more_time(error: Exception) -> None:
    made: list[str] = []

    async def run() -> None:
        thread = BoundedThread(agent_with([_evasive(made, error)]), _SKIP)
        result = await thread.run(bound("a", "look", {}, timeout_s=2), bound("b", "look", {}, timeout_s=2))
        assert [one["error"]["code"] for one in result["results"].values()] == ["timeout", "timeout"]
        assert asyncio.get_running_loop().time() == pytest.approx(2, abs=0.01)

    run_virtually(run())
    assert made == ["look", "look"]


@virtually
async def test_a_write_that_makes_an_error_of_its_time_limit_may_have_happened() -> None:
    async def send(text: str) -> str:
        """Send, and call a cancellation something else."""
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            raise ValueError("no") from None
        return "sent"

    thread = BoundedThread(agent_with([make_tool(send, effect="write")]), FREE)
    await thread.run(bound("a", "send", {"text": "x"}, timeout_s=2, on_failure="ask"))
    (asked,) = [one.value["action_requests"][0] for one in await thread.questions()]
    assert asked["args"]["decision"] == "abort"  # Whoever only says yes must not send it twice.
    assert "may have happened: `send" in asked["description"]


class _Cancels(BaseTool):
    """A tool that cancels the task in which it is called, past LangChain's own task for functions."""

    name: str = "give_up"
    description: str = "Give up."

    def _run(self) -> str:
        raise NotImplementedError

    async def ainvoke(self, *_: Any, **__: Any) -> str:
        return await _give_up()


class _CancelsAsAgent(Runnable[Any, Any]):
    """The same as a named agent."""

    def invoke(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    async def ainvoke(self, *_: Any, **__: Any) -> Any:
        return await _give_up()


async def _give_up() -> str:
    """Give up."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(1)
    return "not reached"


async def _raise_cancelled() -> str:
    """Give up."""
    raise asyncio.CancelledError


_AGENT = {"id": "a", "task": "give up", "agent": "quitter"}


@pytest.mark.parametrize(
    ("tools", "step"),
    [
        ([make_tool(_raise_cancelled)], bound("a", "_raise_cancelled", {})),
        ([make_tool(_give_up)], bound("a", "_give_up", {})),
        ([_Cancels(metadata={"effect": "read"})], bound("a", "give_up", {})),
        ([], _AGENT),
    ],
    ids=["raises", "cancels its task", "cancels its caller's task", "agent"],
)
async def test_what_cancels_itself_fails_its_step_and_no_other(
    tools: list[Any], step: dict[str, Any]
) -> None:
    agent = agent_with([*tools, *Toolset().tools], agents={"quitter": _CancelsAsAgent()})
    thread = BoundedThread(agent, _SKIP)
    result = await thread.run(step, bound("b", "wr", {"text": "x"}))
    assert {i: one["status"] for i, one in result["results"].items()} == {"a": "skipped", "b": "done"}
    assert "cancelled from within" in result["results"]["a"]["error"]["message"]


@pytest.mark.parametrize("then", ["answers", "fails"])
@virtually
async def test_a_tool_that_ignores_its_cancellation_ends_no_step_of_a_cancelled_run(then: str) -> None:
    called: list[str] = []

    async def look() -> str:
        """Look, and make something else of being cancelled."""
        called.append(then)
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            if then == "fails":
                raise RuntimeError("the connection was closed") from None
        return "looked"

    thread = BoundedThread(agent_with([make_tool(look, effect="read")]), Context(approval="never"))
    running = asyncio.create_task(thread.run(bound("a", "look", {}, max_attempts=2, on_failure="retry")))
    await asyncio.sleep(0.2)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert asyncio.get_running_loop().time() == pytest.approx(0.2, abs=0.01)
    assert len(called) == 1
    assert (await thread.agent.aget_state(thread.config)).values["results"] == {}
