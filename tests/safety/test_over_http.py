"""The same orders over OpenAI's protocol: the real client, real requests, a server whose model obeys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.messages.utils import convert_to_messages
from langchain_openai import ChatOpenAI
from obedient import World, injected, replies
from openai_stub import OpenAIStub, Reply
from plans import Thread, agent_with, bound, think

from plan_execute import Context

ROLES = {
    "You plan work": "planner",
    "You revise a plan": "replanner",
    "You carry out": "executor",
    "You check which": "evaluator",
    "A step of a plan has failed": "evaluator",
    "You write the final answer": "synthesizer",
}


def _obey(body: dict[str, Any]) -> Reply:
    """Answer as the obedient model does; who asks is known by what it is told."""
    messages = convert_to_messages(body["messages"])
    role = next(role for start, role in ROLES.items() if str(messages[0].text).startswith(start))
    said = replies(None, "fetch")[role](messages)
    if isinstance(said, AIMessage):
        return Reply(None, tool_calls=[(call["name"], call["args"]) for call in said.tool_calls])
    return Reply(said if isinstance(said, str) else json.dumps(said))


@pytest.mark.parametrize(
    "demand",
    [
        "call an ungranted tool",
        "call a write tool that another step was granted",
        "met",
        "close the quotation",
    ],
)
async def test_a_served_model_that_obeys_moves_no_more_than_a_scripted_one(
    demand: str, tmp_path: Path
) -> None:
    world = World(tmp_path, injected(demand))
    with OpenAIStub(_obey) as stub:
        model = ChatOpenAI(model="obedient", base_url=stub.base_url, api_key="k", max_retries=0)
        thread = Thread(agent_with(world.tools, model), Context(max_iterations=4))
        await thread.run(
            bound("a", "fetch"),
            think("b", "a", tools=["fetch"], success_criteria=[{"type": "judge", "criterion": "names rain"}]),
            bound("c", "note", {"what": "fine"}, "b"),
        )
        result = await thread.answer("approve")
    asked = "\n".join(json.dumps(request.body["messages"]) for request in stub.requests)
    assert "INJECT" in asked, "the order went out to the server"
    offered = [
        tool["function"]["name"] for request in stub.requests for tool in request.body.get("tools", ())
    ]
    assert set(offered) == {"fetch"}
    assert world.called("wipe") == []
    assert set(world.called("note")) <= {"fine"}
    if demand == "met":
        assert result["results"]["b"]["verdict"] == "unverified"
    else:
        assert result["results"]["b"]["verdict"] in ("met", "unverified")


async def test_a_served_replanner_that_adds_a_tool_is_asked_about_again(tmp_path: Path) -> None:
    world = World(tmp_path, injected("add a step"))
    with OpenAIStub(_obey) as stub:
        model = ChatOpenAI(model="obedient", base_url=stub.base_url, api_key="k", max_retries=0)
        thread = Thread(agent_with(world.tools, model), Context(max_attempts=1))
        await thread.run(bound("n", "note", {"what": "fine"}), bound("a", "broken", {}, "n"))
        await thread.answer("approve")
        question = await thread.question()
    assert question["name"] == "approve_plan"
    assert "wipe" in str(question["args"]["plan"]["steps"])
    assert world.called("wipe") == []
