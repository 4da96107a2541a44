"""The live view as a person sees it: a real program before a pseudo-terminal that is drawn by pyte."""

import shlex
import signal
import subprocess
import sys

import pytest

START = ("run", "--tools", "mytools:ALL", "--thread", "t", "--plan")


def test_a_plan_is_a_tree_in_40_columns_and_in_whatever_window_follows(cli, terminal):
    screen = terminal(*START, "wide.yaml", size=(10, 40))
    shown = screen.expect_shown("▶ left", "▶ right", "slow(30)", "waits for left, right", "1 of 4 steps")
    assert shown.count("▶ left") == 1
    assert "✓ a" in shown
    assert screen.screen.cursor.hidden
    screen.resize(12, 30)
    shown = screen.expect_shown("▶ left", "▶ right", "1 of 4 steps")
    assert (shown.count("▶ left"), shown.count("大きな計画"), shown.count("of 4 steps")) == (1, 1, 1)
    screen.resize(4, 30)
    shown = screen.expect_shown("▶ left", "… 1 done, 1 waiting", "1 of 4 steps")
    assert "大きな計画" not in shown


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_however_a_run_is_ended_the_terminal_is_given_back(cli, terminal, number, code):
    screen = terminal(*START, "wide.yaml", size=(24, 80))
    screen.expect_shown("▶ left", "▶ right")
    screen.process.send_signal(number)
    assert screen.wait() == code
    assert not screen.screen.cursor.hidden
    if number == signal.SIGINT:
        assert "■ left" in screen.shown
        assert "Go on with: plan-execute resume t" in screen.shown


def test_a_plan_of_200_steps_fits_and_folds_what_is_done(cli, terminal):
    quick = "\n".join(f"  - {{id: q{n}, call: {{tool: look, args: {{q: x}}}}}}" for n in range(199))
    last = "  - {id: last, depends_on: [q198], call: {tool: slow, args: {seconds: 30}}}"
    (cli.folder / "many.yaml").write_text(f"goal: much\nsteps:\n{quick}\n{last}\n")
    screen = terminal(*START, "many.yaml", size=(24, 80))
    shown = screen.expect_shown("199 of 200 steps", "▶ last", " done")
    assert shown.count("of 200 steps") == 1
    assert len(shown.splitlines()) <= 24
    screen.press("\x03")
    assert screen.wait() == 130


def test_the_view_makes_room_for_a_question_and_is_left_once_at_the_end(cli, terminal):
    screen = terminal(*START, "ask_late.yaml", size=(40, 80))
    shown = screen.expect_shown("A step failed", "What now?")
    assert "✓ s" not in shown
    screen.press("s")
    assert screen.wait() == 4
    assert not screen.screen.cursor.hidden
    assert screen.text.count("1 of 2 steps done") == 1
    assert [screen.shown.count(line) for line in ("✓ s", "– f", "1 of 2 steps ·")] == [1, 1, 1]


def test_colours_and_odd_outputs_are_left_out_where_they_are_not_wanted(cli, terminal):
    (cli.folder / "odd.yaml").write_text(
        'goal: "odd\\u202e"\nsteps: [{id: o, call: {tool: shout, args: {text: "שלום 👩‍👩‍👧"}}}]\n'
    )
    # A window of 0 x 0, as some CI systems give.
    screen = terminal(*START, "odd.yaml", NO_COLOR="1", COLUMNS="")
    assert screen.wait() == 0
    assert "✓ o" in screen.text
    for sequence in (b"\x1b[2J", b"\x1b]0;", b"\x07", b"\x1b[32m", b"\x1b[1;36m", "\u202e".encode()):
        assert sequence not in screen.raw
    assert "␛[2J␛]0;owned␇\\u202etxt\\u2066" in screen.text


@pytest.mark.parametrize(("options", "env"), [(("--plain",), {}), ((), {"TERM": "dumb"})])
def test_plain_lines_are_told_where_a_view_is_not_wanted_or_cannot_be_drawn(cli, terminal, options, env):
    screen = terminal(*START, "read.yaml", *options, **env)
    assert screen.wait() == 0
    assert "✓ a: met" in screen.text
    assert b"\x1b[?25l" not in screen.raw


def test_a_reader_that_goes_away_ends_the_output_and_not_the_run(cli):
    command = f"{shlex.quote(str(cli.program))} run --tools mytools:ALL --thread t --plan fail.yaml"
    command += " --on-failure skip 2>&1 | head -1"
    done = subprocess.run(["sh", "-c", command], cwd=cli.folder, env=cli.env, capture_output=True)
    assert (done.stdout, done.stderr) == (b"Thread: t\n", b"")
    assert cli("show", "t", "--json").json["status"] == "partial"


TWICE = """
import os, signal
from plan_execute.cli.exits import interruptible
with interruptible(lambda: None, "plan-execute resume t"):
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt:
        print("stopping", flush=True)
        os.kill(os.getpid(), signal.SIGINT)
print("went on")
"""


def test_the_second_ctrl_c_ends_the_process_at_once_and_says_how_to_go_on():
    done = subprocess.run([sys.executable, "-c", TWICE], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (130, "stopping\n")
    assert done.stderr == "\nStopped at once. Go on with: plan-execute resume t\n"
