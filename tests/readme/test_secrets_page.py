"""What docs/secrets.md shows works: its blocks are run in a temporary folder, one after the other."""

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
PAGE = (CHECKOUT / "docs/secrets.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
TOOLS = 'def note(text: str) -> str:\n    """Note something."""\n    return text\n'
PLAN = "goal: note it\nsteps:\n  - id: a\n    call: {tool: note, args: {text: hush}}\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHOP_API_KEY", "to be set by the page")
    (tmp_path / "quiet_tools.py").write_text(TOOLS)
    (tmp_path / "note.yaml").write_text(PLAN)
    return tmp_path


def test_the_python_blocks_run(folder):
    shown = [text for language, text in BLOCKS if language == "python"]
    assert len(shown) == 3
    for number, block in enumerate(shown):
        script = folder / f"block_{number}.py"
        script.write_text(block, encoding="utf-8")
        runpy.run_path(str(script))


def test_the_shell_block_runs(folder):
    program = shutil.which("plan-execute", path=str(Path(sys.executable).parent))
    assert program
    env = {name: value for name, value in os.environ.items() if not name.startswith("PLAN_EXECUTE_")}
    env |= {"PLAN_EXECUTE_DB": str(folder / "threads.db")}
    [block] = [text for language, text in BLOCKS if language == "sh"]
    for line in block.splitlines():
        words = shlex.split(line)
        if words[0] == "export":
            env |= dict(word.split("=", 1) for word in words[1:])
            continue
        done = subprocess.run([program, *words[1:]], env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
    assert b"hush" not in (folder / "threads.db").read_bytes()


def test_the_names_and_codes_that_are_shown_exist():
    from plan_execute.context import SECRET_NAMES
    from plan_execute.errors import EncryptionKeyError, StorageDamagedError

    assert all(f"`{name}`" in PAGE for name in SECRET_NAMES)
    assert all(f"`{error.code}`" in PAGE for error in (EncryptionKeyError, StorageDamagedError))
