"""Steps that call real MCP servers: results, evidence, approval, time limits and secrets."""

import pytest
from mcp_servers import gone, server_ids, stdio
from plans import FREE, Thread, agent_with, bound, statuses, think

from plan_execute import Context, ScriptedModel, mcp_tools

ONCE = Context(approval="never", on_failure="abort", max_attempts=1)
CALL = ScriptedModel.tool_calls
SECRET = "pl4nted-Shop-Value-3"


@pytest.fixture(scope="module")
def shop():
    with mcp_tools({"mcpServers": {"herbs": stdio("good", env={"HERB_TOKEN": SECRET})}}) as tools:
        yield list(tools)


@pytest.fixture(autouse=True)
def short_patience(monkeypatch):
    monkeypatch.setattr("plan_execute.tools.mcp_session._PATIENCE_S", 0.3)
    monkeypatch.setattr("mcp.client.stdio.PROCESS_TERMINATION_TIMEOUT", 0.3)


async def test_bound_steps_pass_exact_values_between_tools_of_a_server(shop):
    result = await Thread(agent_with(shop), ONCE).run(
        bound("items", "all_items", {}),
        bound("put", "put", {"item": "salt", "number": "${items.tea}"}),
        bound("none", "find", {"text": "zz"}),
    )
    assert result["results"]["items"]["output"]["tea"] == 3
    assert result["results"]["put"]["output"] == "salt: 3"
    assert result["results"]["none"]["verdict"] == "met_empty"


async def test_a_plan_with_a_tool_that_is_not_known_to_read_waits_for_approval(shop):
    thread = Thread(agent_with(shop))
    asked = await thread.run(bound("take", "take", {"item": "tea"}))
    assert asked["__interrupt__"]
    free = await Thread(agent_with(shop)).run(bound("count", "count", {"item": "tea"}))
    assert free["status"] == "done"


async def test_a_result_that_is_an_error_fails_its_step_with_evidence(shop):
    result = await Thread(agent_with(shop), ONCE).run(bound("take", "take", {"item": "nothing"}))
    step = result["results"]["take"]
    assert (step["status"], step["error"]["code"]) == ("failed", "tool_failed")
    [evidence] = step["evidence"]
    assert not evidence["ok"]
    assert "there is no nothing" in evidence["output_preview"]


async def test_an_agent_step_reads_the_failure_and_sees_texts_as_texts(shop):
    script = [CALL(("take", {"item": "nothing"})), CALL(("count", {"item": "tea"})), "there are 3"]
    model = ScriptedModel({"executor": script, "synthesizer": ["ok"]})
    result = await Thread(agent_with(shop, model), ONCE).run(think("a", tools=["take", "count"]))
    step = result["results"]["a"]
    assert [call["ok"] for call in step["evidence"]] == [False, True]
    assert "there is no nothing" in str(model.calls[1].messages[-1].text)
    assert step["output"] == "there are 3"


async def test_a_secret_that_a_server_was_given_stays_out_of_results_and_of_what_models_see(shop):
    script = [CALL(("secret_of", {"name": "HERB_TOKEN"})), "done"]
    model = ScriptedModel({"executor": script, "synthesizer": ["ok"]})
    result = await Thread(agent_with(shop, model), ONCE).run(
        bound("b", "secret_of", {"name": "HERB_TOKEN"}), think("a", tools=["secret_of"])
    )
    assert result["results"]["b"]["output"] == "[redacted herbs.HERB_TOKEN]"
    assert SECRET not in repr(result)
    assert SECRET not in repr([call.messages for call in model.calls])


@pytest.mark.parametrize(
    ("kind", "tool", "words"),
    [
        ("dies", "dies", "ended during the call"),
        ("hangs", "hang", "did not answer a call of hang within 0.2 s"),
    ],
)
async def test_a_server_that_dies_or_hangs_is_a_failed_step_and_the_run_goes_on(tmp_path, kind, tool, words):
    tools = mcp_tools({"mcpServers": {"odd": stdio(kind, tmp_path / "log", timeout=0.2)}})
    with tools:
        result = await Thread(agent_with(list(tools)), FREE).run(
            bound("bad", tool, {}, on_failure="skip", max_attempts=1),
            bound("fine", tools[1].name, {}, "bad", when="`false`"),
        )
    step = result["results"]["bad"]
    assert statuses(result)["bad"] != "done"
    assert words in step["error"]["message"]
    assert step["evidence"][0]["ok"] is False
    assert all(gone(process) for process in server_ids(tmp_path / "log"))


async def test_a_step_that_runs_out_of_time_calls_its_call_off(shop, tmp_path):
    mark = tmp_path / "mark"
    step = bound("slow", "wait", {"seconds": 60, "mark": str(mark)}, timeout_s=10, max_attempts=1)
    result = await Thread(agent_with(shop), ONCE).run(step)
    assert result["results"]["slow"]["error"]["code"] == "timeout"
    after = await Thread(agent_with(shop), ONCE).run(bound("count", "count", {"item": "tea"}))
    assert after["status"] == "done"
    assert mark.read_text() == "called off"


@pytest.mark.parametrize(("profile", "seen"), [({}, True), ({"image_inputs": False}, False)])
async def test_an_agent_is_shown_images_where_its_model_takes_them_and_links_in_words(shop, profile, seen):
    script = [CALL(("picture", {}), ("leaflet", {})), "a leaf"]
    model = ScriptedModel({"executor": script, "synthesizer": ["ok"]})
    model.profile = profile
    result = await Thread(agent_with(shop, model), ONCE).run(think("a", tools=["picture", "leaflet"]))
    assert result["results"]["a"]["output"] == "a leaf"
    answers = [message for message in model.calls[1].messages if message.type == "tool"]
    told = [block for answer in answers for block in answer.content]
    images = [block for block in told if block["type"] == "image"]
    assert [("base64" in image, "url" in image) for image in images] == [(True, False), (False, True)] * seen
    words = " ".join(block.get("text", "") for block in told)
    assert "a link to https://shop.example/leaflet.pdf" in words
    assert ("image (image/png), which this model cannot process" in words) is not seen


async def test_a_reference_that_the_declared_output_of_a_tool_rules_out_is_an_issue(shop):
    result = await Thread(agent_with(shop), ONCE).run(
        bound("count", "count", {"item": "tea"}),
        bound("put", "put", {"item": "salt", "number": "${count.number}"}),
    )
    [issue] = result["plan_issues"]
    assert (issue["code"], issue["step_id"]) == ("type_mismatch", "put")
    assert "count is declared as integer, it has no member 'number'" in issue["message"]
    wrong_kind = await Thread(agent_with(shop), ONCE).run(
        bound("count", "count", {"item": "tea"}), bound("take", "take", {"item": "${count}"})
    )
    assert "the argument 'item' wants string" in wrong_kind["plan_issues"][0]["message"]
