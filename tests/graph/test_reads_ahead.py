"""Reads begin while their plan is being written, and count only if the plan turns out to hold them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any

import pytest
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.tools import InjectedToolCallId, StructuredTool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from openai_stub import OpenAIStub, Reply
from plans import FREE, Thread, agent_with
from pydantic import PrivateAttr
from toolset import make_tool

from plan_execute import Context, ScriptedModel

Before = Callable[[str], Awaitable[None]]


class LineByLine(ScriptedModel):
    """Writes its answers line by line; ``before`` is awaited with each line before it is written."""

    _before: Before = PrivateAttr()

    def __init__(self, script: Any, before: Before, **settings: Any) -> None:
        super().__init__(script, **settings)
        self._before = before

    async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        chunks = [chunk async for chunk in super()._astream(*args, **kwargs)]
        for line in "".join(str(chunk.text) for chunk in chunks).splitlines(keepends=True):
            await self._before(line)
            yield ChatGenerationChunk(message=AIMessageChunk(content=line))
        yield chunks[-1]


class Reads:
    """``look`` reads and tells when it was called; ``put`` is idempotent, ``wr`` writes.

    Attributes:
        calls: Arguments in the order of the calls.
        most: The most calls that were under way at the same time.
        failures: What the next calls of ``look`` raise.
        held: Calls with these arguments do not return by themselves.
    """

    def __init__(self, *held: str, failures: tuple[Exception, ...] = ()) -> None:
        self.calls: list[str] = []
        self.most = self._now = 0
        self.failures, self.held, self.cancelled = list(failures), set(held), list[str]()
        self._changed = asyncio.Event()

    async def called(self, *names: str) -> None:
        """Wait until the calls were made."""
        async with asyncio.timeout(60):
            while not set(names) <= set(self.calls):
                self._changed.clear()
                await self._changed.wait()

    async def _call(self, q: str) -> str:
        self.calls.append(q)
        self._changed.set()
        self._now += 1
        self.most = max(self.most, self._now)
        try:
            if self.failures:
                raise self.failures.pop(0)
            await asyncio.sleep(60 if q in self.held else 0)
        except asyncio.CancelledError:
            self.cancelled.append(q)
            raise
        finally:
            self._now -= 1
        return f"found {q}"

    def tools(self, *names: str) -> list[Any]:
        async def look(q: str) -> str:
            """Look something up."""
            return await self._call(q)

        async def put(q: str) -> str:
            """Put something."""
            return await self._call(q)

        async def wr(q: str) -> str:
            """Write something."""
            return await self._call(q)

        made = {
            "look": make_tool(look),
            "put": make_tool(put, effect="idempotent"),
            "wr": make_tool(wr, effect="write"),
        }
        return [made[name] for name in names or ("look",)]


def before(line: str, wait: Callable[[], Awaitable[None]]) -> Before:
    """Wait before the line that holds these characters."""

    async def waits(written: str) -> None:
        if line in written:
            await wait()

    return waits


async def run(
    reads: Reads,
    *planner: str,
    waits: Before,
    tools: tuple[str, ...] = (),
    context: Context = FREE,
    **roles: Any,
) -> dict[str, Any]:
    model = LineByLine({"planner": list(planner), "synthesizer": ["ok"], **roles}, waits)
    return await Thread(agent_with(reads.tools(*tools), model), context).send(
        {"goal": "g", "inputs": {"city": "Oslo"}}
    )


async def test_a_read_begins_before_the_plan_is_written_and_is_made_once() -> None:
    reads = Reads()
    result = await run(
        reads,
        '1. look("x")\n2. look($inputs.city)\n3. look("end")',
        waits=before("end", lambda: reads.called("x", "Oslo")),
    )
    assert (result["status"], sorted(reads.calls)) == ("done", ["Oslo", "end", "x"])
    assert result["results"]["look_x"]["output"] == "found x"
    assert result["results"]["look_x"]["evidence"][0]["ok"]
    assert result["usage"]["tool_calls"] == 3
    written = next(event["at"] for event in result["audit"] if event["event"] == "plan_written")
    assert result["results"]["look_x"]["started_at"] <= written <= result["results"]["look_end"]["started_at"]


async def test_a_read_of_what_another_found_begins_when_that_has_ended() -> None:
    reads = Reads()
    waits = before("end", lambda: reads.called("found found x"))
    result = await run(reads, '1. look("x")\n2. look($1)\n3. look("${2}")\n4. look("end")', waits=waits)
    assert (result["status"], len(reads.calls)) == ("done", 4)


async def test_the_reads_of_a_loop_begin_before_the_plan_is_written_and_are_made_once() -> None:
    reads = Reads()
    result = await run(
        reads,
        '1. look("${item} of ${inputs.city}") each=["a", "b"]\n2. look($item) each=$1\n3. look("end")',
        waits=before("end", lambda: reads.called("a of Oslo", "b of Oslo")),
    )
    assert (result["status"], len(reads.calls), result["usage"]["tool_calls"]) == ("done", 5, 5)
    assert result["results"]["look_2"]["output"] == [f"found found {one} of Oslo" for one in "ab"]


async def test_a_read_of_an_item_has_the_id_of_its_call() -> None:
    ids: dict[str, str] = {}
    wanted = asyncio.Event()

    async def look(q: str, tool_call_id: Annotated[str, InjectedToolCallId]) -> str:
        """Look something up."""
        ids[q] = tool_call_id
        if len(ids) == 2:
            wanted.set()
        return q

    lines = '1. look($item) each=["a", "b"]\n2. look("end")'
    model = LineByLine({"planner": [lines], "synthesizer": ["ok"]}, before("end", wanted.wait))
    result = await Thread(agent_with([make_tool(look)], model), FREE).send({"goal": "g"})
    evidence = result["results"]["look"]["evidence"]
    assert {seen["args"]["q"]: seen["call_id"] for seen in evidence} == {"a": ids["a"], "b": ids["b"]}


async def test_a_failed_read_of_an_item_is_made_again_and_no_more_run_at_once_than_may() -> None:
    reads = Reads(failures=(ValueError("not now"),))
    items = ["a", "b", "c", "d"]
    waits = before("end", lambda: reads.called("b"))
    context = Context(approval="never", max_parallel=2)
    lines = f'1. look($item) each={items}\n2. look("end")'
    result = await run(reads, lines, waits=waits, context=context)
    assert result["results"]["look"]["output"] == [f"found {one}" for one in items]
    assert (reads.most, sorted(reads.calls)) == (2, ["a", "a", "b", "c", "d", "end"])


async def test_reads_of_a_loop_that_became_another_are_dropped() -> None:
    reads = Reads("a")
    waits = before("broken", lambda: reads.called("a"))
    texts = ('1. look($item) each=["a"]\n2. look(broken', '1. look($item) each=["b"]')
    result = await run(reads, *texts, waits=waits)
    assert (result["results"]["look"]["output"], reads.calls, reads.cancelled) == (
        ["found b"],
        ["a", "b"],
        ["a"],
    )


async def test_a_read_that_must_now_wait_for_another_step_is_made_again_after_it() -> None:
    reads = Reads()
    first = 'x = look("x")\ny = look("to ${x}")\nbroken'
    second = 'w = wr("w")\nx = look("x") after=[w]\ny = look("to ${x}")'
    waits = before("broken", lambda: reads.called("x", "to found x"))
    result = await run(reads, first + "(", second, waits=waits, tools=("look", "wr"))
    assert (result["status"], reads.calls) == ("done", ["x", "to found x", "w", "x", "to found x"])


async def test_the_items_of_a_loop_are_read_ahead_up_to_the_soft_limit_and_no_further() -> None:
    reads = Reads()
    waits = before("end", lambda: asyncio.sleep(0.05))
    context = Context(approval="never", max_parallel=1, max_tool_calls=4, soft_share=0.5)
    model = LineByLine({"planner": ['1. look($item) each=["a", "b", "c", "d"]\n2. look("end")']}, waits)
    thread = Thread(agent_with(reads.tools(), model), context)
    result = await thread.send({"goal": "g"})
    assert (result["status"], reads.calls, len(await thread.questions())) == ("running", ["a", "b"], 1)


async def test_a_read_with_wrong_arguments_is_not_made_ahead() -> None:
    calls: list[Any] = []

    async def look(**args: Any) -> str:
        """Look something up."""
        calls.append(args)
        return "found"

    schema = {"type": "object", "properties": {"q": {"type": "string", "maxLength": 2}}, "required": ["q"]}
    tool = StructuredTool(
        name="look", description="Look.", args_schema=schema, coroutine=look, metadata={"effect": "read"}
    )
    model = LineByLine(
        {"planner": ['1. look($item) each=["ab", "abc"]\n2. look("end")', "impossible: no"]},
        before("end", lambda: asyncio.sleep(0.05)),
    )
    await Thread(agent_with([tool], model), FREE).send({"goal": "g"})
    assert {"q": "abc"} not in calls


async def test_what_was_read_for_a_plan_that_was_not_to_be_is_dropped_and_counted() -> None:
    reads = Reads("never")
    texts = ('1. look("never")\n2. look("old")\n3. look(broken', '1. look("x")\n2. look("old")\n')
    waits = before("broken", lambda: reads.called("never", "old"))
    result = await run(reads, *texts, waits=waits)
    assert (result["status"], reads.calls.count("old"), reads.cancelled) == ("done", 1, ["never"])
    assert list(result["results"]) == ["look_x", "look_old"]
    assert result["usage"]["tool_calls"] == 3


async def test_what_was_read_for_a_plan_that_is_refused_is_not_used() -> None:
    reads = Reads()
    waits = before("nothing", lambda: reads.called("x"))
    result = await run(reads, '1. look("x")\n2. look(nothing="y")\n', '1. look("x")\n', waits=waits)
    assert (result["status"], reads.calls) == ("done", ["x", "x"])


async def test_only_plain_reads_begin_ahead() -> None:
    reads = Reads()
    lines = (
        '1. look("a")\n2. put("b")\n3. look("c") if="$1"\n4. look($item) each=$2\n5. look("e") after=[2]\n'
        '6. look("f") check="good"\n7. look($6)\n8. "Think" tools=[look]\n9. look($8)\nmore'
    )
    seen: list[str] = []

    async def look_at_calls() -> None:
        await reads.called("a", "f")
        await asyncio.sleep(0.05)
        seen.extend(reads.calls)
        raise ValueError("that is enough")

    result = await run(reads, lines, waits=before("more", look_at_calls), tools=("look", "put"))
    assert (result["status"], sorted(seen)) == ("failed", ["a", "f"])


@pytest.mark.parametrize(
    ("approval", "tools", "ahead"),
    [
        ("never", ("look", "wr"), True),
        ("writes", ("look", "put"), True),
        ("writes", ("look", "wr"), False),
        ("always", ("look",), False),
    ],
)
async def test_nothing_begins_ahead_where_a_plan_of_these_tools_could_need_approval(
    approval: Any, tools: tuple[str, ...], ahead: bool
) -> None:
    reads, seen = Reads(), list[list[str]]()

    async def look_at_calls() -> None:
        if ahead:
            await reads.called("x")
        seen.append(list(reads.calls))

    await run(
        reads,
        '1. look("x")\n2. look("y")',
        waits=before("y", look_at_calls),
        tools=tools,
        context=Context(approval=approval),
    )
    assert seen == ([["x"]] if ahead else [])  # else nobody streams


async def test_a_read_that_failed_ahead_is_made_again_by_its_step() -> None:
    reads = Reads(failures=(ValueError("not yet"),))
    result = await run(reads, '1. look("x")\n2. look("y")', waits=before("y", lambda: reads.called("x")))
    assert (result["status"], reads.calls.count("x")) == ("done", 2)
    assert result["results"]["look_x"]["attempts"] == 1


async def test_reads_and_steps_together_keep_to_max_parallel() -> None:
    reads = Reads()
    lines = "\n".join(f'{n}. look("{n}")' for n in range(1, 9))
    context = Context(approval="never", max_parallel=2)
    result = await run(reads, lines, waits=before("8", lambda: reads.called("1")), context=context)
    assert (result["status"], len(reads.calls), reads.most) == ("done", 8, 2)


async def test_reads_ahead_count_against_the_budget_of_tool_calls() -> None:
    reads = Reads()
    context = Context(approval="never", max_tool_calls=2)
    lines = "\n".join(f'{n}. look("{n}")' for n in range(1, 5))
    result = await run(reads, lines, waits=before("4", lambda: reads.called("1", "2")), context=context)
    assert (result["status"], len(reads.calls), result["usage"]["tool_calls"]) == ("partial", 2, 2)


async def test_a_run_that_is_cancelled_while_it_plans_cancels_its_reads_and_leaves_nothing() -> None:
    reads = Reads("x")
    written = asyncio.Event()

    async def hang() -> None:
        await reads.called("x")
        written.set()
        await asyncio.sleep(60)

    model = LineByLine({"planner": ['1. look("x")\n2. look("y")']}, before("y", hang))
    saver = InMemorySaver()
    thread = Thread(agent_with(reads.tools(), model, checkpointer=saver), FREE)
    running = asyncio.ensure_future(thread.send({"goal": "g"}))
    async with asyncio.timeout(60):
        await written.wait()
    running.cancel()
    await asyncio.wait({running})
    assert (reads.cancelled, running.cancelled()) == (["x"], True)
    assert not (await thread.agent.aget_state(thread.config)).values.get("results")


async def test_a_planner_that_gives_up_cancels_what_it_began() -> None:
    reads = Reads("x")
    waits = before("look(y", lambda: reads.called("x"))
    answers = ['1. look("x")\n2. look(y', "impossible: no y"]
    result = await run(reads, *answers, waits=waits)
    assert (result["status"], reads.cancelled) == ("failed", ["x"])


@pytest.mark.parametrize("named", [True, False])
async def test_a_plan_is_streamed_only_where_the_stream_says_what_it_cost(named: bool) -> None:
    reads = Reads()
    with OpenAIStub([Reply('1. look("x")'), Reply("ok")]) as stub:
        if named:
            agent = agent_with(reads.tools(), "openai:stub", base_url=stub.base_url)
        else:
            model = ChatOpenAI(model="stub", base_url=stub.base_url, api_key="k", max_retries=0)
            agent = agent_with(reads.tools(), model)
        result = await Thread(agent, FREE).send({"goal": "g"})
    assert (result["status"], result["usage"]["total_tokens"] % 18) == ("done", 0)
    assert result["usage"]["by_role"]["planner"]["input_tokens"] == 11
    assert bool(stub.requests[0].body.get("stream")) == named


async def test_the_stream_tells_of_a_read_ahead_and_then_of_its_step() -> None:
    reads = Reads()
    model = LineByLine(
        {"planner": ['1. look("x")\n2. look("y")'], "synthesizer": ["ok"]},
        before("y", lambda: reads.called("x")),
    )
    thread = Thread(agent_with(reads.tools(), model), FREE)
    stream = thread.agent.astream({"goal": "g"}, thread.config, context=FREE, stream_mode="custom")
    told = [(event["type"], event["step_id"]) async for event in stream]
    assert told[0] == ("read_ahead", "look_x")
    mine = [kind for kind, step_id in told if step_id == "look_x"]
    assert mine == [
        "read_ahead",
        "step_started",
        "step_attempt",
        "tool_call",
        "tool_finished",
        "step_finished",
    ]
