"""Sync calls run on a private event loop, in forked children too."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from plans import FREE, agent_with, bound, plan
from toolset import Toolset, make_tool

FORKING = """
import os, signal, sys
from plan_execute import Context, create_plan_execute_agent

def look(q: str) -> str:
    "Look something up."
    return q

look_up = {"plan": {"goal": "g", "steps": [{"id": "l", "call": {"tool": "look", "args": {"q": "x"}}}]}}
agent = create_plan_execute_agent(None, tools=[look])
run = lambda: agent.invoke(look_up, context=Context(approval="never"))["status"]
assert run() == "done"
child = os.fork()
if child == 0:
    signal.alarm(10)
    os._exit(0 if run() == "done" else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_an_agent_that_has_run_runs_in_a_forked_child_too(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FORKING]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr


async def test_a_sync_call_of_an_agent_inside_its_own_loop_is_refused_and_names_the_way_out() -> None:
    inner = agent_with(Toolset().tools)

    async def ask_other(q: str) -> str:
        """Call another agent the sync way from an async tool."""
        steps = plan(bound("l", "look", {"q": q}))
        config = {"configurable": {"thread_id": "inner"}}
        return str(inner.invoke({"plan": steps}, config, context=FREE)["status"])

    outer = agent_with([make_tool(ask_other)])
    steps = plan(bound("s", "ask_other", {"q": "1"}, on_failure="abort"))
    config = {"configurable": {"thread_id": "outer"}}
    result = await asyncio.wait_for(
        asyncio.to_thread(outer.invoke, {"plan": steps}, config, context=FREE), 60
    )
    assert "use ainvoke" in result["results"]["s"]["error"]["message"]
