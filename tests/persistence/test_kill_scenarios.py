"""Questions, follow-ups, edits, budgets and parent graphs survive kills, also several in one run.

CI plays a sample that is drawn with a seed; ``-m slow`` and ``benchmarks/kill_sweep.py`` play more.
"""

import random

import crash_child
import kill_points
import pytest
from counted import MODES, Point
from kill_points import carry_out, draw, run_whole
from scenarios import SCENARIOS


@pytest.fixture(scope="module")
def children(tmp_path_factory):
    with crash_child.serving(tmp_path_factory.mktemp("answers"), kill_points.__file__) as started:
        yield started


@pytest.fixture(scope="module")
def whole_of(children, tmp_path_factory):
    """Give a scenario's run without a kill, made once per mode."""
    known = {}

    def whole(name, mode):
        if (name, mode) not in known:
            folder = tmp_path_factory.mktemp(f"{name}-{mode}")
            known[name, mode] = run_whole(children, folder, mode, SCENARIOS[name])
        return known[name, mode]

    return whole


def survive_all(children, folder, whole, all_faults, **options):
    trials = []
    for number, faults in enumerate(all_faults):
        place = folder / str(number)
        place.mkdir()
        trials.append(carry_out(children, place, whole, faults, **options))
    assert {str(trial.faults): trial.broken for trial in trials if trial.broken} == {}
    return trials


def survive(children, folder, whole, trials, kills):
    dice = random.Random(f"{whole.scenario.name} {whole.mode} {kills}")
    return survive_all(children, folder, whole, [draw(whole, kills, dice) for _ in range(trials)])


@pytest.mark.parametrize(("kills", "trials"), [(2, 3), (3, 2)])
def test_several_kills_in_one_run_break_no_promise(children, tmp_path, whole_of, kills, trials):
    made = survive(children, tmp_path, whole_of("mended", "local"), trials, kills)
    assert max(trial.killed for trial in made) > 1


@pytest.mark.parametrize(
    ("name", "mode", "trials"),
    [
        ("asked", "local", 2),
        ("reviewed", "local-async", 1),
        ("followed", "local", 1),
        ("changed", "local-async", 2),
        ("cancelled", "local", 1),
        ("abandoned", "local-async", 2),
        ("limited", "local", 2),
        ("nested", "local", 2),
        ("nested_asked", "local-async", 1),
        ("mended", "two", 2),
        ("mended", "two-async", 2),
    ],
)
def test_a_kill_at_sampled_points_of_a_scenario_breaks_no_promise(
    children, tmp_path, whole_of, name, mode, trials
):
    survive(children, tmp_path, whole_of(name, mode), trials, 1)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kills", [1, 2, 3])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", SCENARIOS)
def test_many_kills_of_a_scenario_break_no_promise(children, tmp_path, whole_of, name, mode, kills):
    survive(children, tmp_path, whole_of(name, mode), 40, kills)


# --- kills that broke a promise once ------------------------------------------------------


def test_an_answer_that_was_stored_or_acted_upon_is_not_asked_for_again(children, tmp_path, whole_of):
    whole = whole_of("asked", "local")
    # After each answer: when it has just been stored, and amid what it led to.
    faults = [{1: Point("pending", "after", 1)}, {4: Point("effect", "after", 1)}]
    trials = survive_all(children, tmp_path, whole, faults)
    assert all(trial.killed for trial in trials)


def test_the_answer_to_a_tools_own_question_is_not_taken_for_the_one_about_its_doubt(
    children, tmp_path, whole_of
):
    faults = [{2: Point("effect", "before", 1)}, {3: Point("effect", "after", 1)}]
    survive_all(children, tmp_path, whole_of("asked", "local"), faults)


def test_calls_that_kills_cut_off_count_against_the_budget(children, tmp_path, whole_of):
    whole = whole_of("limited", "local")
    cut_off = {process: Point("effect", "after", 1) for process in range(4)}
    [trial] = survive_all(children, tmp_path, whole, [cut_off])
    assert trial.killed > 1


def test_under_exit_durability_a_run_that_was_asked_about_repeats_no_write(children, tmp_path, whole_of):
    whole = whole_of("asked", "local")
    faults = [{1: Point("effect", "after", 3)}, {6: Point("effect", "after", 1)}]
    trials = [
        carry_out(children, folder, whole, fault, durability="exit")
        for folder, fault in zip((tmp_path / "a", tmp_path / "b"), faults, strict=True)
        if folder.mkdir() is None
    ]
    assert [trial.duplicates for trial in trials] == [[], []]


def test_an_edit_whose_approval_outlived_a_crash_gives_its_steps_the_same_ids(children, tmp_path, whole_of):
    whole = whole_of("changed", "local")
    [trial] = survive_all(children, tmp_path, whole, [{2: Point("checkpoint", "before", 1)}])
    assert trial.killed
