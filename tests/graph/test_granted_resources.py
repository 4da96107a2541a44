"""What is approved is what runs: its resources, its tools, and the values that the person saw."""

from __future__ import annotations

from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.store.memory import InMemoryStore
from plans import Thread, agent_with, bound, draft, draft_step, plan
from toolset import make_tool

from plan_execute import Context, ScriptedModel

REPLAN = Context(on_failure="replan", max_attempts=1)


class Disk:
    """Tools over a log of what was written."""

    def __init__(self) -> None:
        self.written: list[Any] = []

    def tools(self, effect: str = "write", **more: Any) -> list[Any]:
        def save(path: str, text: str = "") -> str:
            """Save."""
            self.written.append((path, text))
            return path

        def look(q: str) -> dict[str, Any]:
            """Look."""
            return {"path": q, "text": "long " * 100}

        def broken() -> str:
            """Fail."""
            raise ValueError("no")

        return [
            make_tool(save, effect=effect, resource="file:{path}", **more),
            make_tool(look),
            make_tool(broken),
        ]


async def _revised(path: str, *more: Any, given: dict[str, Any]) -> tuple[Disk, Thread, dict[str, Any]]:
    """Approve a plan that fails, whose revision writes to ``path``."""
    disk = Disk()
    model = ScriptedModel(
        {"replanner": [draft(draft_step("again", "save", {"path": path}, *more))] * 2, "*": ["end"]},
        strict=False,
    )
    thread = Thread(agent_with(disk.tools(), model), REPLAN)
    await thread.send({"plan": given})
    assert (await thread.question())["name"] == "approve_plan"
    return disk, thread, await thread.answer("approve")


GIVEN = plan(
    bound("l", "look", {"q": "evil.txt"}),
    bound("bad", "broken", {}, "l"),
    bound("w", "save", {"path": "${inputs.f}"}, "bad"),
    inputs={"f": {"type": "string", "default": "report.txt"}},
)


@pytest.mark.parametrize("path", ["evil.txt", "$${evil}", "${l.path}"])
async def test_a_revision_that_touches_what_was_not_approved_is_asked_about(path: str) -> None:
    disk, thread, _ = await _revised(path, *(["l"] if "l.path" in path else []), given=GIVEN)
    question = await thread.question()
    assert (question["name"], disk.written) == ("approve_plan", [])
    wanted = {"$${evil}": "file:${evil}"}.get(path, "file:evil.txt")
    assert f"touches `{wanted}`" in question["description"]


@pytest.mark.parametrize("path", ["report.txt", "${inputs.f}"])
async def test_a_revision_that_touches_what_was_approved_runs(path: str) -> None:
    disk, _, result = await _revised(path, given=GIVEN)
    assert (result["status"], disk.written) == ("done", [("report.txt", "")])


async def test_an_approved_reference_runs_with_the_value_it_gets() -> None:
    disk = Disk()
    thread = Thread(agent_with(disk.tools()))
    await thread.run(bound("l", "look", {"q": "a.txt"}), bound("w", "save", {"path": "${l.path}"}))
    assert (
        "known only at run time:** `file:{path}, path = ${l.path}`"
        in (await thread.question())["description"]
    )
    assert (await thread.answer("approve"))["status"] == "done"
    assert disk.written == [("a.txt", "")]


@pytest.mark.parametrize("change", [{"effect": "idempotent"}, {"more": {"resource": "disk:{path}"}}])
async def test_a_tool_that_is_not_what_it_was_when_approved_is_asked_about(change: dict[str, Any]) -> None:
    disk, saver, store = Disk(), InMemorySaver(), InMemoryStore()
    always = Context(approval="always", on_failure="ask", max_attempts=1)
    steps = [bound("bad", "broken"), bound("w", "save", {"path": "a.txt"}, "bad")]
    thread = Thread(agent_with(disk.tools(), checkpointer=saver, store=store), always)
    await thread.run(*steps)
    await thread.answer("approve")
    assert (await thread.question())["name"] == "handle_step_failure"
    tools = disk.tools(change.get("effect", "write"))
    if "more" in change:
        tools[0] = tools[0].model_copy(update={"metadata": {"effect": "write", **change["more"]}})
    again = Thread(agent_with(tools, checkpointer=saver, store=store), always)
    again.config = thread.config
    await again.answer({"decision": "skip"})
    question = await again.question()
    assert (question["name"], disk.written) == ("approve_plan", [])
    assert "tools that have changed: save" in question["description"]
    while "__interrupt__" in (result := await again.answer("approve")):
        assert (await again.question())["name"] == "handle_step_failure"
        result = await again.answer({"decision": "skip"})
        break
    assert (result["status"], disk.written) == ("partial", [("a.txt", "")]), result["results"]


async def _after_another_result(answer: Any) -> tuple[Disk, dict[str, Any]]:
    """Approve a call with the value that it has then, change the value in the state, run on and answer."""
    disk = Disk()
    steps = [
        draft_step("bad2", "broken", {}, "l"),
        draft_step("again", "save", {"path": "${l.path}"}, "bad2"),
    ]
    model = ScriptedModel({"replanner": [draft(*steps)], "*": ["end"]}, strict=False)
    thread = Thread(agent_with(disk.tools(), model), Context(on_failure="ask", max_attempts=1))
    await thread.send({"plan": GIVEN})
    await thread.answer("approve")
    await thread.answer({"decision": "replan"})
    assert "touches `file:evil.txt`" in (await thread.question())["description"]
    await thread.answer("approve")
    assert (await thread.question())["name"] == "handle_step_failure"
    state = await thread.agent.aget_state(thread.config)
    other = {**state.values["results"]["l"], "output": {"path": "worse.txt"}}
    await thread.agent.aupdate_state(thread.config, {"results": {"l": other}}, as_node="dispatcher")
    await thread.send(None)
    await thread.answer({"decision": "skip"})
    question = await thread.question()
    assert (question["name"], disk.written) == ("confirm_call", [])
    assert question["args"]["tool_args"] == {"path": "worse.txt"}
    assert "`file:worse.txt`" in question["description"]
    return disk, await thread.answer(answer)


@pytest.mark.parametrize(
    ("answer", "written"),
    [
        ("approve", [("worse.txt", "")]),
        ({"type": "edit", "args": {"tool_args": {"path": "good.txt"}}}, [("good.txt", "")]),
        ({"type": "reject", "message": "not there"}, []),
    ],
)
async def test_a_value_other_than_the_approved_one_is_asked_about_before_the_call(
    answer: Any, written: Any
) -> None:
    disk, result = await _after_another_result(answer)
    assert disk.written == written
    ends = {
        step_id: step["error"] for step_id, step in result["results"].items() if step_id.startswith("again")
    }
    assert all((error or {}).get("code") == ("rejected" if not written else None) for error in ends.values())


async def test_a_tool_changed_while_the_plan_is_asked_about_is_shown_anew() -> None:
    disk, saver, store = Disk(), InMemorySaver(), InMemoryStore()
    thread = Thread(
        agent_with(disk.tools("idempotent"), checkpointer=saver, store=store), Context(approval="always")
    )
    await thread.run(bound("w", "save", {"path": "a.txt"}))
    again = Thread(agent_with(disk.tools("write"), checkpointer=saver, store=store))
    again.config = thread.config
    await again.answer("approve")
    question = await again.question()
    assert (question["name"], disk.written) == ("approve_plan", [])
    assert "[write]" in question["description"]
    assert (await again.answer("approve"))["status"] == "done"
    assert disk.written == [("a.txt", "")]


# --- what a question shows ------------------------------------------------------------------


async def test_a_question_shows_whole_arguments_with_the_values_that_are_known() -> None:
    thread = Thread(agent_with(Disk().tools()))
    args = {"path": "${inputs.f}", "text": "x" * 5000 + "END"}
    await thread.send({"plan": plan(bound("w", "save", args), inputs={"f": {"default": "report.txt"}})})
    text = (await thread.question())["description"]
    assert '`path` = `"report.txt"`' in text
    assert "xEND" in text


async def test_the_question_about_a_step_shows_its_arguments_as_they_are_now() -> None:
    thread = Thread(agent_with(Disk().tools()))
    step = bound("w", "save", {"path": "${l.path}", "text": "t"}, approve=True, when='l.path != `"x"`')
    await thread.run(bound("l", "look", {"q": "a.txt"}), step)
    await thread.answer("approve")
    question = await thread.question()
    assert question["name"] == "approve_step"
    assert 'save({"path": "a.txt", "text": "t"})' in question["description"]
    assert 'only when `` l.path != `"x"` ``' in question["description"]
    assert question["args"]["step"]["call"]["args"]["path"] == "${l.path}"


async def test_conditions_and_loops_cannot_format_the_question() -> None:
    from markdown_it import MarkdownIt

    thread = Thread(agent_with(Disk().tools()))
    evil = "l.q == '` ![x](http://evil/p.png) <b>**bold**</b> `'"
    await thread.run(bound("l", "look", {"q": "a"}), bound("w", "save", {"path": "b"}, when=evil))
    tokens = MarkdownIt("commonmark").parse((await thread.question())["description"])
    kinds = {child.type for token in tokens for child in token.children or ()}
    assert not kinds & {"image", "link_open", "html_inline"}
    codes = [c.content for token in tokens for c in token.children or () if c.type == "code_inline"]
    assert any(evil in code for code in codes)
