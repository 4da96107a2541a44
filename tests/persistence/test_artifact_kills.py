"""A run killed before or after it puts a large output away ends as if nothing had happened."""

import crash_child
import kill_points
import pytest
from counted import Point
from crash_child import Workplace
from kill_points import kill_at, run_whole
from scenarios import LARGE

from plan_execute import create_plan_execute_agent

OUTPUTS = {"source": f"look source: {'x' * 2000}"}
OUTPUTS["mailed"] = f"send mailed: {OUTPUTS['source']}"
OUTPUTS["report"] = f"put report: {OUTPUTS['mailed']}"


@pytest.fixture(scope="module")
def children(tmp_path_factory):
    with crash_child.serving(tmp_path_factory.mktemp("answers"), kill_points.__file__) as started:
        yield started


def outputs_of(workplace):
    """Read the exact outputs in this process."""
    with workplace.opened() as (checkpointer, store):
        agent = create_plan_execute_agent(None, checkpointer=checkpointer, store=store)
        return {step_id: agent.get_output(workplace.config, step_id) for step_id in OUTPUTS}


def test_a_kill_around_any_write_to_the_store_loses_and_repeats_nothing(children, tmp_path):
    (tmp_path / "whole").mkdir()
    whole = run_whole(children, tmp_path / "whole", "local-async", LARGE)
    results = whole.end["results"]
    assert {list(result["output"]) == ["$artifact"] for result in results.values()} == {True}
    writes = range(1, whole.counts[0]["ledger"] + 1)
    assert len(writes) > 10
    points = [Point("ledger", "after", number) for number in writes]
    points += [Point("ledger", "before", number) for number in writes[1::3]]
    for point in points:
        folder = tmp_path / "-".join(map(str, point))
        folder.mkdir()
        trial = kill_at(children, folder, (0, point), whole)
        assert not trial.broken, (point, trial.broken)
        assert outputs_of(Workplace(folder, "local-async")) == OUTPUTS, point
