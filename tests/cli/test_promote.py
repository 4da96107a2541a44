"""A run that worked becomes a plan file, and the file does the same work with no planner and no model."""

import json

import pytest
import yaml
from openai_stub import OpenAIStub, Reply, asks_for_plan
from plans import draft, draft_step

TOOLS = ("--tools", "mytools:ALL")
FIRST = draft(
    draft_step("a", "look", {"q": "tea"}),
    draft_step("b", "look", {"q": "bad"}),
    draft_step("w", "note", {"text": "${a.found} and ${b.found}"}, "a", "b"),
)
REPAIRED = draft(
    draft_step("b", "look", {"q": "milk"}),
    draft_step("w", "note", {"text": "${a.found} and ${b.found}"}, "a", "b"),
)


def planner_that_repairs_its_plan():
    """Answer the first structured call with a plan that fails and the second with its repair."""
    drafts = iter([FIRST, REPAIRED])

    def route(body):
        if asks_for_plan(body) or body.get("tools"):
            return Reply.json(next(drafts))
        return Reply("The end.")

    return route


@pytest.fixture
def repaired_run(cli):
    """A goal whose first plan failed and whose second revision ended done, on the thread `t`."""
    with OpenAIStub(planner_that_repairs_its_plan()) as stub:
        model = ("--model", "openai:stub", "--base-url", stub.base_url)
        given = ("run", "make tea", *TOOLS, *model, "--thread", "t", "--yes", "--on-failure", "replan")
        done = cli(*given, "--json")
        assert (done.code, done.json["status"]) == (0, "done"), done.err
        assert len(stub.requests) == 3
    assert [call for call in cli.calls if call != "look bad"] == [
        "look tea",
        "look milk",
        "note tea and milk",
    ]
    (cli.folder / "calls.txt").unlink()
    return done.json


def test_the_repaired_revision_is_kept_and_does_the_same_work_without_a_model(cli, repaired_run):
    assert "b_r2" in repaired_run["results"]
    kept = cli("promote", "t", "-o", "tea.yaml", "--lift", "a.q=drink", *TOOLS)
    assert (kept.code, kept.out) == (0, ""), kept.err

    text = (cli.folder / "tea.yaml").read_text()
    header = [line for line in text.splitlines() if line.startswith("#")]
    assert any("thread t, revision 2 (1 replans)" in line for line in header)
    assert any("b (was b_r2); w (was w_r2)" in line for line in header)
    assert any("run --plan tea.yaml --input drink=tea" in line for line in header)
    plan = yaml.safe_load(text)
    assert [step["id"] for step in plan["steps"]] == ["a", "b", "w"]
    assert plan["steps"][2]["call"]["args"] == {"text": "${a.found} and ${b.found}"}
    assert plan["inputs"] == {"drink": {"type": "string", "default": "tea"}}

    with OpenAIStub([]) as stub:
        again = cli("run", "--plan", "tea.yaml", "--yes", "--json", *TOOLS)
        assert (again.code, again.json["usage"].get("model_calls", 0)) == (0, 0)
        assert stub.requests == []
    assert sorted(cli.calls) == ["look milk", "look tea", "note tea and milk"]
    other = cli("run", "--plan", "tea.yaml", "--yes", "--input", "drink=cocoa", *TOOLS)
    assert other.code == 0, other.err
    assert cli.calls[-1] == "note cocoa and milk"


def test_a_file_is_never_overwritten_in_silence_and_minus_prints(cli, repaired_run):
    (cli.folder / "tea.json").write_text("mine")
    kept = cli("promote", "t", "-o", "tea.json")
    assert (kept.code, "--force" in kept.err) == (2, True)
    assert (cli.folder / "tea.json").read_text() == "mine"
    assert cli("promote", "t", "-o", "tea.json", "--force").code == 0
    document = json.loads((cli.folder / "tea.json").read_text())
    assert "Promoted from thread t" in " ".join(document["$comment"])
    assert cli("validate", "tea.json", *TOOLS).code == 0
    printed = cli("promote", "t", "-o", "-")
    assert yaml.safe_load(printed.out)["steps"] == document["steps"]
    assert cli("promote", "t", "--json").json["steps"] == document["steps"]


def test_what_cannot_be_promoted_is_refused_and_no_file_is_written(cli):
    cli.run_plan("write.yaml")
    waiting = cli("promote", "t", "-o", "out.yaml", "--json")
    assert (waiting.code, waiting.json["error"]["code"]) == (1, "not_promotable")
    assert "waiting" in waiting.json["error"]["message"]
    assert cli("resume", "t", "--approve", *TOOLS).code == 0
    lift = cli("promote", "t", "-o", "out.yaml", "--lift", "a.town=x", "--json")
    assert (lift.code, lift.json["error"]["code"]) == (2, "invalid_input")
    assert "a.q" in lift.json["error"]["message"]
    assert cli("promote", "nobody", "-o", "out.yaml").code == 2
    assert cli("promote", "t", "-o", "out.txt").code == 2
    assert not (cli.folder / "out.yaml").exists()


def test_a_plan_whose_tools_are_gone_is_not_written(cli):
    (cli.folder / "fewer.py").write_text("from mytools import look\nALL = [look]\n")
    assert cli.run_plan("write.yaml", "--yes").code == 0
    kept = cli("promote", "t", "-o", "out.yaml", "--tools", "fewer:ALL", "--json")
    assert (kept.code, kept.json["error"]["issues"][0]["code"]) == (2, "unknown_tool")
    assert not (cli.folder / "out.yaml").exists()


def test_a_file_that_a_person_wrote_keeps_its_comments_when_a_run_of_it_is_promoted_to_it(cli):
    written = (
        "# Tea, as grandmother made it\n"
        "goal: make tea\n"
        "steps:\n"
        "  # the leaves\n"
        "  - id: leaves\n"
        "    task: find them   # green ones\n"
        '    call: {tool: look, args: {q: "tea"}}\n'
    )
    (cli.folder / "tea.yaml").write_text(written, encoding="utf-8")
    assert cli("run", "--plan", "tea.yaml", *TOOLS, "--thread", "mine", "--yes").code == 0
    assert cli("promote", "mine", "-o", "tea.yaml", "--force").code == 0
    assert (cli.folder / "tea.yaml").read_text(encoding="utf-8") == written
    assert cli("promote", "mine", "-o", "tea.yaml", "--force", "--lift", "leaves.q=kind").code == 0
    lifted = (cli.folder / "tea.yaml").read_text(encoding="utf-8")
    assert '    call: {tool: look, args: {q: "${inputs.kind}"}}\n' in lifted
    assert lifted.startswith("# Tea, as grandmother made it\ngoal: make tea\n")
    assert "  # the leaves\n  - id: leaves\n    task: find them   # green ones\n" in lifted
