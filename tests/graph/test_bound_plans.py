"""Plans of bound steps: no model, exact values, real parallelism."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from plans import FREE, Thread, agent_with, bound, plan, statuses
from toolset import Toolset, make_tool
from virtual_clock import virtually

from plan_execute import Context, ScriptedModel, local_persistence


async def test_a_plan_of_bound_steps_costs_no_model_call_even_when_a_model_is_there() -> None:
    tools, model = Toolset(), ScriptedModel({"synthesizer": ["the answer"]})
    result = await Thread(agent_with(tools.tools), FREE).run(bound("a", "look", {"q": "x"}))
    assert (result["status"], result["usage"].get("model_calls", 0)) == ("done", 0)
    result = await Thread(agent_with(tools.tools, model), FREE).run(bound("a", "look", {"q": "x"}))
    assert result["usage"]["model_calls"] == 1, "only the synthesis"
    assert result["final_answer"] == "the answer"


@pytest.mark.parametrize(
    "value",
    [
        0,
        7,
        -1.5,
        True,
        False,
        None,
        "",
        "text",
        [],
        [1, "2", None],
        {},
        {"a": {"b": [1]}},
        2**53 + 1,
        "ünï 漢字 🎉",
    ],
)
async def test_a_whole_reference_passes_the_exact_value_with_its_type(value: Any) -> None:
    tools = Toolset()
    result = await Thread(agent_with(tools.tools), FREE).run(
        bound("a", "echo", {"value": value}), bound("b", "echo", {"value": "${a}"})
    )
    assert result["results"]["b"]["output"] == value
    assert type(tools.named("echo")[1]) is type(value)


async def test_references_take_parts_and_render_inside_text() -> None:
    tools = Toolset()
    result = await Thread(agent_with(tools.tools), FREE).run(
        bound("a", "echo", {"value": {"n": 3, "list": [1, 2]}}),
        bound("b", "echo", {"value": ["${a.n}", "${a.list[1]}", "n=${a.n} of ${a.list}", "$${a}"]}),
    )
    assert result["results"]["b"]["output"] == [3, 2, "n=3 of [1, 2]", "${a}"]


async def test_a_reference_alone_makes_the_dependency() -> None:
    result = await Thread(agent_with(Toolset().tools), FREE).run(
        bound("b", "look", {"q": "${a}"}), bound("a", "look", {"q": "x"})
    )
    assert result["results"]["b"]["output"] == "found found x"
    assert result["plan"]["steps"][0]["depends_on"] == ["a"]


async def test_inputs_fill_a_reusable_plan_over_its_defaults() -> None:
    tools, inputs = Toolset(), {"city": {"type": "string", "default": "Paris"}, "days": {"type": "integer"}}
    given = plan(bound("a", "echo", {"value": ["${inputs.city}", "${inputs.days}"]}), inputs=inputs)
    result = await Thread(agent_with(tools.tools), FREE).send({"plan": given, "inputs": {"days": 3}})
    assert result["results"]["a"]["output"] == ["Paris", 3]


@pytest.mark.parametrize("saver", [None, InMemorySaver()], ids=["no-saver", "saver"])
def test_eight_blocking_tools_run_at_the_same_time_in_invoke(saver: Any) -> None:
    meeting = threading.Barrier(8)

    def meet() -> str:
        """Return once all eight calls are under way."""
        meeting.wait(60)
        return "met"

    steps = plan(*(bound(f"s{n}", "meet") for n in range(8)))
    agent = agent_with([make_tool(meet)], checkpointer=saver)
    result = agent.invoke({"plan": steps}, {"configurable": {"thread_id": "1"}}, context=FREE)
    assert (result["status"], len(result["results"])) == ("done", 8), result["final_answer"]


@virtually
async def test_no_more_than_max_parallel_steps_run_at_the_same_time() -> None:
    running, most = 0, 0

    async def work(n: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        running -= 1
        return n

    context = Context(approval="never", max_parallel=2)
    result = await Thread(agent_with([make_tool(work)]), context).run(
        *(bound(f"s{n}", "work", {"n": n}) for n in range(6))
    )
    assert (result["status"], most) == ("done", 2)


@virtually
async def test_a_step_starts_the_moment_its_dependencies_are_done_and_no_wave_holds_it_back() -> None:
    tools = Toolset()
    await Thread(agent_with(tools.tools), FREE).run(
        bound("long", "wait", {"name": "long", "seconds": 0.4}),
        bound("short", "wait", {"name": "short", "seconds": 0.05}),
        bound("next", "wait", {"name": "next", "seconds": 0.05}, "short"),
        bound("last", "wait", {"name": "last", "seconds": 0.05}, "next"),
    )
    spans = tools.spans
    assert spans["last"][1] < spans["long"][1], "a chain of short steps ends while the long one runs"
    assert spans["next"][0] == spans["short"][1]


@virtually
async def test_when_slots_are_scarce_the_longest_remaining_path_goes_first() -> None:
    tools = Toolset()
    chain = [
        bound(f"c{n}", "wait", {"name": f"c{n}", "seconds": 0.01}, *([f"c{n - 1}"] if n else []))
        for n in range(3)
    ]
    alone = [bound(f"a{n}", "wait", {"name": f"a{n}", "seconds": 0.01}) for n in range(3)]
    await Thread(agent_with(tools.tools), Context(approval="never", max_parallel=1)).run(*alone, *chain)
    # The step that comes first takes the free slot; after that the rest of the chain outranks the others.
    order = tools.named("wait")
    assert order.index("c0") <= 1
    assert order.index("c1") < max(order.index(f"a{n}") for n in range(3))


async def test_the_report_of_a_run_without_a_model_is_the_same_every_time() -> None:
    async def report() -> str:
        result = await Thread(agent_with(Toolset().tools), Context(approval="never", on_failure="abort")).run(
            bound("a", "look", {"q": "x"}, task="look x up"),
            bound("b", "wait", {"name": "b", "seconds": 0.01}),
            bound("c", "broken", {"q": "y"}, "b"),
            bound("d", "look", {"q": "z"}, "c"),
        )
        return str(result["final_answer"])

    first, second = await report(), await report()
    assert first == second
    assert "- a (look x up): found x" in first
    assert "- c: failed: broken raised ValueError: no y today" in first
    assert "- d" in first


async def test_output_that_is_not_json_becomes_json() -> None:
    class Odd:
        def __str__(self) -> str:
            return "odd"

    def strange() -> Any:
        """Return what JSON does not know."""
        return {"set": {1}, "odd": Odd(), "nan": float("nan"), "path": Path("a")}

    result = await Thread(agent_with([make_tool(strange)]), FREE).run(bound("a", "strange"))
    assert result["results"]["a"]["output"] == {"set": [1], "odd": "odd", "nan": "nan", "path": "a"}


async def test_bound_steps_without_criteria_are_met_and_an_empty_output_is_met_empty() -> None:
    result = await Thread(agent_with(Toolset().tools), FREE).run(
        *(bound(f"e{n}", "echo", {"value": value}) for n, value in enumerate([None, "", [], {}, 0, False]))
    )
    assert [result["results"][f"e{n}"]["verdict"] for n in range(6)] == ["met_empty"] * 4 + ["met"] * 2
    assert result["status"] == "done"


async def test_a_result_says_everything_design_names() -> None:
    result = await Thread(agent_with(Toolset().tools), FREE).run(bound("a", "wr", {"text": "x"}))
    step = result["results"]["a"]
    assert set(step) == {
        "step_id",
        "status",
        "output",
        "verdict",
        "criteria",
        "evidence",
        "attempts",
        "error",
        "started_at",
        "finished_at",
        "usage",
    }
    (call,) = step["evidence"]
    assert (call["tool"], call["args"], call["ok"], call["effect"]) == ("wr", {"text": "x"}, True, "write")
    assert step["usage"] == {"tool_calls": 1}
    assert step["started_at"] <= step["finished_at"]


async def test_sixty_steps_of_a_chain_and_a_fan_all_run_exactly_once() -> None:
    tools = Toolset()
    chain = [bound(f"c{n}", "look", {"q": f"c{n}"}, *([f"c{n - 1}"] if n else [])) for n in range(30)]
    fan = [bound(f"f{n}", "look", {"q": f"f{n}"}, "c3") for n in range(30)]
    result = await Thread(agent_with(tools.tools), FREE).run(*itertools.chain(chain, fan))
    assert set(statuses(result).values()) == {"done"}
    assert sorted(tools.named("look")) == sorted([f"c{n}" for n in range(30)] + [f"f{n}" for n in range(30)])


async def test_a_stream_tells_what_happens_as_it_happens() -> None:
    thread = Thread(agent_with(Toolset().tools), FREE)
    given = {"plan": plan(bound("a", "look", {"q": "x"}))}
    events = [
        chunk["type"]
        async for chunk in thread.agent.astream(given, thread.config, context=FREE, stream_mode="custom")
    ]
    assert [e for e in events if e.startswith("step_")] == ["step_started", "step_attempt", "step_finished"]
    assert events[-1] == "synthesized"


async def test_the_results_of_an_epoch_are_stored_once_among_the_checkpoints(tmp_path: Path) -> None:
    """An empty update of a channel is a new version of it: LangGraph stores the whole value again."""
    path = tmp_path / "runs.db"
    async with local_persistence(path) as (saver, store):
        thread = Thread(agent_with(Toolset().tools, checkpointer=saver, store=store), FREE)
        await thread.run(*(bound(f"s{n}", "look", {"q": f"value-{n}"}) for n in range(5)))
    with closing(sqlite3.connect(path)) as database:
        blobs = database.execute("SELECT value FROM checkpoint_blobs WHERE channel = 'results'").fetchall()
    assert sum(b"found value-4" in blob for (blob,) in blobs) == 1
