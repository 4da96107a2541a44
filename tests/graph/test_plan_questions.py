"""A person decides about a plan: approve, edit, reject, in every shape a client may send."""

from __future__ import annotations

import json
from typing import Any

import pytest
from langgraph.types import Command
from plans import Thread, agent_with, bound, codes, draft, draft_step, plan
from toolset import Toolset

from plan_execute import Context, ScriptedModel
from plan_execute.errors import ApprovalImpossibleError, InvalidAnswerError

WRITE = bound("a", "wr", {"text": "x"})
EDITED = plan(bound("a", "wr", {"text": "edited"}))


async def _asked(tools: Toolset, *steps: Any, context: Context | None = None, **options: Any) -> Thread:
    thread = Thread(agent_with(tools.tools, **options), context)
    assert "__interrupt__" in await thread.run(*(steps or (WRITE,)))
    assert tools.calls == []
    return thread


# --- when a plan is asked about ------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "tool", "args", "asks"),
    [
        ("always", "look", {"q": "x"}, True),
        ("always", "wr", {"text": "x"}, True),
        ("writes", "wr", {"text": "x"}, True),
        ("writes", "put", {"text": "x"}, False),
        ("writes", "look", {"q": "x"}, False),
        ("never", "wr", {"text": "x"}, False),
        (None, "wr", {"text": "x"}, True),
        (None, "look", {"q": "x"}, False),
    ],
)
async def test_a_plan_is_asked_about_as_the_policy_says(
    policy: Any, tool: str, args: Any, asks: bool
) -> None:
    tools = Toolset()
    result = await Thread(agent_with(tools.tools), Context(approval=policy) if policy else None).run(
        bound("a", tool, args)
    )
    assert ("__interrupt__" in result, len(tools.calls)) == (asks, 0 if asks else 1)


async def test_the_question_has_langchains_shape_and_agent_inboxs_key() -> None:
    thread = await _asked(Toolset())
    (question,) = await thread.questions()
    assert set(question.value) >= {"action_requests", "review_configs"}
    (request,), (config,) = question.value["action_requests"], question.value["review_configs"]
    assert set(request) == {"name", "args", "arguments", "description"}
    assert (request["name"], request["args"]) == ("approve_plan", request["arguments"])
    assert request["args"]["plan"]["steps"][0]["id"] == "a"
    assert config == {
        "action_name": "approve_plan",
        "allowed_decisions": ["approve", "edit", "reject", "respond"],
    }
    json.dumps(question.value)


async def test_the_description_is_what_a_person_can_decide_from() -> None:
    thread = await _asked(
        Toolset(), bound("r", "look", {"q": "x"}), bound("w", "wr", {"text": "${r}"}, task="save it")
    )
    text = (await thread.question())["description"]
    for word in (
        "the goal",
        "**r**",
        "**w**",
        "save it",
        "look(",
        "[read]",
        "wr(",
        "[write]",
        "after r",
        "Estimate",
    ):
        assert word in text


async def test_the_items_of_a_loop_are_shown_where_they_are_known_and_few() -> None:
    written = bound("a", "wr", {"text": "${item}"}, for_each='${[`"x"`, `2`]}')
    given = bound("b", "wr", {"text": "${item}"}, for_each="${inputs.few}")
    long = bound("c", "wr", {"text": "${item}"}, for_each="${inputs.many}")
    items = [*range(200)]
    longer = bound(
        "d", "wr", {"text": "${item}"}, for_each=f"${{[{', '.join(f'`{one}`' for one in items)}]}}"
    )
    inputs = {"few": {"default": ["y"]}, "many": {"default": ["z"] * 1000}}
    thread = Thread(agent_with(Toolset().tools))
    await thread.send({"plan": plan(written, given, long, longer, inputs=inputs)})
    text = (await thread.question())["description"]
    assert 'once for each of `["x", 2]`' in text
    assert 'once for each of `["y"]`' in text
    assert "once for each of `${inputs.many}`" in text
    assert f"once for each of `{items}`" in text


async def test_an_approval_nobody_could_give_is_refused_before_anything_runs() -> None:
    tools = Toolset()
    with pytest.raises(ApprovalImpossibleError, match=r"checkpointer=.*approval=\"never\""):
        await Thread(agent_with(tools.tools, checkpointer=None)).run(WRITE)
    assert tools.calls == []


# --- every shape of an answer --------------------------------------------------------------

APPROVALS = [
    "approve",
    "accept",
    " Approve ",
    '"approve"',
    '{"type": "approve"}',
    {"type": "approve"},
    ["approve"],
    {"decisions": [{"type": "approve"}]},
    {"decisions": ["approve"]},
    [{"type": "accept", "args": None}],
    [{"type": "approve"}],
    '[{"type": "accept"}]',
    '{"decisions": [{"type": "approve"}]}',
]
REJECTIONS = [
    {"type": "reject", "message": "no good"},
    {"decisions": [{"type": "reject", "message": "no good"}]},
    [{"type": "response", "args": "no good"}],
    [{"type": "ignore", "args": "no good"}],
    {"type": "respond", "message": "no good"},
    '{"type": "reject", "message": "no good"}',
    {"type": "reject", "feedback": "no good"},
]
EDITS = [
    {"type": "edit", "args": {"plan": EDITED}},
    {"type": "edit", "args": EDITED},
    {"type": "edit", "args": {"args": {"plan": EDITED}}},
    {"type": "edit", "args": {"plan": json.dumps(EDITED)}},
    {"type": "edit", "args": json.dumps({"plan": EDITED})},
    {"type": "edit", "edited_action": {"name": "approve_plan", "args": {"plan": EDITED}}},
    {"decisions": [{"type": "edit", "edited_action": {"name": "approve_plan", "args": {"plan": EDITED}}}]},
    [{"type": "edit", "args": {"action": "approve_plan", "args": {"plan": EDITED}}}],
    [{"type": "edit", "args": {"action": "approve_plan", "args": {"plan": json.dumps(EDITED)}}}],
    [{"type": "edit", "args": {"action": "approve_plan", "args": json.dumps({"plan": EDITED})}}],
    json.dumps({"type": "edit", "args": {"plan": EDITED}}),
]


@pytest.mark.parametrize("answer", APPROVALS, ids=str)
async def test_every_shape_of_approval_runs_the_plan(answer: Any) -> None:
    tools = Toolset()
    result = await (await _asked(tools)).answer(answer)
    assert (result["status"], tools.calls) == ("done", [("wr", "x")])


@pytest.mark.parametrize("answer", REJECTIONS, ids=str)
async def test_every_shape_of_rejection_ends_a_run_without_a_planner_as_rejected(answer: Any) -> None:
    tools = Toolset()
    result = await (await _asked(tools)).answer(answer)
    assert (result["status"], tools.calls) == ("rejected", [])
    assert "no good" in result["final_answer"]


@pytest.mark.parametrize("answer", EDITS, ids=lambda answer: str(answer)[:60])
async def test_every_shape_of_edit_is_the_approval_of_the_edited_plan(answer: Any) -> None:
    tools = Toolset()
    result = await (await _asked(tools)).answer(answer)
    assert (result["status"], tools.calls) == ("done", [("wr", "edited")])
    assert result["plan"]["revision"] == 2


BAD_ANSWERS = [
    None,
    "",
    {},
    [],
    "yes please",
    {"type": "maybe"},
    {"decision": "approve"},
    7,
    True,
    [1],
    ["approve", "approve"],
    {"decisions": []},
    {"decisions": [{"type": "approve"}, {"type": "approve"}]},
    {"type": "edit"},
    {"type": "edit", "args": {}},
    {"type": "edit", "args": "not json"},
    {"type": "edit", "args": {"text": "x"}},
    {"type": "edit", "args": {"plan": [1]}},
    {"type": None},
    '{"type": ',
    {"0" * 32: "approve"},
]


@pytest.mark.parametrize("answer", BAD_ANSWERS, ids=str)
async def test_a_bad_answer_is_refused_clearly_and_the_question_stays_open(answer: Any) -> None:
    tools = Toolset()
    thread = await _asked(tools)
    before = await thread.questions()
    with pytest.raises(InvalidAnswerError) as refused:
        await thread.answer(answer)
    assert "approve_plan" in str(refused.value)
    assert [q.id for q in await thread.questions()] == [q.id for q in before]
    assert tools.calls == []
    assert (await thread.answer("approve"))["status"] == "done"


async def test_a_bad_answer_by_id_is_refused_too() -> None:
    thread = await _asked(Toolset())
    (question,) = await thread.questions()
    with pytest.raises(InvalidAnswerError):
        await thread.answer({question.id: {"type": "maybe"}})
    assert (await thread.answer({question.id: "approve"}))["status"] == "done"


# --- edits ---------------------------------------------------------------------------------


async def test_an_invalid_edit_asks_again_with_its_issues_and_the_persons_own_edit() -> None:
    tools = Toolset()
    thread = await _asked(tools)
    wrong = plan(bound("a", "fly", {"text": "mine"}))
    result = await thread.answer({"type": "edit", "args": {"plan": wrong}})
    question = await thread.question()
    assert "__interrupt__" in result
    assert "unknown_tool" in question["description"]
    assert question["args"]["plan"]["steps"][0]["call"] == {"tool": "fly", "args": {"text": "mine"}}
    assert tools.calls == []
    result = await thread.answer({"type": "edit", "args": {"plan": EDITED}})
    assert (result["status"], tools.calls, codes(result)) == ("done", [("wr", "edited")], [])


async def test_after_an_invalid_edit_the_plan_before_it_can_be_approved() -> None:
    tools = Toolset()
    thread = await _asked(tools)
    await thread.answer({"type": "edit", "args": {"plan": plan(bound("a", "fly"))}})
    result = await thread.answer("approve")
    assert (result["status"], tools.calls) == ("done", [("wr", "x")])


@pytest.mark.parametrize(
    "wrong", [{"steps": []}, {"steps": "none"}, {"steps": [{"id": 1}]}, {"goal": "no steps"}]
)
async def test_an_edit_that_is_no_plan_asks_again(wrong: Any) -> None:
    tools = Toolset()
    thread = await _asked(tools)
    assert "__interrupt__" in await thread.answer({"type": "edit", "args": {"plan": wrong}})
    assert tools.calls == []
    assert (await thread.answer("approve"))["status"] == "done"


async def test_an_edit_may_give_the_plan_more_tools_and_that_is_approved_with_it() -> None:
    tools = Toolset()
    thread = await _asked(tools)
    wider = plan(bound("a", "look", {"q": "q"}), bound("b", "put", {"text": "p"}), WRITE | {"id": "c"})
    result = await thread.answer({"type": "edit", "args": {"plan": wider}})
    assert (result["status"], sorted(tools.calls)) == ("done", [("look", "q"), ("put", "p"), ("wr", "x")])


# --- rejections ------------------------------------------------------------------------------


async def test_a_rejection_with_feedback_makes_the_planner_revise() -> None:
    tools = Toolset()
    model = ScriptedModel(
        {"planner": [draft(draft_step("b", "wr", {"text": "better"}))], "synthesizer": ["ok"]}
    )
    thread = await _asked(tools, model=model)
    result = await thread.answer({"type": "reject", "message": "make it better"})
    assert "__interrupt__" in result
    assert (await thread.answer("approve"))["status"] == "done"
    assert tools.calls == [("wr", "better")]


async def test_a_rejection_without_a_word_ends_the_run_rejected_even_with_a_planner() -> None:
    tools = Toolset()
    thread = await _asked(tools, model=ScriptedModel({"planner": []}))
    result = await thread.answer("reject")
    assert (result["status"], tools.calls) == ("rejected", [])


async def test_a_rejected_plan_that_comes_back_unchanged_is_asked_about_again() -> None:
    tools = Toolset()
    same = draft(draft_step("a", "wr", {"text": "x"}))
    model = ScriptedModel({"planner": [same, same], "synthesizer": ["ok"]})
    thread = Thread(agent_with(tools.tools, model))
    await thread.send({"goal": "g"})
    assert "__interrupt__" in await thread.answer({"type": "reject", "message": "no"})
    assert tools.calls == []


async def test_a_client_sees_what_it_needs_while_a_question_is_open() -> None:
    thread = await _asked(Toolset())
    snapshot = await thread.agent.aget_state(thread.config)
    assert snapshot.next == ("approval",)
    assert snapshot.values["plan"]["steps"][0]["id"] == "a"
    assert snapshot.values["status"] in ("planning", "running")


def test_questions_and_answers_work_from_synchronous_code() -> None:
    tools = Toolset()
    agent, config = agent_with(tools.tools), {"configurable": {"thread_id": "1"}}
    result = agent.invoke({"plan": plan(WRITE)}, config)
    assert result["__interrupt__"][0].value["action_requests"][0]["name"] == "approve_plan"
    result = agent.invoke(Command(resume="approve"), config)
    assert (result["status"], tools.calls) == ("done", [("wr", "x")])


async def test_approving_needs_one_answer_also_without_a_store() -> None:
    tools = Toolset()
    result = await (await _asked(tools, store=None)).answer("approve")
    assert (result["status"], tools.calls) == ("done", [("wr", "x")])


async def test_a_question_is_given_once_and_only_with_what_was_asked_for() -> None:
    given = {"plan": plan(bound("a", "look", {"q": "x"}, approve=True))}
    agent = agent_with(Toolset().tools)
    result = await agent.ainvoke(given, Thread(agent).config, version="v2")
    assert len(result.interrupts) == 1
    assert "__interrupt__" not in result.value
    some = await agent.ainvoke(given, Thread(agent).config, output_keys=["status"])
    assert set(some) == {"status", "__interrupt__"}
