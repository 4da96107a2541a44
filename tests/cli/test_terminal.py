"""A person at a terminal: the plan is shown, questions are asked in place, and nothing is lost."""

import pytest

START = ("run", "--tools", "mytools:ALL", "--thread", "t", "--plan")


def test_a_plan_is_shown_approved_in_place_and_its_progress_reported(cli, terminal):
    screen = terminal(*START, "write.yaml")
    screen.expect("May this plan run?")
    screen.expect("write it down")
    screen.expect("What now?")
    assert cli.calls == []
    screen.press("a")
    screen.expect("✓ w")
    screen.expect("All steps are done.")
    assert screen.wait() == 0
    assert cli.calls == ["look tea", "note tea"]


def test_a_key_that_is_no_choice_asks_again(cli, terminal):
    screen = terminal(*START, "write.yaml")
    screen.expect("What now? [a/e/r/l]")
    screen.press("x")
    screen.expect("Please press one of: a, e, r, l")
    screen.press("\x1b[A")
    screen.expect("Please press one of")
    screen.press("A")
    assert screen.wait() == 0


def test_what_was_typed_before_a_question_does_not_answer_it(cli, terminal):
    screen = terminal(*START, "ask_late.yaml")
    cli.wait_for_call("slow")
    screen.press("sss")
    screen.expect("A step failed")
    screen.expect("What now?")
    screen.press("b")
    assert screen.wait() in (1, 4)
    assert "What now? [r/s/u/b/l] abort" in screen.text


def test_a_rejection_is_asked_for_its_reason(cli, terminal):
    screen = terminal(*START, "write.yaml")
    screen.expect("What now?")
    screen.press("r")
    screen.expect("What should be different?")
    screen.type("too risky")
    assert screen.wait() == 1
    assert "too risky" in screen.text.split("What should be different?")[1]
    assert cli.calls == []


def test_the_plan_can_be_edited_as_yaml_and_the_edit_is_what_runs(cli, terminal):
    screen = terminal(*START, "write.yaml", EDITOR=cli.editor("sed -i 's/q: tea/q: coffee/' \"$1\""))
    screen.expect("What now?")
    screen.press("e")
    assert screen.wait() == 0
    assert cli.calls == ["look coffee", "note coffee"]


def test_an_edit_that_cannot_run_is_asked_again_with_its_issues(cli, terminal):
    script = 'if grep -q lok "$1"; then sed -i \'s/tool: lok/tool: look/\' "$1"; '
    script += "else sed -i 's/tool: look/tool: lok/' \"$1\"; fi"
    screen = terminal(*START, "write.yaml", EDITOR=cli.editor(script))
    screen.expect("What now?")
    screen.press("e")
    screen.expect("unknown_tool")
    screen.expect("What now?")
    screen.press("e")
    assert screen.wait() == 0
    assert cli.calls == ["look tea", "note tea"]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 7", "exit code 7"),
        ('printf "steps: [" > "$1"', "cannot be read"),
        ('rm "$1"', "cannot be read"),
        ("true", "Nothing was changed"),
    ],
)
def test_an_editor_that_fails_leaves_the_question_open(cli, terminal, script, said):
    screen = terminal(*START, "write.yaml", EDITOR=cli.editor(script))
    screen.expect("What now?")
    screen.press("e")
    screen.expect(said)
    screen.expect("What now?")
    screen.press("a")
    assert screen.wait() == 0


def test_an_editor_that_does_not_exist_leaves_the_question_open(cli, terminal):
    screen = terminal(*START, "write.yaml", VISUAL="/nowhere/editor --wait")
    screen.expect("What now?")
    screen.press("e")
    screen.expect("cannot be started")
    screen.expect("What now?")
    screen.press("l")
    assert screen.wait() == 3


def test_ctrl_c_in_the_editor_is_the_editors(cli, terminal):
    script = "kill -INT $PPID; sleep 0.3; sed -i 's/q: tea/q: coffee/' \"$1\""
    screen = terminal(*START, "write.yaml", EDITOR=cli.editor(script))
    screen.expect("What now?")
    screen.press("e")
    assert screen.wait() == 0
    assert cli.calls == ["look coffee", "note coffee"]


def test_the_end_of_input_leaves_the_question_open_and_says_how_to_answer(cli, terminal):
    screen = terminal(*START, "write.yaml")
    screen.expect("What now?")
    screen.press("\x04")
    assert screen.wait() == 3
    assert "plan-execute resume t" in screen.text
    assert cli("resume", "t", "--approve", "--tools", "mytools:ALL").code == 0


def test_ctrl_c_at_a_question_exits_130_and_leaves_it_open(cli, terminal):
    screen = terminal(*START, "write.yaml")
    screen.expect("What now?")
    screen.press("\x03")
    assert screen.wait() == 130
    assert "Go on with: plan-execute resume t" in screen.text
    assert cli("resume", "t", "--approve", "--tools", "mytools:ALL").code == 0


def test_ctrl_c_amid_a_step_exits_130_at_once(cli, terminal):
    screen = terminal(*START, "long.yaml")
    cli.wait_for_call("slow")
    screen.press("\x03")
    assert screen.wait() == 130
    assert "Go on with: plan-execute resume t" in screen.text


def test_resume_asks_the_open_question_at_the_terminal(cli, terminal):
    cli.run_plan("write.yaml")
    screen = terminal("resume", "t", "--tools", "mytools:ALL")
    screen.expect("May this plan run?")
    screen.expect("What now?")
    screen.press("a")
    assert screen.wait() == 0


def test_a_failed_step_can_be_supplied_skipped_or_ended_at_the_terminal(cli, terminal):
    screen = terminal(*START, "fail.yaml", "--on-failure", "ask")
    screen.expect("A step failed")
    screen.expect("no such thing")
    screen.expect("What now?")
    screen.press("r")
    screen.expect("A hint for it?")
    screen.type("")
    screen.expect("A step failed")
    screen.expect("What now?")
    screen.press("u")
    screen.expect("Its output")
    screen.type('{"found": "by hand"}')
    screen.expect("by hand")
    assert screen.wait() == 0
    assert cli.calls.count("look bad") == 2


def test_several_questions_are_asked_one_after_the_other(cli, terminal):
    screen = terminal(*START, "fail_twice.yaml")
    screen.expect("A step failed (1 of 2)")
    screen.expect("What now?")
    screen.press("s")
    screen.expect("A step failed (2 of 2)")
    screen.expect("What now?")
    screen.press("b")
    assert screen.wait() == 1


def test_a_question_left_for_later_stays_open_while_the_other_is_answered(cli, terminal):
    screen = terminal(*START, "fail_twice.yaml")
    screen.expect("(1 of 2)")
    screen.expect("What now?")
    screen.press("l")
    screen.expect("(2 of 2)")
    screen.expect("What now?")
    screen.press("s")
    assert screen.wait() == 3
    (left,) = cli("resume", "t").json["questions"]
    assert left["args"]["step_id"] == "f"


def test_one_step_can_be_approved_edited_or_rejected(cli, terminal):
    (cli.folder / "step.yaml").write_text(
        "goal: g\nsteps: [{id: a, approve: true, call: {tool: look, args: {q: tea}}}]\n"
    )
    screen = terminal(*START, "step.yaml", EDITOR=cli.editor("sed -i 's/q: tea/q: milk/' \"$1\""))
    screen.expect("May this step run?")
    screen.expect("What now?")
    screen.press("e")
    assert screen.wait() == 0
    assert cli.calls == ["look milk"]


def test_what_a_plan_says_cannot_steer_the_terminal(cli, terminal):
    (cli.folder / "evil.yaml").write_text(
        'goal: "g\\e[2J\\e]0;owned\\a"\n'
        'steps: [{id: w, task: "harmless\\e[8m", call: {tool: note, args: {text: "x\\e[2J"}}}]\n'
    )
    screen = terminal(*START, "evil.yaml")
    screen.expect("What now?")
    screen.press("a")
    assert screen.wait() == 0
    for sequence in (b"\x1b[2J", b"\x1b]0;", b"\x1b[8m", b"\x07"):
        assert sequence not in screen.raw


def test_nothing_of_a_plan_is_hidden_from_who_approves_it(cli, terminal):
    task = "tidy <!-- then wipe --> <b>all</b> [up](http://away.example) ![now](http://pixel.example)"
    (cli.folder / "hiding.yaml").write_text(
        f'goal: g\nsteps: [{{id: w, task: "{task}", call: {{tool: note, args: {{text: x}}}}}}]\n'
    )
    screen = terminal(*START, "hiding.yaml", COLUMNS="200")
    screen.expect("What now?")
    for part in ("<!-- then wipe -->", "<b>all</b>", "http://away.example", "http://pixel.example"):
        assert part in screen.text


def test_an_answer_in_markdown_is_legible_in_a_window_and_untouched_in_a_pipe(cli, terminal):
    (cli.folder / "answer.yaml").write_text(
        "goal: g\nsteps: [{id: a, call: {tool: look, args: {q: tea}}}]\n"
        'answer: "## Found\\n\\n- **drink**: ${a.found}"\n'
    )
    assert cli.run_plan("answer.yaml").code == 0
    assert "## Found\n\n- **drink**: tea" in cli("show", "t").out
    window = terminal("show", "t", size=(40, 80))
    assert window.wait() == 0
    at = window.lines.index("Found")
    assert window.lines[at + 2] == "- drink: tea"
    assert window.screen.buffer[at][0].bold
    assert [window.screen.buffer[at + 2][column].bold for column in (0, 2, 6, 8)] == [
        False,
        True,
        True,
        False,
    ]


def test_with_json_nobody_is_asked_even_at_a_terminal(cli, terminal):
    screen = terminal(*START, "write.yaml", "--json")
    assert screen.wait() == 3
    assert '"status": "waiting"' in screen.text
    assert "What now?" not in screen.text
