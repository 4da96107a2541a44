"""What a run tells at a terminal: a loop its progress, an error its end, an answer in whole words."""

import pytest

TOOLS = ("--tools", "mytools:ALL")
LOOP = """
goal: a loop
inputs: {{n: {{type: array, default: {items}}}}}
steps:
  - {{id: l, for_each: "${{inputs.n}}", max_attempts: 1, call: {{tool: look, args: {{q: "${{item}}"}}}}}}
"""


def _loop(cli, items, *options):
    (cli.folder / "loop.yaml").write_text(LOOP.format(items=items))
    return cli("run", "loop.yaml", *TOOLS, "--on-failure", "abort", *options)


def test_a_loop_tells_its_progress_and_not_a_line_for_each_item(cli):
    lines = _loop(cli, [f"t{at}" for at in range(40)]).err.splitlines()
    assert not [line for line in lines if "look(" in line]
    assert [line for line in lines if " of 40" in line] == [f"· l: {at} of 40" for at in range(4, 41, 4)]


def test_of_a_loop_whose_items_fail_the_first_ones_are_told(cli):
    lines = _loop(cli, ["bad"] * 40).err.splitlines()
    assert len([line for line in lines if "no such thing" in line and line.startswith("!")]) == 3


def test_an_answer_is_wrapped_at_words_in_a_window_and_nowhere_else(cli, terminal):
    words = " ".join(f"word{at}" for at in range(40))
    (cli.folder / "long_answer.yaml").write_text(
        f"goal: g\nanswer: '- ${{a.found}} {words}'\n"
        "steps: [{id: a, call: {tool: look, args: {q: tea}}}]\n"
    )
    window = terminal("run", "long_answer.yaml", *TOOLS, "--thread", "t", size=(40, 60))
    assert window.wait() == 0
    lines = [line for line in window.text.splitlines() if "word" in line]
    assert all(len(line) <= 60 for line in lines)
    assert [word for line in lines for word in line.removeprefix("- ").split()] == ["tea", *words.split()]
    assert lines[1].startswith("  word")
    assert f"- tea {words}" in cli("show", "t").out


def test_help_shows_the_usual_commands_and_options_first(cli):
    text = cli("--help").out
    usual, _, more = text.partition("More commands:")
    assert all(f"  {name} " in usual for name in ("run", "resume", "inbox", "list", "show", "demo"))
    assert all(f"  {name} " in more for name in ("prune", "worker", "schema"))
    assert "--install-completion" in text
    options, _, groups = cli("run", "--help").out.partition("Tools and models:")
    assert sum(line.startswith("  -") for line in options.splitlines()) == 10
    for title in ("Limits:", "Decisions:", "Where and how:"):
        assert title in groups


def test_completion_of_a_shell_names_commands_and_options(cli):
    words = {"_PLAN_EXECUTE_COMPLETE": "complete_bash", "COMP_WORDS": "plan-execute re", "COMP_CWORD": "1"}
    assert cli(**words).out.split() == ["resume", "retry", "report"]


@pytest.mark.parametrize("command", ["show", "resume", "report", "retry", "promote", "graph"])
def test_completion_of_a_shell_names_threads(cli, command):
    cli.run_plan("read.yaml", "--thread", "weekly")
    cli.run_plan("read.yaml", "--thread", "weekend")
    words = {"_PLAN_EXECUTE_COMPLETE": "complete_bash", "COMP_CWORD": "2"}
    assert cli(**words, COMP_WORDS=f"plan-execute {command} wee").out.split() == ["weekend", "weekly"]
    assert cli(**words, COMP_WORDS=f"plan-execute {command} x").out.split() == []
    elsewhere = {**words, "COMP_CWORD": "4", "COMP_WORDS": f"plan-execute {command} --db none.db wee"}
    assert cli(**elsewhere).out.split() == []
