"""What a person is asked at the terminal: at once, and only what can work."""

TOOLS = ("--tools", "mytools:ALL")
BESIDE = """
goal: ask beside something slow
steps:
  - {{id: s, call: {{tool: slow, args: {{seconds: {seconds}}}}}}}
  - {{id: what, ask: {{question: "What shall be looked up?"}}}}
  - {{id: a, call: {{tool: look, args: {{q: "${{what}}"}}}}}}
"""


def _run_beside(cli, terminal, seconds, *arguments):
    (cli.folder / "beside.yaml").write_text(BESIDE.format(seconds=seconds))
    return terminal("run", "beside.yaml", *TOOLS, "--thread", "t", *arguments)


def test_a_question_is_asked_while_other_steps_still_run(cli, terminal):
    for arguments in ((), ("--plain",)):
        window = _run_beside(cli, terminal, 600, *arguments)
        window.expect("What shall be looked up?")
        window.expect("Your answer")
        assert cli("show", "t", "--json").json["results"] == {}
        window.press("\x03")
        assert window.wait() == 130
        cli("run", "read.yaml", *TOOLS, "--thread", "t", "--abandon")


def test_an_answer_given_while_others_run_counts_when_they_have_ended_and_is_not_asked_for_again(
    cli, terminal
):
    window = _run_beside(cli, terminal, 2)
    window.expect("Your answer")
    window.type("milk")
    assert window.wait() == 0
    assert cli.calls == ["slow", "look milk"]
    assert window.text.count("Your answer (empty") == 1


def test_a_question_left_open_while_others_run_is_not_asked_again_at_their_end(cli, terminal):
    window = _run_beside(cli, terminal, 1)
    window.expect("Your answer")
    window.type("")
    assert window.wait() == 3
    assert window.text.count("Your answer (empty") == 1
    assert "plan-execute resume t" in window.text


def test_without_a_terminal_a_question_is_told_in_words_with_a_command_for_each_choice(cli):
    choices = {"tea": "tea", "3": "'\"3\"'", "black tea": "'black tea'"}
    (cli.folder / "choose.yaml").write_text(
        'goal: g\nsteps: [{id: what, ask: {question: "Which one?", choices: [tea, "3", black tea]}}]\n'
    )
    done = cli("run", "choose.yaml", "--thread", "t")
    assert done.code == 3
    assert "A question to you: Which one?" in done.err
    for shown in (done, cli("show", "t")):
        for quoted in choices.values():
            assert f"  plan-execute resume t --answer {quoted}\n" in shown.err
        assert "--answer 'your answer'" not in shown.err
    assert cli("resume", "t", "--answer", '"3"', "--json").json["results"]["what"]["output"] == "3"


def test_without_a_model_no_revision_is_offered_and_all_else_is(cli, terminal):
    done = cli.run_plan("fail.yaml", "--on-failure", "ask")
    for word in ("retry", "skip", "abort"):
        assert f"--answer {word}    " in done.err
    assert '--answer \'{"decision": "supply", "output": …}\'' in done.err
    assert "patch" not in done.err + done.out
    window = terminal("resume", "t", *TOOLS)
    window.expect("What now?")
    assert "supply" in window.text
    assert "patch" not in window.text
    window.press("l")
    assert window.wait() == 3
    assert cli("resume", "t", *TOOLS, "--answer", "abort").code == 4


def test_the_editor_file_explains_itself_and_hides_what_nobody_edits(cli, terminal):
    script = 'cp "$1" shown.yaml; sed -i \'s/q: tea/q: milk/\' "$1"'
    window = terminal("run", "write.yaml", *TOOLS, "--thread", "t", EDITOR=cli.editor(script))
    window.expect("What now?")
    window.press("e")
    assert window.wait() == 0
    assert cli.calls == ["look milk", "note milk"]
    shown = (cli.folder / "shown.yaml").read_text()
    assert shown.startswith("# Save a changed plan to run it")
    assert "# A step has exactly one of: call" in shown
    assert [line.split(":")[0] for line in shown.splitlines() if line[0] not in "# -"] == ["goal", "steps"]
    assert "depends_on: []" not in shown


def test_what_is_misplaced_on_the_command_line_is_answered_in_its_own_words(cli):
    cli.run_plan("write.yaml")
    refused = cli("run", "read.yaml", *TOOLS, "--thread", "t")
    assert refused.code == 1
    assert "Command(" not in refused.err
    assert "`plan-execute resume`" in refused.err
    assert "--abandon" in refused.err
    lost = cli("show", "nope").err
    assert str(cli.folder / "threads.db") in lost
    without = cli("run", "read.yaml")
    assert "give them with --tools MODULE:ATTRIBUTE" in without.err
    assert "--approve" in cli("show", "t").err
    cli("cancel", "t")
    assert cli("show", "t").out.splitlines()[-1] == "A person cancelled the run. No step was done."


def test_promote_tells_where_a_lifted_value_still_stands(cli):
    (cli.folder / "city.yaml").write_text(
        "goal: g\nsteps:\n- id: a\n  call: {tool: look, args: {q: Oslo}}\n"
        "  success_criteria: [{type: expression, expression: \"found == 'Oslo'\"}]\n"
    )
    assert cli.run_plan("city.yaml").code == 0
    done = cli("promote", "t", "--lift", "a.q=city")
    assert done.code == 0
    assert "a.success_criteria.0.expression still holds 'Oslo'" in done.err
