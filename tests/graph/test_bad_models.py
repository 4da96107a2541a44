"""What a bad model or endpoint gets, over real HTTP: a clear message or a correct run, never a hang."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import socket
import time
from typing import Any

import pytest
from openai_stub import OpenAIStub, Reply
from plans import FREE, Thread, agent_with, bound, codes, draft, draft_step, think
from toolset import Toolset

from plan_execute import Context, create_plan_execute_agent
from plan_execute.errors import ConfigurationError

_names = itertools.count()

PLAN = draft(draft_step("a", "look", {"q": "x"}), draft_step("b", "look", {"q": "${a}"}, "a"))
GOOD = Reply.json(PLAN)
ANSWER = Reply("the answer")


def _thread(stub: OpenAIStub | str, tools: Toolset, context: Context = FREE) -> Thread:
    # A name of its own, since the way that worked is remembered per model.
    url = stub if isinstance(stub, str) else stub.base_url
    return Thread(agent_with(tools.tools, f"stub-{next(_names)}", base_url=url), context)


async def _planned(*replies: Any) -> tuple[dict[str, Any], Toolset, OpenAIStub]:
    tools = Toolset()
    with OpenAIStub(list(replies)) as stub:
        result = await _thread(stub, tools).send({"goal": "the goal"})
    return result, tools, stub


def _asked(stub: OpenAIStub, number: int) -> str:
    return json.dumps(stub.requests[number].body["messages"])


async def test_a_goal_runs_end_to_end_against_an_openai_protocol_endpoint() -> None:
    single = draft(draft_step("a", tools=["look"]), draft_step("b", "wr", {"text": "${a}"}, "a"))
    tools = Toolset()
    script = [Reply.json(single), Reply(tool_calls=[("look", {"q": "x"})]), Reply("found it"), ANSWER]
    with OpenAIStub(script) as stub:
        result = await _thread(stub, tools).send({"goal": "the goal"})
    answer = "Not verified: nobody checked the result of a.\n\nthe answer"
    assert (result["status"], result["final_answer"]) == ("done", answer)
    assert tools.calls == [("look", "x"), ("wr", "found it")]
    assert result["usage"]["total_tokens"] == 4 * 18
    assert len(stub.requests) == 4


USABLE = [
    pytest.param([Reply(f"```json\n{json.dumps(PLAN)}\n```")], id="fenced JSON"),
    pytest.param(
        [Reply(f"<think>hm</think>Here is the plan:\n{json.dumps(PLAN)}\nGood luck!")], id="prose around"
    ),
    pytest.param([Reply("")], id="nothing, then a plan"),
    pytest.param([Reply(None)], id="null, then a plan"),
    pytest.param([Reply("I would first look, then think.")], id="prose, then a plan"),
    pytest.param([Reply(json.dumps(PLAN)[:120], finish_reason="length")], id="truncated JSON, then a plan"),
    pytest.param([Reply(json.dumps(PLAN)[:-20])], id="broken JSON, then a plan"),
    pytest.param([Reply.json({"outcome": "plan"})], id="fields missing, then a plan"),
    pytest.param([Reply.json(draft(draft_step("a", "fly")))], id="unknown tool, then a plan"),
    pytest.param(
        [Reply.json(draft(draft_step("a", "look", {"q": "x"}), draft_step("a", "look", {"q": "y"})))],
        id="duplicate ids",
    ),
    pytest.param(
        [
            Reply.json(
                draft(draft_step("a", "look", {"q": "x"}, "b"), draft_step("b", "look", {"q": "x"}, "a"))
            )
        ],
        id="cycle",
    ),
    pytest.param(
        [Reply.json(draft(*(draft_step(f"s{n}", "look", {"q": "x"}) for n in range(200))))], id="200 steps"
    ),
    pytest.param([Reply.json(draft())], id="empty plan"),
    pytest.param([Reply.rejecting("response_format")], id="an endpoint without json_schema"),
    pytest.param([Reply.failure(429, headers={"Retry-After": "0.3"})], id="429 once"),
    pytest.param([Reply.failure(500)], id="500 once"),
    pytest.param([Reply(drop=True)], id="connection dropped once"),
]


@pytest.mark.parametrize("replies", USABLE)
async def test_a_model_that_stumbles_once_still_gets_its_plan_run_correctly(replies: list[Reply]) -> None:
    queue = [*replies]

    def answer(body: dict[str, Any]) -> Reply:
        if queue:
            return queue.pop(0)
        asked = json.dumps(body["messages"])
        if "You write the final answer" in asked:
            return ANSWER
        if body.get("tools"):
            return Reply(tool_calls=[(body["tools"][0]["function"]["name"], PLAN)])
        return GOOD

    tools = Toolset()
    with OpenAIStub(answer) as stub:
        result = await _thread(stub, tools).send({"goal": "the goal"})
    assert (result["status"], result["final_answer"]) == ("done", "the answer"), result
    assert tools.calls == [("look", "x"), ("look", "found x")]


async def test_integer_ids_are_understood_over_the_wire() -> None:
    steps = [
        {**draft_step("1", "look", {"q": "x"}), "id": 1},
        {**draft_step("2", "look", {"q": "${1}"}), "id": 2, "depends_on": [1]},
    ]
    result, tools, stub = await _planned(Reply.json(draft(*steps)), ANSWER)
    assert (result["status"], tools.calls) == ("done", [("look", "x"), ("look", "found x")])
    assert len(stub.requests) == 2


async def test_a_429_with_retry_after_is_waited_for() -> None:
    start = time.monotonic()
    result, _, stub = await _planned(Reply.failure(429, headers={"Retry-After": "1"}), GOOD, ANSWER)
    assert (result["status"], time.monotonic() - start >= 1.0, len(stub.requests)) == ("done", True, 3)
    assert result["usage"]["by_role"]["planner"]["model_calls"] == 2


HOPELESS = [
    pytest.param([Reply(refusal="I will not.")] * 9, "declined", id="refusal"),
    pytest.param([Reply("x", finish_reason="content_filter")] * 9, "content filter", id="content filter"),
    pytest.param([Reply('{"outcome": "pl', finish_reason="length")] * 9, "cut off", id="truncated for ever"),
    pytest.param([Reply("no JSON today")] * 9, "no usable answer", id="prose for ever"),
    pytest.param([Reply("")] * 9, "no usable answer", id="nothing for ever"),
    pytest.param([Reply.failure(401, "bad key sk-secret123")] * 9, "401|key", id="401"),
    pytest.param([Reply.failure(404, "no such model", code="model_not_found")] * 9, "404|model", id="404"),
    pytest.param(
        [Reply(raw_body="<html>hello</html>")] * 9, "not a chat completion", id="not a chat endpoint"
    ),
    pytest.param([Reply.failure(429, "quota", code="insufficient_quota")] * 9, "quota|429", id="quota"),
    pytest.param(
        [Reply.json(draft(draft_step("a", "fly")))] * 9,
        "unknown_tool.*known tools",
        id="unknown tool for ever",
    ),
]


@pytest.mark.parametrize(("replies", "words"), HOPELESS)
async def test_a_model_that_never_gives_a_plan_fails_the_run_with_a_clear_message(
    replies: list[Reply], words: str
) -> None:
    result, tools, stub = await _planned(*replies)
    assert (result["status"], tools.calls) == ("failed", [])
    assert re.search(words, result["final_answer"], re.DOTALL), result["final_answer"]
    assert "Traceback" not in result["final_answer"]
    assert "secret123" not in json.dumps(result, default=str)
    assert len(stub.requests) <= 9


async def test_an_endpoint_that_is_down_or_always_fails_ends_in_a_clear_message_after_a_few_tries() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        down = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        with (
            OpenAIStub(lambda _: Reply.failure(500)) as failing,
            OpenAIStub(lambda _: Reply(drop=True)) as dropping,
        ):
            results = await asyncio.gather(
                *(_thread(stub, Toolset()).send({"goal": "g"}) for stub in (down, failing, dropping))
            )
    assert [result["status"] for result in results] == ["failed"] * 3
    for result in results:
        assert "planner" in result["final_answer"]
        assert "127.0.0.1" in result["final_answer"]
        assert "Traceback" not in result["final_answer"]
    assert len(failing.requests) == 4


async def test_an_endpoint_that_hangs_is_cut_off_by_the_step_timeout() -> None:
    with OpenAIStub(lambda _: Reply("late", delay_s=3)) as stub:
        thread = _thread(
            stub, Toolset(), Context(approval="never", on_failure="abort", max_attempts=1, max_model_calls=1)
        )
        result = await thread.run(think("a", timeout_s=0.3))
    assert result["results"]["a"]["error"]["code"] == "timeout"


async def test_an_executor_that_fails_loses_no_finished_work() -> None:
    tools = Toolset()
    with OpenAIStub(lambda _: Reply.failure(401)) as stub:
        thread = _thread(stub, tools, Context(approval="never", on_failure="abort", max_attempts=1))
        result = await thread.run(bound("z", "look", {"q": "z"}), think("a", "z"))
    assert (result["status"], result["results"]["z"]["output"]) == ("partial", "found z")
    assert result["results"]["a"]["error"]["code"] == "model_unavailable"
    assert "found z" in result["final_answer"]
    assert "could not be written by a model" in result["final_answer"]


async def test_an_executor_that_calls_tools_badly_is_told_and_goes_on() -> None:
    tools = Toolset()
    script = [
        Reply(tool_calls=[("fly", {"to": "moon"})]),
        Reply(tool_calls=[("look", {"wrong": 1})]),
        Reply(tool_calls=[("look", {"q": "x"})]),
        Reply("found x"),
    ]
    with OpenAIStub([*script, ANSWER]) as stub:
        result = await _thread(
            stub, tools, Context(approval="never", max_attempts=1, on_failure="abort")
        ).run(think("a", tools=["look"]))
    assert (result["status"], tools.calls) == ("done", [("look", "x")]), result["results"]["a"]["error"]


async def test_arguments_that_are_no_json_cost_a_turn_and_not_the_attempt() -> None:
    tools = Toolset()
    script = [
        Reply(tool_calls=[("look", "{broken json")]),
        Reply(tool_calls=[("look", {"q": "x"})]),
        Reply("found x"),
    ]
    with OpenAIStub([*script, ANSWER]) as stub:
        result = await _thread(stub, tools).run(think("a", tools=["look"]))
    assert (result["status"], result["results"]["a"]["attempts"], tools.calls) == ("done", 1, [("look", "x")])


async def test_the_key_is_nowhere_in_the_result_or_the_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret-key")
    tools = Toolset()
    with OpenAIStub([GOOD, ANSWER]) as stub:
        thread = _thread(stub, tools)
        result = await thread.send({"goal": "g"})
        history = [snapshot async for snapshot in thread.agent.aget_state_history(thread.config)]
    assert stub.requests[0].headers["authorization"] == "Bearer sk-very-secret-key"
    assert "very-secret" not in json.dumps(result, default=str) + repr(history)


async def test_a_model_that_cannot_be_set_up_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="key"):
        await create_plan_execute_agent("openai:gpt-5-mini").ainvoke({"goal": "g"}, context=FREE)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"model": 5}, "model= takes a LangChain chat model or its name"),
        ({"models": {"planner": 5}}, "models['planner'] takes a LangChain chat model or its name"),
        ({"store": 5}, "store= takes a LangGraph store, not int"),
        ({"checkpointer": "runs.db"}, "checkpointer= takes a LangGraph saver, not str"),
        ({"prices": 5}, "prices= takes prices by model, or a file of them, not int"),
    ],
)
def test_what_is_no_model_or_store_is_refused_when_the_agent_is_made(
    given: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(words)):
        create_plan_execute_agent(**given)


async def test_plan_issues_come_back_when_the_attempts_are_spent() -> None:
    result, _, stub = await _planned(*[Reply.json(draft(draft_step("a", "fly")))] * 3)
    assert codes(result) == ["unknown_tool"]
    assert len(stub.requests) == 3
    assert "unknown_tool" in _asked(stub, 1)
