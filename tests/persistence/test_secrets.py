"""No file and no event holds a secret, whoever said it, also when the run is killed and goes on."""

import random
import time

import crash_child
import pytest
import secret_child
from crash_child import Workplace
from secret_child import BOTH, NAME, SECRET

SETTINGS = {"approval": "always", "max_attempts": 1}


@pytest.fixture(scope="module")
def children(tmp_path_factory):
    with crash_child.serving(tmp_path_factory.mktemp("answers"), secret_child.__file__) as started:
        yield started


def answered(questions, rounds):
    """Answer every open question with the secret in it."""
    answers = {}
    for question in questions:
        value = question["value"]
        name = value["action_requests"][0]["name"] if "action_requests" in value else "tool"
        answers[question["id"]] = {
            "approve_plan": {"type": "reject", "message": f"use {BOTH} instead"}
            if not rounds
            else {"type": "approve"},
            "handle_step_failure": {
                "type": "edit",
                "args": {"decision": "supply", "output": {"by hand": BOTH}, "instructions": BOTH},
            },
            "resolve_unknown_outcome": {
                "type": "edit",
                "args": {"decision": "happened", "output": f"it did, with {BOTH}"},
            },
            "tool": f"yes, use {BOTH}",
        }[name]
    return answers


def finish(children, workplace, events, *, kills=0, dice=None, options=None):
    """Bring the run to its end, killing it ``kills`` times on the way."""
    job = {"input": {"goal": f"do it with {BOTH}"}, "resume": None}
    rounds = killed = 0
    for _ in range(40):
        child = children.start(workplace, context=SETTINGS, events=str(events), options=options or {}, **job)
        if killed < kills:
            time.sleep(dice.uniform(0.05, 0.6))
            child.kill()
            killed += 1
            if not child.out.exists():
                # a question may be open already: then going on asks it again
                job = {"input": None, "resume": None}
                continue
        answer = child.answer()
        if answer.get("error") == "ThreadNotFoundError":
            job = {"input": {"goal": f"do it with {BOTH}"}, "resume": None}
        elif "error" in answer:
            raise AssertionError(answer)
        elif answer["questions"]:
            job = {"input": None, "resume": answered(answer["questions"], rounds)}
            rounds += 1
        else:
            return answer
    raise AssertionError("the run came to no end")


def files_of(workplace, events):
    folder = events.parent
    return [path for path in folder.rglob("*") if path.is_file() and path != folder / workplace.log]


def test_an_uninterrupted_run_leaves_no_secret_in_the_database_or_its_events(children, tmp_path):
    workplace, events = Workplace(tmp_path, "local"), tmp_path / "events.txt"
    end = finish(children, workplace, events)
    assert end["status"] == "done", end
    output = end["results"]["leak"]["output"]
    assert output["key"] == f"[redacted {NAME}]"
    assert output["text"] == f"the key is [redacted {NAME}], really"
    assert output[f"[redacted {NAME}]"] == ["[redacted key]", {"deep": "[redacted token]"}]
    assert f"[redacted {NAME}]" in end["final_answer"]
    assert f"[redacted {NAME}]" in end["plan"]["rationale"]
    assert "is not passed on" not in str(end["results"]["send"])
    assert secret_child.found_in(*files_of(workplace, events)) == []


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_run_that_is_killed_again_and_again_leaves_none_either(children, tmp_path, seed):
    workplace, events = Workplace(tmp_path, "local"), tmp_path / "events.txt"
    end = finish(children, workplace, events, kills=4, dice=random.Random(seed))
    assert end["status"] == "done", end
    assert secret_child.found_in(*files_of(workplace, events)) == []


def test_the_search_finds_what_it_should(tmp_path):
    planted = tmp_path / "x"
    planted.write_bytes(b"\0" + SECRET.encode("utf-16-le"))
    assert secret_child.found_in(planted)
