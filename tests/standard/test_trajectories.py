"""The examples take the way that they are meant to take, as LangChain's ``agentevals`` sees it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from agentevals.graph_trajectory.strict import graph_trajectory_strict_match
from agentevals.graph_trajectory.utils import extract_langgraph_trajectory_from_thread
from agentevals.trajectory.match import create_trajectory_match_evaluator
from langgraph.checkpoint.memory import InMemorySaver

from plan_execute import create_plan_execute_agent
from plan_execute.examples import build_demo
from plan_execute.plan.dag import topological_order

THREAD: Any = {"configurable": {"thread_id": "1"}}


def ran(name, ending="good"):
    """Run an example and give the agent and the result."""
    with build_demo(name, ending=ending) as demo:
        agent = create_plan_execute_agent(**demo.agent_args, checkpointer=InMemorySaver())
        return agent, agent.invoke({"goal": demo.goal}, THREAD, context=demo.context)


def trajectory(result, *steps):
    """Write a run, or some of its steps, as the messages of one conversation."""
    said = [{"role": "user", "content": result["plan"]["goal"]}]
    for step in topological_order(result["plan"]["steps"]):
        if step["id"] in result["results"] and (not steps or step["id"] in steps):
            said += messages(result["results"][step["id"]]["evidence"])
    return [*said, {"role": "assistant", "content": result["final_answer"]}]


def messages(evidence):
    for call in evidence:
        function = {"name": call["tool"], "arguments": json.dumps(call["args"])}
        made = [{"type": "function", "id": call["call_id"], "function": function}]
        yield {"role": "assistant", "content": "", "tool_calls": made}
        yield {"role": "tool", "tool_call_id": call["call_id"], "content": call["output_preview"]}


def expected(result, *calls):
    """Write the conversation that should have been, of the tools called and their arguments."""
    evidence = [
        {"tool": tool, "args": args, "call_id": str(number), "output_preview": ""}
        for number, (tool, args) in enumerate(calls)
    ]
    goal, answer = result["plan"]["goal"], result["final_answer"]
    said = [{"role": "user", "content": goal}, *messages(evidence)]
    return [*said, {"role": "assistant", "content": answer}]


def matches(result, reference, *steps, mode="unordered", args="exact"):
    evaluate = create_trajectory_match_evaluator(trajectory_match_mode=mode, tool_args_match_mode=args)
    return evaluate(outputs=trajectory(result, *steps), reference_outputs=reference)["score"]


@pytest.fixture(scope="module")
def report():
    return ran("report")


def test_the_report_asks_each_source_once_and_writes_once(report):
    _, result = report
    kettle = {"product": "kettle"}
    text = result["results"]["merge"]["output"]
    calls = [
        ("look_up_sales", kettle),
        ("look_up_stock", kettle),
        ("look_up_supplier", kettle),
        ("write_report", {"name": "kettles.md", "text": text}),
    ]
    assert matches(result, expected(result, *calls))
    assert not matches(result, expected(result, *calls[1:]))


def test_the_report_goes_once_through_the_graph(report):
    agent, _ = report
    way = extract_langgraph_trajectory_from_thread(agent, THREAD)
    once = ["planner", "validator", "dispatcher", *["executor"] * 5, "evaluator", "synthesizer"]
    reference = {**way["outputs"], "steps": [["__start__", *once]]}
    assert graph_trajectory_strict_match(outputs=way["outputs"], reference_outputs=reference)["score"]


def test_the_scaffold_writes_runs_the_tests_and_mends_what_they_find():
    _, result = ran("scaffold")
    calls = [("write_file", {}), ("run_command", {}), ("write_file", {}), ("run_command", {})]
    assert matches(result, expected(result, *calls), "module", mode="strict", args="ignore")
    swapped = [calls[1], calls[0], *calls[2:]]
    assert not matches(result, expected(result, *swapped), "module", mode="strict", args="ignore")


@pytest.mark.parametrize(
    ("ending", "delivery", "never"),
    [
        ("smoke", ["build_wheel", "declare_package", "smoke_test", "tag", "publish"], ()),
        ("verify", ["smoke_test", "tag", "verify_tag"], ["publish"]),
    ],
)
def test_the_release_delivers_what_was_checked_and_nothing_else(ending, delivery, never):
    _, result = ran("release", ending)
    checks = ["run_tests", "check_syntax", "check_changelog", "set_version", "commit", "build_wheel"]
    wanted = expected(result, *[(tool, {}) for tool in dict.fromkeys([*checks, *delivery])])
    assert matches(result, wanted, mode="superset", args="ignore")
    for tool in never:
        assert not matches(result, expected(result, (tool, {})), mode="superset", args="ignore")
