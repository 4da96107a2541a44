"""What docs/report.md shows works: its Python is run, then its commands on the thread that it has made."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import sys
from pathlib import Path

from reported import Page

from plan_execute.cli.app import run_command_line

PAGE = (Path(__file__).parents[2] / "docs/report.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLAN_EXECUTE_DB", "threads.db")
    (program,) = [text for language, text in BLOCKS if language == "python"]
    (tmp_path / "page.py").write_text(program, encoding="utf-8")
    runpy.run_path(str(tmp_path / "page.py"))
    with open(os.devnull, encoding="utf-8") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        (commands,) = [text for language, text in BLOCKS if language == "sh"]
        for line in commands.splitlines():
            assert run_command_line(shlex.split(line)[1:]) == 0, line
    assert "# Oslo's weather" in capsys.readouterr().out
    for name in ("quick.html", "report.html"):
        assert "Oslo's weather" in Page((tmp_path / name).read_text(encoding="utf-8")).text
    assert (tmp_path / "report.md").exists()


def test_no_block_is_of_a_language_that_nothing_runs_and_every_section_is_named():
    assert {language for language, _ in BLOCKS} == {"python", "sh"}
    for title in ("answer", "plan", "What ran when", "settings", "What was spent", "decision"):
        assert title in PAGE
