"""The decider, the replanner, the synthesizer and the planner are shown what was done so far."""

from __future__ import annotations

from plans import Thread, agent_with, bound, draft, draft_step, think
from prompts_sent import shown_to
from toolset import make_tool

from plan_execute import Context, ScriptedModel

FREE = Context(approval="never", max_attempts=1)
TRACE = "Traceback (most recent call last):\n" + "  File stats.py\n" * 300 + "ValueError: odd at the end"


def send(to: str) -> str:
    """Send a mail."""
    return f"sent to {to}"


def fail(q: str) -> str:
    """Fail with a long error."""
    raise ValueError(TRACE)


def countries() -> list[dict[str, object]]:
    """List what customers owe, by country."""
    return [{"country": "DE", "owed": 5696.92}, {"country": "FR", "owed": 1935.75}]


def price(of: str) -> int:
    """Look a price up."""
    return len(of)


TOOLS = [make_tool(send, effect="write"), make_tool(fail), make_tool(countries), make_tool(price)]


async def test_decider_and_replanner_see_the_calls_that_were_made_and_an_error_once_with_its_end() -> None:
    calls = ScriptedModel.tool_calls(("send", {"to": "boss"}), ("fail", {"q": "x"}))
    model = ScriptedModel(
        {
            "executor": [calls, "sent, then it failed"],
            "evaluator": [
                ScriptedModel.verdict(met=False, gap="nothing was counted"),
                {"decision": "patch", "reason": "another way", "hint": "count"},
            ],
            "replanner": [draft(draft_step("count", "price", {"of": "abc"}))],
            "synthesizer": ["ok"],
        }
    )
    judged = [{"type": "judge", "criterion": "it was counted"}]
    await Thread(agent_with(TOOLS, model), FREE).run(
        bound("p", "price", {"of": "ab"}),
        think("a", "p", tools=["send", "fail"], success_criteria=judged),
    )
    decider, (replanner,) = shown_to(model, "evaluator")[1], shown_to(model, "replanner")
    for text in (decider, replanner):
        assert 'send({"to": "boss"}) -> ok: sent to boss' in text
        assert text.count("ValueError: odd at the end") == 1
        assert "sent, then it failed" in text, "the step's output"
    assert "- retry:" not in decider, "a write was made: the decision is not offered"
    assert "- patch:" in decider
    assert replanner.count("nothing was counted") == 1
    assert 'p = price(of="ab")' in replanner, "it reads the notation that it writes"
    assert 'a = "do a" tools=[send, fail] after=[p] check="it was counted"' in replanner


async def test_the_error_of_a_bound_step_is_told_once() -> None:
    model = ScriptedModel(
        {
            "evaluator": [{"decision": "replan", "reason": "odd", "hint": ""}],
            "replanner": [draft(draft_step("count", "price", {"of": "abc"}))],
            "synthesizer": ["ok"],
        }
    )
    await Thread(agent_with(TOOLS, model), FREE).run(bound("a", "fail", {"q": "x"}))
    for text in (*shown_to(model, "evaluator"), *shown_to(model, "replanner")):
        assert text.count("ValueError: odd at the end") == 1


async def test_the_decider_hears_what_people_said() -> None:
    model = ScriptedModel(
        {
            "planner": [draft(draft_step("a", "fail", {"q": "x"}))] * 2,
            "evaluator": [{"decision": "abort", "reason": "no", "hint": ""}],
            "synthesizer": ["ok"],
        }
    )
    thread = Thread(agent_with(TOOLS, model), Context(approval="always", max_attempts=1))
    await thread.send({"goal": "g"})
    await thread.answer({"type": "reject", "message": "never call it twice"})
    await thread.answer({"type": "approve"})
    (shown,) = shown_to(model, "evaluator")
    assert "People have said:\n- never call it twice" in shown


async def test_whoever_reads_a_loops_list_sees_each_output_with_its_item() -> None:
    model = ScriptedModel({"executor": ["cheap"], "synthesizer": ["ok"]})
    steps = [
        bound("p", "price", {"of": "${item}"}, for_each="${inputs.things}"),
        think("choose", "p"),
        think("more", "p"),
    ]
    model = ScriptedModel({"executor": ["cheap", "cheap"], "synthesizer": ["ok"]})
    await Thread(agent_with(TOOLS, model), FREE).send(
        {
            "plan": {"goal": "g", "steps": steps, "inputs": {"things": {}}},
            "inputs": {"things": ["milk", "bread"]},
        }
    )
    pairs = '[{"item": "milk", "output": 4}, {"item": "bread", "output": 5}]'
    assert all(pairs in text for text in shown_to(model, "executor"))
    # Who writes references must not take the items for parts of the output.
    lines = "Output: a list, each output behind its item:\nmilk -> 4\nbread -> 5\n"
    assert lines in shown_to(model, "synthesizer")[0]


async def test_a_follow_up_is_planned_and_answered_with_what_was_found_before() -> None:
    model = ScriptedModel(
        {
            "planner": [
                draft(draft_step("owed", "countries")),
                draft(draft_step("p", "price", {"of": "FR"})),
            ],
            "synthesizer": ["Germany owes 5,696.92", "France owes 1,935.75"],
        }
    )
    thread = Thread(agent_with(TOOLS, model), FREE)
    await thread.send({"goal": "How much is owed in Germany?"})
    result = await thread.send({"goal": "And in France?"})
    for text in (shown_to(model, "planner")[1], shown_to(model, "synthesizer")[1]):
        assert "human: How much is owed in Germany?\nai: Germany owes 5,696.92" in text
        assert '{"country": "FR", "owed": 1935.75}' in text
        assert "countries({}) -> ok" in text
    assert "Earlier in this conversation" not in shown_to(model, "synthesizer")[0]
    assert "earlier" not in result, "internal"


async def test_the_answer_is_written_with_the_calls_behind_the_results_and_what_a_person_supplied() -> None:
    model = ScriptedModel({"executor": ["four"], "synthesizer": ["ok"]})
    context = FREE.model_copy(update={"on_failure": "ask"})
    thread = Thread(agent_with(TOOLS, model), context)
    await thread.run(bound("f", "fail", {"q": "x"}), think("a", "f"))
    await thread.answer({"type": "edit", "args": {"decision": "supply", "output": "by hand"}})
    (shown,) = shown_to(model, "synthesizer")
    assert 'fail({"q": "x"}) -> FAILED' in shown
    assert "a person supplied this output, and nothing has checked it" in shown
