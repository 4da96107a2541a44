"""A run that is killed when its goal is reached decides the same again, and forgets no write."""

import time

import pytest
from crash_child import Workplace
from logged_tools import Log, bound, plan

NEVER = {"approval": "never", "on_failure": "abort", "max_attempts": 1}
STEPS = plan(
    bound("found", "look", delay=0.05),
    bound("mail", "send", delay=1.5),
    bound("asleep", "nap", delay=30),
    bound("later", "put", "mail"),
)
STEPS["plan"]["goal_criteria"] = [{"type": "expression", "expression": "found"}]


@pytest.fixture(params=["local", "local-async"])
def workplace(tmp_path, request):
    return Workplace(tmp_path, request.param)


@pytest.fixture
def killed(children, workplace):
    """Kill a run that has reached its goal while a write is under way."""
    log = Log(workplace.log)
    child = children.start(workplace, input=STEPS, context=NEVER)
    deadline = time.monotonic() + 60
    while not {("finished", "found"), ("begin", "mail")} <= {
        (line["kind"], line.get("step") or line.get("name")) for line in log.lines()
    }:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    child.kill()
    assert not child.out.exists()
    return log


def question_of(answer):
    [question] = answer["questions"]
    return question["value"]["action_requests"][0]


def test_a_write_under_way_is_asked_about_and_nothing_else_runs(children, workplace, killed):
    before = len(killed.lines())
    asked = question_of(children.run(workplace))
    assert (asked["name"], asked["args"]["step_id"]) == ("resolve_unknown_outcome", "mail")
    happened = {"type": "edit", "args": {"decision": "happened", "output": "seen"}}
    answer = children.run(workplace, resume=happened)
    statuses = {step_id: result["status"] for step_id, result in answer["results"].items()}
    assert answer["status"] == "done", answer
    assert statuses == {"found": "done", "mail": "done", "asleep": "skipped", "later": "skipped"}
    assert answer["results"]["mail"]["output"] == "seen"
    assert [line for line in killed.lines()[before:] if line["kind"] in ("begin", "call")] == []


def test_a_write_that_did_not_happen_is_brought_to_its_end_when_a_person_says_so(children, workplace, killed):
    question_of(children.run(workplace))
    answer = children.run(workplace, resume={"type": "edit", "args": {"decision": "run_again"}})
    assert answer["status"] == "done"
    assert answer["results"]["mail"]["status"] == "done"
    assert killed.calls()["later"] == 0
