"""A fault of the storage stops the run: siblings end what they do, and the run can be resumed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest
from langchain.agents.middleware import AgentMiddleware
from langchain_core.messages import ToolMessage
from langgraph.store.base import PutOp
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command
from plans import FREE, Thread, agent_with, bound, plan, statuses, think
from toolset import Toolset, make_tool

from plan_execute import Context, ScriptedModel
from plan_execute.errors import StorageError


class FullStore(InMemoryStore):
    """A store that refuses the writes of ours that a test picks, until there is room again."""

    def __init__(self, refuses: Callable[[PutOp], bool]) -> None:
        super().__init__()
        self.refuses, self.full, self.refused = refuses, True, asyncio.Event()

    async def abatch(self, ops: Iterable[Any]) -> list[Any]:
        wanted = list(ops)
        if self.full and any(isinstance(op, PutOp) and self.refuses(op) for op in wanted):
            self.refused.set()
            raise OSError(28, "No space left on device")
        return await super().abatch(wanted)


def _is_result_of(step_id: str) -> Callable[[PutOp], bool]:
    return lambda op: op.namespace[1] == "results" and op.key == step_id and op.value is not None


async def test_a_sibling_in_the_middle_of_a_write_finishes_it_and_the_run_goes_on_once_there_is_room() -> (
    None
):
    store, tools, cut_off = FullStore(_is_result_of("a")), Toolset(), []

    async def pay(amount: int) -> str:
        """Pay, and end only after the store has failed."""
        tools.calls.append(("pay", amount))
        try:
            await store.refused.wait()
            for _ in range(20):  # whoever cancels siblings does it now
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            cut_off.append(amount)
            raise
        return f"paid {amount}"

    thread = Thread(agent_with([*tools.tools, make_tool(pay, effect="write")], store=store), FREE)
    with pytest.raises(StorageError, match="No space left on device"):
        await thread.run(
            bound("a", "look", {"q": "a"}),
            bound("b", "pay", {"amount": 1}),
            bound("c", "wr", {"text": "${a}"}),
            bound("d", "wr", {"text": "${b}"}),
        )
    assert (cut_off, tools.named("pay"), tools.named("wr")) == ([], [1], []), "nothing new starts"
    store.full = False
    result = await thread.send(None)
    assert (result["status"], statuses(result)) == ("done", dict.fromkeys("abcd", "done"))
    assert tools.named("pay") == [1]
    assert sorted(tools.named("wr")) == ["found a", "paid 1"]


async def test_a_write_whose_result_could_not_be_recorded_is_not_made_again() -> None:
    store, tools = FullStore(_is_result_of("a")), Toolset()
    thread = Thread(agent_with(tools.tools, store=store), FREE)
    with pytest.raises(StorageError):
        await thread.run(bound("a", "wr", {"text": "x"}), bound("b", "wr", {"text": "${a}"}))
    store.full = False
    result = await thread.send(None)
    assert (result["status"], tools.named("wr")) == ("done", ["x", "wrote x"])


async def test_faults_of_two_steps_at_once_do_not_wait_for_each_other() -> None:
    store, tools = FullStore(lambda op: op.namespace[1] == "results"), Toolset()
    thread = Thread(agent_with(tools.tools, store=store), FREE)
    with pytest.raises(StorageError):
        await asyncio.wait_for(thread.run(*(bound(i, "look", {"q": i}) for i in "abc")), 30)
    store.full = False
    assert (await thread.send(None))["status"] == "done"


async def test_a_failure_that_cannot_be_recorded_is_a_fault_of_the_run_and_not_the_steps_result() -> None:
    store, tools = FullStore(lambda op: op.namespace[1] == "attempts"), Toolset()
    tools.failures.append(ValueError("no"))
    once = Context(approval="never", on_failure="abort", max_attempts=1)
    thread = Thread(agent_with(tools.tools, store=store), once)
    with pytest.raises(StorageError):
        await thread.run(bound("a", "flaky", {"q": "x"}))
    store.full = False
    assert (await thread.send(None))["status"] == "done", "the read is simply made again"


async def test_a_tools_own_trouble_with_the_store_fails_its_step_only() -> None:
    class Refusing(InMemoryStore):
        async def abatch(self, ops: Iterable[Any]) -> list[Any]:
            wanted = list(ops)
            if any(getattr(op, "namespace", ("",))[0] == "mine" for op in wanted):
                raise OSError(28, "No space left on device")
            return await super().abatch(wanted)

    agent = agent_with(Toolset().tools, store=Refusing())

    async def note(text: str) -> str:
        """Keep a note in the store."""
        await agent.store.aput(("mine",), "note", {"text": text})
        return text

    agent = agent_with([make_tool(note)], store=agent.store)
    result = await Thread(agent, FREE).send(
        {"plan": plan(bound("n", "note", {"text": "x"}, on_failure="abort", max_attempts=1))}
    )
    assert statuses(result) == {"n": "failed"}
    assert result["results"]["n"]["error"]["code"] == "tool_failed"


async def test_a_run_that_is_cancelled_when_a_write_has_just_finished_keeps_its_outcome() -> None:
    """Without that, the write would be asked about as if nobody knew whether it happened."""
    made: list[str] = []
    keeping, go_on, kept = asyncio.Event(), asyncio.Event(), asyncio.Event()

    class SlowStore(InMemoryStore):
        async def abatch(self, ops: Iterable[Any]) -> list[Any]:
            wanted = list(ops)
            first_of_ours = made and not keeping.is_set() and any(isinstance(op, PutOp) for op in wanted)
            if first_of_ours:
                keeping.set()
                await go_on.wait()
            found = await super().abatch(wanted)
            if first_of_ours:
                kept.set()
            return found

    async def send(text: str) -> str:
        """Send a text."""
        made.append(text)
        return f"sent {text}"

    thread = Thread(agent_with([make_tool(send, effect="write")], store=SlowStore()), FREE)
    running = asyncio.create_task(thread.run(bound("a", "send", {"text": "x"})))
    await keeping.wait()
    running.cancel()
    await asyncio.wait({running}, timeout=1)  # it may also wait for the record itself
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    await asyncio.wait_for(kept.wait(), 30)
    result = await thread.send(None)
    assert await thread.questions() == []
    assert (result["status"], made) == ("done", ["x"])
    assert result["results"]["a"]["output"] == "sent x"


class Swallowing(AgentMiddleware):
    """Middleware of an embedder's that takes whatever a tool call raises for the tool's answer."""

    async def awrap_tool_call(
        self, request: Any, handler: Callable[[Any], Awaitable[ToolMessage | Command[Any]]]
    ) -> ToolMessage | Command[Any]:
        try:
            return await handler(request)
        except Exception as error:
            call = request.tool_call
            return ToolMessage(f"no: {error}", tool_call_id=call["id"], name=call["name"], status="error")


def _first_that(refuses: Callable[[PutOp], bool]) -> Callable[[PutOp], bool]:
    met: list[PutOp] = []

    def is_first(op: PutOp) -> bool:
        if met or not refuses(op):
            return False
        met.append(op)
        return True

    return is_first


def _is_outcome(op: PutOp) -> bool:
    return op.namespace[1] == "effects" and op.value is not None and json.loads(op.value["json"])["outcome"]


def _counts(kind: str) -> Callable[[PutOp], bool]:
    return lambda op: op.key == "calls" and json.loads(op.value["json"])["calls"].get(kind) == 1


@pytest.mark.parametrize("refuses", [_is_outcome, _counts("tool_calls")], ids=["outcome", "count"])
async def test_a_fault_that_passes_is_never_taken_for_the_answer_of_an_agents_tool(
    refuses: Callable[[PutOp], bool],
) -> None:
    store, tools = FullStore(_first_that(refuses)), Toolset()
    call = ScriptedModel.tool_calls(("wr", {"text": "x"}))
    model = ScriptedModel({"executor": [call, "done"], "synthesizer": ["end"]})
    agent = agent_with(tools.tools, model, store=store, middleware=[Swallowing()])
    thread = Thread(agent, Context(approval="never", max_tool_calls=9, max_attempts=1, on_failure="abort"))
    with pytest.raises(StorageError, match="No space left on device"):
        await thread.run(think("a", tools=["wr"]))
    assert store.refused.is_set()


async def test_a_fault_while_a_models_call_is_counted_is_never_the_models_failure() -> None:
    store = FullStore(_first_that(_counts("model_calls")))
    model = ScriptedModel({"executor": ["done", "done"], "synthesizer": ["end"]})
    settings = Context(approval="never", max_model_calls=9, max_attempts=1, on_failure="abort")
    thread = Thread(agent_with((), model, store=store), settings)
    with pytest.raises(StorageError, match="No space left on device"):
        await thread.run(think("a"))
    assert (await thread.send(None))["status"] == "done"
