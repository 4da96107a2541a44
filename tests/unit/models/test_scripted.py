"""The scripted model behaves like any chat model, and fails loudly."""

from __future__ import annotations

import copy
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from pydantic import BaseModel

from plan_execute import create_plan_execute_agent
from plan_execute.errors import ScriptError
from plan_execute.models.scripted import ScriptedModel


def by(role: str, step: str | None = None) -> RunnableConfig:
    return {"metadata": {"plan_execute_role": role, **({"plan_execute_step": step} if step else {})}}


@tool
def search(query: str) -> str:
    """Search."""
    return f"found {query}"


class Answer(BaseModel):
    """An answer."""

    text: str


def test_replies_come_in_order_by_role_and_step() -> None:
    model = ScriptedModel({"executor": ["e1", "e2"], "executor:pack": ["p1"], "*": ["any"]})
    said = [
        model.invoke("?", by("executor")).text,
        model.invoke("?", by("executor", "pack")).text,
        model.invoke("?", by("executor", "other")).text,
        model.invoke("?", by("planner")).text,
    ]
    assert said == ["e1", "p1", "e2", "any"]
    model.assert_used()


def test_running_out_names_role_step_and_size() -> None:
    model = ScriptedModel({"executor:pack": ["one"]})
    model.invoke("?", by("executor", "pack"))
    with pytest.raises(
        ScriptError, match="role 'executor', step 'pack' asked again, and 'executor:pack' held 1 reply"
    ):
        model.invoke("?", by("executor", "pack"))


def test_running_out_says_why_it_was_asked_again_at_a_readable_length() -> None:
    model = ScriptedModel({"planner": ['1. "look" tools=[nope]']})
    answer = create_plan_execute_agent(model).invoke({"goal": "x" * 5000})["final_answer"]
    assert "'planner' held 1 reply. The last message:" in answer
    assert "Your last plan cannot run:" in answer
    assert "the tool 'nope'" in answer
    assert len(answer) < 2000


def test_a_role_that_is_not_in_the_script_is_named_with_the_known_ones() -> None:
    with pytest.raises(ScriptError, match="no replies for the role 'planner'; it has: executor"):
        ScriptedModel({"executor": ["x"]}).invoke("?", by("planner"))
    with pytest.raises(ScriptError, match="a call without a role"):
        ScriptedModel({"executor": ["x"]}).invoke("?")


def test_unused_replies_are_named() -> None:
    model = ScriptedModel({"planner": ["used", "left"], "executor": [{"a": 1}]})
    model.invoke("?", by("planner"))
    with pytest.raises(ScriptError, match=r"planner: 1 \(left\); executor: 1 \(\{'a': 1\}\)"):
        model.assert_used()


def test_a_script_that_is_not_strict_repeats_its_last_reply() -> None:
    model = ScriptedModel(["a", "b"], strict=False)
    assert [model.invoke("?").text for _ in range(4)] == ["a", "b", "b", "b"]


def test_every_kind_of_reply() -> None:
    boom = ValueError("boom")
    model = ScriptedModel(
        [{"a": "é"}, [1], AIMessage("as it is"), lambda messages: messages[-1].text.upper(), boom]
    )
    assert [model.invoke("hi").text for _ in range(4)] == ['{"a": "é"}', "[1]", "as it is", "HI"]
    with pytest.raises(ValueError, match="boom") as caught:
        model.invoke("hi")
    assert caught.value is boom
    assert model.calls[-1].reply is boom


def test_a_reply_of_another_kind_is_refused() -> None:
    with pytest.raises(ScriptError, match="a reply of the script is a int"):
        ScriptedModel([1]).invoke("?")


def test_a_message_of_the_script_is_not_changed_by_being_played() -> None:
    reply = ScriptedModel.tool_calls(("search", {"query": "x"}))
    before = copy.deepcopy(reply)
    ScriptedModel([reply]).invoke("?")
    assert reply == before


def test_usage_and_ids_are_deterministic() -> None:
    def run() -> list[Any]:
        model = ScriptedModel({"executor": [ScriptedModel.tool_calls(("search", {"query": "x"})), "done"]})
        answers = [model.invoke("12345678", by("executor")) for _ in range(2)]
        return [(answer.usage_metadata, answer.tool_calls) for answer in answers]

    assert run() == run()
    assert run()[1][0] == {"input_tokens": 2, "output_tokens": 1, "total_tokens": 3}
    assert run()[0][1][0]["id"] == "call_executor_0_0"


def test_copies_and_bindings_share_script_and_records() -> None:
    model = ScriptedModel(["a", "b", "c", "d"])
    others = [model, model.model_copy(), model.model_copy(deep=True), model.bind_tools([search])]
    assert [other.invoke("?").text for other in others] == ["a", "b", "c", "d"]
    assert [call.tools for call in model.calls] == [(), (), (), ("search",)]


def test_replies_are_given_out_once_to_many_threads() -> None:
    model = ScriptedModel([str(number) for number in range(60)])
    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(lambda _: model.invoke("?").text, range(60)))
    assert sorted(said, key=int) == [str(number) for number in range(60)]


async def test_streams_know_the_role_too() -> None:
    model = ScriptedModel({"planner": ["a", "b"]})
    assert _sum(list(model.stream("?", by("planner")))).text == "a"
    assert _sum([chunk async for chunk in model.bind_tools([search]).astream("?", by("planner"))]).text == "b"


def test_text_streams_in_pieces_that_add_up() -> None:
    chunks = list(ScriptedModel(["Hello, dear world"]).stream("?"))
    whole = _sum(chunks)
    assert sum(bool(chunk.text) for chunk in chunks) > 1
    assert whole.text == "Hello, dear world"
    assert whole.usage_metadata is not None


async def test_tool_calls_stream_in_pieces_that_add_up() -> None:
    reply = ScriptedModel.tool_calls(("search", {"query": "a"}), ("search", {"query": "b"}), text="Looking.")
    whole = _sum([chunk async for chunk in ScriptedModel([reply]).astream("?")])
    assert whole.text == "Looking."
    assert [call["args"] for call in whole.tool_calls] == [{"query": "a"}, {"query": "b"}]
    assert [call["id"] for call in whole.tool_calls] == ["call_*_0_0", "call_*_0_1"]


def _sum(chunks: list[Any]) -> AIMessageChunk:
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert isinstance(whole, AIMessageChunk)
    return whole


async def test_structured_output_takes_a_dict() -> None:
    model = ScriptedModel([{"text": "a"}, {"text": "b"}])
    assert model.with_structured_output(Answer).invoke("?") == Answer(text="a")
    assert await model.with_structured_output(Answer).ainvoke("?") == Answer(text="b")


def test_a_dict_is_text_when_the_tools_are_only_offered() -> None:
    answer = ScriptedModel([{"text": "a"}]).bind_tools([search]).invoke("?")
    assert json.loads(answer.text) == {"text": "a"}
    assert not answer.tool_calls


async def test_it_drives_an_agent_that_knows_its_role_and_step() -> None:
    model = ScriptedModel(
        {"executor:pack": [ScriptedModel.tool_calls(("search", {"query": "socks"})), "Packed."]}
    )
    agent = create_agent(model, tools=[search])
    state = await agent.ainvoke({"messages": [HumanMessage("pack")]}, by("executor", "pack"))
    assert state["messages"][-1].text == "Packed."
    assert state["messages"][-2].text == "found socks"
    assert {(call.role, call.step, call.tools) for call in model.calls} == {("executor", "pack", ("search",))}
    model.assert_used()


def test_an_agent_streams_its_tokens() -> None:
    agent = create_agent(ScriptedModel(["Hello, dear world"]), tools=[search])
    parts = agent.stream({"messages": [HumanMessage("hi")]}, stream_mode="messages")
    texts = [message.text for message, _ in parts]
    assert len([text for text in texts if text]) > 1
    assert "".join(texts) == "Hello, dear world"


def test_an_agent_gets_its_structured_response() -> None:
    agent = create_agent(ScriptedModel([{"text": "done"}]), tools=[], response_format=Answer)
    assert agent.invoke({"messages": [HumanMessage("hi")]})["structured_response"] == Answer(text="done")
