"""The critical path is the chain that really determined the end, by the times on record."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from plan_execute.report.drawings import Scale, _tick
from plan_execute.report.timeline import make_timeline
from plan_execute.report.words import say_critical_path, say_seconds, say_time, say_timeline

START = datetime(2026, 7, 1, 8, tzinfo=UTC)


def at(second):
    return (START + timedelta(seconds=second)).isoformat(timespec="milliseconds")


def step(step_id, start, end, *after, outcome="done", tries=()):
    started = None if start is None else at(start)
    return {
        "id": step_id,
        "started_at": started,
        "finished_at": None if end is None else at(end),
        "depends_on": list(after),
        "outcome": outcome,
        "attempts": len(tries),
        "tries": [{"ended_at": at(moment)} for moment in tries],
    }


def path(*steps, audit=(), slots=8):
    timeline = make_timeline(steps, audit, slots)
    return [(link["step_id"], link["because"]) for link in timeline["critical_path"]]


def test_it_follows_the_dependency_that_ended_last():
    steps = [step("a", 0, 1), step("b", 0, 3), step("c", 3, 4, "a", "b"), step("d", 1, 2, "a")]
    assert path(*steps) == [("b", "start"), ("c", "dependency")]


def test_a_step_that_found_all_slots_taken_follows_the_one_that_freed_one():
    steps = [step("a", 0, 2), step("b", 0, 5), step("c", 2, 6)]
    assert path(*steps, slots=2) == [("a", "start"), ("c", "slot")]
    assert path(*steps, slots=8) == [("c", "start")], "it was not for want of a slot"


def test_a_step_of_a_revision_follows_the_end_before_the_revision():
    steps = [step("a", 0, 1), step("bad", 1, 4, "a", outcome="failed"), step("bad_r2", 6, 7, "a")]
    revised = {"event": "plan_accepted", "at": at(5), "difference": {"added": ["bad_r2"]}}
    assert path(*steps, audit=[revised]) == [("a", "start"), ("bad", "dependency"), ("bad_r2", "revision")]


def test_it_leads_through_a_step_that_was_skipped():
    steps = [step("a", 0, 2), step("when", None, 2, "a", outcome="skipped"), step("c", 2, 3, "when")]
    assert path(*steps) == [("a", "start"), ("c", "dependency")]


def test_a_long_wait_between_two_steps_is_told():
    timeline = make_timeline([step("a", 0, 1), step("b", 3601, 3602, "a")], (), 8)
    assert [link["waited_s"] for link in timeline["critical_path"]] == [0.0, 3600.0]
    assert (timeline["seconds"], timeline["active_s"], timeline["busy_s"]) == (3602.0, 2.0, 2.0)


def test_bars_tell_parallelism_attempts_and_who_never_ran():
    steps = [step("a", 0, 4, tries=[1, 2, 4]), step("b", 1, 3), step("c", 3, 4), step("d", None, None)]
    timeline = make_timeline([*steps, step("e", None, 4, outcome="blocked")], (), 8)
    assert timeline["at_once"] == 2, "b ended when c began"
    assert timeline["bars"][0]["attempts_s"] == [1.0, 2.0]
    assert timeline["never_ran"] == ["d", "e"]


def asked(start, end, step_id=None):
    answered = None if end is None else at(end)
    return {"title": "?", "step_id": step_id, "asked_at": at(start), "answered_at": answered, "by": "person"}


def test_waiting_for_a_person_is_no_work():
    steps = [step("a", 10, 20), step("b", 20, 110, "a")]
    questions = [asked(0, 10), asked(21, 109, "b")]
    timeline = make_timeline(steps, (), 8, questions)
    assert (timeline["seconds"], timeline["active_s"], timeline["waited_s"]) == (110.0, 12.0, 98.0)
    assert timeline["bars"][1]["pieces"] == [[20.0, 21.0], [109.0, 110.0]]
    assert timeline["bars"][1]["waits"] == [[21.0, 109.0]]
    assert [wait["step_id"] for wait in timeline["waits"]] == [None, "b"]
    assert "12 s steps worked, 1 min 38 s a person was asked" in say_timeline(timeline)


def test_the_critical_path_tells_work_from_waiting_for_a_person():
    steps = [step("a", 10, 20), step("b", 20, 110, "a"), step("c", 200, 203, "b"), step("d", 0, 1)]
    questions = [asked(0, 10), asked(21, 109, "b"), asked(120, 200, "c"), asked(1, 9, "d")]
    timeline = make_timeline(steps, (), 8, questions)
    path = [(one["step_id"], one["asked_s"], one["waited_s"]) for one in timeline["critical_path"]]
    assert path == [("a", 10.0, 0.0), ("b", 88.0, 0.0), ("c", 80.0, 10.0)]
    said = say_critical_path(timeline)
    assert "with 15 s of work, 2 min 58 s of waiting for a person and 10 s between them" in said
    alone = make_timeline([step("a", 0, 5)], (), 8)
    assert "with 5.0 s of work and 0 ms between them" in say_critical_path(alone)


def test_a_run_that_only_waited_says_so():
    timeline = make_timeline([step("a", 1000, 1001)], (), 8, [asked(0, 1000)])
    assert "to the last end: 16 min 40 s a person was asked." in say_timeline(timeline)


def test_what_is_asked_now_has_waited_until_now():
    steps = [step("a", 0, 1), step("b", None, None, "a", outcome="waiting")]
    timeline = make_timeline(steps, (), 8, [asked(1, None, "b")], at(50))
    assert timeline["bars"][1]["waits"] == [[1.0, 50.0]]
    assert timeline["waits"][0]["ended"] is False
    assert timeline["never_ran"] == ["b"]


def test_a_step_did_not_work_while_its_run_had_ended():
    steps = [step("a", 0, 3605, tries=[5])]
    audit = [{"event": "finished", "at": at(6)}, {"event": "steps_retried", "at": at(3600)}]
    timeline = make_timeline(steps, audit, 8)
    assert timeline["bars"][0]["pieces"] == [[0.0, 6.0], [3600.0, 3605.0]]
    assert timeline["bars"][0]["worked_s"] == 11.0


def test_nothing_ran_and_times_that_cannot_be_read_are_no_error():
    broken = step("a", 0, 1) | {"started_at": "yesterday", "finished_at": 7}
    timeline = make_timeline([broken, step("b", None, None)], [{"event": "plan_accepted", "at": None}], 8)
    assert (timeline["bars"], timeline["critical_path"]) == ([], [])


def test_a_night_in_which_nothing_ran_does_not_squeeze_the_bars():
    timeline = make_timeline([step("a", 0, 10), step("b", 40_000, 40_010, "a")], (), 8)
    scale = Scale.of(timeline)
    assert scale.gaps() == [(10.0, 40_000.0)]
    assert scale.x(10) - scale.x(0) == pytest.approx(scale.x(40_010) - scale.x(40_000))
    assert scale.x(10) - scale.x(0) > 300


@pytest.mark.parametrize("seconds", [0.003, 0.4, 1, 7.5, 59, 61, 3600, 7201, 90_000, 10_000_000])
def test_ticks_are_few_different_and_within_the_axis(seconds):
    scale = Scale.of(make_timeline([step("a", 0, seconds)], (), 8))
    said = [_tick(tick, scale.step) for tick in scale.ticks()]
    assert 3 <= len(said) <= 10
    assert len(set(said)) == len(said)
    assert all(scale.left <= scale.x(tick) <= scale.end for tick in scale.ticks())


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 ms"),
        (0.0123, "12 ms"),
        (0.9996, "1.0 s"),
        (1.25, "1.2 s"),
        (59.97, "1 min"),
        (125, "2 min 5 s"),
        (3599.9, "1 h"),
        (11_040, "3 h 4 min"),
        (86_400 * 2 + 3600 * 3, "2 d 3 h"),
    ],
)
def test_a_length_of_time_is_said_in_two_units_at_most(seconds, said):
    assert say_seconds(seconds) == said


def test_a_moment_is_said_with_its_zone_and_what_is_none_stays():
    assert say_time("2026-07-01T08:00:00.123+00:00") == "2026-07-01 08:00:00 UTC"
    assert say_time("2026-07-01T08:00:00+02:00") == "2026-07-01 08:00:00 +0200"
    assert say_time("soon") == "soon"
