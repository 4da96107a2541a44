"""What an agent step declares as its output is asked for on the wire, read, and held against the schema."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from openai_stub import OpenAIStub, Reply
from plans import FREE, Thread, agent_with, bound, draft, draft_step, think
from served_programs import LLAMA, VLLM
from toolset import Toolset, make_tool

from plan_execute import Context, ScriptedModel

_names = itertools.count()
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
STEPS = [think("a", output_schema=CITY), bound("b", "echo", {"value": "${a.days}"})]
GOOD = Reply.json({"city": "Rome", "days": 3})


async def _answered(
    *replies: Reply, model: str = "gpt-5-mini", **fields: Any
) -> tuple[dict[str, Any], OpenAIStub]:
    with OpenAIStub([*replies, Reply("the answer")]) as stub:
        agent = agent_with(Toolset().tools, model, base_url=stub.base_url)
        result = await Thread(agent, FREE).run({**STEPS[0], **fields}, STEPS[1])
    return result, stub


async def test_a_model_that_takes_a_schema_is_given_the_steps_own_beside_its_tools() -> None:
    result, stub = await _answered(GOOD, tools=["look"])
    asked = stub.requests[0].body
    schema = asked["response_format"]["json_schema"]["schema"]
    why = schema["properties"].pop("cannot_be_done")
    assert why["type"] == ["string", "null"], "an enforced schema leaves room to say that it cannot be done"
    assert schema["required"].pop() == "cannot_be_done"
    assert {key: schema[key] for key in CITY} == CITY
    assert asked["response_format"]["json_schema"]["strict"] is True
    assert [tool["function"]["name"] for tool in asked["tools"]] == ["look"]
    assert (result["results"]["b"]["output"], result["results"]["a"]["verdict"]) == (3, "met")


async def test_a_tool_that_fits_no_strict_form_leaves_the_schema_to_words() -> None:
    def store(data: dict[str, Any]) -> str:
        """Store anything."""
        return "stored"

    with OpenAIStub([GOOD, Reply("the answer")]) as stub:
        agent = agent_with([*Toolset().tools, make_tool(store)], "gpt-5-mini", base_url=stub.base_url)
        result = await Thread(agent, FREE).run({**STEPS[0], "tools": ["look", "store"]}, STEPS[1])
    assert "response_format" not in stub.requests[0].body
    assert result["results"]["b"]["output"] == 3


async def test_an_endpoint_that_refuses_the_schema_is_asked_without_and_not_bothered_again() -> None:
    replies = [Reply.rejecting("response_format"), GOOD]
    result, stub = await _answered(*replies)
    assert "response_format" in stub.requests[0].body
    assert "response_format" not in stub.requests[1].body
    assert result["results"]["b"]["output"] == 3
    assert "fits this schema" in json.dumps(stub.requests[1].body), "the prompt says it in words as well"


async def test_a_model_nobody_knows_is_asked_in_words_only() -> None:
    result, stub = await _answered(GOOD, model=f"stub-typed-{next(_names)}")
    assert "response_format" not in stub.requests[0].body
    assert result["results"]["b"]["output"] == 3


@pytest.mark.parametrize("says", [LLAMA, VLLM], ids=["llama.cpp", "vllm"])
async def test_a_server_that_is_known_to_take_a_schema_is_given_it_but_never_beside_tools(says: Any) -> None:
    with OpenAIStub([GOOD, GOOD], says=says) as stub:
        agent = agent_with(Toolset().tools, f"stub-typed-{next(_names)}", base_url=stub.base_url)
        steps = (STEPS[0], think("with_tools", "a", tools=["look"], output_schema=CITY))
        result = await Thread(agent, FREE).run(*steps, answer="${a.city}")
    # It would hold the whole answer to the schema, so that no tool could be called.
    assert ["response_format" in request.body for request in stub.requests] == [True, False]
    schema = stub.requests[0].body["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["cannot_be_done"]["maxLength"] == 300, "a weak model may never end a text"
    assert result["final_answer"] == "Rome"


async def test_a_server_that_took_a_schema_alone_is_not_given_one_beside_tools() -> None:
    form = draft(outcome="cannot_plan", rationale="no")
    with OpenAIStub([Reply("No."), Reply("No."), Reply.json(form), GOOD, Reply("the answer")]) as stub:
        name = f"stub-typed-{next(_names)}"
        agent = agent_with(Toolset().tools, name, base_url=stub.base_url)
        await Thread(agent, FREE).send({"goal": "g"})
        await Thread(agent, FREE).run(think("a", tools=["look"], output_schema=CITY))
    assert ["response_format" in request.body for request in stub.requests[2:4]] == [True, False]


async def test_an_answer_that_does_not_fit_is_a_failed_check_and_its_gap_is_fed_back() -> None:
    model = ScriptedModel(
        {"executor": ['{"city": "Rome"}', '```json\n{"city": "Rome", "days": 2}\n```'], "synthesizer": ["x"]}
    )
    result = await Thread(agent_with(Toolset().tools, model), FREE).run(*STEPS)
    assert (result["results"]["a"]["attempts"], result["results"]["b"]["output"]) == (2, 2)
    assert "'days' is a required property" in model.calls[1].messages[-1].text


async def test_a_list_that_an_agent_writes_can_be_looped_over() -> None:
    model = ScriptedModel({"executor": ['["Rome", "Oslo"]'], "synthesizer": ["x"]})
    result = await Thread(agent_with(Toolset().tools, model), FREE).run(
        think("cities", output_schema={"type": "array", "items": {"type": "string"}}),
        bound("each", "look", {"q": "${item}"}, for_each="${cities}"),
    )
    assert result["results"]["each"]["output"] == ["found Rome", "found Oslo"]


async def test_a_planner_can_use_every_form_of_step() -> None:
    """One reply with a typed agent step, a loop, a condition, a named agent and a sub-plan."""
    schema = json.dumps({"type": "array", "items": {"type": "string"}})
    steps = [
        {**draft_step("cities"), "output_schema": schema},
        {**draft_step("each-city", "look", {"q": "${item}"}), "for_each": "${cities}"},
        {**draft_step("none", "look", {"q": "never"}), "when": "length(each-city) == `0`"},
        {**draft_step("code", None, None, "each-city"), "agent": "coder"},
        {**draft_step("deep", None, None, "code"), "goal": "go deeper"},
    ]
    inner = draft(draft_step("x", "look", {"q": "deep"}))
    model = ScriptedModel(
        {"planner": [draft(*steps), inner], "executor": ['["Rome"]'], "synthesizer": ["deeper", "all done"]}
    )
    tools = Toolset()
    agent = agent_with(tools.tools, model, agents={"coder": lambda _: "coded"})
    result = await Thread(agent, Context(approval="never")).send({"goal": "everything"})
    assert result["status"] == "done", result["plan_issues"] or result["final_answer"]
    assert {i: r["output"] for i, r in result["results"].items()} == {
        "cities": ["Rome"],
        "each_city": ["found Rome"],
        "none": None,
        "code": "coded",
        "deep": "deeper",
    }
    assert tools.named("look") == ["Rome", "deep"]


async def test_a_planner_that_names_several_kinds_for_one_step_is_told_so() -> None:
    both = {**draft_step("a", "look", {"q": "x"}), "goal": "also"}
    model = ScriptedModel(
        {"planner": [draft(both), draft(draft_step("a", "look", {"q": "x"}))], "synthesizer": ["x"]}
    )
    result = await Thread(agent_with(Toolset().tools, model), FREE).send({"goal": "g"})
    assert result["status"] == "done"
    assert "exactly one of" in str(model.calls[1].messages)


async def test_the_form_that_a_planner_is_asked_for_has_only_what_the_inventory_makes_useful() -> None:
    fields, kinds = {}, {}
    for name, options, settings in [
        ("bare", {}, Context(max_depth=0)),
        ("all", {"agents": {"coder": lambda _: "x"}}, Context()),
    ]:
        refusal = Reply.json(draft(outcome="cannot_plan", rationale="no"))
        replies = [Reply("No lines."), Reply("No lines."), refusal]
        with OpenAIStub(replies) as stub:
            agent = agent_with(
                Toolset().tools, f"stub-forms-{next(_names)}", base_url=stub.base_url, **options
            )
            await Thread(agent, settings).send({"goal": "g"})
        lines = stub.requests[0].body["messages"][0]["content"]
        every = ("`goal ", "coder [write]", "each=", "if=", "output=")
        kinds[name] = {kind for kind in every if kind in lines}
        form = stub.requests[2].body["response_format"]["json_schema"]["schema"]
        fields[name] = set(form["properties"]["steps"]["items"]["properties"])
        assert set(form["properties"]["steps"]["items"]["required"]) == fields[name]
    assert fields["all"] - fields["bare"] == {"agent", "goal"}
    assert kinds["all"] - kinds["bare"] == {"`goal ", "coder [write]"}
    assert kinds["bare"] == {"each=", "if=", "output="}
    assert {"for_each", "when", "output_schema"} <= fields["bare"]
