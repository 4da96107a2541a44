"""What one call to a model may take, over real HTTP: seconds and tokens, for every role."""

from __future__ import annotations

import itertools
from threading import Event
from typing import Any

from openai_stub import OpenAIStub, Reply
from plans import Thread, agent_with, bound, think
from toolset import Toolset

from plan_execute import Context
from plan_execute.errors import ModelTimeoutError

_names = itertools.count()
LINES = '1. look("x")\n2. agent: "think about $1"\n'


def _thread(stub: OpenAIStub, **settings: Any) -> Thread:
    # A name of its own, since what a server refused is remembered per model.
    agent = agent_with(Toolset().tools, f"limited-{next(_names)}", base_url=stub.base_url)
    return Thread(agent, Context(approval="never", on_failure="abort", max_attempts=1, **settings))


STEPS = (bound("a", "look", {"q": "x"}), think("b", "a", tools=["look"]))


def _sent(stub: OpenAIStub) -> list[int | None]:
    return [request.body.get("max_tokens") for request in stub.requests]


async def test_a_limit_on_tokens_goes_with_the_requests_of_every_role() -> None:
    with OpenAIStub([Reply("seen"), Reply("the answer")]) as stub:
        result = await _thread(stub, max_call_tokens=500).run(*STEPS)
    assert result["status"] == "done"
    assert _sent(stub) == [500, 500]


async def test_what_is_left_of_the_budget_of_tokens_goes_with_the_requests() -> None:
    with OpenAIStub([Reply("seen", usage=(400, 100)), Reply("the answer")]) as stub:
        result = await _thread(stub, max_tokens=3000).run(*STEPS)
    assert result["status"] == "done"
    assert _sent(stub) == [3000, 2500]


async def test_without_limits_none_is_sent() -> None:
    with OpenAIStub([Reply("seen"), Reply("the answer")]) as stub:
        await _thread(stub).run(*STEPS)
    assert _sent(stub) == [None, None]


async def test_a_server_that_refuses_the_limit_is_asked_again_without_it_and_then_always() -> None:
    def answer(body: dict[str, Any]) -> Reply:
        if "max_tokens" in body:
            return Reply.failure(400, "'max_tokens' is too large: 9000. The maximum context length is 4096")
        return Reply("seen")

    with OpenAIStub(answer) as stub:
        result = await _thread(stub, max_call_tokens=9000).run(*STEPS)
    assert result["status"] == "done"
    assert _sent(stub) == [9000, None, None]


async def test_an_answer_that_is_cut_off_names_the_limit() -> None:
    with OpenAIStub([Reply("seen"), Reply("the ans", finish_reason="length")]) as stub:
        result = await _thread(stub, max_call_tokens=7).run(*STEPS)
    assert "max_call_tokens=7" in result["final_answer"]


async def test_a_planner_that_streams_for_ever_is_cut_off_and_the_limit_is_named() -> None:
    forever = Event()
    try:
        with OpenAIStub([Reply(LINES, hold=forever)]) as stub:
            result = await _thread(stub, call_timeout_s=0.2).send({"goal": "the goal"})
            assert len(stub.requests) <= 1
    finally:
        forever.set()
    assert result["status"] == "failed"
    assert "call_timeout_s=0.2" in result["final_answer"]


async def test_an_agent_whose_model_answers_for_ever_fails_with_the_limit_named() -> None:
    forever = Event()

    def answer(body: dict[str, Any]) -> Reply:
        forever.wait(20)
        return Reply("too late")

    try:
        with OpenAIStub(answer) as stub:
            result = await _thread(stub, call_timeout_s=0.2).run(*STEPS)
    finally:
        forever.set()
    error = result["results"]["b"]["error"]
    assert (error["code"], "call_timeout_s=0.2" in error["message"]) == (ModelTimeoutError.code, True)


async def test_lines_that_are_cut_off_are_asked_for_in_json_before_it_is_given_up() -> None:
    plan = {
        "outcome": "plan",
        "rationale": "",
        "complete": True,
        "steps": [
            {
                "id": "a",
                "task": "a",
                "depends_on": [],
                "call": "look",
                "arguments": '{"q": "x"}',
                "tools": [],
                "success_criterion": None,
            }
        ],
    }
    with OpenAIStub([Reply(LINES, finish_reason="length"), Reply.json(plan), Reply("ok")]) as stub:
        result = await _thread(stub).send({"goal": "the goal"})
    assert (result["status"], list(result["results"])) == ("done", ["a"])
    assert "response_format" in stub.requests[1].body


async def test_a_step_whose_prompt_is_too_long_is_not_tried_again_with_a_longer_one() -> None:
    with OpenAIStub(lambda _: Reply.failure(400, "too long", code="context_length_exceeded")) as stub:
        thread = _thread(stub)
        thread.context = thread.context.model_copy(update={"max_attempts": 3})
        result = await thread.run(*STEPS)
    step = result["results"]["b"]
    assert (step["status"], step["attempts"], step["error"]["code"]) == ("failed", 1, "model_overflow")
