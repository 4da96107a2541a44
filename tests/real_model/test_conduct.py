"""How the program behaves with a real and very weak model on a real server: never what the model writes."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
from langchain_core.messages import AIMessage, HumanMessage
from model_server import ModelServer
from plans import Thread, agent_with, bound, think
from pydantic import BaseModel
from toolset import Toolset

from plan_execute import Context
from plan_execute.models.limits import CallLimits
from plan_execute.models.openai_endpoint import OpenAIEndpoint
from plan_execute.models.structured import call_structured
from plan_execute.models.wire_schema import LONGEST_TEXT

_names = itertools.count()
ONCE: dict[str, Any] = {"approval": "never", "on_failure": "abort", "max_attempts": 1}


class Meter:
    """Counts attempts."""

    def __init__(self) -> None:
        self.recorded: list[AIMessage | None] = []

    def reserve_model_call(self, role: str) -> None:
        """Allow it."""

    async def keep(self) -> None:
        """Nothing is kept."""

    async def cover(self, model: Any, messages: Any) -> None:
        """Nothing limits what a tenant spends."""

    async def settle(self, covered: Any, message: Any, model: Any) -> None:
        """Nothing was reserved."""

    def record_model_call(self, role: str, message: AIMessage | None, model: Any) -> None:
        self.recorded.append(message)

    def call_limits(self) -> CallLimits:
        return CallLimits(tokens=600, tokens_by="max_call_tokens=600")

    def seconds_left(self) -> float | None:
        return None

    def out_of_time(self) -> Exception:
        return TimeoutError()


@pytest.fixture
async def model(server: ModelServer) -> AsyncIterator[OpenAIEndpoint]:
    """The model, as a name and a base URL make it; under a name of its own, since refusals are remembered."""
    async with httpx.AsyncClient() as client:
        yield _model(server, client)


def _model(server: ModelServer, client: httpx.AsyncClient) -> OpenAIEndpoint:
    settings: dict[str, Any] = {"max_retries": 0, "timeout": 120, "temperature": 0, "stream_usage": True}
    return OpenAIEndpoint(
        model=f"smollm2-{next(_names)}",
        base_url=server.base_url,
        api_key="none",
        http_async_client=client,
        **settings,
    )


def _thread(model: OpenAIEndpoint, **settings: Any) -> Thread:
    return Thread(agent_with(Toolset().tools[:2], model), Context(**ONCE, **settings))


async def test_a_planner_that_writes_for_ever_is_cut_off_in_time_and_the_server_is_free_again(
    server: ModelServer, model: OpenAIEndpoint
) -> None:
    result = await _thread(model, call_timeout_s=1, plan_grammar="off").send({"goal": "count to a million"})
    assert result["status"] == "failed"
    assert "call_timeout_s=1" in result["final_answer"]
    assert result["usage"]["model_calls"] == 1
    server.wait_until_it_is_idle()


async def test_an_answer_takes_no_more_tokens_than_it_may(model: OpenAIEndpoint) -> None:
    result = await _thread(model, max_call_tokens=8).run(think("a", task="Tell a long story."))
    assert result["status"] == "failed"
    assert "max_call_tokens=8" in result["final_answer"]
    assert result["usage"]["output_tokens"] <= 8 * result["usage"]["model_calls"]


async def test_a_plan_that_is_cut_off_in_every_form_ends_after_bounded_repairs(model: OpenAIEndpoint) -> None:
    result = await _thread(model, max_call_tokens=12).send({"goal": "look for tea"})
    assert result["status"] == "failed"
    assert "max_call_tokens=12" in result["final_answer"]
    assert result["usage"]["model_calls"] == 3
    assert result["usage"]["output_tokens"] <= 3 * 12


async def test_more_than_the_context_holds_is_an_error_after_one_call_and_names_the_sizes(
    model: OpenAIEndpoint,
) -> None:
    result = await _thread(model, max_model_calls=1).run(think("a", task="word " * 3000))
    error = result["results"]["a"]["error"]
    assert error["code"] == "model_overflow"
    assert "its context holds 2,048" in error["message"]
    assert result["usage"]["model_calls"] == 1


class Finding(BaseModel):
    """What is asked for as JSON."""

    kind: Literal["bird", "fish"]
    is_large: bool
    reason: str


async def test_json_is_had_in_the_form_asked_for_and_its_texts_end(model: OpenAIEndpoint) -> None:
    meter = Meter()
    asked = [HumanMessage("Is a whale a bird or a fish, and why?")]
    found = await call_structured(model, Finding, asked, role="evaluator", meter=meter)
    assert found.kind in ("bird", "fish")
    assert len(found.reason) <= LONGEST_TEXT
    assert len(meter.recorded) == 1, "no repair was needed"


async def test_a_stream_says_what_it_used(model: OpenAIEndpoint) -> None:
    whole: Any = None
    async for chunk in model.bind(max_tokens=5).astream("Count to ten."):
        whole = chunk if whole is None else whole + chunk
    at_once = await model.bind(max_tokens=5).ainvoke("Count to ten.")
    assert whole.usage_metadata["output_tokens"] == 5
    counted = ("input_tokens", "output_tokens", "total_tokens")
    assert {name: whole.usage_metadata[name] for name in counted} == {
        name: at_once.usage_metadata[name] for name in counted
    }


async def test_a_step_with_a_declared_form_is_asked_for_in_it(model: OpenAIEndpoint) -> None:
    colour = think("a", task="Name a colour.", output_schema={"enum": ["red", "blue"]})
    thread = _thread(model, max_call_tokens=20)
    result = await thread.run(colour, bound("b", "echo", {"value": "${a}"}), answer="It is ${b}.")
    assert result["results"]["a"]["verdict"] == "met", result["results"]["a"]
    assert result["final_answer"] in ("It is red.", "It is blue.")
    assert result["usage"]["model_calls"] == 1


async def test_tools_that_the_template_would_drop_are_an_error_before_the_model_is_asked(
    model: OpenAIEndpoint,
) -> None:
    result = await _thread(model, max_call_tokens=8).run(think("a", tools=["look"]))
    assert "would never see its tools" in result["results"]["a"]["error"]["message"]
    assert "executor" not in result["usage"].get("by_role", {})


async def test_a_goal_is_planned_under_the_grammar_in_one_call_and_carried_out(model: OpenAIEndpoint) -> None:
    tools = Toolset()
    thread = Thread(agent_with(tools.tools[:1], model), Context(**ONCE, max_call_tokens=150, max_steps=2))
    result = await thread.send({"goal": "Look up tea."})
    for _ in range(3):
        if await thread.questions():
            result = await thread.answer("tea")
    assert result["plan_issues"] == []
    assert result["plan"]["steps"]
    assert result["usage"]["by_role"]["planner"]["model_calls"] <= 2, "at most cut off once"
    assert result["status"] in ("done", "partial", "failed")
    assert set(result["results"]) == {step["id"] for step in result["plan"]["steps"]}
    assert result["final_answer"]


LONG = {"type": "string", "minLength": 200, "maxLength": 220}


async def test_a_server_that_is_killed_is_an_error_and_when_it_is_back_the_thread_goes_on(
    tmp_path: Path,
) -> None:
    with ModelServer(tmp_path, context=2048) as server:
        async with httpx.AsyncClient() as client:
            thread = _thread(_model(server, client))
            step = think("a", task="Tell a story.", output_schema=LONG)
            running = asyncio.create_task(thread.run(step))
            await asyncio.to_thread(server.wait_until_it_writes)
            server.kill()
            cut_off = await running
            assert cut_off["status"] == "failed"
            assert "cannot be reached" in cut_off["final_answer"]
            server.start()
            again = await thread.run(step)
    assert (again["status"], again["results"]["a"]["verdict"]) == ("done", "met")
    assert 200 <= len(again["results"]["a"]["output"]) <= 220


def test_ctrl_c_ends_with_130_while_the_model_writes_and_resume_goes_on(
    server: ModelServer, tmp_path: Path
) -> None:
    program = [str(Path(sys.executable).with_name("plan-execute"))]
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PLAN_EXECUTE_DB": str(tmp_path / "threads.db")}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": env}
    model = ["--model", "smollm2", "--base-url", server.base_url]
    server.wait_until_it_is_idle()
    first = subprocess.Popen([*program, "run", "Look up tea.", "--thread", "t", *model], **pipes)
    server.wait_until_it_writes()
    first.send_signal(signal.SIGINT)
    _, said = first.communicate(timeout=60)
    assert first.returncode == 130
    assert "Interrupted.\nGo on with: plan-execute resume t" in said
    server.wait_until_it_is_idle()
    again = subprocess.Popen([*program, "resume", "t", *model], **pipes)
    try:
        server.wait_until_it_writes()
    finally:
        again.kill()
        again.communicate()
