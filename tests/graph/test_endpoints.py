"""Whole runs against servers that speak OpenAI's protocol, some of them only in part."""

import time
from threading import Event

import pytest
from openai_stub import OpenAIStub, Reply
from plans import FREE, Thread, bound, draft, draft_step, statuses, think
from served_programs import llama
from toolset import Toolset

from plan_execute import Context, create_plan_execute_agent
from plan_execute.errors import ConfigurationError
from plan_execute.models import json_modes

ONCE = Context(approval="never", on_failure="abort", max_attempts=1)


@pytest.fixture(autouse=True)
def nothing_learnt(monkeypatch):
    monkeypatch.setattr(json_modes, "_WORKED", {})
    monkeypatch.setattr(json_modes, "_REFUSING", set())
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE"):
        monkeypatch.delenv(name, raising=False)


def agent_on(stub, tools=(), model="local", **options):
    return create_plan_execute_agent(model, tools or Toolset().tools, base_url=stub.base_url, **options)


def in_text(messages):
    return "\n".join(str(message.get("content")) for message in messages)


class Endpoint:
    """Plans one agent step that looks something up, carries it out, and answers, as far as it can."""

    def __init__(self, *, schemas=True, tools=True, **reply):
        self.schemas, self.tools, self.reply = schemas, tools, reply
        self.plan = draft(draft_step("a", tools=["look"]), draft_step("b", None, None, "a"))

    def __call__(self, body):
        if body.get("response_format") and not self.schemas:
            return Reply.rejecting("response_format")
        if body.get("tools") and not self.tools:
            return Reply.failure(400, "local does not support tools")
        forced = body.get("tool_choice") not in (None, "auto")
        said = in_text(body["messages"])
        if body.get("response_format") or forced or "JSON Schema" in said:
            if forced:
                name = body["tools"][0]["function"]["name"]
                return Reply(None, tool_calls=[(name, self.plan)], **self._usage())
            return Reply.json(self.plan, **self._usage())
        asked = [message["role"] for message in body["messages"]]
        if body.get("tools") and "tool" not in asked:
            return Reply(None, tool_calls=[("look", {"q": "tea"})], **self.reply)
        return Reply("the answer", **self._usage())

    def _usage(self):
        return {name: value for name, value in self.reply.items() if name == "usage"}


# --- what servers lack -------------------------------------------------------------------


@pytest.mark.parametrize(
    "endpoint",
    [
        Endpoint(),
        Endpoint(schemas=False),
        Endpoint(call_ids=[None]),
        Endpoint(call_ids=[""]),
        Endpoint(arguments_as_objects=True),
    ],
    ids=["whole", "no-schemas", "calls-without-ids", "calls-with-empty-ids", "arguments-as-objects"],
)
@pytest.mark.parametrize("streamed", [False, True])
# langchain-openai 1.7.3 dumps each piece of a stream before anybody can mend it, and pydantic warns
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning")
async def test_a_goal_is_planned_carried_out_and_answered(endpoint, streamed):
    with OpenAIStub(endpoint) as stub:
        thread = Thread(agent_on(stub), ONCE)
        if streamed:
            modes = ["messages", "values"]
            parts = thread.agent.astream({"goal": "find tea"}, context=ONCE, stream_mode=modes)
            result = [data async for mode, data in parts if mode == "values"][-1]
        else:
            result = await thread.send({"goal": "find tea"})
    answer = "Not verified: nobody checked the result of a.\n\nthe answer"
    assert (result["status"], result["final_answer"]) == ("done", answer), result["results"]
    assert [call["ok"] for call in result["results"]["a"]["evidence"]] == [True]


async def test_without_tool_calls_it_plans_and_thinks_and_says_of_a_step_with_tools_why_it_cannot():
    with OpenAIStub(Endpoint(schemas=False, tools=False)) as stub:
        result = await Thread(agent_on(stub), ONCE).send({"goal": "find tea"})
        assert "does not support tools" in result["results"]["a"]["error"]["message"]
        thought = await Thread(agent_on(stub), ONCE).run(think("t"), bound("l", "look", {"q": "x"}, "t"))
    assert statuses(thought) == {"t": "done", "l": "done"}


async def test_a_server_that_says_with_500_what_it_lacks_is_not_asked_the_same_again():
    def llama(body):
        if body.get("tools"):
            return Reply.failure(500, "tools param requires --jinja flag")
        return Reply("a thought") if "JSON Schema" not in in_text(body["messages"]) else Endpoint()(body)

    with OpenAIStub(lambda b: Reply.rejecting("x") if b.get("response_format") else llama(b)) as stub:
        result = await Thread(agent_on(stub), ONCE).send({"goal": "find tea"})
        assert "tools param requires --jinja flag" in result["results"]["a"]["error"]["message"]
        asked = [bool(request.body.get("tools")) for request in stub.requests]
    assert sum(asked) == 1, "the step's one call, and no second one"


@pytest.mark.parametrize("streamed", [False, True])
async def test_tokens_that_a_server_does_not_tell_are_not_made_up(streamed):
    with OpenAIStub(Endpoint(usage=None)) as stub:
        agent, given = agent_on(stub), {"goal": "find tea"}
        if streamed:
            modes = ["messages", "values"]
            parts = [part async for part in agent.astream(given, context=ONCE, stream_mode=modes)]
            result = [data for mode, data in parts if mode == "values"][-1]
        else:
            result = await agent.ainvoke(given, context=ONCE)
        calls = len(stub.requests)
    usage = result["usage"]
    assert usage["model_calls"] == calls == 5
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (0, 0, 0)


# --- streams -----------------------------------------------------------------------------


def answering(text, **reply):
    return OpenAIStub(lambda _: Reply(text, usage=(3, 4), **reply))


def answer_in(parts):
    """What the synthesizer said; the goal is a message too, of the planner."""
    said = [message.content for message, data in parts if data["langgraph_node"] == "synthesizer"]
    return "".join(said)


TWO = {"plan": {"goal": "g", "steps": [bound("a", "look", {"q": "x"}), bound("b", "look", {"q": "y"})]}}


async def test_the_answer_arrives_as_it_is_written_named_by_its_node_and_is_counted():
    text = "one two three four five six seven eight nine ten"
    hold, waited = Event(), []
    with answering(text, hold=hold) as stub:
        agent, said = agent_on(stub), ""
        async for mode, part in agent.astream(TWO, context=FREE, stream_mode=["messages", "values"]):
            if mode == "messages":
                message, metadata = part
                if message.content and metadata["langgraph_node"] == "synthesizer":
                    waited.append(not hold.is_set())
                    hold.set()  # only now can the answer end
                    said += message.content
            else:
                result = part
        [request] = stub.requests
    assert said == text == result["final_answer"]
    assert waited[0]
    assert len(waited) >= 2
    assert request.body["stream_options"] == {"include_usage": True}
    assert result["usage"]["by_role"]["synthesizer"] == {
        "model_calls": 1,
        "input_tokens": 3,
        "output_tokens": 4,
    }


def test_the_answer_is_streamed_to_synchronous_callers_too():
    with answering("one two three four five") as stub:
        parts = [*agent_on(stub).stream(TWO, context=FREE, stream_mode="messages")]
    assert answer_in(parts) == "one two three four five"


async def test_a_server_that_refuses_to_count_streams_is_asked_without_and_remembered():
    def picky(body):
        return Reply.rejecting("stream_options") if "stream_options" in body else Reply("the answer")

    with OpenAIStub(picky) as stub:
        agent = agent_on(stub)
        for _ in range(2):
            parts = [part async for part in agent.astream(TWO, context=FREE, stream_mode="messages")]
            assert answer_in(parts) == "the answer"
        assert len(stub.requests) == 3
        result = await agent.ainvoke(TWO, context=FREE)
    assert result["usage"]["total_tokens"] == 18


async def test_a_secret_cut_by_the_pieces_of_a_stream_never_shows(monkeypatch):
    monkeypatch.setenv("SHOP_API_KEY", "pl4nted-Secret-Value-7")
    text = "the key is pl4nted-Secret-Value-7 and that was all there was to say about it"
    with answering(text) as stub:
        agent = agent_on(stub)
        parts = [part async for part in agent.astream(TWO, context=FREE, stream_mode="messages")]
    assert answer_in(parts) == text.replace("pl4nted-Secret-Value-7", "[redacted SHOP_API_KEY]")


# --- fallbacks and rates -----------------------------------------------------------------


async def test_a_fallback_answers_in_every_role_and_its_tokens_are_counted_once():
    def route(body):
        return Reply.failure(401, "no such key") if body["model"] == "first" else Endpoint()(body)

    with OpenAIStub(route) as stub:
        result = await Thread(agent_on(stub, model="first|second"), ONCE).send({"goal": "find tea"})
        asked = [request.body["model"] for request in stub.requests]
    assert result["status"] == "done"
    assert asked == ["first", "second"] * 5
    assert result["usage"]["model_calls"] == 10
    assert result["usage"]["total_tokens"] == 5 * 18


async def test_calls_cost_what_the_model_that_answered_costs_and_every_fallback_needs_a_price():
    prices = {"b": {"input": 1_000_000, "output": 0}, "a": {"input": 9_000_000, "output": 0}}
    budget = Context(approval="never", max_cost=100)
    with OpenAIStub(lambda body: Reply.failure(401) if body["model"] == "a" else Reply("x")) as stub:
        result = await Thread(agent_on(stub, model="a|b", prices=prices), budget).run(think("t"))
        with pytest.raises(ConfigurationError, match=r"no price for the model 'b'"):
            await Thread(agent_on(stub, model="a|b", prices={"a": prices["a"]}), budget).run(think("t"))
    assert result["usage"]["cost"] == 11


async def test_when_no_model_can_be_reached_the_reasons_of_all_are_given():
    with OpenAIStub(lambda body: Reply.failure(401 if body["model"] == "a" else 404)) as stub:
        result = await Thread(agent_on(stub, model="a | b"), ONCE).run(think("t"))
    message = result["results"]["t"]["error"]["message"]
    assert "model a (executor, at" in message
    assert "refused the API key" in message
    assert "; and the model b (executor" in message
    assert "was not found" in message


async def test_a_bad_answer_is_no_reason_for_a_fallback():
    with OpenAIStub(lambda body: Reply("x", finish_reason="content_filter")) as stub:
        await Thread(agent_on(stub, model="a|b"), ONCE).send({"goal": "g"})
        assert {request.body["model"] for request in stub.requests} == {"a"}


def test_a_missing_name_among_fallbacks_is_refused():
    with pytest.raises(ConfigurationError, match=r"'a\|' of the executor: a name is missing"):
        create_plan_execute_agent("a|", base_url="http://127.0.0.1:9/v1")


async def test_requests_keep_to_the_rate_that_was_given():
    with answering("ok") as stub:
        started = time.monotonic()
        agent = agent_on(stub, rate_limit=10)
        await Thread(agent, ONCE).run(*(think(f"s{number}") for number in range(4)))
        assert time.monotonic() - started >= 0.3
        assert len(stub.requests) == 5
    with pytest.raises(ConfigurationError, match=r"rate_limit is requests per second, more than 0, not 0"):
        create_plan_execute_agent("m", rate_limit=0)


NO_TOOLS = "{% for message in messages %}{{ message.content }}{% endfor %}"


@pytest.mark.parametrize(
    "props",
    [
        {"chat_template": NO_TOOLS},
        {"chat_template": NO_TOOLS, "chat_template_caps": {"supports_tools": False}},
    ],
)
async def test_a_model_whose_template_drops_tools_is_not_asked_and_the_error_says_what_to_do(props):
    with OpenAIStub([Reply("made up"), Reply("made up")], says=llama(**props)) as stub:
        result = await Thread(agent_on(stub), ONCE).run(think("a", tools=["look"]))
    error = result["results"]["a"]["error"]
    assert error["code"] == "model_unavailable"
    assert "the chat template that llama.cpp has for it supports no tools" in error["message"]
    assert not any(request.body.get("tools") for request in stub.requests)


async def test_a_template_with_tools_is_asked_and_so_is_one_without_for_a_step_without_tools():
    with OpenAIStub([Reply("seen"), Reply("thought")], says=llama()) as stub:
        result = await Thread(agent_on(stub), ONCE).run(think("a", tools=["look"]))
    assert statuses(result) == {"a": "done"}
    with OpenAIStub([Reply("thought")], says=llama(chat_template=NO_TOOLS)) as stub:
        result = await Thread(agent_on(stub), ONCE).run(think("a"))
    assert statuses(result) == {"a": "done"}


async def test_an_agent_that_calls_none_of_its_tools_says_so_in_its_result():
    with OpenAIStub([Reply("made up")]) as stub:
        result = await Thread(agent_on(stub), ONCE).run(think("a", tools=["look"]))
    (note,) = result["results"]["a"]["criteria"]
    assert note["gap"] == "its agent called none of its tools (look)"
