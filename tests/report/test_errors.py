"""The reports say of a long error what stands at its end, which is what went wrong."""

from __future__ import annotations

import asyncio
from typing import Literal

import pytest
from plans import Thread, agent_with, bound
from toolset import make_tool

from plan_execute import Context
from plan_execute.report import aread_run, write_report

END = "AssertionError: 24.62 != 24.61"


def run_tests() -> str:
    """Fail, as tests do: the reason stands below a long traceback."""
    raise ValueError("\n".join([*(f"  File x.py, line {n}, in test_{n}" for n in range(400)), END]))


@pytest.mark.parametrize("form", ["md", "html"])
def test_where_an_error_is_cut_its_end_stays(form: Literal["md", "html"]) -> None:
    async def made() -> str:
        context = Context(approval="never", max_attempts=1, on_failure="skip")
        thread = Thread(agent_with([make_tool(run_tests)]), context)
        await thread.run(bound("checked", "run_tests"))
        return write_report(await aread_run(thread.agent, thread.config), form)

    text = asyncio.run(made())
    assert text.count(END) >= 2, "of the step, and of its call"
    assert "in test_200" not in text, "it was cut"
