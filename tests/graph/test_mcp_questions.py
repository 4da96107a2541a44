"""MCP servers that ask the person during a call, and that tell how far they have come."""

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.store.memory import InMemoryStore
from mcp_servers import http_server, stdio
from plans import FREE, Thread, agent_with, bound, statuses, think

from plan_execute import ScriptedModel, create_plan_execute_agent, mcp_tools
from plan_execute.errors import InvalidAnswerError

CALL = ScriptedModel.tool_calls


@pytest.fixture(scope="module", params=["good", "http", "fastmcp", "fastmcp-http"])
def entry(request, tmp_path_factory):
    """How to reach a server: made with the SDK or with FastMCP, as a program or over HTTP."""
    if request.param.endswith("http"):
        with http_server(tmp_path_factory.mktemp("web") / "log.txt", request.param) as (url, _):
            yield {"url": url}
    else:
        yield stdio(request.param)


@pytest.fixture(scope="module")
def old(entry):
    """Tools of a server that asks in the way of the older protocol: it waits for the answer."""
    with mcp_tools({"mcpServers": {"shop": {**entry, "protocol": "legacy"}}}) as tools:
        yield list(tools)


@pytest.fixture(scope="module")
def new(entry):
    """Tools of a server that asks in the way of the newer protocol: it ends the call with its question."""
    with mcp_tools({"mcpServers": {"shop": entry}}) as tools:
        yield list(tools)


def lines(log):
    return log.read_text().splitlines() if log.exists() else []


async def test_what_a_server_asks_is_a_question_and_its_answer_reaches_the_server(old, tmp_path):
    log = tmp_path / "log"
    thread = Thread(agent_with(old), FREE)
    await thread.run(bound("buy", "order", {"item": "tea", "log": str(log)}))
    question = await thread.question()
    assert question["name"] == "ask_person"
    assert question["args"]["question"] == "How many of tea?"
    assert "number (integer): how many" in question["description"]
    assert "gift (boolean, optional)" in question["description"]
    result = await thread.answer({"type": "edit", "args": {"answer": {"number": "2", "gift": "yes"}}})
    assert result["results"]["buy"]["output"] == "2 tea as a gift"
    assert [line for line in lines(log) if line.startswith("ordered")] == ["ordered 2 tea"]


async def test_an_answer_that_does_not_fit_the_form_leaves_the_question_open(old, tmp_path):
    thread = Thread(agent_with(old), FREE)
    await thread.run(bound("buy", "order", {"item": "tea", "log": str(tmp_path / "log")}))
    for wrong in ('{"number": 0}', '{"number": "many"}', "two", {"type": "edit", "args": {"answer": {}}}):
        with pytest.raises(InvalidAnswerError, match="number"):
            await thread.answer(wrong)
    result = await thread.answer('{"number": 1}')
    assert result["results"]["buy"]["output"] == "1 tea"


async def test_a_person_who_declines_is_a_decline_to_the_server(old, tmp_path):
    thread = Thread(agent_with(old), FREE)
    await thread.run(bound("buy", "order", {"item": "tea", "log": str(tmp_path / "log")}))
    result = await thread.answer({"type": "reject"})
    assert result["results"]["buy"]["output"] == "not ordered: decline"


async def test_an_agent_whose_call_is_asked_about_goes_on_with_the_answer(old, tmp_path):
    log = tmp_path / "log"
    script = [CALL(("order", {"item": "tea", "log": str(log)})), "2 are coming"]
    model = ScriptedModel({"executor": script, "synthesizer": ["ok"]})
    thread = Thread(agent_with(old, model), FREE)
    await thread.run(think("a", tools=["order"]))
    assert (await thread.question())["args"]["question"] == "How many of tea?"
    result = await thread.answer('{"number": 2}')
    assert result["results"]["a"]["output"] == "2 are coming"
    assert [line for line in lines(log) if line.startswith("ordered")] == ["ordered 2 tea"]


async def test_calls_at_the_same_time_are_each_asked_about_and_get_their_own_answers(old, tmp_path):
    log = tmp_path / "log"
    thread = Thread(agent_with(old), FREE)
    items = ["tea", "salt", "mint"]
    step = bound("buy", "order", {"item": "${item}", "log": str(log)}, for_each="${inputs.items}")
    inputs = {"items": {"type": "array", "default": items}}
    await thread.run(step, bound("count", "count", {"item": "tea"}), inputs=inputs)
    answers = {}
    for question in await thread.questions():
        args = question.value["action_requests"][0]["args"]
        number = 1 + items.index(args["question"].removeprefix("How many of ").rstrip("?"))
        answers[question.id] = {"type": "respond", "message": f'{{"number": {number}}}'}
    assert len(answers) == 3
    result = await thread.answer(answers)
    assert result["results"]["buy"]["output"] == ["1 tea", "2 salt", "3 mint"]
    assert sorted(line for line in lines(log) if line.startswith("ordered")) == [
        "ordered 1 tea",
        "ordered 2 salt",
        "ordered 3 mint",
    ]


async def test_a_call_that_asks_twice_at_once_does_not_have_another_one_made_again(old, tmp_path):
    log = tmp_path / "log"
    thread = Thread(agent_with(old), FREE)
    both = bound("buy", "order_both", {"first": "tea", "second": "salt", "log": str(log)})
    await thread.run(bound("note", "note_slowly", {"log": str(log)}), both)
    assert len(await thread.questions()) >= 1
    assert lines(log) == ["noted"]


async def test_a_server_that_keeps_where_it_stands_does_its_work_before_the_question_once(new, tmp_path):
    log = tmp_path / "log"
    thread = Thread(agent_with(new), FREE)
    await thread.run(bound("pay", "pay", {"log": str(log)}))
    asked = {q.value["action_requests"][0]["args"]["question"]: q for q in await thread.questions()}
    assert set(asked) == {"Really pay?", "Sign it"}
    assert "`https://shop.example/sign?at=1`" in asked["Sign it"].value["action_requests"][0]["description"]
    assert asked["Really pay?"].value["action_requests"][0]["args"]["choices"] == ["yes", "no"]
    result = await thread.answer({asked["Really pay?"].id: "yes", asked["Sign it"].id: "done"})
    assert result["results"]["pay"]["output"] == "paid reservation 7"
    assert lines(log) == ["reserved", "paid reservation 7"]


async def test_a_question_survives_the_end_of_client_and_program(entry, tmp_path):
    log, kept = tmp_path / "log", {"checkpointer": InMemorySaver(), "store": InMemoryStore()}
    server = {"mcpServers": {"shop": entry}}
    with mcp_tools(server) as tools:
        thread = Thread(agent_with(tools, **kept), FREE)
        await thread.run(bound("pay", "pay", {"log": str(log)}))
        sure, signed = sorted(await thread.questions(), key=lambda one: "Sign it" in str(one.value))
    with mcp_tools(server) as tools:
        thread.agent = agent_with(tools, **kept)
        result = await thread.answer({sure.id: "yes", signed.id: "done"})
    assert result["results"]["pay"]["output"] == "paid reservation 7"
    assert lines(log)[-1] == "paid reservation 7"
    # a program seals what it keeps with a key of its own process, so the next one begins anew
    assert lines(log).count("reserved") == (1 if "url" in entry else 2)


async def test_where_nobody_can_be_asked_the_call_fails_and_names_the_question(old, tmp_path):
    log = tmp_path / "log"
    agent = create_plan_execute_agent(tools=old)
    step = bound("buy", "order", {"item": "tea", "log": str(log)}, max_attempts=1, on_failure="skip")
    result = await Thread(agent, FREE).run(step)
    assert statuses(result)["buy"] == "skipped" or result["results"]["buy"]["status"] == "failed"
    assert "How many of tea?" in str(result["results"]["buy"])
    assert "no checkpointer" in str(result["results"]["buy"])
    assert lines(log) == ["called tea"]


async def test_progress_becomes_events_of_the_call(new):
    thread = Thread(agent_with(new), FREE)
    given = {"plan": {"steps": [bound("slow", "count_slowly", {"to": 3})]}}
    stream = thread.agent.astream(given, thread.config, context=FREE, stream_mode="custom")
    events = [event async for event in stream]
    told = [event for event in events if event["type"] == "tool_progress"]
    assert [(event["progress"], event["total"], event["message"]) for event in told] == [
        (1, 3, "at 1"),
        (2, 3, "at 2"),
        (3, 3, "at 3"),
    ]
    [called] = [event for event in events if event["type"] == "tool_call"]
    assert {event["call_id"] for event in told} == {called["call_id"]}
    assert {event["step_id"] for event in told} == {"slow"}
