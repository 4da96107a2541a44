"""A run that is killed at any moment goes on in a new process as if nothing had happened."""

import random
import time

import pytest
from crash_child import Workplace
from logged_tools import Log, bound, essence, plan, truthful

STEPS = plan(
    bound("a", "look", delay=0.03),
    bound("b", "look", delay=0.06),
    bound("c", "nap", delay=0.04),
    bound("d", "put", "a", delay=0.04),
    bound("e", "send", "a", "b", delay=0.06),
    bound("f", "send", "c", delay=0.05),
    bound("g", "put", "d", "e", delay=0.03),
    bound("h", "send", "think", delay=0.05),
    bound("i", "look", "f", delay=0.04),
    bound("j", "send", "i", "g", delay=0.05),
    bound("k", "put", "h", "j", delay=0.03),
    bound("l", "look", "k", delay=0.02),
    {"id": "think", "task": "think about ${e}", "tools": ["look", "put"]},
)
WRITES = ("send",)
NEVER = {"approval": "never", "on_failure": "abort", "max_attempts": 1}
MAX_ROUNDS = 40


@pytest.fixture(scope="module")
def uninterrupted(children, tmp_path_factory):
    workplace = Workplace(tmp_path_factory.mktemp("whole"), "local")
    started = time.monotonic()
    answer = children.run(workplace, input=STEPS, context=NEVER, model="put")
    assert answer["status"] == "done", answer
    assert set(Log(workplace.log).calls().values()) == {1}
    return essence(answer["results"]), time.monotonic() - started


def survive(children, workplace, dice, longest, *, kills, durability=None, parent=False):
    """Start a run, kill it ``kills`` times at random moments, and bring it to its end."""
    log, killed = Log(workplace.log), 0
    job = {"input": STEPS}
    for _ in range(MAX_ROUNDS):
        child = children.start(
            workplace, context=NEVER, model="put", durability=durability, parent=parent, **job
        )
        if killed < kills:
            time.sleep(dice.uniform(0.01, longest))
            child.kill()
            killed += 1
            if not child.out.exists():
                job = {"input": None}
                continue
        answer = child.answer()
        if answer.get("error") in ("ThreadNotFoundError", "unexpected EmptyInputError"):
            assert not log.calls(), "steps ran before the run was on record"
            job = {"input": STEPS}
        elif answer.get("error") == "ThreadBusyError":
            time.sleep(0.05)  # the server has not noticed yet that the process it talked to is dead
        elif answer.get("error") == "QuestionOpenError":
            job = {"input": None}
        elif answer.get("error") == "NothingToResumeError":
            # Killed after the run had ended and before it could say so.
            return children.run(workplace, "look", model="put", parent=parent), killed
        elif answer.get("questions"):
            job = {"resume": {q["id"]: truthful(q, log) for q in answer["questions"]}}
        else:
            return answer, killed
    raise AssertionError("the run never ended")


def rerun_after_finish(log):
    """Names of steps that were called again after their end was announced."""
    finished, again = set(), []
    for line in log.lines():
        if line["kind"] == "finished":
            finished.add(line["step"])
        elif line["name"].split("_")[0] in finished:
            again.append(line["name"])
    return again


def hold_promises(answer, log, expected, *, reads_too):
    assert "error" not in answer, answer
    assert answer["status"] == "done", answer["final_answer"]
    assert essence(answer["results"]) == expected
    repeated = {name: n for name, n in log.calls(*WRITES).items() if n != 1}
    assert not repeated, f"writes that happened more or less than once: {repeated}"
    if reads_too:
        assert rerun_after_finish(log) == []


@pytest.mark.parametrize(
    ("storage", "trials"),
    [
        ("local", 3),
        ("local-async", 3),
        ("sqlite", 2),
        ("sqlite-async", 2),
        ("postgres", 2),
        ("postgres-async", 2),
        ("plain-postgres", 2),
        ("plain-postgres-async", 2),
    ],
)
def test_after_kills_no_write_is_repeated_no_finished_step_reruns_and_results_are_the_same(
    children, tmp_path, uninterrupted, storage, trials
):
    expected, longest = uninterrupted
    dice = random.Random(f"sampled {storage}")
    for trial in range(trials):
        folder = tmp_path / str(trial)
        folder.mkdir()
        workplace = Workplace(folder, storage)
        answer, killed = survive(children, workplace, dice, longest, kills=1 + trial % 2)
        assert killed
        hold_promises(answer, Log(workplace.log), expected, reads_too="sqlite" not in storage)


@pytest.mark.parametrize("storage", ["local", "sqlite", "postgres"])
def test_after_kills_a_run_inside_a_parent_graph_keeps_the_same_promises(
    children, tmp_path, uninterrupted, storage
):
    expected, longest = uninterrupted
    dice = random.Random(f"sampled parent {storage}")
    for trial in range(2):
        folder = tmp_path / str(trial)
        folder.mkdir()
        workplace = Workplace(folder, storage)
        answer, killed = survive(children, workplace, dice, longest, kills=1 + trial, parent=True)
        assert killed
        hold_promises(answer, Log(workplace.log), expected, reads_too=storage != "sqlite")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("durability", ["sync", "async"])
@pytest.mark.parametrize(
    "storage", ["local", "local-async", "sqlite", "sqlite-async", "postgres", "postgres-async"]
)
def test_after_many_kills_the_promises_hold(children, tmp_path, uninterrupted, storage, durability):
    expected, longest = uninterrupted
    dice = random.Random(f"sweep {storage} {durability}")
    for trial in range(25):
        folder = tmp_path / str(trial)
        folder.mkdir()
        workplace = Workplace(folder, storage)
        answer, _ = survive(children, workplace, dice, longest, kills=1 + trial % 4, durability=durability)
        hold_promises(answer, Log(workplace.log), expected, reads_too="sqlite" not in storage)
