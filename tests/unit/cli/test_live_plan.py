"""What a person sees of a run, without a terminal: events go in, rows and lines come out."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plans import FREE, Thread, agent_with, bound, draft, draft_step, plan
from rich.cells import cell_len
from toolset import Toolset

from plan_execute import Context, ScriptedModel
from plan_execute.cli.live_plan import LivePlan, Row, fold
from plan_execute.cli.live_screen import PlanView

SPENT = {"model_calls": 2, "total_tokens": 1234, "tool_calls": 3, "seconds": 5.0}


class Clock:
    """A clock that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def event(kind: str, step_id: str | None = None, *, at: int = 0, within: Any = (), **fields: Any) -> Any:
    base = {"type": kind, "at": f"2026-01-01T00:00:{at:02}.000+00:00", "thread_id": "t", "step_id": step_id}
    plan_id = f"plan of {within[-1]}" if within else "p"
    return {**base, "plan_id": plan_id, "revision": 1, "within": list(within), "spent": SPENT, **fields}


def valid(*steps: Any, revision: int = 1, within: Any = (), plan_id: str = "p") -> Any:
    written = {**plan(*steps), "id": f"plan of {within[-1]}" if within else plan_id, "revision": revision}
    return event("plan_validated", plan=written, issues=[], source="planner", within=within)


def finished(step_id: str, status: str = "done", **fields: Any) -> Any:
    error = {"code": "x", "message": fields.pop("message")} if "message" in fields else None
    verdict = {"done": "met", "failed": "failed"}.get(status)
    return event(
        "step_finished", step_id, status=status, verdict=verdict, error=error, **{"attempts": 1} | fields
    )


def called(step_id: str, tool: str = "look", call_id: str = "1", **args: Any) -> Any:
    return event("tool_call", step_id, tool=tool, args=args, call_id=call_id, effect="read", attempt=1)


def told(*events: Any, clock: Clock | None = None) -> LivePlan:
    model = LivePlan(clock or Clock())
    for one in events:
        model.apply(one)
    return model


def lines(model: LivePlan, width: int = 80, height: int = 24) -> list[str]:
    return [line.plain for line in PlanView(model, threading.Lock()).lines(width, height)]


def by_name(model: LivePlan) -> dict[str, Row]:
    return {row.name: row for row in model.rows()}


CHAIN = (bound("a", "look"), bound("b", "look", None, "a"), bound("c", "look", None, "a", "b"))


# --- states ------------------------------------------------------------------------------


def test_steps_stand_in_dependency_order_and_say_what_they_wait_for() -> None:
    model = told(valid(CHAIN[2], CHAIN[1], CHAIN[0]))
    assert [(row.name, row.indent) for row in model.rows()] == [("a", 0), ("b", 1), ("c", 2)]
    assert by_name(model)["c"].detail == "waits for a, b"
    model.apply(finished("a"))
    assert by_name(model)["c"].detail == "waits for b"


def test_steps_that_run_at_the_same_time_are_seen_at_the_same_time_each_with_its_own_clock() -> None:
    clock = Clock()
    model = told(valid(bound("a", "look"), bound("b", "look")), clock=clock)
    model.apply(event("step_started", "a", task=""))
    clock.now = 3.0
    model.apply(event("step_started", "b", task=""))
    clock.now = 5.0
    assert [(row.state, row.seconds) for row in model.rows()] == [("running", 5.0), ("running", 2.0)]


def test_a_running_step_shows_its_attempt_its_items_and_its_current_call() -> None:
    model = told(
        valid(bound("a", "look")),
        event("step_attempt", "a", attempt=2),
        event("step_progress", "a", done=3, total=10, item=0, ok=True, error=None),
        called("a", q="tea"),
        called("a", call_id="2", city="Rome", days=3),
    )
    assert by_name(model)["a"].detail == "attempt 2 · 3/10 · look(city=Rome, days=3) and 1 more"
    model.apply(event("tool_finished", "a", tool="look", call_id="2", ok=True, output_preview=""))
    assert by_name(model)["a"].detail == "attempt 2 · 3/10 · look(tea)"
    model.apply(event("tool_finished", "a", tool="look", call_id="1", ok=False, output_preview="no\nwire"))
    assert by_name(model)["a"].detail == "attempt 2 · 3/10 · look failed: no wire"


def test_a_finished_step_says_how_it_was_found_and_what_it_took() -> None:
    model = told(valid(*CHAIN), event("step_started", "a", at=10, task=""))
    model.apply(finished("a", at=14) | {"verdict": "met_empty"})
    model.apply(finished("b", "failed", message="no such thing", attempts=3))
    model.apply(finished("c", "blocked", attempts=0))
    rows = by_name(model)
    assert (rows["a"].seconds, rows["a"].detail) == (4.0, "met, empty")
    assert rows["b"].detail == "attempt 3 · no such thing"
    assert rows["c"].detail == "blocked by b"
    assert "1 of 3 steps" in model.facts()


def test_steps_of_a_sub_plan_stand_below_their_step_until_it_is_done() -> None:
    model = told(valid(bound("top", "look"), bound("next", "look", None, "top")))
    model.apply(event("step_started", "top", task=""))
    model.apply(valid(bound("inner", "look"), within=("top",)))
    model.apply(called("inner", q="x") | {"within": ["top"], "plan_id": "plan of top"})
    assert [(row.name, row.indent, row.state) for row in model.rows()] == [
        ("top", 0, "running"),
        ("inner", 1, "running"),
        ("next", 1, "pending"),
    ]
    assert "0 of 2 steps" in model.facts()
    model.apply(finished("top"))
    assert [row.name for row in model.rows()] == ["top", "next"]


def test_a_revision_marks_what_is_new_and_says_what_it_dropped() -> None:
    model = told(valid(*CHAIN), finished("a"), finished("b", "failed", message="no"))
    model.apply(valid(CHAIN[0], bound("b_r2", "look", None, "a"), revision=2))
    assert [(row.name, row.state, row.detail) for row in model.rows()] == [
        ("a", "done", "met"),
        ("b_r2", "pending", "new"),
    ]
    assert model.notes() == [("−", "revision 2 dropped b (failed), c")]
    assert model.facts()[-1] == "revision 2"


def test_another_goal_on_the_thread_shows_nothing_of_the_one_before() -> None:
    model = told(valid(*CHAIN), finished("a"))
    model.apply(valid(bound("z", "look"), plan_id="q"))
    assert [(row.name, row.state) for row in model.rows()] == [("z", "pending")]


def test_a_question_marks_its_step_and_the_answer_sets_it_going_again() -> None:
    model = told(valid(*CHAIN))
    model.apply(event("question_open", "a", question="handle_step_failure", question_id="i"))
    assert (by_name(model)["a"].state, model.questions) == ("asking", {"i": "handle_step_failure"})
    model.stop()
    model.go_on()
    assert (by_name(model)["a"].state, model.questions) == ("running", {})


def test_what_runs_when_the_run_is_stopped_is_shown_as_stopped() -> None:
    model = told(valid(*CHAIN), event("step_started", "a", task=""))
    model.stopping()
    model.stop()
    assert [row.state for row in model.rows()] == ["stopped", "pending", "pending"]
    assert model.facts()[0] == "stopped"


def test_spending_a_low_budget_and_the_phase_are_told() -> None:
    clock = Clock()
    model = told(event("plan_created", plan={}), clock=clock)
    clock.now = 60.0
    assert model.facts() == ["checking the plan", "1m05s", "1,234 tokens", "2 model calls"]
    model.apply(event("budget_warning", budget="max_tokens", used=8100.0, limit=10000))
    assert model.notes() == [("!", "budget max_tokens: 8,100 of 10,000 used")]
    model.apply({**event("plan_approved", by="policy"), "spent": {**SPENT, "cost": 0.0123}})
    assert "$0.0123" in model.facts()


def test_a_budget_that_was_extended_is_not_warned_of_again_before_anything_was_spent() -> None:
    warning = event("budget_warning", budget="max_tokens", used=8100, limit=10000)
    model = told(valid(*CHAIN), warning)
    model.apply(event("question_open", question="extend_budget", question_id="i"))
    model.go_on()
    model.apply(warning)
    assert model.notes() == []
    model.apply(event("step_started", "a", task=""))
    model.apply(warning)
    assert model.notes() == [("!", "budget max_tokens: 8,100 of 10,000 used")]


def test_steps_that_no_plan_told_of_are_shown_all_the_same() -> None:
    model = told(event("step_started", "late", task="do it"), finished("late"))
    assert [(row.name, row.state) for row in model.rows()] == [("late", "done")]


def test_events_of_tools_and_of_later_versions_are_skipped() -> None:
    model = told(None, "text", {"type": 3}, {"type": "tool_call"}, {"percent": 3}, event("unheard_of", "a"))
    assert model.rows() == []


# --- real runs ---------------------------------------------------------------------------


async def test_a_real_run_with_a_sub_plan_and_a_loop_ends_with_every_step_in_its_state() -> None:
    scripted = {"planner": [draft(draft_step("inner", "look", {"q": "x"}))], "synthesizer": ["ok", "ok"]}
    thread = Thread(agent_with(Toolset().tools, ScriptedModel(scripted)), FREE)
    each = bound("each", "look", {"q": "${item}"}, for_each="${inputs.list}")
    given = plan({"id": "sub", "plan": {"goal": "g"}}, each, inputs={"list": {"default": ["p", "q"]}})
    model, seen = LivePlan(), set()
    stream = thread.agent.astream({"plan": given}, thread.config, context=FREE, stream_mode="custom")
    async for one in stream:
        model.apply(one)
        seen |= {(row.name, row.indent, row.state) for row in model.rows()}
    assert {("inner", 1, "running"), ("inner", 1, "done"), ("sub", 0, "running")} <= seen
    rows = by_name(model)
    assert {name: row.state for name, row in rows.items()} == {"sub": "done", "each": "done"}
    assert rows["each"].detail == "met · 2/2"
    assert model.facts()[:2] == ["done", "2 of 2 steps"]


async def test_a_thread_that_goes_on_shows_what_it_had_done() -> None:
    context = Context(approval="never", on_failure="ask", max_attempts=1)
    tools = Toolset()
    tools.failures = [ValueError("odd")]
    thread = Thread(agent_with(tools.tools), context)
    await thread.run(bound("a", "look", {"q": "x"}), bound("b", "flaky", {"q": "${a}"}))
    model = LivePlan()
    model.seed((await thread.agent.aget_state(thread.config)).values)
    assert [(row.name, row.state) for row in model.rows()] == [("a", "done"), ("b", "pending")]


# --- the window --------------------------------------------------------------------------

HOSTILE = "a\x1b[2J\u202eb\r\n\tc\x9b31m 日本語 👩‍👩‍👧 ❤️ <b>&amp;</b> שלום \U000e0041"


def test_text_of_models_and_tools_reaches_no_row_as_it_is() -> None:
    model = told(valid(bound("a", "look")), called("a", q=HOSTILE), finished("b", "failed", message=HOSTILE))
    shown = "".join(lines(model))
    assert "␛[2J" in shown
    assert "\\u202e" in shown
    assert not {"\x1b", "\u202e", "\r", "\t", "\x9b", "\u200d", "\ufe0f", "\U000e0041"} & set(shown)


def row(name: str, state: Any, ended: int = 0) -> Row:
    return Row(0, state, name, ended=ended)


def test_finished_rows_are_folded_first_the_oldest_before_the_newer_ones() -> None:
    rows = [row("a", "done", 2), row("b", "done", 1), row("c", "running"), row("d", "pending")]
    assert fold(rows, 4).rows == rows
    folded = fold(rows, 3)
    assert ([r.name for r in folded.rows], folded.above, folded.below) == (["c", "d"], "2 done", "")


def test_a_window_of_few_lines_says_in_one_line_what_is_left_out() -> None:
    rows = [row("a", "done", 1), row("b", "running"), row("c", "running"), row("d", "pending")]
    folded = fold(rows, 3)
    assert ([r.name for r in folded.rows], folded.below) == (["b", "c"], "1 done, 1 waiting")


def test_pending_rows_are_folded_next_from_the_last_and_running_and_failed_ones_stay() -> None:
    rows = [*(row(f"d{i}", "done", i) for i in range(90)), row("x", "failed"), row("r", "running")]
    folded = fold([*rows, *(row(f"p{i}", "pending") for i in range(90))], 6)
    assert [r.name for r in folded.rows] == ["x", "r", "p0", "p1"]
    assert (folded.above, folded.below) == ("90 done", "88 waiting")


def test_more_running_steps_than_lines_are_counted() -> None:
    folded = fold([row(f"r{i}", "running") for i in range(50)], 4)
    assert ([r.name for r in folded.rows], folded.below) == (["r0", "r1", "r2"], "47 running")


@pytest.mark.parametrize("width", [1, 10, 40, 80, 200])
@pytest.mark.parametrize("height", [1, 3, 8, 24, 100])
def test_a_plan_of_200_steps_fits_every_window(width: int, height: int) -> None:
    steps = [bound(f"step_{i}", "look", None, *([f"step_{i - 1}"] if i % 3 else [])) for i in range(200)]
    model = told(valid(*steps), *(finished(f"step_{i}", message="木" * 90) for i in range(150)))
    model.apply(called("step_199", q="語" * 100))
    shown = lines(model, width, height)
    assert len(shown) <= height
    assert all(cell_len(line) < max(width, 2) for line in shown)
    if height >= 8 and width >= 40:
        assert any("step_199" in line and "▶" in line for line in shown)


@given(
    states=st.lists(st.sampled_from(["done", "pending", "running", "failed", "skipped", "asking"])),
    room=st.integers(0, 30),
)
def test_folding_never_takes_more_lines_than_there_are_and_loses_no_step(states: Any, room: int) -> None:
    rows = [row(str(i), state, i + 1) for i, state in enumerate(states)]
    folded = fold(rows, room)
    assert len(folded.rows) + bool(folded.above) + bool(folded.below) <= max(room, 1)
    counted = sum(int(part.split()[0]) for part in f"{folded.above}, {folded.below}".split(", ") if part)
    assert len(folded.rows) + counted == len(rows)


def test_a_window_of_40_columns_shows_step_state_call_and_time() -> None:
    clock = Clock()
    model = told(valid(*CHAIN), called("a", tool="look_up", city="Rome"), clock=clock)
    clock.now = 12.0
    assert lines(model, 40) == [
        "the goal",
        "▶ a      look_up(Rome)              12s",
        "  ○ b    waits for a",
        "    ○ c  waits for a, b",
        "0 of 3 steps · 17s · 1,234 tokens",
        "2 model calls",
    ]
