"""The scaffold as a demo: tests are written first, and an agent writes the module until they pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ... import Context, ScriptedModel
from ..scripts import MET, agent_step, call_step, plan_reply
from .tools import project_tools

__all__ = ["ENDINGS", "prepare"]

ENDINGS = ("good",)

_TESTS = """\
import unittest

from roman import to_roman


class Roman(unittest.TestCase):
    def test_digits_add_up(self):
        self.assertEqual(to_roman(8), "VIII")

    def test_a_smaller_digit_before_a_larger_one_is_taken_away(self):
        self.assertEqual(to_roman(1994), "MCMXCIV")
"""
_FIRST_TRY = """\
DIGITS = {1000: "M", 500: "D", 100: "C", 50: "L", 10: "X", 5: "V", 1: "I"}


def to_roman(number: int) -> str:
    text = ""
    for value, digit in DIGITS.items():
        text += digit * (number // value)
        number %= value
    return text
"""
_SECOND_TRY = _FIRST_TRY.replace(
    'DIGITS = {1000: "M", 500: "D", 100: "C", 50: "L", 10: "X", 5: "V", 1: "I"}',
    'DIGITS = {1000: "M", 900: "CM", 500: "D", 400: "CD", 100: "C", 90: "XC", 50: "L", 40: "XL"}\n'
    'DIGITS |= {10: "X", 9: "IX", 5: "V", 4: "IV", 1: "I"}',
)
_RUN_TESTS = {"command": ["python", "-m", "unittest", "discover", "-s", "tests", "-t", "."]}


def prepare(workspace: Path, ending: str) -> dict[str, Any]:  # noqa: ARG001 - every demo takes an ending
    """Return what a ``Demo`` is made of."""
    return {
        "agent_args": {"model": ScriptedModel(_script()), "tools": project_tools(workspace)},
        "goal": "Start a Python package `roman` that writes numbers as Roman numerals, with tests that pass.",
        # Nobody is asked, because everything happens in a temporary folder.
        "context": Context(approval="never"),
    }


def _script() -> dict[str, list[Any]]:
    module = "roman/__init__.py"
    write_first = ScriptedModel.tool_calls(("write_file", {"path": module, "text": _FIRST_TRY}))
    write_second = ScriptedModel.tool_calls(("write_file", {"path": module, "text": _SECOND_TRY}))
    run_tests = ScriptedModel.tool_calls(("run_command", _RUN_TESTS))
    finished = "roman/__init__.py has to_roman; the tests pass."
    return {
        "planner": [plan_reply("The tests say what the module is to do, so they come first.", *_steps())],
        "executor:module": [write_first, run_tests, write_second, run_tests, finished],
        "evaluator": [MET],
        "synthesizer": ["The package `roman` is there, with a readme and tests that pass."],
    }


def _steps() -> list[dict[str, Any]]:
    readme = {"path": "README.md", "text": "# roman\n\n`to_roman(1994)` is `MCMXCIV`.\n"}
    package = {"path": "tests/__init__.py", "text": ""}
    tests = {"path": "tests/test_roman.py", "text": _TESTS}
    return [
        call_step("readme", "Write the readme", "write_file", readme),
        call_step("package", "Make the tests a package", "write_file", package),
        call_step("tests", "Write the tests", "write_file", tests),
        agent_step(
            "module",
            "Write roman/__init__.py so that the tests pass",
            ["write_file", "read_file", "run_command"],
            criterion="The last run of the tests passed",
            after=["package", "tests"],
        ),
        call_step("check", "Run the tests once more", "run_command", _RUN_TESTS, after=["module", "readme"]),
    ]
