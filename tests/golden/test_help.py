"""What `--help` says is part of the interface: a change shows in the golden files."""

import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from golden.compare import assert_golden

COMMANDS = [
    "run",
    "resume",
    "plan",
    "validate",
    "schema",
    "inbox",
    "list",
    "show",
    "history",
    "report",
    "edit",
    "retry",
    "cancel",
    "worker",
    "serve",
    "promote",
    "prune",
    "models",
    "graph",
    "demo",
    "cache",
    "cache list",
    "cache clear",
    "schedule",
    "schedule add",
    "schedule list",
    "schedule pause",
    "schedule run-now",
    "schedule remove",
]


@pytest.fixture
def help_text(forked, tmp_path):
    """Run the installed program with a fixed width and no colours."""
    program = shutil.which("plan-execute", path=str(Path(sys.executable).parent))
    assert program, "plan-execute is not installed next to this Python"
    env = {**os.environ, "COLUMNS": "100", "TERMINAL_WIDTH": "100", "TERM": "dumb", "NO_COLOR": "1"}
    env.pop("FORCE_COLOR", None)
    env.pop("GITHUB_ACTIONS", None)

    def text(*command):
        done = forked.run([program, *command, "--help"], cwd=tmp_path, env=env, timeout=60)
        assert done.returncode == 0, done.stderr
        return re.sub(r"[ \t]+$", "", done.stdout, flags=re.MULTILINE).strip() + "\n"

    return text


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_stays_as_it_is(help_text, command):
    assert_golden(f"help/{command.replace(' ', '-') or 'plan-execute'}.txt", help_text(*command.split()))


def test_every_command_has_its_golden_file(help_text):
    listed = help_text().partition("Commands:")[2].partition("Exit codes:")[0]
    assert sorted(re.findall(r"^  (\w+)  ", listed, re.MULTILINE)) == sorted(
        c for c in COMMANDS if " " not in c
    )
