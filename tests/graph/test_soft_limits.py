"""At the soft share of a budget nothing new starts, and one person is asked once; at the limit a run ends."""

from __future__ import annotations

from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.store.memory import InMemoryStore
from openai_stub import OpenAIStub, Reply
from plans import Thread, agent_with, bound, draft, draft_step, plan, statuses, think
from toolset import Toolset

from plan_execute import Context, ScriptedModel, create_plan_execute_agent
from plan_execute.errors import ConfigurationError, InvalidAnswerError


def soft(**fields: Any) -> Context:
    return Context(**{"approval": "never", "max_attempts": 1, "soft_share": 0.5, "max_parallel": 1, **fields})


CHAIN = [bound(f"s{n}", "look", {"q": str(n)}, *([f"s{n - 1}"] if n else [])) for n in range(6)]


async def at_the_question(tools: Toolset | None = None, **fields: Any) -> tuple[Thread, Toolset]:
    used = tools or Toolset()
    thread = Thread(agent_with(used.tools), soft(**{"max_tool_calls": 4, **fields}))
    result = await thread.run(*CHAIN)
    assert "__interrupt__" in result
    assert (await thread.question())["name"] == "extend_budget"
    return thread, used


async def test_the_question_names_the_budget_what_is_spent_and_what_is_left_to_do() -> None:
    thread, tools = await at_the_question()
    question = await thread.question()
    expected = {"budget": "max_tool_calls", "spent": 2, "limit": 4, "decision": "extend", "by": 4}
    assert question["args"] == expected
    assert tools.named("look") == ["0", "1"]
    for word in ("max_tool_calls", "2 of 4", "s2", "s5", "`extend`", "`finish`", "`abort`"):
        assert word in question["description"]


@pytest.mark.parametrize(
    "answer", ["approve", {"decision": "extend", "by": 20}, {"type": "respond", "message": "go on"}], ids=str
)
async def test_an_extended_budget_lets_the_run_end(answer: Any) -> None:
    thread, tools = await at_the_question()
    result = await thread.answer(answer)
    while "__interrupt__" in result:  # 4 more may reach their own soft share
        result = await thread.answer("approve")
    assert result["status"] == "done"
    assert tools.named("look") == [str(n) for n in range(6)]
    said = [event for event in result["audit"] if event["event"] == "budget_answered"]
    assert said[0]["by"] == {"kind": "person"}
    assert said[0]["decision"].startswith("extend by")
    assert result["usage"]["tool_calls"] == 6


async def test_a_small_extension_is_used_before_somebody_is_asked_again() -> None:
    thread, tools = await at_the_question()
    await thread.answer({"decision": "extend", "by": 1})
    question = await thread.question()
    assert (question["args"]["spent"], question["args"]["limit"], len(tools.calls)) == (4, 5, 4)


@pytest.mark.parametrize("decision", ["finish", "abort"])
async def test_a_person_may_end_the_run_with_what_there_is(decision: str) -> None:
    thread, tools = await at_the_question()
    result = await thread.answer({"decision": decision, "message": "enough"})
    assert (result["status"], len(tools.calls)) == ("partial", 2)
    assert set(statuses(result)) == {"s0", "s1"}
    assert "max_tool_calls" in result["final_answer"]
    assert "s5" in result["final_answer"]


async def test_a_rejection_is_the_safe_default() -> None:
    thread, tools = await at_the_question()
    result = await thread.answer({"type": "reject", "message": "too dear"})
    assert (result["status"], len(tools.calls)) == ("partial", 2)
    assert "too dear" in result["final_answer"]


@pytest.mark.parametrize("by", [0, -3, "many", None, True, float("inf")])
async def test_an_amount_that_is_none_is_refused_and_the_question_stays(by: Any) -> None:
    thread, _ = await at_the_question()
    with pytest.raises(InvalidAnswerError, match=r"extend_budget|plain JSON"):
        await thread.answer({"type": "edit", "args": {"decision": "extend", "by": by}})
    assert (await thread.question())["name"] == "extend_budget"


async def test_an_extension_holds_when_the_thread_goes_on_elsewhere() -> None:
    tools, saver, store = Toolset(), InMemorySaver(), InMemoryStore()
    tools.failures = [ValueError("odd")]
    steps = [*CHAIN, bound("odd", "flaky", {"q": "x"}, "s5")]
    context = soft(max_tool_calls=8, on_failure="ask")
    first = Thread(agent_with(tools.tools, checkpointer=saver, store=store), context)
    await first.run(*steps)
    await first.answer({"decision": "extend", "by": 100})
    assert (await first.question())["name"] == "handle_step_failure"
    second = Thread(agent_with(tools.tools, checkpointer=saver, store=store), context)
    second.config = first.config
    result = await second.answer({"decision": "retry"})
    assert result["status"] == "done"


async def test_a_new_goal_starts_with_the_budget_as_it_was() -> None:
    thread, _ = await at_the_question()
    await thread.answer({"decision": "extend", "by": 100})
    await thread.run(*CHAIN)
    assert (await thread.question())["args"]["limit"] == 4


async def test_parallel_steps_meet_one_question() -> None:
    tools = Toolset()
    thread = Thread(agent_with(tools.tools), soft(max_tool_calls=8, max_parallel=4))
    await thread.run(*(bound(f"p{n}", "wait", {"name": str(n), "seconds": 0.01}) for n in range(12)))
    assert len(await thread.questions()) == 1
    assert 4 <= len(tools.calls) <= 7


async def test_where_nobody_can_be_asked_or_no_share_is_set_the_run_goes_on_to_the_limit() -> None:
    for options, share in (({"checkpointer": None, "store": None}, 0.5), ({}, None)):
        tools = Toolset()
        thread = Thread(agent_with(tools.tools, **options), soft(max_tool_calls=4, soft_share=share))
        result = await thread.run(*CHAIN)
        assert (result["status"], len(tools.calls)) == ("partial", 4)


async def test_nobody_is_asked_when_everything_is_done_at_the_soft_share() -> None:
    tools = Toolset()
    thread = Thread(agent_with(tools.tools), soft(max_tool_calls=2))
    result = await thread.run(CHAIN[0])
    assert result["status"] == "done"


async def test_a_revision_is_not_written_before_the_budget_is_settled() -> None:
    tools = Toolset()
    tools.failures = [ValueError("odd")]
    model = ScriptedModel(
        {
            "executor": ["x", "y"],
            "replanner": [draft(draft_step("b", "look", {"q": "z"}))],
            "synthesizer": ["ok"],
        },
        strict=False,
    )
    thread = Thread(agent_with(tools.tools, model), soft(max_model_calls=4, on_failure="replan"))
    await thread.run(think("t"), think("u"), bound("a", "flaky", {"q": "x"}))
    assert (await thread.question())["args"]["budget"] == "max_model_calls"
    assert not [call for call in model.calls if call.role == "replanner"]
    result = await thread.answer({"decision": "extend", "by": 10})
    assert result["replans"] == 1


async def test_a_sub_plan_goes_on_and_the_plan_it_is_part_of_asks() -> None:
    tools = Toolset()
    inner = draft(*(draft_step(f"i{n}", "look", {"q": str(n)}) for n in range(3)))
    model = ScriptedModel({"planner": [inner], "synthesizer": ["inner", "outer"]})
    thread = Thread(agent_with(tools.tools, model), soft(max_tool_calls=6))
    await thread.run({"id": "sub", "plan": {"goal": "g"}}, bound("after", "look", {"q": "x"}, "sub"))
    assert len(tools.calls) == 3
    assert (await thread.question())["args"]["spent"] == 3
    result = await thread.answer("approve")
    assert result["status"] == "done"


async def test_a_warning_is_told_once_also_where_nobody_is_asked() -> None:
    thread = Thread(agent_with(Toolset().tools), soft(max_tool_calls=5, soft_share=None))
    stream = thread.agent.astream(
        {"plan": plan(*CHAIN)}, thread.config, context=thread.context, stream_mode="custom"
    )
    warnings = [event async for event in stream if event["type"] == "budget_warning"]
    assert [(w["budget"], w["used"], w["limit"]) for w in warnings] == [("max_tool_calls", 4, 5)]


# --- what it costs -----------------------------------------------------------------------

PRICES = {"stub": {"input": 1_000_000, "output": 2_000_000}}
"""One a token in, two a token out."""


def test_cost_is_counted_per_role_step_and_run_over_a_real_endpoint() -> None:
    replies = [Reply(content="found"), Reply(content="found"), Reply(content="the answer")]
    with OpenAIStub(replies) as stub:
        agent = create_plan_execute_agent("openai:stub", base_url=stub.base_url, prices=PRICES)
        given = {"plan": plan(think("a"), think("b"))}
        result = agent.invoke(given, context=Context(approval="never"))
    usage, step = result["usage"], result["results"]["a"]["usage"]
    assert usage["cost"] == usage["input_tokens"] + 2 * usage["output_tokens"] > 0
    assert step["cost"] == step["input_tokens"] + 2 * step["output_tokens"]
    assert usage["cost"] == sum(role["cost"] for role in usage["by_role"].values())
    assert set(usage["by_role"]) == {"executor", "synthesizer"}


def test_without_a_price_there_are_tokens_and_no_cost() -> None:
    with OpenAIStub([Reply(content="found"), Reply(content="the answer")]) as stub:
        agent = create_plan_execute_agent("openai:gpt-5-mini", base_url=stub.base_url)
        result = agent.invoke({"plan": plan(think("a"))}, context=Context(approval="never"))
    assert result["usage"]["total_tokens"] > 0
    assert "cost" not in result["usage"]


def test_max_cost_ends_a_run_and_one_that_could_not_be_held_is_refused() -> None:
    with OpenAIStub([Reply(content="found")] * 4) as stub:
        priced = create_plan_execute_agent("openai:stub", base_url=stub.base_url, prices=PRICES)
        result = priced.invoke(
            {"plan": plan(think("a"), think("b", "a"))},
            context=Context(approval="never", max_cost=1, max_parallel=1),
        )
        assert result["status"] == "partial"
        assert "max_cost=1" in result["final_answer"]
        assert len(stub.requests) == 1
        unpriced = create_plan_execute_agent("openai:stub", base_url=stub.base_url)
        with pytest.raises(ConfigurationError, match=r"max_cost=1 .*'stub'.*prices="):
            unpriced.invoke({"plan": plan(think("a"))}, context=Context(approval="never", max_cost=1))
