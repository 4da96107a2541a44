"""The plan files that ship with the examples run on real files, with no model."""

from importlib.resources import files
from pathlib import Path

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from plan_execute import Context, create_plan_execute_agent
from plan_execute.examples.text_files import TOOLS
from plan_execute.plan.files.plan_files import load_plan_file

SUMMARISE = Path(str(files("plan_execute.examples"))) / "plans/summarise_folder.yaml"
THREAD = {"configurable": {"thread_id": "summary"}}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    long = "# Long\n## Part\n" + "word " * 20
    texts = {"short.md": "# Short\nOne line.\n", "long.md": long, "other.txt": "no"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def plan():
    return load_plan_file(SUMMARISE).plan


SUMMARY = "2 files, 25 words.\n\n## long.md (22 words)\n- Long\n- Part\n\n## short.md (3 words)\n- Short\n"


def test_the_plan_summarises_a_folder_without_a_model(folder, plan):
    agent = create_plan_execute_agent(None, TOOLS)
    result = agent.invoke({"plan": plan}, context=Context(approval="never"))
    assert (result["status"], result["plan_issues"]) == ("done", [])
    assert (folder / "summary.txt").read_text(encoding="utf-8") == SUMMARY
    assert result["usage"].get("model_calls", 0) == 0
    assert result["results"]["find"]["output"] == ["long.md", "short.md"]


def test_the_inputs_say_which_folder_and_which_file(folder, plan, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    agent = create_plan_execute_agent(None, TOOLS)
    inputs = {"folder": str(folder), "report": str(elsewhere / "report.txt")}
    result = agent.invoke({"plan": plan, "inputs": inputs}, context=Context(approval="never"))
    assert result["status"] == "done"
    assert (elsewhere / "report.txt").read_text(encoding="utf-8") == SUMMARY
    assert not (folder / "summary.txt").exists()


def test_the_file_is_written_only_after_a_person_has_approved(folder, plan):
    agent = create_plan_execute_agent(None, TOOLS, checkpointer=InMemorySaver())
    asked = agent.invoke({"plan": plan}, THREAD)
    assert asked["__interrupt__"][0].value["action_requests"][0]["name"] == "approve_plan"
    assert not (folder / "summary.txt").exists()
    assert agent.invoke(Command(resume="approve"), THREAD)["status"] == "done"
    assert (folder / "summary.txt").exists()


def test_a_folder_without_markdown_ends_with_the_reason_and_writes_nothing(plan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = create_plan_execute_agent(None, TOOLS).invoke({"plan": plan}, context=Context(approval="never"))
    assert result["status"] == "failed"
    assert "the output is empty" in result["final_answer"]
    assert [*tmp_path.iterdir()] == []


def test_a_folder_that_does_not_exist_is_named(plan, tmp_path):
    agent = create_plan_execute_agent(None, TOOLS)
    inputs = {"folder": str(tmp_path / "nowhere")}
    result = agent.invoke({"plan": plan, "inputs": inputs}, context=Context(approval="never"))
    assert result["status"] == "failed"
    assert "there is no folder" in result["results"]["find"]["error"]["message"]
