"""Calls that a person sees with their final arguments, and results that nobody checked."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents.middleware import AgentMiddleware
from langgraph.types import Command
from plans import Thread, agent_with, bound, plan, think
from toolset import Toolset

from plan_execute import Context, ScriptedModel
from plan_execute.errors import InvalidAnswerError

FREE = Context(approval="never", on_failure="abort")
COMPUTED = FREE.model_copy(update={"confirm": "computed"})
WRITE = bound("w", "wr", {"text": "${a}"})


async def _asked(*steps: dict[str, Any], context: Context = FREE) -> tuple[Thread, Toolset]:
    tools = Toolset()
    thread = Thread(agent_with(tools.tools), context)
    await thread.run(bound("a", "look", {"q": "x"}), *steps)
    assert tools.named("wr") == []
    return thread, tools


@pytest.mark.parametrize(
    ("step", "context"), [({**WRITE, "confirm": True}, FREE), (WRITE, COMPUTED)], ids=["marked", "computed"]
)
async def test_a_call_is_confirmed_with_the_arguments_that_it_has_then(
    step: dict[str, Any], context: Context
) -> None:
    thread, tools = await _asked(step, context=context)
    asked = await thread.question()
    assert (asked["name"], asked["args"]["tool_args"]) == ("confirm_call", {"text": "found x"})
    assert 'wr({"text": "found x"})' in asked["description"]
    result = await thread.answer("approve")
    assert (result["status"], tools.named("wr")) == ("done", ["found x"])


async def test_the_arguments_may_be_edited_and_the_call_rejected() -> None:
    thread, tools = await _asked({**WRITE, "confirm": True})
    await thread.answer({"type": "edit", "args": {"tool_args": {"text": "better"}}})
    assert tools.named("wr") == ["better"]
    thread, tools = await _asked({**WRITE, "confirm": True})
    result = await thread.answer({"type": "reject", "message": "wrong client"})
    assert (result["results"]["w"]["error"]["code"], tools.named("wr")) == ("rejected", [])
    assert "wrong client" in result["results"]["w"]["error"]["message"]


@pytest.mark.parametrize(
    "step",
    [
        bound("w", "wr", {"text": "fixed"}),
        bound("w", "wr", {"text": "${inputs.text}"}),
        bound("w", "look", {"q": "${a}"}),
        bound("w", "wr", {"text": "${item}"}, for_each="${inputs.texts}"),
    ],
    ids=["fixed", "an input", "a read", "items of an input"],
)
async def test_only_writes_with_computed_arguments_are_confirmed_unasked(step: dict[str, Any]) -> None:
    tools = Toolset()
    given = {"plan": plan(bound("a", "look", {"q": "x"}), step), "inputs": {"text": "t", "texts": ["t"]}}
    assert (await Thread(agent_with(tools.tools), COMPUTED).send(given))["status"] == "done"


READS_AND_WRITES = [
    ScriptedModel.tool_calls(("look", {"q": "x"})),
    ScriptedModel.tool_calls(("wr", {"text": "found x"})),
    "It is written.",
]
WRITES = READS_AND_WRITES[1:]


async def _asked_of_an_agent(*steps: dict[str, Any], said: list[Any]) -> tuple[Thread, Toolset]:
    tools, model = Toolset(), ScriptedModel({"executor": said, "synthesizer": ["ok"]})
    thread = Thread(agent_with(tools.tools, model), COMPUTED)
    await thread.run(*steps)
    return thread, tools


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([think("w", tools=["look", "wr"])], READS_AND_WRITES),
        ([bound("a", "look", {"q": "x"}), think("w", "a", tools=["wr"])], WRITES),
        ([bound("b", "echo", {"value": ["x"]}), think("w", tools=["wr"], for_each="${b}")], WRITES),
    ],
    ids=["its own", "another step's", "an item"],
)
async def test_what_an_agent_writes_of_outputs_is_confirmed(
    steps: list[dict[str, Any]], said: list[Any]
) -> None:
    thread, tools = await _asked_of_an_agent(*steps, said=said)
    asked = await thread.question()
    assert (asked["name"], asked["args"]["tool_args"]) == ("confirm_call", {"text": "found x"})
    assert tools.named("wr") == []
    result = await thread.answer("approve")
    assert (result["status"], tools.named("wr")) == ("done", ["found x"])


async def test_an_agent_that_knows_no_output_writes_unasked() -> None:
    thread, tools = await _asked_of_an_agent(think("w", tools=["wr"]), said=WRITES)
    assert (await thread.questions(), tools.named("wr")) == ([], ["found x"])


async def test_what_an_agent_writes_may_be_edited_and_rejected() -> None:
    step = think("w", tools=["look", "wr"])
    thread, tools = await _asked_of_an_agent(step, said=READS_AND_WRITES)
    result = await thread.answer({"type": "edit", "args": {"tool_args": {"text": "better"}}})
    assert tools.named("wr") == ["better"]
    assert result["results"]["w"]["evidence"][1]["args"] == {"text": "better"}
    thread, tools = await _asked_of_an_agent(step, said=READS_AND_WRITES)
    result = await thread.answer({"type": "reject", "message": "wrong client"})
    assert (result["results"]["w"]["error"]["code"], tools.named("wr")) == ("rejected", [])


async def test_a_call_that_is_edited_and_fails_stands_on_record_as_it_was_made() -> None:
    thread, tools = await _asked_of_an_agent(think("w", tools=["look", "wr"]), said=READS_AND_WRITES)
    tools.failures = [ValueError("odd")]
    result = await thread.answer({"type": "edit", "args": {"tool_args": {"text": "better"}}})
    call = result["results"]["w"]["evidence"][1]
    assert (call["args"], call["ok"], tools.named("wr")) == ({"text": "better"}, False, ["better"])


async def test_the_same_write_twice_in_a_turn_is_asked_about_twice() -> None:
    twice = [READS_AND_WRITES[0], ScriptedModel.tool_calls(*[("wr", {"text": "x"})] * 2), "ok"]
    thread, tools = await _asked_of_an_agent(think("w", tools=["look", "wr"]), said=twice)
    asked = await thread.questions()
    assert (len({question.id for question in asked}), tools.named("wr")) == (2, [])
    answers = {question.id: {"type": "approve"} for question in asked}
    await thread.agent.ainvoke(Command(resume=answers), thread.config)
    assert tools.named("wr") == ["x", "x"]


TWO_WRITES = [ScriptedModel.tool_calls(("wr", {"text": text})) for text in ("red", "blue")]
LOOK = READS_AND_WRITES[0]


async def test_a_call_that_is_edited_to_be_like_an_earlier_one_is_made() -> None:
    said = [LOOK, *TWO_WRITES, "Both are written."]
    thread, tools = await _asked_of_an_agent(think("w", tools=["look", "wr"]), said=said)
    await thread.answer("approve")
    result = await thread.answer({"type": "edit", "args": {"tool_args": {"text": "red"}}})
    assert (result["status"], tools.named("wr")) == ("done", ["red", "red"])


async def test_a_call_like_one_that_was_edited_before_it_is_made() -> None:
    said = [LOOK, *reversed(TWO_WRITES), "Both are written."]
    thread, tools = await _asked_of_an_agent(think("w", tools=["look", "wr"]), said=said)
    await thread.answer({"type": "edit", "args": {"tool_args": {"text": "red"}}})
    result = await thread.answer("approve")
    assert (result["status"], tools.named("wr")) == ("done", ["red", "red"])


class Red(AgentMiddleware[Any, Any]):
    """An embedder's middleware: it changes what every write says."""

    async def awrap_tool_call(self, request: Any, handler: Any) -> Any:
        call = request.tool_call
        args = {"text": "red"} if call["name"] == "wr" else call["args"]
        return await handler(request.override(tool_call={**call, "args": args}))


async def test_two_calls_that_a_middleware_makes_alike_are_asked_about_and_made_twice() -> None:
    tools = Toolset()
    model = ScriptedModel({"executor": [LOOK, *TWO_WRITES, "Both are written."], "synthesizer": ["ok"]})
    thread = Thread(agent_with(tools.tools, model, middleware=[Red()]), COMPUTED)
    await thread.run(think("w", tools=["look", "wr"]))
    await thread.answer("approve")
    assert tools.named("wr") == ["red"]
    assert (await thread.question())["args"]["tool_args"] == {"text": "red"}
    assert (await thread.answer("approve"))["status"] == "done"
    assert tools.named("wr") == ["red", "red"]


LOOP = bound("w", "wr", {"text": "to ${item}|${index}"}, for_each="${b}", confirm=True)
NAMES = bound("b", "echo", {"value": ["ann", "bob"]})


async def test_the_calls_of_a_loop_come_in_one_question_with_a_table() -> None:
    thread, tools = await _asked(NAMES, LOOP)
    asked = await thread.question()
    assert asked["args"]["tool_args"] == [{"text": "to ann|0"}, {"text": "to bob|1"}]
    assert '| item | text |\n| --- | --- |\n| 0 | `"to ann\\|0"` |' in asked["description"]
    result = await thread.answer("approve")
    assert (result["status"], sorted(tools.named("wr"))) == ("done", ["to ann|0", "to bob|1"])


async def test_the_calls_of_a_loop_are_edited_as_a_list_of_the_same_length() -> None:
    thread, tools = await _asked(NAMES, LOOP)
    for bad in ({"text": "x"}, [{"text": "x"}], ["x", "y"]):
        with pytest.raises(InvalidAnswerError):
            await thread.answer({"type": "edit", "args": {"tool_args": bad}})
    await thread.answer({"type": "edit", "args": {"tool_args": [{"text": "1"}, {"text": "2"}]}})
    assert sorted(tools.named("wr")) == ["1", "2"]


async def test_a_loop_that_is_rejected_calls_nothing() -> None:
    thread, tools = await _asked(NAMES, LOOP)
    result = await thread.answer("reject")
    assert (result["results"]["w"]["error"]["code"], tools.named("wr")) == ("rejected", [])


async def test_where_nobody_can_be_asked_a_call_to_be_confirmed_is_not_made() -> None:
    tools = Toolset()
    thread = Thread(agent_with(tools.tools, checkpointer=None), FREE)
    result = await thread.run(bound("w", "wr", {"text": "x"}, confirm=True))
    assert (result["results"]["w"]["error"]["code"], tools.calls) == ("rejected", [])


async def test_a_planner_may_ask_for_a_confirmation() -> None:
    model = ScriptedModel({"planner": ['1. wr("x") confirm=true']}, strict=False)
    tools = Toolset()
    thread = Thread(agent_with(tools.tools, model), FREE)
    await thread.send({"goal": "g"})
    assert ((await thread.question())["name"], tools.calls) == ("confirm_call", [])


# --- unverified --------------------------------------------------------------------------


async def test_the_approval_shows_which_writes_use_output_that_nothing_checks() -> None:
    model = ScriptedModel({})
    thread = Thread(agent_with(Toolset().tools, model), Context())
    await thread.send(
        {
            "plan": plan(
                think("loose"),
                think("held", success_criteria=[{"type": "not_empty"}]),
                bound("passed_on", "echo", {"value": "${loose}"}),
                bound("one", "wr", {"text": "${passed_on}"}),
                bound("two", "wr", {"text": "${held}"}),
                bound("three", "wr", {"text": "fixed"}, "loose"),
            )
        }
    )
    lines = {
        line.split("**")[1]: line
        for line in (await thread.question())["description"].splitlines()
        if line.startswith("- **")
    }
    assert lines["one"].endswith("**with output that nothing checks:** loose")
    assert "nothing checks" not in lines["two"] + lines["three"]


@pytest.mark.parametrize(
    ("checked", "strict", "status"),
    [(True, True, "partial"), (False, True, "failed"), (False, False, "done")],
)
async def test_with_strict_what_nobody_verified_is_not_done(checked: bool, strict: bool, status: str) -> None:
    model = ScriptedModel({"executor": ["thought"]}, strict=False)
    context = FREE.model_copy(update={"strict": strict})
    agent = agent_with(Toolset().tools, model, models={"synthesizer": ScriptedModel({}, strict=False)})
    steps = [think("t"), *([bound("a", "look", {"q": "x"})] if checked else [])]
    result = await Thread(agent, context).run(*steps)
    assert result["status"] == status
    if strict:
        assert "All steps have run, but not every result could be verified." in result["final_answer"]
