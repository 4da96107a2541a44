"""Sync calls run on a private event loop, in forked children too."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from plans import FREE, agent_with, bound, plan
from postgres_server import server
from toolset import Toolset, make_tool

from plan_execute import postgres_persistence, submit
from plan_execute.report.making import read_run

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


@pytest.mark.parametrize("nesting", ["directly", "through a thread", "in a plain tool"])
def test_sync_calls_that_read_or_submit_work_inside_a_tool_of_a_sync_run(
    nesting: str,
) -> None:
    with postgres_persistence(server().new_schema()) as (saver, store):
        other = agent_with(Toolset().tools, checkpointer=saver, store=store)
        first = {"configurable": {"thread_id": "first"}}
        other.invoke({"plan": plan(bound("a", "look", {"q": "x"}))}, first, context=FREE)

        def use_other() -> list[str]:
            """Use another thread of another agent."""
            found = other.get_output(first, "a")
            state = other.get_state(first).values["status"]
            read = read_run(other, first)["status"]
            queued = submit(other, {"plan": plan(bound("a", "look", {"q": "y"}))}, "second", context=FREE)
            return [found, state, read, queued]

        async def use(text: str) -> list[str]:
            """Use another thread, the sync way in an async tool."""
            if nesting == "directly":
                return use_other()
            with ThreadPoolExecutor(1) as pool:
                return pool.submit(use_other).result()

        tool = make_tool(use)
        if nesting == "in a plain tool":
            tool = make_tool(lambda text: use_other()).model_copy(update={"name": "use"})
        agent = agent_with([tool])
        config = {"configurable": {"thread_id": "outer"}}
        result = agent.invoke({"plan": plan(bound("s", "use", {"text": ""}))}, config, context=FREE)
        assert result["results"]["s"]["output"] == ["found x", "done", "done", "second"]
