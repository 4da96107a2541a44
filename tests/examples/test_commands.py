"""Commands run as argument lists, from an allow-list, in one folder, for a limited time."""

import os
import time

import pytest

from plan_execute.examples.commands import CommandError, CommandRunner

RUN_FOR_EVER = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"


@pytest.fixture
def runner(tmp_path):
    return CommandRunner(tmp_path, allowed=("python",), time_limit_s=30)


def test_a_program_that_is_not_on_the_list_is_refused(runner):
    with pytest.raises(CommandError, match="'sh' is not allowed; allowed programs: python"):
        runner.run(["sh", "-c", "true"])


def test_an_empty_command_is_refused(runner):
    with pytest.raises(CommandError, match="an empty command is not allowed"):
        runner.run([])


def test_a_program_that_is_not_installed_is_named(tmp_path):
    with pytest.raises(CommandError, match="'no-such-program' is not installed"):
        CommandRunner(tmp_path, allowed=("no-such-program",)).run(["no-such-program"])


def test_no_shell_reads_the_arguments(runner, tmp_path):
    text = "$HOME; touch here > there"
    assert runner.run(["python", "-c", "import sys; print(sys.argv[1])", text]) == f"{text}\n"
    assert [*tmp_path.iterdir()] == []


def test_a_command_starts_in_the_folder(runner, tmp_path):
    (tmp_path / "inner").mkdir()
    code = "import os; print(os.getcwd())"
    assert runner.run(["python", "-c", code]).strip() == str(tmp_path.resolve())
    assert runner.run(["python", "-c", code], "inner").strip() == str((tmp_path / "inner").resolve())


@pytest.mark.parametrize("path", ["..", "inner/../..", "link", "/"])
def test_a_path_that_leaves_the_folder_is_refused(tmp_path, path):
    root = tmp_path / "root"
    (root / "inner").mkdir(parents=True)
    (root / "link").symlink_to(tmp_path)
    with pytest.raises(CommandError, match="outside"):
        CommandRunner(root).inside(path)


def test_a_failing_command_says_its_code_and_its_last_words(runner):
    code = "import sys; print('x' * 5000); print('the reason'); sys.exit(3)"
    with pytest.raises(CommandError, match=r"ended with 3: .*the reason$") as caught:
        runner.run(["python", "-c", code])
    assert len(str(caught.value)) < 500


def test_a_command_that_takes_too_long_is_killed_with_what_it_started(tmp_path):
    started = time.monotonic()
    with pytest.raises(CommandError, match="took longer than 1 s"):
        CommandRunner(tmp_path, time_limit_s=1).run(["python", "-c", RUN_FOR_EVER])
    # the grandchild holds the pipe, so waiting for it would take its 60 s
    assert time.monotonic() - started < 30


def test_variables_of_the_parent_are_not_handed_on(runner, monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "a secret")
    monkeypatch.setenv("GIT_DIR", os.getcwd())
    code = "import os; print('SOME_API_KEY' in os.environ, 'GIT_DIR' in os.environ)"
    assert runner.run(["python", "-c", code]) == "False False\n"
