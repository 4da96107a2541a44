"""What docs/storage.md shows works: its blocks are run in a temporary folder, one after the other."""

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "storage.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_blocks_of_the_storage_page_run_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    env = {name: value for name, value in os.environ.items() if not name.startswith("PLAN_EXECUTE_")}
    env |= {"PLAN_EXECUTE_DB": str(tmp_path / "threads.db")}
    program = shutil.which("plan-execute", path=str(Path(sys.executable).parent))
    said = {}
    for number, (language, text) in enumerate(BLOCKS):
        if language == "python":
            (tmp_path / f"block_{number}.py").write_text(text, encoding="utf-8")
            runpy.run_path(str(tmp_path / f"block_{number}.py"))
        for line in text.splitlines() if language == "sh" else ():
            words = [program, *shlex.split(line)[1:]]
            done = subprocess.run(
                words, env=env, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
            )
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
            said[line] = done.stdout
    assert said["plan-execute show sales --step sales"].count('"day"') == 5000
    assert said["plan-execute prune sales"].startswith("deleted  sales")


def test_the_cron_line_takes_options_that_there_are():
    (cron,) = [text for language, text in BLOCKS if not language]
    used = set(re.findall(r"--[\w-]+", cron))
    helped = subprocess.run(
        [shutil.which("plan-execute", path=str(Path(sys.executable).parent)), "prune", "--help"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert all(option in helped.stdout for option in used)
