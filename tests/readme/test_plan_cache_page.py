"""What docs/plan-cache.md shows works: its blocks are run in a temporary folder, in order."""

import contextlib
import io
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "plan-cache.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def blocks(language):
    return [text for found, text in BLOCKS if found == language]


def test_the_python_blocks_run_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks("python")), encoding="utf-8")
    with contextlib.redirect_stdout(io.StringIO()) as out:
        runpy.run_path(str(script))
    assert out.getvalue() == "4 °C in Oslo. 2 model calls\n21 °C in Rome. 1 model calls\n"


def test_the_shell_lines_run(tmp_path):
    program = shutil.which("plan-execute", path=str(Path(sys.executable).parent))
    assert program, "plan-execute is not installed next to this Python"
    env = {**os.environ, "PLAN_EXECUTE_DB": str(tmp_path / "threads.db")}
    for line in "".join(blocks("sh")).splitlines():
        command = [program, *shlex.split(line)[1:]]
        done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        assert done.returncode == 0, line


def test_no_block_is_of_a_language_that_nothing_runs():
    assert {language for language, _ in BLOCKS} == {"python", "sh"}


def test_every_option_that_is_named_exists():
    named = set(re.findall(r"--[a-z][a-z-]+", PAGE))
    program = shutil.which("plan-execute", path=str(Path(sys.executable).parent))
    commands = (["run"], ["cache", "list"], ["cache", "clear"])
    shown = "".join(
        subprocess.run([program, *command, "--help"], capture_output=True, text=True, timeout=60).stdout
        for command in commands
    )
    assert {option for option in named if option not in shown} == set()
