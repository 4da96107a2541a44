"""Kills amid a ``for_each`` or a sub-plan: items and inner steps that ended never run again."""

import random
import time

import pytest
from crash_child import Workplace
from logged_tools import Log, bound, essence, plan, truthful

NEVER = {"approval": "never", "on_failure": "abort", "max_attempts": 1, "max_parallel": 4}
MAX_ROUNDS = 30


def each(step_id, tool, items, **more):
    args = {"name": f"{step_id}_${{item}}", "delay": 0.0 if tool == "look" else 0.02}
    step = {"id": step_id, "call": {"tool": tool, "args": args}, "for_each": "${inputs.items}", **more}
    given = plan(step)
    given["plan"]["inputs"] = {"items": {"type": "array"}}
    return {**given, "inputs": {"items": list(range(items))}}


def ended(log):
    return len(log.calls())


def kill_when(child, condition, timeout_s=30.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert child.running(), child.answer()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    child.kill()


def to_the_end(children, workplace, start, log, dice=None, kills=0):
    """Bring a run to its end, with kills at random moments and true answers about unknown outcomes.

    ``start`` is given again only to a thread that is not on record: a run that ended just before
    its kill would else be followed by a second run of the same plan.
    """
    job = start
    for _ in range(MAX_ROUNDS):
        child = children.start(workplace, context=NEVER, model="send", **job)
        if kills:
            time.sleep(dice.uniform(0.02, 0.4))
            child.kill()
            kills -= 1
            if not child.out.exists():
                job = {"input": None}
                continue
        answer = child.answer()
        error = answer.get("error")
        if error in ("ThreadUnfinishedError", "QuestionOpenError"):
            job = {"input": None}
        elif error == "NothingToResumeError":
            return children.run(workplace, "look", model="send")
        elif error == "ThreadNotFoundError":
            job = start
        elif answer.get("questions"):
            job = {"resume": {q["id"]: truthful(q, log) for q in answer["questions"]}}
        else:
            return answer
    raise AssertionError("the run never ended")


def test_after_a_kill_at_item_140_of_200_only_the_items_that_had_not_ended_run(children, tmp_path):
    workplace = Workplace(tmp_path, "local")
    log = Log(workplace.log)
    child = children.start(workplace, context=NEVER, input=each("each", "look", 200))
    kill_when(child, lambda: ended(log) >= 140)
    before = sum(log.calls().values())
    answer = children.run(workplace, context=NEVER)
    assert answer["status"] == "done", answer
    assert answer["results"]["each"]["output"] == [f"look each_{n}: " for n in range(200)]
    assert set(log.calls()) == {f"each_{n}" for n in range(200)}
    again = sum(log.calls().values()) - 200
    assert before >= 140
    assert again <= NEVER["max_parallel"], "only what was under way may be looked up again"


@pytest.mark.parametrize("storage", ["local", "local-async"])
def test_items_that_write_happen_once_over_kills_and_each_answer_reaches_its_item(
    children, tmp_path, storage
):
    for trial in range(2):
        folder = tmp_path / str(trial)
        folder.mkdir()
        workplace, dice = Workplace(folder, storage), random.Random(f"loops {storage} {trial}")
        log = Log(workplace.log)
        answer = to_the_end(children, workplace, {"input": each("each", "send", 24)}, log, dice, kills=2)
        assert answer["status"] == "done", answer
        assert answer["results"]["each"]["output"] == [f"send each_{n}: " for n in range(24)]
        assert log.calls("send") == {f"each_{n}": 1 for n in range(24)}


@pytest.mark.parametrize("policy", ["abort", "retry", "auto"])
def test_without_a_store_a_loop_of_writes_that_lost_its_record_is_not_run_again_by_itself(
    children, tmp_path, policy
):
    context = {"approval": "never", "on_failure": policy, "max_attempts": 3, "max_parallel": 4}
    workplace = Workplace(tmp_path, "sqlite")
    log = Log(workplace.log)
    child = children.start(workplace, context=context, input=each("each", "send", 24))
    kill_when(child, lambda: ended(log) >= 6)
    happened = log.calls("send")
    answer = children.run(workplace, context=context)
    assert log.calls("send") == happened
    if policy == "abort":
        assert (answer["status"], answer["results"]["each"]["error"]["code"]) == ("failed", "outcome_unknown")
        return
    [question] = answer["questions"]
    [request] = question["value"]["action_requests"]
    assert (request["name"], request["args"]["error"]["code"]) == ("handle_step_failure", "outcome_unknown")


def test_the_inner_steps_of_a_sub_plan_are_not_repeated_over_kills(children, tmp_path):
    steps = plan(
        bound("a", "look"),
        {"id": "sub", "plan": {"goal": "send what ${a} says"}},
        bound("z", "send", "sub", delay=0.02),
    )
    whole = None
    for trial in range(5):
        folder = tmp_path / str(trial)
        folder.mkdir()
        workplace, dice = Workplace(folder, "local"), random.Random(f"sub {trial}")
        log = Log(workplace.log)
        answer = to_the_end(children, workplace, {"input": steps}, log, dice, kills=2 if trial else 0)
        assert answer["status"] == "done", answer
        whole = whole or essence(answer["results"])
        assert essence(answer["results"]) == whole
        assert log.calls("send") == {"sub_a": 1, "sub_b": 1, "z": 1}
