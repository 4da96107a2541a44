"""Before a plan runs a person sees what it will take, from earlier runs, or that nothing is known."""

from __future__ import annotations

from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.store.memory import InMemoryStore
from openai_stub import OpenAIStub, Reply
from plans import FREE, Thread, agent_with, bound, plan, think
from toolset import Toolset

from plan_execute import Context, create_plan_execute_agent
from plan_execute.spending.estimates import describe_estimate, estimate_plan, expected_seconds
from plan_execute.storage.history import History

ASK = Context(approval="always", max_parallel=2)
PRICES = {"stub": {"input": 1_000_000, "output": 1_000_000}}


def sample(seconds: float, calls: int = 0, tokens: int = 0, cost: float | None = 0.0) -> dict[str, Any]:
    priced = {} if cost is None else {"cost": cost}
    return {"seconds": seconds, "model_calls": calls, "tokens": tokens, **priced}


def estimate(steps: list[Any], samples: Any, *, slots: int = 8, inputs: Any = None, done: Any = None) -> Any:
    given: Any = {"revision": 1, "id": "p", "inputs": {"list": {"type": "array"}}, "steps": steps}
    return estimate_plan(
        given, done or {}, samples, inputs=inputs, slots=slots, model_of=lambda role: f"m-{role}"
    )


# --- the arithmetic ----------------------------------------------------------------------


def test_median_and_ninetieth_percentile_come_from_the_same_tool() -> None:
    taken = [sample(s) for s in (1, 2, 3, 4, 5, 6, 7, 8, 9, 100)]
    found = estimate([bound("a", "look")], {"tool:look": taken, "tool:other": [sample(1000)]})
    assert found["seconds"] == {"median": 5.5, "p90": 9, "unknown": []}
    assert found["tool_calls"] == {"median": 1, "p90": 1, "unknown": []}
    assert found["model_calls"] == {"median": 0, "p90": 0, "unknown": []}


def test_seconds_follow_the_critical_path_and_the_slots() -> None:
    samples = {"tool:look": [sample(2)], "role:synthesizer m-synthesizer": [sample(1, 1, 50, 0.5)]}
    chain = [bound("a", "look"), bound("b", "look", {}, "a"), bound("c", "look")]
    assert estimate(chain, samples)["seconds"]["median"] == 4 + 1
    wide = [bound(f"s{n}", "look") for n in range(8)]
    assert estimate(wide, samples, slots=2)["seconds"]["median"] == 8 + 1
    assert estimate(wide, samples, slots=8)["seconds"]["median"] == 2 + 1


def test_agent_steps_count_by_the_model_that_does_them() -> None:
    samples = {
        "role:executor m-executor": [sample(3, 2, 100, 0.1), sample(5, 4, 300, 0.3)],
        "role:executor other": [sample(99, 99, 99, 99)],
    }
    found = estimate([think("a", tools=["look"])], samples)
    assert found["model_calls"]["median"] == 3
    assert (found["tokens"]["median"], found["tokens"]["p90"]) == (200, 300)
    assert found["cost"]["median"] == pytest.approx(0.2)
    assert found["tool_calls"]["unknown"] == ["a"]


def test_what_has_no_sample_is_unknown_and_named() -> None:
    found = estimate([bound("a", "look"), think("b"), bound("c", "known")], {"tool:known": [sample(2)]})
    assert found["seconds"]["unknown"] == ["a", "b", "final answer"]
    assert found["tokens"]["unknown"] == ["b", "final answer"]
    words = describe_estimate(found)
    assert "at least 2 tool calls (unknown: b)" in words
    assert "at least 2.0 seconds (unknown: a, b, final answer) on the critical path" in words
    assert "tokens unknown" in words


def test_a_price_that_is_missing_makes_the_cost_unknown_not_zero() -> None:
    found = estimate([think("a")], {"role:executor m-executor": [sample(1, 1, 10, None)]})
    assert found["cost"] == {"median": 0, "p90": 0, "unknown": ["a"]}
    assert "cost unknown" in describe_estimate(found)


def test_a_loop_counts_once_per_item_where_the_list_is_known() -> None:
    samples = {"tool:look": [sample(2)]}
    loop = bound("each", "look", {"q": "${item}"}, for_each="${inputs.list}")
    found = estimate([loop], samples, slots=2, inputs={"list": [1, 2, 3]})
    assert (found["tool_calls"]["median"], found["seconds"]["median"]) == (3, 4)
    later = {**loop, "for_each": "${a}", "depends_on": ["a"]}
    found = estimate([bound("a", "look"), later], samples)
    assert found["tool_calls"] == {"median": 1, "p90": 1, "unknown": ["each"]}


def test_what_has_ended_costs_nothing_more() -> None:
    done = {"a": {"status": "done"}}
    found = estimate([bound("a", "look"), bound("b", "look", {}, "a")], {"tool:look": [sample(2)]}, done=done)
    assert found["seconds"]["median"] == 2


def test_expected_seconds_name_only_what_is_known() -> None:
    given: Any = plan(bound("a", "look"), bound("b", "other"))
    assert expected_seconds(given, {"tool:look": [sample(2), sample(4)]}, lambda role: "") == {"a": 3}


# --- over real runs ----------------------------------------------------------------------


async def test_a_first_run_says_so_and_a_second_knows_what_the_first_took() -> None:
    tools, store = Toolset(), InMemoryStore()
    options: Any = {"checkpointer": InMemorySaver(), "store": store}
    steps = [bound("a", "wait", {"name": "a", "seconds": 0.1}), bound("b", "look", {"q": "x"}, "a")]
    first = Thread(agent_with(tools.tools, **options), ASK)
    await first.run(*steps)
    said = (await first.question())["description"]
    assert "Nothing like it has run before" in said
    assert "2 tool calls; 0 model calls; seconds unknown on the critical path" in said
    await first.answer("approve")
    second = Thread(agent_with(tools.tools, **options), ASK)
    await second.run(*steps)
    (asked,) = await second.questions()
    found = asked.value["estimate"]
    assert found["samples"] == 2
    assert 0.1 <= found["seconds"]["median"] < 1
    assert "seconds on the critical path" in asked.value["action_requests"][0]["description"]


async def test_failed_and_repeated_steps_teach_nothing() -> None:
    tools, store = Toolset(), InMemoryStore()
    tools.failures = [ValueError("odd")]
    context = Context(approval="never", on_failure="retry", max_attempts=2)
    thread = Thread(agent_with(tools.tools, store=store), context)
    result = await thread.run(bound("a", "flaky", {"q": "x"}), bound("b", "look", {"q": "y"}))
    assert result["status"] == "done"
    assert set(await History(store).samples()) == {"tool:look"}


def test_tokens_and_cost_of_a_real_endpoint_are_remembered_with_the_answer() -> None:
    with OpenAIStub([Reply(content="found"), Reply(content="found"), Reply(content="answer")]) as stub:
        options: Any = {"checkpointer": InMemorySaver(), "store": InMemoryStore(), "prices": PRICES}
        agent = create_plan_execute_agent("openai:stub", base_url=stub.base_url, **options)
        given = {"plan": plan(think("a"), think("b"))}
        result = agent.invoke(given, {"configurable": {"thread_id": "1"}}, context=FREE)
        asked = agent.invoke(given, {"configurable": {"thread_id": "2"}}, context=ASK)
    found = asked["__interrupt__"][0].value["estimate"]
    assert found["model_calls"] == {"median": 3, "p90": 3, "unknown": []}
    assert found["tokens"]["unknown"] == found["cost"]["unknown"] == []
    assert found["tokens"]["median"] == pytest.approx(result["usage"]["total_tokens"], rel=0.2)
    assert found["cost"]["median"] > 0


async def test_the_history_is_bounded_whatever_runs() -> None:
    store = InMemoryStore()
    history = History(store)
    for number in range(400):
        many: Any = [sample(n) for n in range(100)]
        await store.abatch(history.rows(f"run {number}", {"tool:look": many}))
    assert len(store.search(("plan_execute", "history"), limit=1000)) <= 200
    assert len((await history.samples())["tool:look"]) <= 200 * 20


async def test_with_few_slots_the_step_known_to_be_long_goes_first() -> None:
    tools, store = Toolset(), InMemoryStore()
    context = Context(approval="never", max_parallel=1)
    quick = [bound(f"q{n}", "look", {"q": str(n)}) for n in range(3)]
    long = bound("long", "wait", {"name": "long", "seconds": 0.05})
    agent = agent_with(tools.tools, store=store)
    for _ in range(2):
        tools.calls.clear()
        await Thread(agent, context).run(*quick, long)
        began = [name for name, *_ in tools.calls]
    assert began[0] == "wait"


def test_a_step_that_asks_for_another_model_counts_by_that_one() -> None:
    samples = {
        "role:executor m-executor": [sample(3, 2, 100, 0.1)],
        "role:executor m-fast": [sample(1, 1, 50, 0.01)],
    }
    steps: Any = {"revision": 1, "id": "p", "steps": [think("a", model="fast")]}
    found = estimate_plan(
        steps, {}, samples, inputs=None, slots=8, model_of=lambda role, named=None: f"m-{named or role}"
    )
    assert (found["cost"]["median"], found["seconds"]["median"]) == (0.01, 1)


def test_brackets_are_explained_only_where_there_are_some() -> None:
    even = {"tool:known": [sample(2), sample(2)]}
    assert "in brackets" not in describe_estimate(estimate([bound("a", "known")], even))
    uneven = {"tool:known": [sample(2), sample(9)]}
    assert "in brackets" in describe_estimate(estimate([bound("a", "known")], uneven))
