"""The release demo runs to each of its endings, and the world is as the result says."""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from base64 import urlsafe_b64encode
from contextlib import contextmanager
from importlib.metadata import distributions

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from plan_execute import Context, create_plan_execute_agent
from plan_execute.errors import ConfigurationError, ToolFailedError
from plan_execute.examples import build_demo
from plan_execute.examples.release_checklist.project import make_project
from plan_execute.examples.release_checklist.tools import CheckFailedError, Checkout

CHECKS = ("tests", "syntax", "changelog")
DELIVERY = ("smoke", "tag", "verify", "publish")
THREAD = {"configurable": {"thread_id": "release"}}


@contextmanager
def released(ending):
    with build_demo("release", ending=ending) as demo:
        model = demo.agent_args["model"]
        agent = create_plan_execute_agent(**demo.agent_args)
        result = agent.invoke({"goal": demo.goal}, context=demo.context)
        model.assert_used()
        yield demo.workspace, result, model


@pytest.fixture(scope="module")
def good():
    with released("good") as run:
        yield run


@pytest.fixture(scope="module")
def smoke():
    with released("smoke") as run:
        yield run


@pytest.fixture(scope="module")
def verify():
    with released("verify") as run:
        yield run


def git(workspace, *args):
    outside = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(workspace / "wordcount"), *args]
    return subprocess.run(command, env=outside, check=True, capture_output=True, text=True).stdout.strip()


def published(workspace):
    (wheel,) = (workspace / "published").iterdir()
    return wheel


def run_wheel(wheel, *args):
    code = (
        f"import runpy, sys; sys.path.insert(0, {str(wheel)!r}); sys.argv[1:] = {list(args)!r}; "
        "runpy.run_module('wordcount', run_name='__main__')"
    )
    command = [sys.executable, "-I", "-S", "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_the_good_ending_is_done_with_every_step_met(good):
    _, result, model = good
    assert (result["status"], result["replans"]) == ("done", 0)
    assert {r["status"] for r in result["results"].values()} == {"done"}
    assert {r["verdict"] for r in result["results"].values()} == {"met"}
    assert result["final_answer"].startswith("wordcount 1.1.0 is released")
    assert [call.role for call in model.calls] == ["planner", *["executor"] * 3, "evaluator", "synthesizer"]


def test_independent_checks_run_at_the_same_time(good):
    _, result, _ = good
    tests, syntax, changelog = (result["results"][step_id] for step_id in CHECKS)
    assert max(tests["started_at"], syntax["started_at"]) < min(tests["finished_at"], syntax["finished_at"])
    assert changelog["started_at"] < tests["finished_at"]


def test_nothing_is_written_before_every_check_has_passed(good):
    _, result, _ = good
    checked = max(result["results"][step_id]["finished_at"] for step_id in CHECKS)
    assert checked <= min(result["results"][step_id]["started_at"] for step_id in ("bump", "notes"))


def test_the_tag_holds_the_new_version_and_is_on_the_last_commit(good):
    workspace, result, _ = good
    assert git(workspace, "tag", "--points-at", "HEAD") == "v1.1.0"
    assert git(workspace, "rev-parse", "HEAD") == result["results"]["commit"]["output"]["commit"]
    assert 'version = "1.1.0"' in git(workspace, "show", "v1.1.0:pyproject.toml")
    assert git(workspace, "show", "v1.1.0:wordcount/__init__.py") == '__version__ = "1.1.0"'
    assert git(workspace, "status", "--porcelain") == ""


def test_the_release_notes_name_the_commits_that_git_has(good):
    workspace, _, _ = good
    subjects = git(workspace, "log", "--reverse", "--format=- %s", "v1.0.0..v1.1.0~1").splitlines()
    assert len(subjects) == 3
    assert git(workspace, "show", "v1.1.0:RELEASE_NOTES.md").splitlines()[2:] == subjects


def test_the_published_wheel_is_valid_and_runs(good):
    wheel = published(good[0])
    assert run_wheel(wheel, "--version") == "wordcount 1.1.0\n"
    assert run_wheel(wheel, "b", "a", "b").split() == ["2", "b", "1", "a"]
    (distribution,) = distributions(path=[str(wheel)])
    assert (distribution.metadata["Name"], distribution.version) == ("wordcount", "1.1.0")
    with zipfile.ZipFile(wheel) as archive:
        recorded = {file.as_posix(): file.hash for file in distribution.files}
        assert set(recorded) == set(archive.namelist())
        for name, digest in recorded.items():
            if digest is not None:
                found = urlsafe_b64encode(hashlib.sha256(archive.read(name)).digest()).rstrip(b"=").decode()
                assert (name, digest.value) == (name, found)


def test_a_broken_wheel_is_patched_and_released(smoke):
    workspace, result, _ = smoke
    assert (result["status"], result["replans"], result["plan"]["revision"]) == ("done", 1, 2)
    assert "No module named 'wordcount.formats'" in result["results"]["smoke"]["error"]["message"]
    assert run_wheel(published(workspace), "a") == "    1 a\n"
    assert git(workspace, "log", "-1", "--format=%s", "v1.1.0") == "Ship wordcount.formats"
    assert '"wordcount.formats"' in git(workspace, "show", "v1.1.0:pyproject.toml")


def test_the_patch_has_new_ids_and_keeps_what_was_done(smoke):
    _, result, _ = smoke
    ids = [step["id"] for step in result["plan"]["steps"]]
    kept = [*CHECKS, "bump", "notes", "commit", "build"]
    assert ids == [*kept, "declare", "commit_mended", "rebuild", *(f"{step_id}_r2" for step_id in DELIVERY)]
    failed_at = result["results"]["smoke"]["finished_at"]
    for step_id in kept:
        assert result["results"][step_id]["attempts"] == 1
        assert result["results"][step_id]["finished_at"] <= failed_at


def test_a_finished_step_leaves_its_mark_on_the_world_once(smoke):
    workspace, _, model = smoke
    subjects = git(workspace, "log", "--format=%s", "v1.0.0..HEAD").splitlines()
    assert subjects.count("Release 1.1.0") == 1
    assert [call.role for call in model.calls].count("planner") == 1
    assert [(call.role, call.step) for call in model.calls].count(("executor", "notes")) == 3


def test_a_wrong_tag_aborts_the_run_before_anything_is_published(verify):
    workspace, result, _ = verify
    assert (result["status"], result["replans"]) == ("partial", 0)
    assert not (workspace / "published").exists()
    assert result["results"]["verify"]["status"] == "failed"
    assert result["results"]["publish"]["status"] == "blocked"
    assert git(workspace, "tag", "--list", "v1.1.0") == "v1.1.0"
    assert git(workspace, "show", "v1.1.0:wordcount/__init__.py") == '__version__ = "1.0.0"'


def test_the_partial_report_says_what_was_done_what_failed_and_what_was_not_done(verify):
    _, result, _ = verify
    first, said, report = result["final_answer"].split("\n\n", 2)
    assert first.startswith("The run ended before everything was done.")
    assert "Moving a tag is for a person to decide" in first
    assert said.startswith("wordcount 1.1.0 is not released")
    done, _, rest = report.partition("\nFailed:")
    failed, _, not_done = rest.partition("\nNot done")
    named = [line.split()[1] for line in done.partition("Done:")[2].splitlines() if line.startswith("- ")]
    assert named == [*CHECKS, "bump", "notes", "commit", "build", "smoke", "tag"]
    assert "wordcount/__init__.py in v1.1.0 has version 1.0.0, not 1.1.0" in failed
    assert "- publish" in not_done


def test_with_approval_nothing_happens_until_a_person_approves():
    with build_demo("release") as demo:
        agent = create_plan_execute_agent(**demo.agent_args, checkpointer=InMemorySaver())
        asked = agent.invoke({"goal": demo.goal}, THREAD, context=Context(approval="writes"))
        (question,) = asked["__interrupt__"]
        assert "`publish(" in question.value["action_requests"][0]["description"]
        assert git(demo.workspace, "tag", "--list") == "v1.0.0"
        assert git(demo.workspace, "status", "--porcelain") == ""
        result = agent.invoke(Command(resume="approve"), THREAD)
        assert result["status"] == "done"
        assert git(demo.workspace, "tag", "--points-at", "HEAD") == "v1.1.0"


def test_a_patch_that_needs_another_tool_is_asked_about_again():
    with build_demo("release", ending="smoke") as demo:
        agent = create_plan_execute_agent(**demo.agent_args, checkpointer=InMemorySaver())
        agent.invoke({"goal": demo.goal}, THREAD, context=Context(max_attempts=1))
        asked = agent.invoke(Command(resume="approve"), THREAD)
        (question,) = asked["__interrupt__"]
        assert "`declare_package`" in question.value["action_requests"][0]["description"]
        assert git(demo.workspace, "status", "--porcelain") == ""
        result = agent.invoke(Command(resume="approve"), THREAD)
        assert (result["status"], result["replans"]) == ("done", 1)


def test_without_git_the_demo_says_so_and_leaves_nothing_behind(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"needs git.*report, scaffold"):
        build_demo("release")
    assert [*tmp_path.iterdir()] == []


# --- the tools see what is wrong -----------------------------------------------------------


@pytest.fixture
def checkout(tmp_path):
    make_project(tmp_path / "wordcount")
    return Checkout(tmp_path / "wordcount")


def test_a_failing_test_of_the_project_fails_the_check(checkout):
    core = checkout.project / "wordcount/core.py"
    core.write_text(core.read_text(encoding="utf-8").replace(".lower()", ""), encoding="utf-8")
    with pytest.raises(ToolFailedError, match="FAILED"):
        checkout.run_tests()


def test_a_project_without_tests_fails_the_check(checkout):
    (checkout.project / "tests/test_wordcount.py").unlink()
    with pytest.raises((CheckFailedError, ToolFailedError), match=r"no tests|NO TESTS"):
        checkout.run_tests()


def test_a_syntax_error_fails_the_check(checkout):
    (checkout.project / "wordcount/broken.py").write_text("def broken(:\n", encoding="utf-8")
    with pytest.raises(ToolFailedError, match="SyntaxError"):
        checkout.check_syntax()


def test_the_checks_leave_the_checkout_as_it_is(checkout):
    before = sorted(path for path in checkout.project.rglob("*") if ".git" not in path.parts)
    checkout.run_tests()
    checkout.check_syntax()
    assert sorted(path for path in checkout.project.rglob("*") if ".git" not in path.parts) == before


def test_a_version_without_changes_fails_the_check(checkout):
    with pytest.raises(CheckFailedError, match=r"nothing about 1\.2\.0"):
        checkout.check_changelog("1.2.0")


def test_a_tag_on_another_commit_does_not_verify(checkout):
    checkout.set_version("1.1.0")
    commit = checkout.commit("Release 1.1.0")["commit"]
    checkout.write_release_notes("late")
    checkout.commit("Another commit gets in between")
    checkout.tag("v1.1.0")
    with pytest.raises(CheckFailedError, match="does not point at"):
        checkout.verify_tag("v1.1.0", commit, "1.1.0")


def test_the_same_files_give_the_same_wheel(checkout):
    assert checkout.build_wheel() == checkout.build_wheel()


def test_a_package_that_does_not_exist_cannot_be_declared(checkout):
    with pytest.raises(CheckFailedError, match=r"wordcount\.nothing"):
        checkout.declare_package("wordcount.nothing")
