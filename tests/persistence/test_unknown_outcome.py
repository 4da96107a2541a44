"""A write whose end nobody saw is never repeated silently, however often the process dies."""

import asyncio
import time

import pytest
from crash_child import Workplace
from langchain_core.tools import StructuredTool
from langgraph.types import Command
from logged_tools import Log, bound, held, plan

from plan_execute import create_plan_execute_agent, local_persistence
from plan_execute.storage.adapters import async_store
from plan_execute.storage.effect_log import EffectLog
from plan_execute.storage.ledger import Ledger

NEVER = {"approval": "never", "on_failure": "abort", "max_attempts": 1}
BOUND = plan(bound("mail", "send"), bound("after", "put", "mail"))
AGENT = plan({"id": "think", "task": "think", "tools": ["look", "send"]})


def wait_for_line(log, kind, name, count=1, timeout_s=60.0):
    deadline = time.monotonic() + timeout_s
    while sum(line["kind"] == kind and line.get("name") == name for line in log.lines()) < count:
        assert time.monotonic() < deadline, f"no {kind} of {name}"
        time.sleep(0.002)


def question_of(answer):
    assert "error" not in answer, answer
    [question] = answer["questions"]
    request = question["value"]["action_requests"][0]
    assert request["name"] == "resolve_unknown_outcome"
    return request["args"]


def decide(decision, **args):
    return {"type": "edit", "args": {"decision": decision, **args}}


@pytest.fixture(params=["local", "local-async", "postgres", "plain-postgres-async"])
def workplace(tmp_path, request):
    return Workplace(tmp_path, request.param)


def kill_amid(children, workplace, name, moment, **job):
    """Run until a call has logged this moment, and kill the process while the call is held there."""
    log = Log(workplace.log)
    with held(log, name, moment):
        child = children.start(workplace, **job)
        wait_for_line(log, moment, name)
        child.kill()
    return log


def killed_amid(children, workplace, steps, name, moment):
    return kill_amid(children, workplace, name, moment, input=steps, context=NEVER, model="send")


def test_a_person_who_saw_it_happen_gives_its_output_and_it_is_not_repeated(children, workplace):
    log = killed_amid(children, workplace, BOUND, "mail", "call")
    asked = question_of(children.run(workplace, model="send"))
    assert (asked["step_id"], asked["tool"], asked["tool_args"]["name"]) == ("mail", "send", "mail")
    answer = children.run(workplace, resume=decide("happened", output="seen"), model="send")
    assert answer["status"] == "done"
    assert answer["results"]["after"]["output"] == "put after: seen"
    assert log.calls() == {"mail": 1, "after": 1}


def test_a_person_who_saw_that_it_did_not_happen_has_it_run_again(children, workplace):
    log = killed_amid(children, workplace, BOUND, "mail", "begin")
    question_of(children.run(workplace, model="send"))
    assert children.run(workplace, resume=decide("run_again"), model="send")["status"] == "done"
    assert log.calls() == {"mail": 1, "after": 1}


def test_the_safe_default_lets_the_step_fail_and_says_why(children, workplace):
    log = killed_amid(children, workplace, BOUND, "mail", "call")
    question_of(children.run(workplace, model="send"))
    answer = children.run(workplace, resume={"type": "reject", "message": "cannot tell"}, model="send")
    assert answer["status"] == "failed"
    assert "cannot tell" in answer["final_answer"]
    assert log.calls() == {"mail": 1}


async def test_a_write_that_was_to_run_again_and_found_no_budget_left_is_in_doubt_no_more(tmp_path):
    begun, made = asyncio.Event(), []

    async def send(text: str) -> str:
        """Send a text."""
        begun.set()
        if not made:
            made.append(text)
            await asyncio.sleep(60)
        return text

    tool = StructuredTool.from_function(coroutine=send, metadata={"effect": "write"})
    steps = {"goal": "send", "steps": [{"id": "mail", "call": {"tool": "send", "args": {"text": "hello"}}}]}
    config = {"configurable": {"thread_id": "1"}}
    little = {**NEVER, "max_tool_calls": 1}
    async with local_persistence(tmp_path / "runs.db") as (saver, store):
        agent = create_plan_execute_agent(None, [tool], checkpointer=saver, store=store)
        cut_off = asyncio.create_task(agent.ainvoke({"plan": steps}, config, context=little))
        await begun.wait()
        cut_off.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cut_off
        assert "__interrupt__" in await agent.ainvoke(None, config)
        result = await agent.ainvoke(Command(resume=decide("run_again")), config)
        assert result["results"]["mail"]["error"]["code"] == "budget_exceeded"
        log = EffectLog(Ledger(async_store(store), "1"), is_new=False)
        assert await log.doubts(result["plan"]["id"]) == []
        assert (await agent.aget_state(config)).next == ()


def test_a_second_kill_amid_the_ordered_rerun_is_asked_about_again(children, workplace):
    log = killed_amid(children, workplace, BOUND, "mail", "begin")
    question_of(children.run(workplace, model="send"))
    kill_amid(children, workplace, "mail", "call", resume=decide("run_again"), model="send")
    question_of(children.run(workplace, model="send"))
    answer = children.run(workplace, resume=decide("happened", output="seen"), model="send")
    assert answer["status"] == "done"
    assert log.calls() == {"mail": 1, "after": 1}


def test_a_second_kill_under_a_parent_graph_is_asked_about_again(children, workplace):
    log, job = Log(workplace.log), {"parent": True, "context": NEVER}
    kill_amid(children, workplace, "mail", "begin", input=BOUND, **job)
    question_of(children.run(workplace, **job))
    kill_amid(children, workplace, "mail", "call", resume=decide("run_again"), **job)
    question_of(children.run(workplace, **job))
    answer = children.run(workplace, resume=decide("happened", output="seen"), **job)
    assert answer["status"] == "done"
    assert log.calls() == {"mail": 1, "after": 1}


def test_after_an_approval_that_was_acted_upon_only_the_write_is_asked_about(children, workplace):
    log, steps = Log(workplace.log), plan(bound("mail", "send", approve=True))
    children.run(workplace, input=steps, context=NEVER)
    kill_amid(children, workplace, "mail", "call", resume="approve")
    assert children.run(workplace, "look")["questions"] == [], "the answer is on disk"
    question_of(children.run(workplace))
    answer = children.run(workplace, resume=decide("happened", output="seen"))
    assert answer["results"]["mail"]["output"] == "seen"
    assert log.calls() == {"mail": 1}


def test_an_idempotent_call_is_made_again_without_a_question(children, workplace):
    steps = plan(bound("set", "put"))
    log = killed_amid(children, workplace, steps, "set", "call")
    assert children.run(workplace, model="send")["status"] == "done"
    assert log.calls() == {"set": 2}


@pytest.mark.parametrize("decision", ["happened", "run_again"])
def test_an_agent_steps_write_is_asked_about_too(children, workplace, decision):
    log = killed_amid(children, workplace, AGENT, "think_send", "call" if decision == "happened" else "begin")
    question_of(children.run(workplace, model="send"))
    answer = children.run(workplace, resume=decide(decision, output="send think_send: mail"), model="send")
    assert answer["status"] == "done", answer["final_answer"]
    assert answer["results"]["think"]["output"] == "thought: send think_send: mail"
    assert log.calls() == {"think_look": 1, "think_send": 1}


def test_an_agent_steps_write_is_asked_about_even_when_checkpoints_come_late(children, tmp_path):
    workplace = Workplace(tmp_path, "slow")
    log = killed_amid(children, workplace, AGENT, "think_send", "call")
    question_of(children.run(workplace, model="send"))
    assert log.calls()["think_send"] == 1
