"""A run killed before or after it puts a large output away ends as if nothing had happened."""

import kill_points
import pytest
from crash_child import Workplace, serving
from kill_points import Point, essence
from logged_tools import Log

LONG = "x" * 2000
OUTPUTS = {"source": f"look source: {LONG}"}
OUTPUTS["mailed"] = f"send mailed: {OUTPUTS['source']}"
OUTPUTS["report"] = f"put report: {OUTPUTS['mailed']}"
PLAN = {
    "plan": {
        "goal": "carry it on",
        "steps": [
            kill_points._call("source", "look", LONG),
            kill_points._call("mailed", "send", "${source}"),
            kill_points._call("report", "put", "${mailed}"),
        ],
    }
}
FREE = kill_points.FREE | {"max_inline_bytes": 1000}


@pytest.fixture(scope="module")
def children(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("answers"), kill_points.__file__) as started:
        yield started


def resume(children, workplace):
    """Go on until the end; answer as the log of effects says."""
    job = {"input": None}
    for _ in range(6):
        answer = children.run(workplace, context=FREE, **job)
        if answer.get("error") == "ThreadNotFoundError":
            job = {"input": PLAN}
        elif answer.get("error") == "NothingToResumeError":
            return children.run(workplace, "look")
        elif questions := answer.get("questions"):
            happened = any(line["name"] == "mailed" for line in kill_points.calls_of(workplace))
            decided = (
                {"decision": "happened", "output": OUTPUTS["mailed"]}
                if happened
                else {"decision": "run_again"}
            )
            job = {"resume": {q["id"]: {"type": "edit", "args": decided} for q in questions}}
        else:
            return answer
    raise AssertionError("the run never ended")


@pytest.mark.timeout(110)
def test_a_kill_around_any_write_to_the_store_loses_and_repeats_nothing(children, tmp_path):
    def place(name):
        (tmp_path / name).mkdir()
        return Workplace(tmp_path / name, "local-async")

    whole_place = place("whole")
    whole = children.run(whole_place, input=PLAN, context=FREE)
    assert whole["status"] == "done", whole
    results = essence(whole["results"])
    assert {list(result["output"]) == ["$artifact"] for result in results.values()} == {True}
    writes = range(1, whole["counts"]["ledger"] + 1)
    points = [Point("ledger", "after", number) for number in writes]
    points += [Point("ledger", "before", number) for number in writes[1::3]]
    assert len(writes) > 10
    for point in points:
        workplace = place("-".join(map(str, point)))
        child = children.start(workplace, input=PLAN, context=FREE, point=point)
        child.ends_with_answer()
        answer = resume(children, workplace)
        assert essence(answer["results"]) == results, point
        assert Log(workplace.log).calls("send")["mailed"] == 1, point
        assert outputs_of(workplace) == OUTPUTS, point


def outputs_of(workplace):
    """Read the exact outputs in this process."""
    with workplace.opened() as (checkpointer, store):
        agent = kill_points.create_plan_execute_agent(None, checkpointer=checkpointer, store=store)
        return {step_id: agent.get_output(workplace.config, step_id) for step_id in OUTPUTS}
