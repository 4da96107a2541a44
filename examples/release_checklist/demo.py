"""The release as a demo: the goal, and what the scripted model says in each of the three endings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage

from ... import Context, ScriptedModel
from ...models.prompts import unquote
from ..scripts import MET, agent_step, call_step, plan_reply
from .project import ENDINGS, make_project
from .tools import release_tools

__all__ = ["ENDINGS", "GOAL", "PATCH", "prepare", "release_script", "release_steps"]

GOAL = (
    "Release wordcount 1.1.0: check the project, set the version, write release notes, "
    "build the wheel, smoke-test it, tag the release, verify the tag, publish the wheel."
)


def prepare(workspace: Path, ending: str) -> dict[str, Any]:
    """Make the project in the workspace; return what a ``Demo`` is made of."""
    project = workspace / "wordcount"
    make_project(project, ending)
    return {
        "agent_args": {"model": ScriptedModel(release_script(ending)), "tools": release_tools(project)},
        "goal": GOAL,
        # Nobody is asked, because the repository is thrown away; release anything real with the
        # default, which asks before a plan with writes runs. One attempt, because a check that
        # failed on the same files fails again.
        "context": Context(approval="never", max_attempts=1),
    }


def release_script(ending: str) -> dict[str, list[Any]]:
    """Write the script: what each role answers, in order."""
    script: dict[str, list[Any]] = {
        "planner": [plan_reply("Nothing is written before the checks have passed.", *release_steps())],
        "executor:notes": [
            ScriptedModel.tool_calls(("git_log", {})),
            _write_notes,
            "RELEASE_NOTES.md is written.",
        ],
        "evaluator": [MET],
        "synthesizer": [_answer],
    }
    if ending == "smoke":
        script["evaluator"] += [PATCH, MET]
        script["replanner"] = [plan_reply("The wheel lacks a package.", *_mending_steps())]
        script["executor:declare"] = [
            ScriptedModel.tool_calls(("list_packages", {})),
            ScriptedModel.tool_calls(("declare_package", {"package": "wordcount.formats"})),
            "wordcount.formats is declared now.",
        ]
    if ending == "verify":
        script["evaluator"] += [_ABORT]
    return script


# --- plans -------------------------------------------------------------------------------


def release_steps(*, after: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Write the steps of the release.

    Args:
        after: Ids of steps that come before all of them.
    """
    message = {"message": "Release 1.1.0"}
    checks, version = ["tests", "syntax", "changelog"], {"version": "1.1.0"}
    return [
        call_step("tests", "Run the tests", "run_tests", after=after),
        call_step("syntax", "Compile every module", "check_syntax", after=after),
        call_step("changelog", "Look for the changes of 1.1.0", "check_changelog", version, after=after),
        call_step("bump", "Set the version", "set_version", version, after=checks),
        agent_step(
            "notes",
            "Write the release notes from the git log",
            ["git_log", "write_release_notes"],
            criterion="The notes name every commit since the last tag",
            after=checks,
        ),
        call_step("commit", "Commit the release", "commit", message, after=["bump", "notes"]),
        call_step("build", "Build the wheel", "build_wheel", after=["commit"]),
        *_delivery(wheel="build", commit="commit"),
    ]


def _mending_steps() -> list[dict[str, Any]]:
    """Write the steps that replace the failed smoke test and all that depends on it."""
    message = {"message": "Ship wordcount.formats"}
    return [
        agent_step(
            "declare",
            "Add the missing package to the list of packages",
            ["list_packages", "declare_package"],
            criterion="Every package that exists is declared",
            after=["build"],
        ),
        call_step("commit_mended", "Commit the mended list", "commit", message, after=["declare"]),
        call_step("rebuild", "Build the wheel again", "build_wheel", after=["commit_mended"]),
        *_delivery(wheel="rebuild", commit="commit_mended"),
    ]


def _delivery(*, wheel: str, commit: str) -> list[dict[str, Any]]:
    built = {"wheel": f"${{{wheel}.wheel}}"}
    tagged = {"tag": "${tag.tag}", "commit": f"${{{commit}.commit}}", "version": f"${{{wheel}.version}}"}
    return [
        call_step("smoke", "Run the wheel in a fresh interpreter", "smoke_test", built),
        call_step("tag", "Tag the release", "tag", {"tag": "v1.1.0"}, after=["smoke"]),
        call_step("verify", "Verify the tag", "verify_tag", tagged),
        call_step("publish", "Publish the wheel", "publish", built, after=["verify"]),
    ]


# --- what else the model says ------------------------------------------------------------

PATCH = {
    "decision": "patch",
    "reason": "The checkout works and the wheel does not: a package is missing from the list of packages.",
    "hint": "Declare the package, commit, build and smoke-test again.",
}
_ABORT = {
    "decision": "abort",
    "reason": "The tag does not hold what was built. Moving a tag is for a person to decide.",
    "hint": "",
}


def _write_notes(messages: Sequence[BaseMessage]) -> AIMessage:
    """Make the notes of what the tool really said, as a model would."""
    subjects = [line.partition(" ")[2] for line in unquote(messages[-1].text).splitlines()]
    text = "# wordcount 1.1.0\n\n" + "".join(f"- {subject}\n" for subject in subjects)
    return ScriptedModel.tool_calls(("write_release_notes", {"text": text}))


def _answer(messages: Sequence[BaseMessage]) -> str:
    if "How the run ended: done" in messages[-1].text:
        return "wordcount 1.1.0 is released: checked, built, smoke-tested, tagged, verified and published."
    return "wordcount 1.1.0 is not released. What was done, and what was not:"
