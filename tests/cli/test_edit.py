"""`edit` changes the plan of a stopped run: finished work is kept, a bad edit changes nothing."""

import json
import re
import shlex
import signal

import pytest

TOOLS = ("--tools", "mytools:ALL")

SENDING = """
goal: send it
steps:
  - {{id: a, call: {{tool: look, args: {{q: tea}}}}}}
  - {{id: w, max_attempts: 1, on_failure: ask, depends_on: [a], call: {{tool: send, args: {{text: {text}}}}},
     success_criteria: [{{type: matches, pattern: final}}]}}
  - {{id: after, call: {{tool: note, args: {{text: "${{w}}"}}}}}}
"""


def changed(cli, plan, *replacements, name="edited.yaml"):
    """Write a changed copy of a plan file and return its name."""
    text = (cli.folder / plan).read_text()
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    (cli.folder / name).write_text(text)
    return name


def statuses(cli):
    return {step: result["status"] for step, result in cli("show", "t", "--json").json["results"].items()}


# --- from a file -------------------------------------------------------------------------


def test_an_edit_of_a_failing_step_goes_on_with_it_and_what_depends_on_it_and_nothing_else(cli):
    cli.run_plan("fail.yaml", "--on-failure", "ask")
    edited = changed(cli, "fail.yaml", ("q: bad", "q: good"))
    done = cli("edit", "t", "--plan", edited, *TOOLS, "--json")
    assert (done.code, done.json["status"]) == (0, "done"), done.err
    assert sorted(cli.calls) == ["look bad", "look good", "look good", "look tea"]
    assert [step["id"] for step in done.json["plan"]["steps"]] == ["a", "f_r2", "after"]
    assert done.json["results"]["after"]["output"] == {"found": "good"}


def test_the_difference_is_shown_without_colours_where_there_is_no_terminal(cli):
    cli.run_plan("fail.yaml", "--on-failure", "ask")
    (question,) = cli("show", "t", "--json").json["questions"]
    edited = changed(cli, "fail.yaml", ("q: bad", "q: good"), ("id: after", "id: later"))
    done = cli("edit", "t", "--plan", edited, *TOOLS)
    assert done.code == 0, done.err
    for line in ("-      q: bad", "+      q: good", "new: later", "changed: f", "gone: after"):
        assert line in done.err.splitlines(), line
    assert "run again: f as f_r2" in done.err
    assert f"withdrawn: handle_step_failure [{question['id'][:8]}]" in done.err
    assert "\x1b" not in done.err
    assert "good" in done.out


@pytest.mark.parametrize("text", ["bad news", "draft"], ids=["a call that failed", "a check that failed"])
def test_an_edited_write_is_really_made_and_never_answered_by_the_call_before(cli, text):
    (cli.folder / "sending.yaml").write_text(SENDING.format(text=text))
    asked = cli.run_plan("sending.yaml", "--yes")
    assert asked.code == 3, asked.err
    edited = changed(cli, "sending.yaml", (text, "final"))
    done = cli("edit", "t", "--plan", edited, *TOOLS, "--json")
    assert (done.code, done.json["status"]) == (0, "done"), done.err
    assert cli.calls == ["look tea", f"send {text}", "send final", "note sent final"]


def test_an_edited_plan_counts_as_approved(cli):
    assert cli.run_plan("write.yaml").code == 3
    done = cli("edit", "t", "--plan", changed(cli, "write.yaml", ("q: tea", "q: coffee")), *TOOLS)
    assert done.code == 0, done.err
    assert cli.calls == ["look coffee", "note coffee"]
    by = [event["by"] for event in cli("history", "t", "--json").json["audit"] if "edited" in event["event"]]
    assert [one["kind"] for one in by] == ["person"]


def test_a_finished_run_goes_on_with_the_steps_that_are_added(cli):
    cli.run_plan("read.yaml")
    more = changed(cli, "read.yaml", ("goal:", "rationale: more\ngoal:"))
    with (cli.folder / more).open("a") as file:
        file.write("  - id: c\n    call: {tool: look, args: {q: more}}\n")
    done = cli("edit", "t", "--plan", more, *TOOLS)
    assert done.code == 0, done.err
    assert "new: c" in done.err
    assert cli.calls == ["look tea", "look x", "look more"]


def test_an_interrupted_run_goes_on_with_the_edit(cli):
    process = cli.start("run", "--plan", "long.yaml", *TOOLS, "--thread", "t")
    cli.wait_for_call("slow")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    done = cli("edit", "t", "--plan", changed(cli, "long.yaml", ("seconds: 30", "seconds: 0.01")), *TOOLS)
    assert done.code == 0, done.err
    assert cli.calls == ["look tea", "slow", "slow"]


def test_a_question_that_the_edit_does_not_concern_is_asked_anew(cli):
    cli.run_plan("fail_twice.yaml")
    first = "{id: f, max_attempts: 1, on_failure: ask, call: {tool: look, args: {q: "
    done = cli(
        "edit", "t", "--plan", changed(cli, "fail_twice.yaml", (f"{first}bad", f"{first}good")), *TOOLS
    )
    assert done.code == 3, done.err
    (question,) = done.json["questions"]
    assert question["args"]["step_id"] == "g"
    assert cli.calls == ["look bad", "look bad", "look good"]


def test_no_run_stores_the_edit_and_resume_runs_it(cli):
    cli.run_plan("fail.yaml", "--on-failure", "ask")
    edited = changed(cli, "fail.yaml", ("q: bad", "q: good"))
    done = cli("edit", "t", "--plan", edited, "--no-run", *TOOLS, "--json")
    assert done.code == 0, done.err
    assert (done.json["thread"], done.json["changed"], done.json["status"]) == ("t", True, "stopped")
    assert done.json["difference"] == {"added": ["f_r2"], "removed": ["f"], "changed": ["after"]}
    assert sorted(cli.calls) == ["look bad", "look tea"]
    shown = cli("show", "t")
    assert "Plan (revision 2)" in shown.out
    assert "○ f_r2: this fails" in shown.out
    assert cli("resume", "t", *TOOLS).code == 0
    assert sorted(cli.calls) == ["look bad", "look good", "look good", "look tea"]


# --- what changes nothing ----------------------------------------------------------------


def test_a_file_that_changes_nothing_leaves_the_question_open_and_exits_0(cli):
    asked = cli.run_plan("write.yaml")
    done = cli("edit", "t", "--plan", "write.yaml", *TOOLS, "--json")
    assert (done.code, done.json) == (0, {"thread": "t", "changed": False, "status": "waiting"})
    assert "Nothing was changed." in done.err
    assert cli("resume", "t").json == asked.json
    assert cli.calls == []


INVALID = {
    "an unknown tool": ([("tool: note", "tool: nope")], "edited.yaml:8:12: unknown_tool"),
    "a cycle": (
        [("id: a\n", "id: a\n    depends_on: [w]\n"), ("task: write", "depends_on: [a]\n    task: write")],
        ": cycle: steps depend on each other in a circle: ",
    ),
    "an unknown field": ([("task: write", "tusk: write")], "edited.yaml:7:5: malformed_plan"),
    "two issues": (
        [("tool: note", "tool: nope"), ("tool: look", "tool: lok")],
        "edited.yaml:5:12: unknown_tool",
    ),
    "no YAML": ([("steps:", "steps: [")], "edited.yaml:"),
    "no plan": ([("goal: write", "- goal: write"), ("steps:", "  steps:")], "edited.yaml:"),
}


@pytest.mark.parametrize(("replacements", "said"), INVALID.values(), ids=INVALID)
def test_an_edit_that_cannot_run_exits_2_with_every_issue_and_its_line_and_changes_nothing(
    cli, replacements, said
):
    asked = cli.run_plan("write.yaml")
    done = cli("edit", "t", "--plan", changed(cli, "write.yaml", *replacements), *TOOLS)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert cli("resume", "t").json == asked.json
    assert cli.calls == []


def test_json_gives_the_issues_of_an_edit_with_lines(cli):
    cli.run_plan("write.yaml")
    edited = changed(cli, "write.yaml", ("tool: note", "tool: nope"), ("tool: look", "tool: lok"))
    error = cli("edit", "t", "--plan", edited, *TOOLS, "--json").json["error"]
    assert error["code"] == "invalid_plan"
    assert {(issue["code"], issue["line"]) for issue in error["issues"]} == {
        ("unknown_tool", 5),
        ("unknown_tool", 8),
    }


def test_a_finished_step_cannot_be_changed_or_dropped(cli):
    cli.run_plan("fail.yaml", "--on-failure", "abort")
    done = cli("edit", "t", "--plan", changed(cli, "fail.yaml", ("q: tea", "q: milk")), *TOOLS)
    assert done.code == 2
    assert "edited.yaml:4:5: done_step_changed" in done.err
    assert "nothing was changed" in done.err
    dropped = changed(cli, "fail.yaml", ("  - id: a\n    call: {tool: look, args: {q: tea}}\n", ""))
    assert "drops step 'a'" in cli("edit", "t", "--plan", dropped, *TOOLS).err
    assert statuses(cli) == {"a": "done", "f": "failed", "after": "blocked"}


def test_without_a_terminal_the_plan_must_come_from_a_file(cli):
    cli.run_plan("write.yaml")
    for arguments in ((), ("--json",)):
        done = cli("edit", "t", *TOOLS, *arguments, EDITOR=cli.editor("touch opened"))
        assert done.code == 2
        assert "--plan FILE" in done.out + done.err
    assert not (cli.folder / "opened").exists()


def test_an_edit_without_the_plans_tools_names_them(cli):
    cli.run_plan("write.yaml")
    done = cli("edit", "t", "--plan", changed(cli, "write.yaml", ("q: tea", "q: coffee")))
    assert done.code == 2
    assert "look, note" in done.err


def test_a_thread_that_is_not_there_or_has_no_plan_is_not_edited(cli):
    assert (
        cli("edit", "t", "--plan", "read.yaml", *TOOLS, "--json").json["error"]["code"] == "thread_not_found"
    )
    cli.run_plan("read.yaml")
    done = cli("edit", "other", "--plan", "read.yaml", *TOOLS, "--json")
    assert (done.code, done.json["error"]["code"]) == (2, "thread_not_found")
    assert cli("edit", "t", "--plan", "missing.yaml", *TOOLS).code == 2


def test_a_thread_that_runs_is_not_edited(cli, terminal):
    process = cli.start("run", "--plan", "long.yaml", *TOOLS, "--thread", "t")
    try:
        cli.wait_for_call("slow")
        edited = changed(cli, "long.yaml", ("seconds: 30", "seconds: 0"))
        done = cli("edit", "t", "--plan", edited, *TOOLS, "--json")
        assert (done.code, done.json["error"]["code"]) == (1, "thread_busy")
        screen = terminal("edit", "t", *TOOLS, EDITOR=cli.editor("touch opened"))
        assert screen.wait() == 1
        assert not (cli.folder / "opened").exists()
    finally:
        process.kill()
        process.communicate()


# --- in an editor ------------------------------------------------------------------------


def test_an_editor_gets_the_plan_as_yaml_and_the_run_goes_on_with_what_it_saves(cli, terminal):
    cli.run_plan("fail.yaml", "--on-failure", "ask")
    script = 'cp "$1" shown.yaml; sed -i \'s/q: bad/q: good/\' "$1"'
    screen = terminal("edit", "t", *TOOLS, EDITOR=cli.editor(script))
    screen.expect("-      q: bad")
    screen.expect("+      q: good")
    screen.expect("changed: f")
    screen.expect("withdrawn: handle_step_failure")
    screen.expect("All steps are done.")
    assert screen.wait() == 0
    assert sorted(cli.calls) == ["look bad", "look good", "look good", "look tea"]
    assert re.search(rb"\x1b\[[0-9;]*32m\+ +q: good", screen.raw)
    assert re.search(rb"\x1b\[[0-9;]*31m- +q: bad", screen.raw)
    shown = (cli.folder / "shown.yaml").read_text()
    assert "#| Finished steps stay as they are: a\n" in shown
    assert cli("validate", "shown.yaml", *TOOLS).code == 0


@pytest.mark.parametrize("script", ["true", ': > "$1"', "sed -i '/^#|/!d' \"$1\""])
def test_an_unchanged_or_emptied_plan_changes_nothing_and_exits_0(cli, terminal, script):
    asked = cli.run_plan("write.yaml")
    screen = terminal("edit", "t", *TOOLS, EDITOR=cli.editor(script))
    screen.expect("Nothing was changed.")
    assert screen.wait() == 0
    assert cli("resume", "t").json == asked.json


@pytest.mark.parametrize(("script", "said"), [("exit 7", "exit code 7"), ('rm "$1"', "cannot be read")])
def test_an_editor_that_fails_exits_2_and_changes_nothing(cli, terminal, script, said):
    asked = cli.run_plan("write.yaml")
    screen = terminal("edit", "t", *TOOLS, EDITOR=cli.editor(f"sed -i 's/tea/milk/' \"$1\"; {script}"))
    screen.expect(said)
    assert screen.wait() == 2
    assert cli("resume", "t").json == asked.json


BROKEN = {
    "an unknown tool": (
        "s/tool: note/tool: nope/",
        "s/tool: nope/tool: note/; s/tea/milk/",
        "unknown_tool",
        "tool: nope",
    ),
    "no YAML": ("s/^goal: .*/goal: [/", "s/^goal: .*/goal: g/; s/tea/milk/", "malformed_plan", None),
}


@pytest.mark.parametrize(("broken", "mended", "code", "place"), BROKEN.values(), ids=BROKEN)
def test_a_plan_that_cannot_run_is_opened_again_with_its_issues_on_top(
    cli, terminal, broken, mended, code, place
):
    cli.run_plan("write.yaml")
    script = (
        f'if grep -q "^#| This plan cannot run yet" "$1"; then cp "$1" again.yaml; sed -i "{mended}" "$1"; '
    )
    script += f'else sed -i "{broken}" "$1"; fi'
    screen = terminal("edit", "t", *TOOLS, EDITOR=cli.editor(script))
    assert screen.wait() == 0
    assert cli.calls == ["look milk", "note milk"]
    lines = (cli.folder / "again.yaml").read_text().splitlines()
    (issue,) = [line for line in lines if line.startswith("#| ") and code in line]
    number = int(re.search(r"line (\d+): ", issue)[1])
    assert lines[number - 1].strip() == place if place else number > 3
    assert sum(line.startswith("#|") for line in lines) == 3


def test_an_edit_that_is_given_up_changes_nothing_and_is_kept_in_a_file(cli, terminal):
    asked = cli.run_plan("write.yaml")
    script = "sed -i 's/tool: note/tool: nope/; s/q: tea/q: my long work/' \"$1\""
    screen = terminal("edit", "t", *TOOLS, EDITOR=cli.editor(script), TMPDIR=str(cli.folder))
    screen.expect("unknown_tool")
    screen.expect("Your edit is kept in")
    screen.expect("nothing was changed")
    assert screen.wait() == 2
    (kept,) = cli.folder.glob("plan-execute-edit-*.yaml")
    assert "q: my long work" in kept.read_text()
    assert cli("resume", "t").json == asked.json


def test_an_edit_of_a_plan_that_somebody_else_changed_meanwhile_is_not_stored_but_kept(cli, terminal):
    cli.run_plan("write.yaml")
    changed(cli, "write.yaml", ("q: tea", "q: theirs"), name="theirs.yaml")
    program = shlex.quote(str(cli.program))
    script = f"{program} edit t --plan theirs.yaml --no-run --tools mytools:ALL 2>other.txt || exit 9\n"
    script += "sed -i 's/q: tea/q: mine/' \"$1\""
    screen = terminal("edit", "t", *TOOLS, EDITOR=cli.editor(script), TMPDIR=str(cli.folder))
    screen.expect("changed meanwhile")
    assert screen.wait() == 2
    (kept,) = cli.folder.glob("plan-execute-edit-*.yaml")
    assert "q: mine" in kept.read_text()
    assert cli("resume", "t", *TOOLS).code == 0
    assert cli.calls == ["look theirs", "note theirs"]


def test_a_plan_that_waits_with_mistakes_names_edit_and_the_edit_runs(cli):
    cli.run_plan("write.yaml")
    wrong = json.dumps({"goal": "g", "steps": [{"id": "w", "call": {"tool": "note", "args": {"txt": "x"}}}]})
    asked = cli("resume", "t", "--answer", f'{{"type": "edit", "args": {{"plan": {wrong}}}}}', *TOOLS)
    assert (asked.code, "bad_arguments" in asked.err) == (3, True)
    for told in (asked, cli("show", "t", *TOOLS)):
        assert "  plan-execute edit t --tools mytools:ALL --plan FILE " in told.err
    (cli.folder / "right.yaml").write_text(wrong.replace("txt", "text"))
    assert cli("edit", "t", *TOOLS, "--plan", "right.yaml").code == 0
    assert cli.calls == ["note x"]
