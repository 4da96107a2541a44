"""Plans are asked for under a grammar where the server of the planner takes one, over real HTTP."""

from __future__ import annotations

import itertools
from typing import Any

import httpx
import pytest
from langchain_openai import ChatOpenAI
from openai_stub import OpenAIStub, Reply
from plans import Thread, agent_with
from pydantic import SecretStr
from served_programs import LLAMA, VLLM, llama
from toolset import Toolset

from plan_execute import Context
from plan_execute.models.servers import UNKNOWN, server_of

_names = itertools.count()
PLAN = '1. look(q="tea")\nreturn "It is ${1}."\n'
FORMS = ("grammar", "structured_outputs", "guided_grammar")


def _thread(stub: OpenAIStub, **settings: Any) -> Thread:
    # A name of its own, since what a server is and refuses is remembered per model.
    agent = agent_with(Toolset().tools, f"held-{next(_names)}", base_url=stub.base_url)
    return Thread(agent, Context(approval="never", on_failure="abort", **settings))


async def _planned(says: Any, reply: Any = None, **settings: Any) -> tuple[dict[str, Any], OpenAIStub]:
    with OpenAIStub(reply or [Reply(PLAN)], says=says) as stub:
        return await _thread(stub, **settings).send({"goal": "look"}), stub


def _forms(stub: OpenAIStub) -> list[dict[str, Any]]:
    return [{name: request.body[name] for name in FORMS if name in request.body} for request in stub.requests]


async def test_llama_cpp_is_sent_a_grammar_of_the_tools() -> None:
    result, stub = await _planned(LLAMA)
    assert (result["status"], result["final_answer"]) == ("done", "It is found tea.")
    ((held,),) = [list(form.items()) for form in _forms(stub)]
    assert held[0] == "grammar"
    assert '"look(" ("q=" ' in held[1]


@pytest.mark.parametrize(
    ("version", "form"),
    [("0.12.1", "structured_outputs"), ("0.11.0rc1", "structured_outputs"), ("0.9.2", "")],
)
async def test_vllm_is_sent_it_in_the_form_of_its_release(version: str, form: str) -> None:
    _, stub = await _planned({**VLLM, "/version": {"version": version}})
    ((held,),) = [list(found.items()) for found in _forms(stub)]
    given = held[1]["grammar"] if form else held[1]
    assert held[0] == (form or "guided_grammar")
    assert given.startswith("root ::= ")


@pytest.mark.parametrize(
    "says", [None, {"/v1/models": {"data": []}}, {"/v1/models": {"data": [{"id": "x"}]}}]
)
async def test_a_server_that_does_not_say_what_it_is_is_sent_none(says: Any) -> None:
    result, stub = await _planned(says)
    assert result["status"] == "done"
    assert _forms(stub) == [{}]


async def test_a_model_that_thinks_first_is_not_kept_from_it() -> None:
    _, stub = await _planned(llama(chat_template="{% if tools %}{% endif %}<think>"))
    assert _forms(stub) == [{}]


async def test_the_setting_decides_where_it_is_not_auto() -> None:
    _, off = await _planned(LLAMA, plan_grammar="off")
    _, told = await _planned(None, plan_grammar="vllm")
    assert _forms(off) == [{}]
    assert off.looked_at == []
    assert list(_forms(told)[0]) == ["structured_outputs"]


async def test_a_refusal_is_remembered_and_the_call_goes_on_without() -> None:
    def answer(body: dict[str, Any]) -> Reply:
        return Reply.failure(400, "Failed to parse grammar") if "grammar" in body else Reply(PLAN)

    with OpenAIStub(answer, says=LLAMA) as stub:
        thread = _thread(stub)
        for _ in range(2):
            result = await thread.send({"goal": "look"})
            assert result["status"] == "done"
    assert [list(form) for form in _forms(stub)] == [["grammar"], [], []]


async def test_another_failure_under_a_grammar_is_no_refusal_of_it() -> None:
    replies = [Reply.failure(500, "out of memory"), Reply(PLAN)]
    result, stub = await _planned(LLAMA, replies)
    assert result["status"] == "done"
    assert [list(form) for form in _forms(stub)] == [["grammar"], ["grammar"]]


async def test_an_answer_that_was_cut_off_is_asked_for_again_with_shorter_texts() -> None:
    result, stub = await _planned(LLAMA, [Reply('1. look(q="te', finish_reason="length"), Reply(PLAN)])
    assert result["status"] == "done"
    first, second = (form["grammar"] for form in _forms(stub))
    assert "chunk ::= character{0,1000}" in first
    assert "chunk ::= character{0,60}" in second
    assert "cut off" in str(stub.requests[1].body["messages"][-1])


async def test_cut_off_within_the_shortest_texts_too_it_is_asked_for_in_json() -> None:
    cut = Reply('1. look(q="te', finish_reason="length")
    _, stub = await _planned(LLAMA, [cut, cut, Reply('{"outcome": "cannot_plan"', finish_reason="length")])
    assert [list(form) for form in _forms(stub)] == [["grammar"], ["grammar"], []]
    assert "response_format" in stub.requests[2].body


async def test_a_server_is_asked_what_it_is_once_for_all_runs() -> None:
    with OpenAIStub(lambda _: Reply(PLAN), says=LLAMA) as stub:
        thread = _thread(stub)
        for _ in range(3):
            await thread.send({"goal": "look"})
    assert stub.looked_at == ["/v1/models", "/props"]
    assert len(stub.requests) == 3


async def test_steps_of_a_plan_are_bounded_by_the_setting() -> None:
    _, stub = await _planned(LLAMA, max_steps=3)
    assert "plan-3 ::=" in _forms(stub)[0]["grammar"]
    assert "plan-4" not in _forms(stub)[0]["grammar"]


async def test_what_the_model_sends_with_every_request_stays_beside_the_grammar() -> None:
    with OpenAIStub([Reply(PLAN)], says=LLAMA) as stub:
        model = ChatOpenAI(
            model=f"held-{next(_names)}",
            base_url=stub.base_url,
            api_key=SecretStr("k"),
            extra_body={"cache_prompt": True},
        )
        await Thread(agent_with(Toolset().tools, model), Context(approval="never")).send({"goal": "look"})
    assert stub.requests[0].body["cache_prompt"] is True
    assert "grammar" in stub.requests[0].body


async def test_openai_itself_is_never_asked_what_it_is() -> None:
    asked: list[str] = []

    def refuse(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(500)

    async with httpx.AsyncClient(transport=httpx.MockTransport(refuse)) as client:
        model = ChatOpenAI(model="gpt-5-mini", api_key=SecretStr("k"), http_async_client=client)
        assert await server_of(model) == UNKNOWN
    assert asked == []


def _server(answer: Any) -> Any:
    return httpx.AsyncClient(transport=httpx.MockTransport(answer))


def _model(client: httpx.AsyncClient) -> ChatOpenAI:
    return ChatOpenAI(
        model=f"held-{next(_names)}",
        base_url="http://model.test/v1",
        api_key=SecretStr("k"),
        http_async_client=client,
    )


@pytest.mark.parametrize("path", ["/v1/models", "/props"])
@pytest.mark.parametrize(
    "first",
    [
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
        TimeoutError(),
        httpx.Response(503, json={"error": {"message": "Loading model"}}),
        httpx.Response(429),
    ],
    ids=["not there", "slow", "too slow", "loading", "busy"],
)
async def test_a_server_that_cannot_say_what_it_is_yet_is_asked_again(path: str, first: Any) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path != path or not failures:
            return httpx.Response(200, json=LLAMA[request.url.path])
        failure = failures.pop()
        if isinstance(failure, Exception):
            raise failure
        return failure  # type: ignore[no-any-return]

    failures = [first]
    async with _server(answer) as client:
        model = _model(client)
        assert await server_of(model) == UNKNOWN
        assert (await server_of(model)).program == "llama.cpp"


async def test_a_server_that_has_no_such_page_is_not_asked_again() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(404)

    asked: list[str] = []
    async with _server(answer) as client:
        model = _model(client)
        assert [await server_of(model), await server_of(model)] == [UNKNOWN, UNKNOWN]
    assert asked == ["/v1/models"]
