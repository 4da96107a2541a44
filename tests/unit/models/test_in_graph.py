"""Model calls inside a LangGraph node: streaming, callbacks and marks come through once."""

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.graph import START, StateGraph
from openai_stub import OpenAIStub, Reply
from pydantic import BaseModel

from plan_execute.models.chat import ChatModels
from plan_execute.models.limits import CallLimits
from plan_execute.models.plain import call_message
from plan_execute.models.scripted import ScriptedModel
from plan_execute.models.structured import call_structured


class Answer(BaseModel):
    text: str


class State(TypedDict):
    said: Annotated[list[str], operator.add]


class Unlimited:
    def reserve_model_call(self, role: str) -> None: ...

    async def keep(self) -> None: ...

    async def cover(self, model: Any, messages: Any) -> None:
        """Nothing limits what a tenant spends."""

    async def settle(self, covered: Any, message: Any, model: Any) -> None:
        """Nothing was reserved."""

    def record_model_call(self, role: str, message: Any, model: Any) -> None: ...

    def call_limits(self) -> CallLimits:
        return CallLimits()

    def seconds_left(self) -> float | None:
        return None

    def out_of_time(self) -> Exception:
        return AssertionError("there is no limit")


class Starts(AsyncCallbackHandler):
    def __init__(self) -> None:
        self.names: list[str] = []

    async def on_chat_model_start(self, *_: Any, **details: Any) -> None:
        self.names.append(details["name"])


def graph_of(model: Any, *, pass_config: bool = True) -> Any:
    async def say(state: State, config: RunnableConfig) -> State:
        given = config if pass_config else None
        ask = [HumanMessage("hi")]
        text = (await call_message(model, ask, role="synthesizer", meter=Unlimited(), config=given)).text
        data = await call_structured(model, Answer, ask, role="planner", meter=Unlimited(), config=given)
        return {"said": [text, data.text]}

    return StateGraph(State).add_node("say", say).add_edge(START, "say").compile()


@pytest.mark.parametrize("pass_config", [True, False])
async def test_words_stream_out_of_a_node_with_their_role_and_data_does_not(pass_config: bool) -> None:
    model = ScriptedModel({"synthesizer": ["Hello, dear world"], "planner": [{"text": "data"}]})
    graph = graph_of(model, pass_config=pass_config)
    parts = [part async for part in graph.astream({"said": []}, stream_mode="messages")]
    texts = [chunk.text for chunk, metadata in parts if metadata["plan_execute_role"] == "synthesizer"]
    assert "".join(texts) == "Hello, dear world"
    assert len([text for text in texts if text]) > 1
    tags = {tag for _, metadata in parts for tag in metadata["tags"]}
    assert "role:synthesizer" in tags
    assert "role:planner" not in tags


async def test_callbacks_hear_of_each_call_once() -> None:
    starts = Starts()
    model = ScriptedModel({"synthesizer": ["a"], "planner": [{"text": "b"}]})
    state = await graph_of(model).ainvoke({"said": []}, {"callbacks": [starts]})
    assert state == {"said": ["a", "b"]}
    assert starts.names == ["synthesizer", "planner"]


async def test_a_real_client_streams_and_still_gives_usable_json() -> None:
    with OpenAIStub([Reply("Hello, dear world"), Reply('```json\n{"text": "b"}\n```')]) as stub:
        graph = graph_of(ChatModels("m", base_url=stub.base_url).get("planner"))
        final: Any = None
        async for mode, part in graph.astream({"said": []}, stream_mode=["messages", "values"]):
            final = part if mode == "values" else final
    assert final == {"said": ["Hello, dear world", "b"]}
    assert [request.body["stream"] for request in stub.requests] == [True, True]


@tool
def search(query: str) -> str:
    """Search."""
    return f"found {query}"


@pytest.mark.parametrize("streaming", [False, True])
async def test_the_stub_serves_an_agent_with_tools(streaming: bool) -> None:
    with OpenAIStub([Reply(None, tool_calls=[("search", {"query": "socks"})]), Reply("Packed.")]) as stub:
        model = ChatModels("m", base_url=stub.base_url).get("executor")
        model.streaming = streaming  # type: ignore[attr-defined]
        state = await create_agent(model, tools=[search]).ainvoke({"messages": [HumanMessage("pack")]})
    assert [message.text for message in state["messages"][-2:]] == ["found socks", "Packed."]
    assert stub.requests[1].body["messages"][-1]["content"] == "found socks"
