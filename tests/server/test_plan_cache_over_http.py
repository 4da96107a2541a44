"""A server that was told to keep plans uses them again, and clients cannot reach them."""

import httpx
import pytest
from dev_server import NEVER, serve
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


def answer(asked):
    """Answer planning calls with one bound step, note them, and the others with text."""

    def route(body):
        forced = [tool["function"]["name"] for tool in body.get("tools") or ()]
        if not (forced or body.get("response_format")):
            return Reply("Done.")
        asked.append(body)
        draft = {"outcome": "plan", "rationale": "r", "steps": [{**STEP, "success_criterion": None}]}
        return Reply(content=None, tool_calls=[(forced[0], draft)]) if forced else Reply.json(draft)

    return route


def test_the_second_thread_of_a_goal_is_a_hit(tmp_path):
    asked = []
    with OpenAIStub(answer(asked)) as stub:
        model = {"PLAN_EXECUTE_MODEL": "openai:stub", "PLAN_EXECUTE_BASE_URL": stub.base_url}
        with serve(tmp_path / "app", "--no-reload", PLAN_EXECUTE_CACHE="1h", **model) as server:
            results = []
            for _ in range(2):
                given = {"goal": "echo what is kept"}
                results.append(server.run(server.new_thread(), input=given, context=NEVER))
            assert [result["status"] for result in results] == ["done", "done"]
            assert len(asked) == 1
            assert next(event["event"] for event in results[1]["audit"]) == "plan_recalled"
            assert results[1]["usage"]["model_calls"] == 1
            namespace = ["plan_execute", "cached_plans"]
            found = httpx.post(f"{server.url}/store/items/search", json={"namespace_prefix": namespace})
            assert found.status_code == 404
            assert server.complaints() == []
