"""The demo graph runs as `langgraph dev` uses it: built anew for every run, for ever, off the event loop."""

import asyncio

import pytest
from blockbuster import blockbuster_ctx
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command

from plan_execute.examples import demo_graph
from plan_execute.examples.demo_graph import make_demo_graph


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Keep the projects in the test's own folder, and be in another one."""
    (tmp_path / "served").mkdir()
    (tmp_path / "temporary").mkdir()
    monkeypatch.chdir(tmp_path / "served")
    monkeypatch.setattr(demo_graph, "_TEMPORARY", tmp_path / "temporary")
    return tmp_path / "temporary"


class Server:
    """Builds the graph for every run and keeps the checkpoints itself, as the server does."""

    def __init__(self):
        self.kept = {"checkpointer": InMemorySaver(), "store": InMemoryStore()}

    async def run(self, given, thread_id):
        config = {"configurable": {"thread_id": thread_id}}
        return await make_demo_graph(config).copy(self.kept).ainvoke(given, config)


async def release(server, thread_id, said):
    asked = await server.run({"messages": [("user", said)]}, thread_id)
    assert asked["__interrupt__"][0].value["action_requests"][0]["name"] == "approve_plan"
    return await server.run(Command(resume="approve"), thread_id)


async def test_any_message_is_released_again_and_again_on_one_thread(temporary):
    server = Server()
    for said in ("start", "and once more"):
        result = await release(server, "one", said)
        assert (result["status"], result["goal"]) == ("done", said)
        assert result["messages"][-1].text.startswith("wordcount 1.1.0 is released")


async def test_threads_run_at_the_same_time_in_projects_of_their_own(temporary):
    server = Server()
    results = await asyncio.gather(*(release(server, thread_id, "start") for thread_id in ("one", "two")))
    assert [result["status"] for result in results] == ["done", "done"]
    assert len([*temporary.glob("*/published/wordcount-1.1.0-py3-none-any.whl")]) == 2


async def test_nothing_is_written_below_the_folder_of_the_server(temporary):
    await release(Server(), "one", "start")
    assert [*(temporary.parent / "served").iterdir()] == []


async def test_rejecting_the_plan_with_feedback_asks_again(temporary):
    server = Server()
    await server.run({"goal": "start"}, "one")
    rejected = {"type": "reject", "message": "not on a Friday"}
    for _ in range(3):
        asked = await server.run(Command(resume=rejected), "one")
        assert asked["__interrupt__"][0].value["action_requests"][0]["name"] == "approve_plan"
    assert [*temporary.iterdir()] == []


async def test_building_the_graph_does_not_block_the_event_loop():
    with blockbuster_ctx():
        graph = make_demo_graph({"configurable": {"thread_id": "\ud800 ../.."}})
    assert graph.name == "demo"


def test_the_graph_can_be_drawn_without_a_thread():
    assert "executor" in make_demo_graph().get_graph().nodes
