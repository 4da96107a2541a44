"""Make the throwaway repository that the demo releases, and build into it what can go wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

from ...errors import ConfigurationError
from ..commands import CommandRunner

__all__ = ["ENDINGS", "make_project"]

ENDINGS = ("good", "smoke", "verify")

_PYPROJECT = """\
[project]
name = "wordcount"
version = "1.0.0"

[tool.setuptools]
packages = ["wordcount", "wordcount.formats"]
"""

_CHANGELOG = """\
# Changes

## 1.1.0
- Print the counts as a table.

## 1.0.0
- Count words.
"""

_CORE = '''\
"""Count words."""

from collections import Counter


def count(text: str) -> Counter[str]:
    return Counter(text.lower().split())
'''

_MAIN = """\
import sys

from wordcount import __version__
from wordcount.core import count
from wordcount.formats.table import as_table

if sys.argv[1:] == ["--version"]:
    print("wordcount", __version__)
else:
    print(as_table(count(" ".join(sys.argv[1:]))))
"""

_TABLE = '''\
"""Show counts as a table."""

from collections import Counter


def as_table(counts: Counter[str]) -> str:
    return "\\n".join(f"{number:5} {word}" for word, number in counts.most_common())
'''

_TESTS = """\
import subprocess
import sys
import unittest

from wordcount.core import count
from wordcount.formats.table import as_table


class WordCount(unittest.TestCase):
    def test_words_are_counted_whatever_their_case(self):
        self.assertEqual(count("To be or not to be")["to"], 2)

    def test_the_most_frequent_word_comes_first(self):
        self.assertTrue(as_table(count("a b b")).startswith("    2 b"))

    def test_the_command_line_counts(self):
        command = [sys.executable, "-m", "wordcount", "a", "a"]
        self.assertIn("2 a", subprocess.run(command, capture_output=True, text=True, check=True).stdout)
"""

_FIRST = {
    ".gitignore": "dist/\n__pycache__/\n",
    "CHANGELOG.md": _CHANGELOG,
    "pyproject.toml": _PYPROJECT,
    "wordcount/__init__.py": '__version__ = "1.0.0"\n',
    "wordcount/core.py": _CORE,
}
_SINCE = {
    "Add the table format": {"wordcount/formats/__init__.py": "", "wordcount/formats/table.py": _TABLE},
    "Add the command line": {"wordcount/__main__.py": _MAIN},
    "Test the command line": {"tests/__init__.py": "", "tests/test_wordcount.py": _TESTS},
}


def make_project(project: Path, ending: str = "good") -> None:
    """Make the repository: a first release tagged ``v1.0.0``, and three commits since.

    Args:
        project: The folder; made, and emptied if it exists.
        ending: ``smoke`` leaves a package out of the package list, so that the tests pass in the
            checkout and the wheel is broken. ``verify`` marks a file ``skip-worktree``, so that
            git commits the release without the new version in it. Both happen to real projects.

    Raises:
        ConfigurationError: If git is not installed.
    """
    if shutil.which("git") is None:
        raise ConfigurationError(
            "the release demo needs git, and there is none on the PATH: install it, "
            "or try the demos that do without: report, scaffold"
        )
    if project.exists():
        shutil.rmtree(project)
    project.mkdir(parents=True)
    commands = CommandRunner(project)
    commands.run(["git", "-c", "init.defaultBranch=main", "init", "--quiet"])
    _commit(commands, "Count words", _FIRST)
    commands.run(["git", "tag", "--annotate", "v1.0.0", "--message", "wordcount 1.0.0"])
    for subject, files in _SINCE.items():
        _commit(commands, subject, files)
    if ending == "smoke":
        forgotten = _PYPROJECT.replace(', "wordcount.formats"', "")
        _commit(commands, "Tidy the package list", {"pyproject.toml": forgotten})
    if ending == "verify":
        commands.run(["git", "update-index", "--skip-worktree", "wordcount/__init__.py"])


def _commit(commands: CommandRunner, subject: str, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = commands.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    commands.run(["git", "add", "--all"])
    commands.run(["git", "commit", "--quiet", "--message", subject])
