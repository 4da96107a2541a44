"""A server that its environment sets up: a model, kept plans, tool sets, MCP servers."""

import json

import httpx
import pytest
from dev_server import NEVER, bound, plan, serve
from mcp_servers import gone, server_ids, stdio
from openai_stub import OpenAIStub, Reply

pytestmark = pytest.mark.timeout(180)

STEP = {
    "id": "a",
    "task": "echo",
    "depends_on": [],
    "call": "echo",
    "arguments": '{"text": "kept"}',
    "tools": [],
}
ASKED = []
"""The requests for a plan."""


def route(body):
    """Answer planning calls with one bound step, note them, and the others with text."""
    forced = [tool["function"]["name"] for tool in body.get("tools") or ()]
    if not (forced or body.get("response_format")):
        return Reply("Done, and this is what there is to say of it.", usage=(3, 4))
    ASKED.append(body)
    draft = {"outcome": "plan", "rationale": "r", "steps": [{**STEP, "success_criterion": None}]}
    return Reply(content=None, tool_calls=[(forced[0], draft)]) if forced else Reply.json(draft)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Serve it all at once; afterwards no MCP server is left."""
    folder = tmp_path_factory.mktemp("server")
    log = folder / "mcp.log"
    (folder / "mcp.json").write_text(json.dumps({"mcpServers": {"odd": stdio("hangs", log, timeout=2)}}))
    with OpenAIStub(route) as stub:
        settings = {
            "MODEL": "openai:stub",
            "BASE_URL": stub.base_url,
            "RATE_LIMIT": "500",
            "CACHE": "1h",
            "TOOLSETS": "files,command:python",
            "WORKSPACES": str(folder / "workspaces"),
            "MCP": str(folder / "mcp.json"),
        }
        variables = {f"PLAN_EXECUTE_{name}": value for name, value in settings.items()}
        with serve(folder / "app", "--no-reload", **variables) as started:
            yield started
            assert started.complaints() == []
            started.stop()
    assert server_ids(log)
    assert all(gone(process) for process in server_ids(log))


def test_the_second_thread_of_a_goal_is_a_hit(server):
    results = []
    for _ in range(2):
        given = {"goal": "echo what is kept"}
        results.append(server.run(server.new_thread(), input=given, context=NEVER))
    assert [result["status"] for result in results] == ["done", "done"]
    assert len(ASKED) == 1
    assert next(event["event"] for event in results[1]["audit"]) == "plan_recalled"
    assert results[1]["usage"]["model_calls"] == 1
    namespace = ["plan_execute", "cached_plans"]
    found = httpx.post(f"{server.url}/store/items/search", json={"namespace_prefix": namespace})
    assert found.status_code == 404


def test_the_final_answer_is_streamed_named_by_its_node_and_counted(server):
    steps = plan(*(bound(name, "echo", args={"text": "x"}) for name in "ab"))
    said, values = "", {}
    modes = ["messages-tuple", "values"]
    for part in server.client.runs.stream(
        server.new_thread(), "plan_execute", input=steps, context=NEVER, stream_mode=modes
    ):
        if part.event == "values":
            values = part.data
        elif part.event == "messages" and part.data[1]["langgraph_node"] == "synthesizer":
            said += part.data[0]["content"]
    assert said == values["final_answer"] == "Done, and this is what there is to say of it."
    assert values["usage"]["total_tokens"] == 7


def test_each_thread_has_a_folder_of_its_own_for_files_and_commands(server):
    threads = [server.new_thread() for _ in range(2)]
    for number, thread in enumerate(threads):
        steps = plan(
            bound("w", "write_file", args={"path": "a.py", "text": f"print({number})"}),
            bound("r", "run_command", "w", args={"command": ["python", "a.py"]}),
        )
        result = server.run(thread, input=steps, context=NEVER)
        assert result["results"]["r"]["output"] == f"{number}\n"
    folders = server.folder.parent / "workspaces"
    assert sorted(threads) == sorted(folder.name for folder in folders.iterdir())


def test_mcp_tools_are_called_and_one_that_hangs_is_a_failed_step(server):
    steps = plan(bound("hung", "hang", args={}, on_failure="skip", max_attempts=1))
    result = server.run(server.new_thread(), input=steps, context=NEVER)
    assert "did not answer a call of hang within 2 s" in result["results"]["hung"]["error"]["message"]
    alone = plan(bound("fine", "quick_read", args={}))
    assert server.run(server.new_thread(), input=alone, context=NEVER)["results"]["fine"]["output"] == "quick"
