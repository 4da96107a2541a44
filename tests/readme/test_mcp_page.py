"""What docs/mcp.md shows works: its files are written, its blocks are run, its tables name what there is."""

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from plan_execute.tools import mcp_file

CHECKOUT = Path(__file__).parents[2]
PAGE = (CHECKOUT / "docs/mcp.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def blocks(language):
    return [text for found, text in BLOCKS if found == language]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHOP_TOKEN", "set-by-the-reader")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "mcp.json").write_text(blocks("json")[0])
    (tmp_path / "count.yaml").write_text(
        "goal: g\nsteps: [{id: a, call: {tool: count, args: {item: tea}}}]\n"
    )
    for text in blocks("python"):
        if found := re.match(r"# (\w+\.py)\n", text):
            (tmp_path / found[1]).write_text(text)
    return tmp_path


def test_the_python_blocks_run(folder, capsys):
    shown = [text for text in blocks("python") if not text.startswith("# ")]
    assert len(shown) == 3
    for number, block in enumerate(shown):
        script = folder / f"block_{number}.py"
        script.write_text(block, encoding="utf-8")
        runpy.run_path(str(script))
    assert capsys.readouterr().out == "3\n"


def test_the_shell_block_runs(folder):
    env = {name: value for name, value in os.environ.items() if not name.startswith("PLAN_EXECUTE_")}
    env |= {"PLAN_EXECUTE_DB": str(folder / "threads.db")}
    [line] = blocks("sh")
    program, *arguments = shlex.split(line)
    found = shutil.which(program, path=str(Path(sys.executable).parent))
    done = subprocess.run([found, *arguments], env=env, capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout)["results"]["a"]["output"] == 3, done.stderr


def test_every_key_and_limit_is_named_as_it_is():
    table = PAGE.partition("## Keys of a server")[2].partition("\n`${NAME}`")[0]
    keys = {*mcp_file._COMMON, *mcp_file._STDIO, *mcp_file._HTTP}
    assert keys == set(re.findall(r"`(\w+)`", "\n".join(re.findall(r"^\|(.*?)\|", table, re.MULTILINE))))
    assert f"one call ({mcp_file.CALL_TIMEOUT_S:g})" in table
    assert f"listed its tools ({mcp_file.START_TIMEOUT_S:g})" in table
