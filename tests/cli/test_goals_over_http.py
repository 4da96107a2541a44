"""Goals planned by a model behind a real HTTP endpoint: runs, plans in files, and every way it can fail."""

import json

import pytest
import yaml
from openai_stub import OpenAIStub, Reply, asks_for_plan


def drafted(*steps, outcome="plan", rationale="because"):
    return {"outcome": outcome, "rationale": rationale, "steps": list(steps)}


def call(step_id, tool, arguments, **rest):
    bound = {"call": tool, "arguments": json.dumps(arguments)}
    return {
        "id": step_id,
        "task": f"do {step_id}",
        "depends_on": [],
        "tools": [],
        "success_criterion": None,
    } | bound


PLAN = drafted(call("a", "look", {"q": "tea"}), call("w", "note", {"text": "${a.found}"}))


def answer(draft=PLAN, written="Here you are."):
    """Answer structured calls with a draft and the others with text."""

    def route(body):
        if asks_for_plan(body):
            return Reply.json(draft)
        forced = [tool["function"]["name"] for tool in body.get("tools") or ()]
        if forced:
            return Reply(content=None, tool_calls=[(forced[0], draft)])
        return Reply(written)

    return route


def endpoint(stub):
    return ("--model", "openai:stub", "--base-url", stub.base_url)


def test_a_goal_is_planned_approved_and_answered(cli):
    with OpenAIStub(answer()) as stub:
        asked = cli("run", "make tea", "--tools", "mytools:ALL", "--thread", "t", *endpoint(stub))
        assert asked.code == 3, asked.err
        done = cli("resume", "t", "--approve", "--tools", "mytools:ALL", *endpoint(stub), "--json")
    assert (done.code, done.json["status"]) == (0, "done")
    assert done.json["final_answer"] == "Here you are."
    assert done.json["usage"]["model_calls"] == 2
    assert cli.calls == ["look tea", "note tea"]


def test_model_and_endpoint_can_come_from_the_environment(cli):
    with OpenAIStub(answer()) as stub:
        env = {"PLAN_EXECUTE_MODEL": "openai:stub", "PLAN_EXECUTE_BASE_URL": stub.base_url}
        assert cli("run", "make tea", "--tools", "mytools:ALL", "--yes", **env).code == 0


def test_feedback_on_a_plan_reaches_the_planner_and_the_new_plan_is_asked_about(cli):
    with OpenAIStub(answer()) as stub:
        options = ("--tools", "mytools:ALL", *endpoint(stub))
        cli("run", "make tea", "--thread", "t", *options)
        again = cli("resume", "t", "--reject", "use a bigger pot", *options)
        assert again.code == 3
        assert "use a bigger pot" in json.dumps(stub.requests[-1].body)


def test_plan_writes_a_file_that_runs_without_a_model_and_runs_nothing_itself(cli):
    with OpenAIStub(answer()) as stub:
        made = cli("plan", "make tea", "-o", "made.yaml", "--tools", "mytools:ALL", *endpoint(stub))
    assert (made.code, made.out) == (0, ""), made.err
    assert cli.calls == []
    written = yaml.safe_load((cli.folder / "made.yaml").read_text())
    assert [step["id"] for step in written["steps"]] == ["a", "w"]
    assert "id" not in written
    assert cli.run_plan("made.yaml", "--yes").code == 0
    assert cli.calls == ["look tea", "note tea"]


def test_a_planned_file_declares_the_inputs_it_was_planned_with_is_not_overwritten_and_leaves_no_thread(cli):
    draft = drafted(call("a", "look", {"q": "${inputs.what}"}))
    with OpenAIStub(answer(draft)) as stub:
        given = (
            "plan",
            "look",
            "-o",
            "made.yaml",
            "--input",
            "what=tea",
            "--tools",
            "mytools:ALL",
            *endpoint(stub),
        )
        made = cli(*given)
        asked = len(stub.requests)
        again = cli(*given)
        assert (made.code, again.code, len(stub.requests)) == (0, 2, asked), made.err
    assert "--force" in again.err
    assert not (cli.folder / "threads.db").exists()
    text = (cli.folder / "made.yaml").read_text()
    assert "# Run it: plan-execute run --plan made.yaml\n" in text
    assert yaml.safe_load(text)["inputs"] == {"what": {"type": "string", "default": "tea"}}
    assert cli.run_plan("made.yaml").code == 0
    assert cli.run_plan("made.yaml", "--input", "what=milk").code == 0
    assert cli.calls == ["look tea", "look milk"]


def test_plan_without_a_file_writes_yaml_or_json_to_stdout(cli):
    with OpenAIStub(answer()) as stub:
        options = ("--tools", "mytools:ALL", *endpoint(stub))
        text = cli("plan", "make tea", *options)
        document = cli("plan", "make tea", "--json", *options)
    assert yaml.safe_load(text.out)["steps"] == document.json["steps"]


def test_a_goal_that_cannot_be_planned_fails_with_the_reason(cli):
    draft = drafted(outcome="cannot_plan", rationale="there is no kettle")
    with OpenAIStub(answer(draft)) as stub:
        run = cli("run", "make tea", "--tools", "mytools:ALL", *endpoint(stub))
        assert (run.code, "there is no kettle" in run.out) == (1, True)
        plan = cli("plan", "make tea", "-o", "made.yaml", *endpoint(stub))
        assert (plan.code, "there is no kettle" in plan.err) == (1, True)
    assert not (cli.folder / "made.yaml").exists()


@pytest.mark.parametrize(
    "reply",
    [
        Reply.failure(401, "bad key"),
        Reply("I would rather not."),
        Reply(""),
        Reply(content=None, refusal="no"),
        Reply('{"outcome": "plan", "ste', finish_reason="length"),
        Reply.json(drafted(call("a", "teleport", {}))),
        Reply.json(drafted()),
    ],
    ids=["401", "prose", "nothing", "refusal", "truncated", "unknown tool", "empty plan"],
)
def test_a_model_that_cannot_be_used_fails_the_run_with_a_message(cli, reply):
    with OpenAIStub(lambda _: reply) as stub:
        done = cli("run", "make tea", "--tools", "mytools:ALL", "--json", *endpoint(stub))
    assert (done.code, done.json["status"]) == (1, "failed")
    assert done.json["final_answer"].strip()
    assert cli.calls == []


def test_an_endpoint_that_is_down_fails_the_run_with_a_message(cli):
    with OpenAIStub([]) as stub:
        down = endpoint(stub)
    done = cli("run", "make tea", *down, "--json", timeout=100)
    assert (done.code, done.json["status"]) == (1, "failed")
    assert "connect" in done.json["final_answer"].lower()
