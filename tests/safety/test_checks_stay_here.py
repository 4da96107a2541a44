"""Checking a plan reaches no network, holds up no event loop, and says what it cannot do: at every door."""

import asyncio
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread as OsThread

import pytest
from langchain_core.tools import StructuredTool
from plans import FREE, Thread, agent_with, bound, codes, plan, think

from plan_execute import Context, ScriptedModel, create_plan_execute_agent
from plan_execute.errors import ConfigurationError, InvalidInputError, PlanExecuteError
from plan_execute.plan.rules import PlanFacts, validate_plan
from plan_execute.tools.toolbox import Toolbox

ONCE = Context(approval="never", on_failure="abort", max_attempts=1)
ENDLESS, LONG = "^(a|a)*$", "a" * 40 + "!"


@pytest.fixture
def hits():
    """Count the requests to a server on loopback; gives its address and the list of paths."""
    paths = []

    class Counting(BaseHTTPRequestHandler):
        def do_GET(self):
            paths.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"type": "number"}')

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Counting)
    OsThread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", paths
    server.shutdown()
    server.server_close()


def reading(name, give):
    """Make a tool that reads."""
    return StructuredTool.from_function(give, name=name, description=name, metadata={"effect": "read"})


def look():
    return reading("look", lambda q="": q or LONG)


def schema_tool(schema, name="odd"):
    """Make a tool that has a bare JSON Schema, as MCP servers send them."""
    return StructuredTool.from_function(
        lambda **given: given, name=name, description="odd", args_schema=schema, metadata={"effect": "read"}
    )


def over_every_door(schema):
    """Write plans, each with the input values of its run, that hold the schema in another place."""
    step = bound("a", "look", {"q": "x"})
    criterion = {"type": "json_schema", "schema": schema}
    return {
        "output_schema": (plan({**step, "output_schema": schema}), {}),
        "criterion": (plan({**step, "success_criteria": [criterion]}), {}),
        "agent step": (plan(think("a", output_schema=schema)), {}),
        "input": (plan(step, inputs={"x": schema}), {"x": "1"}),
        "default": (plan(step, inputs={"x": {**schema, "default": "1"}}), {}),
        "tool": (plan(bound("a", "odd", {"v": "1"})), {}),
    }


async def test_no_schema_is_fetched_over_any_door_and_each_is_an_issue_that_names_its_place(hits):
    address, paths = hits
    schema = {"$ref": f"{address}/schema"}
    tools = [look(), schema_tool({"type": "object", "properties": {"v": schema}})]
    for door, (given, inputs) in over_every_door(schema).items():
        agent = create_plan_execute_agent(ScriptedModel({"*": ["end"]}), tools=tools)
        result = await agent.ainvoke({"plan": given, "inputs": inputs}, context=ONCE)
        assert codes(result) == ["bad_schema"], door
        assert f"{address}/schema" in result["plan_issues"][0]["message"], door
    with pytest.raises(ConfigurationError, match="nothing is fetched"):
        create_plan_execute_agent(
            None, tools, response_format={"type": "object", "properties": {"a": schema}}
        )
    assert paths == []


async def test_a_schema_that_is_put_together_at_run_time_fetches_nothing_either(hits):
    address, paths = hits
    tool = reading("where", lambda: f"{address}/leak")
    steps = [
        bound("w", "where"),
        bound(
            "a",
            "look",
            {"q": "x"},
            "w",
            success_criteria=[{"type": "json_schema", "schema": {"const": "${w}"}}],
        ),
        bound(
            "b",
            "look",
            {"q": "x"},
            "w",
            success_criteria=[{"type": "json_schema", "schema": {"$ref": "${w}"}}],
        ),
    ]
    result = await create_plan_execute_agent(None, [look(), tool]).ainvoke(
        {"plan": plan(*steps)}, context=ONCE
    )
    assert codes(result) == ["bad_schema"]
    assert paths == []


DOUBLING = "l" + "|{a:@,b:@}" * 26
SLOW = {
    "output_schema": plan(bound("l", "look", output_schema={"type": "string", "pattern": ENDLESS})),
    "default": plan(
        bound("l", "look"), inputs={"x": {"type": "string", "pattern": ENDLESS, "default": LONG}}
    ),
    "argument": plan(bound("l", "look"), bound("m", "look", {"q": f"v ${{{DOUBLING}}}"}, "l")),
    "when": plan(bound("l", "look"), bound("m", "look", {"q": "v"}, "l", when=DOUBLING)),
    "expression": plan(
        bound("l", "look", success_criteria=[{"type": "expression", "expression": "@" + "|[@,@]" * 26}])
    ),
}


@pytest.mark.parametrize("door", SLOW)
async def test_what_would_never_end_ends_and_the_event_loop_goes_on_meanwhile(door):
    rounds = 0

    async def other_work():
        nonlocal rounds
        while True:
            await asyncio.sleep(0.01)
            rounds += 1

    beside = asyncio.ensure_future(other_work())
    result = await create_plan_execute_agent(None, [look()]).ainvoke({"plan": SLOW[door]}, context=ONCE)
    beside.cancel()
    said = [issue["message"] for issue in result["plan_issues"]]
    said += [one["error"]["message"] for one in result["results"].values() if one["error"]]
    assert any("more work than one check" in text or "takes longer than" in text for text in said), said
    assert rounds > 5


async def test_a_tool_whose_schema_is_bad_hinders_only_the_plans_that_call_it(caplog):
    tools = [look(), schema_tool({"type": "object", "properties": {"d": {"type": "date"}}})]
    agent = create_plan_execute_agent(None, tools)
    assert "'odd'" in caplog.text
    assert "$.properties.d.type: 'date' is no type" in caplog.text
    fine = await agent.ainvoke({"plan": plan(bound("a", "look"))}, context=ONCE)
    assert fine["status"] == "done"
    refused = await agent.ainvoke({"plan": plan(bound("a", "odd", {"d": "x"}))}, context=ONCE)
    assert codes(refused) == ["bad_schema"]
    assert "tool 'odd'" in refused["plan_issues"][0]["message"]


async def test_a_pattern_of_a_tool_that_is_not_understood_is_left_to_the_tool(caplog):
    odd = schema_tool({"type": "object", "properties": {"d": {"type": "string", "pattern": r"\p{Nope}"}}})
    result = await create_plan_execute_agent(None, [odd]).ainvoke(
        {"plan": plan(bound("a", "odd", {"d": "x"}))}, context=ONCE
    )
    assert result["results"]["a"]["output"] == {"d": "x"}
    assert "$.properties.d.pattern" in caplog.text


def test_a_tool_without_properties_is_offered_with_none():
    """OpenAI refuses an object schema that has no properties."""
    for schema in ({}, {"type": "object"}):
        assert Toolbox([schema_tool(schema)]).get("odd").args_schema == {"type": "object", "properties": {}}


def nested(levels):
    value = "x"
    for _ in range(levels):
        value = [value]
    return value


async def test_values_that_nest_too_deep_are_refused_where_they_come_in():
    tools = [look(), reading("deep", lambda: nested(20_000)), reading("less_deep", lambda: nested(90))]
    agent = create_plan_execute_agent(None, tools)
    with pytest.raises(InvalidInputError, match="plan must be plain JSON: it is nested more than 100"):
        await agent.ainvoke({"plan": plan(bound("a", "look", {"q": nested(3000)}))}, context=FREE)
    with pytest.raises(InvalidInputError, match="inputs must be plain JSON: it is nested"):
        await agent.ainvoke({"plan": plan(bound("a", "look")), "inputs": {"x": nested(3000)}}, context=FREE)
    result = await agent.ainvoke({"plan": plan(bound("a", "deep"), bound("b", "less_deep"))}, context=ONCE)
    assert "100 levels" in result["results"]["a"]["error"]["message"]
    assert result["results"]["b"]["output"] == nested(90)
    assert (
        validate_plan(plan(bound("a", "look", {"q": nested(3000)})), PlanFacts(Toolbox(tools), 9))[1][0][
            "code"
        ]
        == "malformed_plan"
    )


async def test_an_answer_that_nests_too_deep_is_refused_and_the_question_stays_open():
    thread = Thread(agent_with([look()]))
    await thread.send({"plan": plan(bound("a", "look"))}, Context(approval="always"))
    edited = plan(bound("a", "look", {"q": nested(3000)}))
    with pytest.raises(PlanExecuteError, match="100 levels"):
        await thread.answer({"type": "edit", "args": {"plan": edited}})
    assert (await thread.answer("approve"))["status"] == "done"
