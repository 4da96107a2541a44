"""What the README shows works: its blocks are run in a temporary folder, in the order in which they stand."""

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

import pytest

CHECKOUT = Path(__file__).parents[2]
README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)

ELSEWHERE = {
    "make demo": ".ci/run",
    "make test": ".ci/run",
    "pip install -e '.[server]'": "part of the dev extra that `make test` installs",
    "langgraph dev": "tests/server",
}
"""Commands that the README shows and that run in another place."""


def blocks(language):
    return [text for found, text in BLOCKS if found == language]


def file_name(block):
    """Give the name of the file that a block is the content of, from its first line."""
    found = re.match(r"# ([\w.]+\.(?:py|yaml))\n", block)
    return found[1] if found else None


def shell_lines():
    """Give (command, expected exit code) of every line of every shell block."""
    for block in blocks("sh"):
        for line in block.splitlines():
            command, _, comment = line.partition("  #")
            code = re.search(r"exit code (\d+)", comment)
            yield command.strip(), int(code[1]) if code else 0


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the files that the README shows, on the path as a user's own folder is."""
    for block in [*blocks("python"), *blocks("yaml")]:
        if name := file_name(block):
            (tmp_path / name).write_text(block, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [path.stem for path in tmp_path.glob("*.py")]:
        sys.modules.pop(name, None)


def test_the_python_blocks_run_one_after_the_other(folder):
    shown = [block for block in blocks("python") if not file_name(block)]
    assert len(shown) >= 4
    script = folder / "readme_blocks.py"
    script.write_text("\n".join(shown), encoding="utf-8")

    with contextlib.redirect_stdout(io.StringIO()) as out:
        after = runpy.run_path(str(script))

    assert after["result"]["status"] == "done"
    assert "pack a light jacket" in out.getvalue()
    assert (folder / "oslo.txt").read_text() == "4 °C"


def test_the_shell_blocks_run_one_after_the_other(folder):
    env = {name: value for name, value in os.environ.items() if not name.startswith("PLAN_EXECUTE_")}
    env |= {"PLAN_EXECUTE_DB": str(folder / "threads.db")}
    program = shutil.which("plan-execute", path=str(Path(sys.executable).parent))
    assert program, "plan-execute is not installed next to this Python"
    ran = []
    for command, expected in shell_lines():
        words = shlex.split(command)
        if words[0] == "export":
            env |= dict(word.split("=", 1) for word in words[1:])
        elif words[0] == "plan-execute":
            done = subprocess.run(
                [program, *words[1:]],
                cwd=folder,
                env=env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert done.returncode == expected, f"{command}\n{done.stdout}\n{done.stderr}"
            ran.append(words[1])
    assert ran == ["validate", "run", "show", "resume", "run", "list"]
    assert (folder / "note.txt").read_text() == "4 °C in Oslo"


def test_every_shell_line_is_run_here_or_in_a_named_place():
    unknown = [
        command
        for command, _ in shell_lines()
        if shlex.split(command)[0] not in ("export", "plan-execute") and command not in ELSEWHERE
    ]
    assert not unknown


def test_the_two_commands_of_the_first_screen_are_what_ci_runs():
    first_screen = README.split("\n## ")[0]
    script = (CHECKOUT / ".ci/run").read_text(encoding="utf-8")
    for command in ("make demo", "make test"):
        assert command in first_screen
        assert f"\n{command}\n" in script


def test_every_file_and_make_target_that_is_named_exists():
    makefile = (CHECKOUT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"`?make (\w+)", README))
    assert {target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)} == set()
    named = set(re.findall(r"\]\(([\w./]+)\)|`(\w+\.(?:py|json|toml))`", README))
    files = {one or other for one, other in named}
    assert {name for name in files if not (CHECKOUT / name).exists()} == set()


def test_no_block_is_of_a_language_that_nothing_runs():
    assert {language for language, _ in BLOCKS} <= {"python", "yaml", "sh", "mermaid"}
