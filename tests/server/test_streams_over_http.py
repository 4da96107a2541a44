"""A client of a server follows a run's plan, steps and questions, with LangGraph's SDK for Python."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from dev_server import CHECKOUT, NEVER, Server, bound, plan
from langgraph_sdk import get_client

pytestmark = pytest.mark.timeout(180)


async def _followed(thread: Any, *, until: str) -> dict[str, list[Any]]:
    """Read the three channels, on a connection of their own, until the run asks or a step is done.

    What the SDK for Python (0.4.14) reads for its users ends when another connection tells of a question, and
    so now and then before the question has come. A new connection is told from the beginning.
    """
    found: dict[str, list[Any]] = {"plan": [], "steps": [], "questions": []}
    handle = thread._transport.open_event_stream({"channels": [f"custom:{name}" for name in found]})
    await handle.ready
    async for event in handle.events:
        params = event["params"]["data"]
        name = params["name"]
        found[name].append(params["payload"])
        if name == until and (name != "steps" or params["payload"]["status"] == "done"):
            break
    await handle.close()
    return found


async def test_a_run_is_followed_to_its_question_and_from_its_answer_to_its_end(server: Server) -> None:
    async with (
        get_client(url=server.url) as client,
        client.threads.stream(assistant_id="plan_execute") as thread,
    ):
        await thread.run.start(input=plan(bound("a", "write", args={"text": "mark-v3"})))
        asked = await _followed(thread, until="questions")
        (shown,), (question,) = asked["plan"], asked["questions"]
        assert [step["id"] for step in shown["steps"]] == ["a"]
        assert (question["name"], asked["steps"]) == ("approve_plan", [])
        assert question["value"]["action_requests"][0]["args"]["plan"]["id"] == shown["id"]
        assert server.calls("mark-v3") == []
        while not thread.interrupts:  # the SDK is told of it on another connection
            await asyncio.sleep(0.01)
        await thread.run.respond("approve", interrupt_id=question["id"])
        went_on = await _followed(thread, until="steps")
    course = [(step["step_id"], step["status"]) for step in went_on["steps"]]
    assert course == [("a", "running"), ("a", "running"), ("a", "done")]
    assert server.calls("mark-v3") == ["write"]


async def test_settings_come_with_the_assistant_as_this_protocol_sends_none(server: Server) -> None:
    async with get_client(url=server.url) as client:
        assistant = await client.assistants.create("plan_execute", context=NEVER)
        async with client.threads.stream(assistant_id=assistant["assistant_id"]) as thread:
            await thread.run.start(input=plan(bound("a", "write", args={"text": "mark-free"})))
            found = await _followed(thread, until="steps")
            values = await thread.output
    assert found["questions"] == []
    assert [step["status"] for step in found["steps"]][-1:] == ["done"]
    assert values["status"] == "done"


async def test_what_the_page_shows_follows_a_run(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    page = (CHECKOUT / "docs/streaming.md").read_text(encoding="utf-8")
    block = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[1]
    names: dict[str, Any] = {}
    exec(block, names)
    async with get_client(url=server.url) as client:
        await names["follow"](client, plan(bound("a", "write", args={"text": "mark-page"})))
    told = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert told[-1:] == ["approve_plan"]
    assert set(told[:-1]) <= {"plan", "questions"}
