"""Steps that a graph on another LangGraph server does, through RemoteGraph, over real HTTP."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import sys
import time
from contextlib import suppress
from typing import Any

import httpx
import pytest
from dev_server import CHECKOUT, serve
from langgraph.pregel.remote import RemoteGraph
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from plans import FREE, Thread, agent_with

from plan_execute import Context, create_plan_execute_agent, local_persistence

pytestmark = pytest.mark.timeout(180)
_marks = (f"mark-{n}" for n in itertools.count())


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Serve the worker graph."""
    folder = tmp_path_factory.mktemp("remote") / "app"
    folder.mkdir()
    shutil.copy(CHECKOUT / "tests" / "remote_app.py", folder)
    served = {"dependencies": ["."], "graphs": {"worker": "./remote_app.py:worker"}}
    (folder / "langgraph.json").write_text(json.dumps(served))
    with serve(folder, "--no-reload") as server:
        yield server


class Remote:
    """The server, and graphs on it whose client the test closes: RemoteGraph itself never does."""

    def __init__(self, server: Any, client: Any) -> None:
        self.folder, self.url, self._client = server.folder, server.url, client

    def worker(self, effect: str = "write") -> Any:
        graph = RemoteGraph("worker", client=self._client)
        return graph.with_config(metadata={"effect": effect, "description": "works elsewhere"})


@pytest.fixture
async def remote(serving: Any) -> Any:
    async with get_client(url=serving.url) as client:
        yield Remote(serving, client)


def step(task: str, **fields: Any) -> dict[str, Any]:
    return {"id": "a", "task": task, "agent": "worker", "depends_on": [], **fields}


def done(remote: Any, mark: str) -> list[str]:
    path = remote.folder / "work.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.split()[0] for line in lines if line.split()[1] == mark]


async def until(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_a_remote_graph_does_a_step_and_its_usage_counts(remote: Any) -> None:
    mark = next(_marks)
    result = await Thread(agent_with((), agents={"worker": remote.worker()}), FREE).run(
        step(f"do {mark} now")
    )
    assert (result["status"], result["results"]["a"]["output"]) == ("done", f"did {mark}")
    assert (result["usage"]["total_tokens"], done(remote, mark)) == (15, ["begin", "end"])


async def test_what_a_remote_graph_uses_counts_in_the_budget_of_the_day_and_ends_the_next_step(
    remote: Any,
) -> None:
    settings = {"approval": "never", "max_attempts": 1, "spend_limits": [{"per": "day", "max_tokens": 15}]}
    agent, marks = agent_with((), agents={"worker": remote.worker()}), [next(_marks), next(_marks)]
    results = [await Thread(agent, Context(**settings)).run(step(f"do {mark} now")) for mark in marks]
    assert [result["results"]["a"]["status"] for result in results] == ["done", "failed"]
    assert "max_tokens per day=15" in results[1]["final_answer"]
    assert done(remote, marks[1]) == []


async def test_each_item_of_a_loop_has_a_thread_of_its_own_there(remote: Any) -> None:
    marks = [next(_marks) for _ in range(3)]
    agent = agent_with((), agents={"worker": remote.worker("read")})
    loop = {**step("do ${item} now"), "for_each": "${inputs.marks}"}
    given = {"plan": {"goal": "g", "steps": [loop], "inputs": {"marks": {}}}, "inputs": {"marks": marks}}
    result = await Thread(agent, FREE).send(given)
    assert result["results"]["a"]["output"] == [f"did {mark}" for mark in marks]


async def test_what_a_remote_graph_asks_reaches_a_person_one_question_after_the_other(remote: Any) -> None:
    mark = next(_marks)
    thread = Thread(agent_with((), agents={"worker": remote.worker()}), FREE)
    await thread.run(step(f"ask ask {mark} please"))
    for n, answer in enumerate(["red", "blue"]):
        (question,) = await thread.questions()
        assert question.value == {"question": n, "mark": mark}
        result = await thread.answer(answer)
    assert result["results"]["a"]["output"] == f"did {mark} red blue"
    assert done(remote, mark) == ["begin", "end"]


async def test_a_failed_remote_run_is_a_failed_step_with_its_reason(remote: Any) -> None:
    mark = next(_marks)
    agent = agent_with((), agents={"worker": remote.worker()})
    result = await Thread(agent, FREE).run(step(f"fail {mark} now", on_failure="abort"))
    assert result["results"]["a"]["error"]["code"] == "tool_failed"
    assert "cannot be done" in result["results"]["a"]["error"]["message"]
    assert done(remote, mark) == ["begin"], "a write is not attempted again by itself"


async def test_a_run_that_lost_its_process_waits_for_the_remote_run_and_does_not_start_it_again(
    remote: Any, tmp_path: Any
) -> None:
    mark, config = next(_marks), {"configurable": {"thread_id": "lost"}}

    async def run(given: Any) -> dict[str, Any]:
        async with local_persistence(tmp_path / "runs.db") as (saver, store):
            agent = create_plan_execute_agent(
                agents={"worker": remote.worker()}, checkpointer=saver, store=store
            )
            result: dict[str, Any] = await agent.ainvoke(given, config, context=FREE)
            return result

    # A process that dies says nothing to the remote server: its connection breaks, no more.
    code = f"""
import asyncio
from langgraph.pregel.remote import RemoteGraph
from plan_execute import Context, create_plan_execute_agent, local_persistence
async def main():
    async with local_persistence({str(tmp_path / "runs.db")!r}) as (saver, store):
        worker = RemoteGraph("worker", url={remote.url!r})
        agent = create_plan_execute_agent(agents={{"worker": worker}}, checkpointer=saver, store=store)
        plan = {{"goal": "g", "steps": [{step(f"hold {mark} now")!r}]}}
        await agent.ainvoke({{"plan": plan}}, {config!r}, context=Context(approval="never"))
asyncio.run(main())
"""

    child = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    await until(lambda: done(remote, mark) == ["begin"])
    child.kill()
    await child.wait()
    resumed = asyncio.create_task(run(None))
    await asyncio.sleep(0.5)
    (remote.folder / f"{mark}.go").touch()
    result = await resumed
    assert (result["status"], result["results"]["a"]["output"]) == ("done", f"did {mark}")
    assert done(remote, mark) == ["begin", "end"]


async def test_a_timeout_here_cancels_the_run_there(remote: Any) -> None:
    mark = next(_marks)
    agent = agent_with((), agents={"worker": remote.worker("read")})
    settings = Context(approval="never", max_attempts=1)
    result = await Thread(agent, settings).run(step(f"hold {mark} now", timeout_s=10, on_failure="abort"))
    assert result["results"]["a"]["error"]["code"] == "timeout"
    (remote.folder / f"{mark}.go").touch()
    await asyncio.sleep(0.5)
    assert done(remote, mark) == ["begin"]


class Wire:
    """A way to the server that the test can cut; what is begun there goes on."""

    def __init__(self, url: str) -> None:
        self._host, _, port = url.removeprefix("http://").partition(":")
        self._port = int(port)
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Wire:
        self._server = await asyncio.start_server(self._join, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_connection(self._host, self._port)
        self._writers |= {writer, to_writer}
        await asyncio.gather(self._pump(reader, to_writer), self._pump(to_reader, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await reader.read(65536):
                writer.write(piece)
                await writer.drain()
        writer.close()

    def cut(self) -> int:
        """Reset all connections; give their number."""
        cut = [writer for writer in self._writers if not writer.is_closing()]
        for writer in cut:
            writer.transport.abort()
        self._writers.clear()
        return len(cut)


# The client warns if no event has come before. None is needed, because the state holds the result.
@pytest.mark.filterwarnings("ignore:Reconnecting without a Last-Event-ID")
async def test_a_connection_that_breaks_amid_a_run_is_made_again_and_the_work_is_not(remote: Any) -> None:
    mark = next(_marks)
    async with Wire(remote.url) as wire, get_client(url=wire.url) as client:
        agent = agent_with((), agents={"worker": Remote(remote, client).worker()})
        running = asyncio.create_task(Thread(agent, FREE).run(step(f"hold {mark} now", on_failure="abort")))
        await until(lambda: done(remote, mark) == ["begin"])
        for _ in range(2):
            await until(lambda: running.done() or wire.cut())
            assert not running.done(), running.result()
            await asyncio.sleep(0.2)
        (remote.folder / f"{mark}.go").touch()
        result = await running
    assert (result["status"], result["results"]["a"]["output"]) == ("done", f"did {mark}")
    assert (result["results"]["a"]["attempts"], done(remote, mark)) == (1, ["begin", "end"])


async def test_what_a_remote_graph_streams_is_in_the_stream_of_who_asks_for_subgraphs(remote: Any) -> None:
    mark = next(_marks)
    agent = agent_with((), agents={"worker": remote.worker()})
    given = {"plan": {"goal": "g", "steps": [step(f"do {mark} now")]}}
    config: Any = {"configurable": {"thread_id": mark}}
    seen = [
        (namespace, event)
        async for namespace, event in agent.astream(
            given, config, context=FREE, stream_mode="custom", subgraphs=True
        )
    ]
    ((namespace, _),) = [one for one in seen if one[1] == {"progress": mark}]
    assert namespace[0].startswith("executor:")
    assert seen[-1][1]["type"] == "synthesized"


async def test_cancelling_the_run_here_cancels_the_run_there(remote: Any) -> None:
    mark = next(_marks)
    agent = agent_with((), agents={"worker": remote.worker()})
    running = asyncio.create_task(Thread(agent, FREE).run(step(f"hold {mark} now")))
    await until(lambda: done(remote, mark) == ["begin"])
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    (remote.folder / f"{mark}.go").touch()
    await asyncio.sleep(0.5)
    assert done(remote, mark) == ["begin"]


async def test_a_server_that_is_not_there_is_a_failed_step() -> None:
    settings = Context(approval="never", max_attempts=1)
    # Whose client does not try for eight seconds to connect, as get_client's does.
    async with httpx.AsyncClient(base_url="http://127.0.0.1:9") as http:
        agent = agent_with((), agents={"worker": RemoteGraph("worker", client=LangGraphClient(http))})
        result = await Thread(agent, settings).run(step("do it", on_failure="abort"))
    assert result["results"]["a"]["error"]["code"] == "tool_failed"
