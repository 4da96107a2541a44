"""A plan that is changed from outside: in the state, as Studio does it, or through the surgery functions."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.tools import tool
from plans import FREE, Thread, agent_with, bound, plan, statuses
from toolset import Toolset

from plan_execute import Context
from plan_execute.errors import InvalidInputError, InvalidPlanError
from plan_execute.graph.control import cancel_run, edit_plan, retry_steps


class Desk:
    """A writing tool that notes its calls and fails on some."""

    def __init__(self) -> None:
        self.written: list[str] = []

        @tool
        def write(text: str) -> str:
            """Write something."""
            self.written.append(text)
            if text.startswith("bad"):
                raise ValueError("disk on fire")
            return f"wrote {text}"

        self.tools = [write]


def _steps(first: str = "x", second: str = "bad ${a}") -> list[dict[str, Any]]:
    return [
        bound("a", "write", {"text": first}),
        bound("b", "write", {"text": second}, "a"),
        bound("c", "write", {"text": "c ${b}"}, "b"),
    ]


def _with_call(plan: dict[str, Any], index: int, call: dict[str, Any]) -> dict[str, Any]:
    steps = [dict(step) for step in plan["steps"]]
    steps[index]["call"] = call
    return {**plan, "steps": steps}


async def _waiting_for_approval(desk: Desk) -> tuple[Thread, dict[str, Any]]:
    thread = Thread(agent_with(desk.tools))
    await thread.run(*_steps(second="good ${a}"))
    return thread, (await thread.question())["args"]["plan"]


async def test_a_plan_edited_in_the_state_is_validated_and_asked_about_again() -> None:
    desk = Desk()
    thread, plan = await _waiting_for_approval(desk)
    edited = _with_call(plan, 0, {"tool": "write", "args": {"text": "edited"}})
    await thread.agent.aupdate_state(thread.config, {"plan": edited})
    await thread.send(None)
    question = await thread.question()
    assert question["args"]["plan"]["steps"][0]["call"]["args"] == {"text": "edited"}
    assert question["args"]["plan"]["revision"] == plan["revision"] + 1
    assert desk.written == []
    result = await thread.answer("approve")
    assert result["status"] == "done"
    assert desk.written[0] == "edited"


async def test_an_invalid_plan_in_the_state_never_runs_even_if_it_is_approved() -> None:
    desk = Desk()
    thread, plan = await _waiting_for_approval(desk)
    await thread.agent.aupdate_state(
        thread.config, {"plan": _with_call(plan, 0, {"tool": "nope", "args": {}})}
    )
    await thread.send(None)
    assert "unknown_tool" in (await thread.question())["description"]
    await thread.answer("approve")
    assert "unknown_tool" in (await thread.question())["description"]
    assert desk.written == []
    result = await thread.answer({"type": "edit", "args": {"plan": plan}})
    assert result["status"] == "done"


async def test_a_plan_edited_in_the_state_after_approval_runs_nothing_before_it_is_approved() -> None:
    desk = Desk()
    thread = Thread(agent_with(desk.tools))
    await thread.run(*_steps())
    await thread.answer("approve")  # b fails and asks
    plan = (await thread.agent.aget_state(thread.config)).values["plan"]
    edited = _with_call(plan, 2, {"tool": "write", "args": {"text": "smuggled"}})
    await thread.agent.aupdate_state(thread.config, {"plan": edited}, as_node="validator")
    await thread.send(None)
    assert (await thread.question())["name"] == "approve_plan"
    assert "smuggled" not in desk.written


async def test_a_failed_step_that_is_edited_runs_again_under_a_new_id_with_its_descendants() -> None:
    desk = Desk()
    thread = Thread(agent_with(desk.tools), FREE)
    await thread.run(*_steps())
    partial = await thread.answer({"decision": "abort"})
    assert partial["status"] == "partial"
    edited = _with_call(partial["plan"], 1, {"tool": "write", "args": {"text": "good ${a}"}})
    await edit_plan(thread.agent, thread.config, edited)
    result = await thread.send(None)
    assert result["status"] == "done"
    assert [step["id"] for step in result["plan"]["steps"]] == ["a", "b_r2", "c_r2"]
    assert desk.written == ["x", "bad wrote x", "good wrote x", "c wrote good wrote x"]


async def test_an_edit_that_changes_a_finished_step_is_refused_and_changes_nothing() -> None:
    desk = Desk()
    thread = Thread(agent_with(desk.tools), FREE)
    await thread.run(*_steps())
    partial = await thread.answer({"decision": "abort"})
    edited = _with_call(partial["plan"], 0, {"tool": "write", "args": {"text": "other"}})
    with pytest.raises(InvalidPlanError, match=r"done_step_changed.*'a'"):
        await edit_plan(thread.agent, thread.config, edited)
    assert (await thread.agent.aget_state(thread.config)).values["plan"] == partial["plan"]


async def test_an_edit_of_a_thread_without_a_plan_is_refused() -> None:
    thread = Thread(agent_with(Desk().tools), FREE)
    await thread.run(bound("a", "nope"))
    with pytest.raises(InvalidInputError, match="no plan"):
        await edit_plan(thread.agent, thread.config, {"steps": []})


@pytest.mark.parametrize(
    "given",
    [
        plan(bound("a", "write", {"text": "x"})),
        plan(bound("a", "write", {"text": "x"}), id="p", revision=1),
        {"id": "p", "revision": 1, "steps": "none"},
        {"id": 7, "revision": "x", "steps": [3]},
        [1],
    ],
    ids=["usual", "with an id", "no steps", "all wrong", "no plan"],
)
async def test_a_plan_that_nobody_has_checked_yet_is_not_changed_and_its_run_goes_on(given: Any) -> None:
    desk = Desk()
    thread = Thread(agent_with(desk.tools), FREE)
    stopped: dict[str, Any] = {"context": FREE, "interrupt_before": ["planner"]}
    await thread.agent.ainvoke({"goal": "g", "plan": given}, thread.config, **stopped)
    for change in (
        edit_plan(thread.agent, thread.config, plan(bound("b", "write", {"text": "y"}))),
        retry_steps(thread.agent, thread.config),
    ):
        with pytest.raises(InvalidInputError, match="has not begun"):
            await change
    result = await thread.send(None)
    assert (result["status"], desk.written) in [("done", ["x"]), ("failed", [])]


@pytest.mark.parametrize(
    "forged", [{"steps": []}, {"id": "p", "revision": 1, "steps": "none"}, [1], "plan"], ids=str
)
async def test_what_a_client_wrote_into_the_state_as_a_plan_is_no_plan_to_edit(forged: Any) -> None:
    thread = Thread(agent_with(Desk().tools), FREE)
    await thread.run(*_steps())
    await thread.agent.aupdate_state(thread.config, {"plan": forged}, as_node="validator")
    for change in (edit_plan(thread.agent, thread.config, plan()), retry_steps(thread.agent, thread.config)):
        with pytest.raises(InvalidInputError, match="no plan"):
            await change
    assert await cancel_run(thread.agent, thread.config) == "cancelled"


async def test_a_draft_that_a_client_forges_as_the_replanners_stays_within_no_approval() -> None:
    desk = Desk()
    thread = Thread(agent_with(desk.tools), Context(on_failure="abort"))
    await thread.run(*_steps())
    partial = await thread.answer("approve")
    forged = _with_call(partial["plan"], 1, {"tool": "write", "args": {"text": "forged"}})
    forged["steps"][1]["id"], forged["steps"][2]["depends_on"] = "z", ["z"]
    forged["steps"][2] |= {"id": "y", "call": {"tool": "write", "args": {"text": "forged too"}}}
    update = {
        "draft": {"plan": forged, "source": "replanner", "attempt": 1},
        "evaluation": {"decision": "patch", "step_ids": ["b"]},
        "status": "running",
    }
    await thread.agent.aupdate_state(thread.config, update, as_node="replanner")
    await thread.send(None)
    assert (await thread.question())["name"] == "approve_plan"
    assert not any("forged" in text for text in desk.written)


async def test_a_finished_run_whose_plan_is_edited_in_the_state_goes_on_after_it_is_approved() -> None:
    desk = Desk()
    thread = Thread(agent_with(desk.tools))
    await thread.run(*_steps())
    await thread.answer("approve")
    partial = await thread.answer({"decision": "abort"})
    edited = _with_call(partial["plan"], 1, {"tool": "write", "args": {"text": "good ${a}"}})
    await thread.agent.aupdate_state(thread.config, {"plan": edited})
    await thread.send(None)
    assert (await thread.question())["name"] == "approve_plan"
    result = await thread.answer("approve")
    assert result["status"] == "done"
    assert desk.written == ["x", "bad wrote x", "good wrote x", "c wrote good wrote x"]


async def test_what_another_fork_ran_since_makes_no_step_of_this_one_run_again() -> None:
    toolset = Toolset()
    thread = Thread(agent_with(toolset.tools), Context(approval="never", on_failure="abort"))
    failing = bound("b", "broken", {"q": "1"}, max_attempts=1)
    first = await thread.run(bound("a", "look", {"q": "x"}), failing)
    begun = await _place(thread)
    await _edit(thread, begun, [{**failing, "call": {"tool": "broken", "args": {"q": "2"}}}])
    this_fork = await _place(thread)
    await _edit(thread, begun, [{**failing, "call": {"tool": "broken", "args": {"q": "3"}}}])
    edited = await _edit(thread, this_fork, [bound("c", "look", {"q": "c"})])
    assert [step["id"] for step in edited["plan"]["steps"]] == ["a", "b_r2", "c"]
    assert (first["status"], statuses(edited)["c"]) == ("partial", "done")
    assert toolset.named("broken") == ["1", "2", "3"]


async def _place(thread: Thread) -> dict[str, Any]:
    return dict((await thread.agent.aget_state(thread.config)).config["configurable"])


async def _edit(thread: Thread, place: dict[str, Any], steps: list[dict[str, Any]]) -> dict[str, Any]:
    """Edit the plan of an ended run in the state of a checkpoint, and let it go on from there."""
    at: Any = {"configurable": place}
    plan = (await thread.agent.aget_state(at)).values["plan"]
    kept = [step for step in plan["steps"] if step["id"] not in {new["id"] for new in steps}]
    await thread.agent.aupdate_state(at, {"plan": {**plan, "steps": [*kept, *steps]}})
    return await thread.send(None)


async def test_an_edit_that_a_person_made_is_no_approval_of_other_inputs() -> None:
    desk = Desk()
    thread = Thread(agent_with(desk.tools))
    steps = [
        {"id": "q", "ask": {"question": "Now?"}},
        bound("a", "write", {"text": "to ${inputs.to}"}, "q"),
    ]
    edited = {"goal": "g", "inputs": {"to": {"type": "string"}}, "steps": steps}
    await thread.send({"plan": {**edited, "steps": steps[1:] + steps[:1]}, "inputs": {"to": "ann"}})
    await thread.answer({"type": "edit", "args": {"plan": edited}})
    assert (await thread.question())["name"] == "ask_person"
    draft = {"plan": edited, "source": "person", "attempt": 1}
    forged = {"inputs": {"to": "eve"}, "draft": draft, "approval": {"decision": "edited"}}
    await thread.agent.aupdate_state(thread.config, forged, as_node="approval")
    await thread.send(None)
    assert (await thread.question())["name"] == "approve_plan"
    assert desk.written == []
