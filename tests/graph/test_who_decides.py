"""A decision counts only where the rules let its maker decide, and every record says who that was."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command, interrupt
from plans import Thread, agent_with, bound, draft, draft_step, plan, think

from plan_execute import Context, ScriptedModel, edit_plan, retry_steps
from plan_execute.errors import ConfigurationError, InvalidAnswerError, NotAllowedError
from plan_execute.graph.agent import PlanExecuteAgent
from plan_execute.storage.ledger import Ledger

ONLY_BOSS: dict[str, Any] = {"approvers": [{"who": ["boss"]}]}
NOT_OWN: dict[str, Any] = {"approvers": [{"who": ["*"], "requester": False}]}


class Calls:
    """Tools that write, and what they were called with."""

    def __init__(self) -> None:
        made, failed = list[str](), list[str]()
        self.made = made

        @tool
        def send(text: str) -> str:
            """Send something."""
            if text == "bad" and not failed:
                failed.append(text)
                raise ValueError("no line")
            made.append(text)
            return text

        send.metadata = {"effect": "write", "resource": "mail:{text}"}

        @tool
        def pay(amount: str) -> str:
            """Pay something."""
            made.append(amount)
            return amount

        self.tools = [send, pay]


def who(person: str | None, **settings: Any) -> Context:
    return Context(**({"person": person} if person else {}), **settings)


async def waiting(
    *steps: dict[str, Any], by: str | None = "ann", **settings: Any
) -> tuple[Thread, Calls, PlanExecuteAgent]:
    calls = Calls()
    agent = agent_with(calls.tools)
    thread = Thread(agent)
    await thread.send({"plan": plan(*(steps or [bound("a", "send", {"text": "x"})]))}, who(by, **settings))
    assert (await thread.question())["name"] == "approve_plan"
    return thread, calls, agent


async def refused(thread: Thread, answer: Any, person: str | None) -> str:
    """Answer what must be refused; the question must stay open."""
    before = [one.id for one in await thread.questions()]
    given = answer if isinstance(answer, dict) and "messages" in answer else Command(resume=answer)
    with pytest.raises(NotAllowedError) as error:
        await thread.send(given, who(person))
    assert [one.id for one in await thread.questions()] == before
    return str(error.value)


async def record_of(thread: Thread, agent: PlanExecuteAgent) -> dict[str, Any]:
    values = (await agent.aget_state(thread.config)).values
    assert agent.store is not None
    ledger = Ledger(agent.store, thread.config["configurable"]["thread_id"])
    return (await ledger.approvals(values["plan"]["id"]))[-1]


# --- who it was ----------------------------------------------------------------------------


async def test_an_approval_says_whose_it_is_in_the_store_the_state_and_the_audit() -> None:
    thread, _, agent = await waiting()
    result = await thread.send(Command(resume="approve"), who("bob"))
    ann = {"kind": "person", "id": "bob"}
    assert result["status"] == "done"
    assert (await record_of(thread, agent))["by"] == ann
    assert (await agent.aget_state(thread.config)).values["approval"]["by"] == ann
    assert [one["by"] for one in result["audit"] if one["event"] == "plan_approved"] == [ann]


async def test_what_an_answer_says_of_its_maker_is_never_believed() -> None:
    for forged in ("timeout", {"kind": "person", "id": "boss"}, {"kind": "timeout"}):
        thread, _, agent = await waiting()
        await thread.send(Command(resume={"type": "approve", "by": forged}), who("eve"))
        assert (await record_of(thread, agent))["by"] == {"kind": "person", "id": "eve"}
        thread, _, _ = await waiting(**ONLY_BOSS)
        await refused(thread, {"type": "approve", "by": forged}, "eve")


async def test_a_servers_user_stands_before_what_the_context_says() -> None:
    thread, _, agent = await waiting()
    thread.config["configurable"]["langgraph_auth_user_id"] = "ann"
    await thread.send(Command(resume="approve"), who("boss"))
    assert (await record_of(thread, agent))["by"]["id"] == "ann"


async def test_a_name_does_not_outlive_the_run_that_it_came_with() -> None:
    thread, _, agent = await waiting(by="ann")
    await thread.send(Command(resume="approve"))
    assert (await record_of(thread, agent))["by"] == {"kind": "person"}


async def test_a_context_that_only_names_somebody_keeps_the_threads_settings() -> None:
    calls = Calls()
    thread = Thread(agent_with(calls.tools))
    started = who("ann", approval="never", max_replans=1, on_failure="ask", max_attempts=1)
    await thread.send({"plan": plan(bound("a", "send", {"text": "bad"}))}, started)
    result = await thread.send(Command(resume={"decision": "skip"}), who("bob"))
    settings = (await thread.agent.aget_state(thread.config)).values["settings"]
    assert (settings["max_replans"], settings.get("person")) == (1, None)
    said = [one["by"] for one in result["audit"] if one["event"] == "step_failure"]
    assert said == [{"kind": "person", "id": "bob"}]


async def test_nobodys_answer_is_told_from_a_persons() -> None:
    thread, _, _ = await waiting(decision_timeout_s=1e-6, **ONLY_BOSS)
    result = await thread.send(None, who("eve"))
    assert result["status"] == "rejected", "the safe default needs nobody's leave"
    assert [one["by"] for one in result["audit"] if one["event"] == "plan_rejected"] == [{"kind": "timeout"}]


# --- who may -------------------------------------------------------------------------------


async def test_a_decision_of_somebody_else_is_refused_and_names_who_can() -> None:
    thread, calls, _ = await waiting(**ONLY_BOSS)
    for answer in ("approve", {"type": "reject", "message": "no"}, [{"type": "accept", "args": None}]):
        assert "boss" in await refused(thread, answer, "bob")
    assert "nothing says who you are" in await refused(thread, "approve", None)
    assert calls.made == []
    assert (await thread.send(Command(resume="approve"), who("boss")))["status"] == "done"


async def test_words_of_somebody_else_in_a_chat_approve_nothing() -> None:
    thread, calls, _ = await waiting(**ONLY_BOSS)
    await refused(thread, {"messages": [HumanMessage("yes")]}, "bob")
    assert calls.made == []
    said = await thread.send({"messages": [HumanMessage("yes")]}, who("boss"))
    assert said["status"] == "done"


async def test_the_question_says_who_decides() -> None:
    thread, _, _ = await waiting(approvers=[{"who": ["boss", "cfo"], "effect": "write"}])
    assert "boss or cfo may decide" in (await thread.question())["description"]


@pytest.mark.parametrize(
    ("rule", "speaks"),
    [
        ({"effect": "write"}, True),
        ({"effect": "read"}, False),
        ({"tool": "send"}, True),
        ({"tool": "s*"}, True),
        ({"tool": "pay"}, False),
        ({"resource": "mail:x"}, True),
        ({"resource": "mail:*"}, True),
        ({"resource": "mail:y"}, False),
        ({"tool": "send", "effect": "read"}, False),
        ({"question": "approve_plan"}, True),
        ({"question": "extend_budget"}, False),
    ],
    ids=str,
)
async def test_a_rule_speaks_of_what_it_names(rule: dict[str, Any], speaks: bool) -> None:
    thread, _, _ = await waiting(approvers=[{"who": ["boss"], **rule}])
    if speaks:
        await refused(thread, "approve", "bob")
    else:
        assert (await thread.send(Command(resume="approve"), who("bob")))["status"] == "done"


async def test_a_resource_that_is_not_known_yet_may_be_what_a_rule_speaks_of() -> None:
    steps = bound("a", "pay", {"amount": "1"}), bound("b", "send", {"text": "${a}"})
    thread, _, _ = await waiting(*steps, approvers=[{"who": ["boss"], "resource": "mail:1"}])
    await refused(thread, "approve", "bob")


async def test_every_rule_that_speaks_of_a_plan_must_let_its_maker_decide() -> None:
    rules = [{"who": ["bob", "cfo"], "tool": "pay"}, {"who": ["bob", "ann"], "tool": "send"}]
    steps = bound("a", "pay", {"amount": "1"}), bound("b", "send", {"text": "x"})
    thread, _, _ = await waiting(*steps, approvers=rules)
    for person in ("cfo", "ann"):
        await refused(thread, "approve", person)
    assert (await thread.send(Command(resume="approve"), who("bob")))["status"] == "done"


async def test_who_started_the_run_may_be_kept_from_approving_it() -> None:
    thread, _, _ = await waiting(by="ann", **NOT_OWN)
    assert "ann" in await refused(thread, "approve", "ann")
    assert (await thread.send(Command(resume="approve"), who("bob")))["status"] == "done"


async def test_who_gives_the_next_goal_is_its_requester() -> None:
    thread, _, _ = await waiting(by="ann", **NOT_OWN)
    await thread.send(Command(resume="approve"), who("bob"))
    await thread.send({"plan": plan(bound("z", "send", {"text": "z"}))}, who("bob"))
    await refused(thread, "approve", "bob")
    assert (await thread.send(Command(resume="approve"), who("ann")))["status"] == "done"


async def test_who_started_an_earlier_goal_cannot_approve_it_in_a_fork_after_somebody_elses_goal() -> None:
    thread, calls, agent = await waiting(by="ann", **NOT_OWN)
    hers = [snapshot async for snapshot in agent.aget_state_history(thread.config)]
    await thread.send(Command(resume={"type": "reject", "message": "no"}), who("bob"))
    await thread.send({"plan": plan(bound("z", "send", {"text": "z"}))}, who("bob"))
    for snapshot in hers:
        if snapshot.next:
            await agent.ainvoke(None, snapshot.config, context=who("ann"))
            assert "ann" in await refused(thread, "approve", "ann")
    assert calls.made == []


async def test_a_run_whose_requester_nobody_knows_does_not_start_where_that_matters() -> None:
    thread = Thread(agent_with(Calls().tools))
    with pytest.raises(ConfigurationError, match="nothing says who that is"):
        await thread.send({"plan": plan(bound("a", "send", {"text": "x"}))}, Context(**NOT_OWN))


async def test_a_later_context_adds_rules_and_takes_none_away() -> None:
    thread, _, _ = await waiting(**ONLY_BOSS)
    with pytest.raises(NotAllowedError):
        await thread.send(Command(resume="approve"), who("bob", approvers=[{"who": ["bob"]}]))
    with pytest.raises(NotAllowedError):  # that run was refused, and so added nothing: both may be named now
        await thread.send(Command(resume="approve"), who("boss", approvers=[{"who": ["cfo"]}]))
    assert (await thread.send(Command(resume="approve"), who("boss")))["status"] == "done"


async def test_the_agents_policy_holds_whatever_a_context_says() -> None:
    calls = Calls()
    policy = Context(approval="always", approvers=ONLY_BOSS["approvers"])
    thread = Thread(agent_with(calls.tools, policy=policy))
    await thread.send({"plan": plan(bound("a", "send", {"text": "x"}))}, who("eve", approval="never"))
    await refused(thread, "approve", "eve")
    assert calls.made == []


async def test_a_fork_asks_anew_and_takes_no_answer_of_somebody_else() -> None:
    thread, calls, agent = await waiting(**ONLY_BOSS)
    await thread.send(Command(resume={"type": "reject", "message": "no"}), who("boss"))
    history = [one async for one in agent.aget_state_history(thread.config)]
    asked = next(one for one in history if one.next == ("approval",))
    assert "__interrupt__" in await agent.ainvoke(None, asked.config, context=who("eve"))
    await refused(thread, "approve", "eve")
    assert calls.made == []
    assert (await thread.send(Command(resume="approve"), who("boss")))["status"] == "done"


async def test_an_approval_whose_maker_may_not_approve_is_none() -> None:
    thread, calls, agent = await waiting()
    state = (await agent.aget_state(thread.config)).values
    assert agent.store is not None
    ledger = Ledger(agent.store, thread.config["configurable"]["thread_id"])
    record = {
        "decision": "approved",
        "plan_hash": state["approval"]["plan_hash"],
        "revision": 1,
        "grants": state["approval"]["grants"],
        "steps": {},
        "at": "2026-01-01T00:00:00+00:00",
        "by": {"kind": "person", "id": "eve"},
    }
    await ledger.record_approval(state["plan"]["id"], record["plan_hash"], record)
    await agent.aupdate_state(thread.config, {}, as_node="approval")
    await agent.aupdate_state(thread.config, {"approval": record}, as_node="approval")
    result = await thread.send(None, who("eve", **ONLY_BOSS))
    assert "__interrupt__" in result, "a rule was added: eve's approval does not count any more"
    assert calls.made == []


async def test_a_failure_is_decided_by_who_may_decide_about_the_steps_tools() -> None:
    rules = [{"who": ["ops"], "tool": "send", "question": "handle_step_failure"}]
    settings: dict[str, Any] = {"approval": "never", "on_failure": "ask", "max_attempts": 1}
    thread = Thread(agent_with(Calls().tools))
    await thread.send(
        {"plan": plan(bound("a", "send", {"text": "bad"}))}, who("ann", **settings, approvers=rules)
    )
    assert "ops" in await refused(thread, {"decision": "skip"}, "bob")
    assert (await thread.send(Command(resume={"decision": "skip"}), who("ops")))["status"] != "done"


async def test_a_plain_question_may_be_answered_by_anybody_unless_a_rule_names_it() -> None:
    steps = {"id": "q", "ask": {"question": "Which?"}, "depends_on": []}
    for rules, person in (
        (ONLY_BOSS["approvers"], "bob"),
        ([{"who": ["boss"], "question": "ask_person"}], None),
    ):
        thread = Thread(agent_with(Calls().tools))
        await thread.send({"plan": plan(steps)}, who("ann", approval="never", approvers=rules))
        if person is None:
            await refused(thread, "this", "bob")
        else:
            assert (await thread.send(Command(resume="this"), who(person)))["status"] == "done"


async def test_orders_from_outside_are_decisions_too() -> None:
    thread, _, agent = await waiting(**ONLY_BOSS)
    changed = plan(bound("a", "send", {"text": "y"}))
    for order in (
        edit_plan(agent, thread.config, changed, person="bob"),
        edit_plan(agent, thread.config, changed),
    ):
        with pytest.raises(NotAllowedError, match="boss"):
            await order
    await edit_plan(agent, thread.config, changed, person="boss")
    result = await thread.send(None, who("boss"))
    assert result["status"] == "done"
    edits = [one["by"] for one in result["audit"] if one["event"] == "plan_edited"]
    assert edits == [{"kind": "person", "id": "boss"}]
    with pytest.raises(NotAllowedError, match="boss"):
        await retry_steps(agent, thread.config, ["a"], person="bob")


async def test_an_edit_that_adds_what_its_maker_may_not_approve_is_asked_about() -> None:
    thread, calls, _ = await waiting(approvers=[{"who": ["cfo"], "tool": "pay"}])
    edited = plan(bound("p", "pay", {"amount": "9"}))
    result = await thread.send(Command(resume={"type": "edit", "args": {"plan": edited}}), who("bob"))
    assert "__interrupt__" in result
    assert calls.made == []
    await refused(thread, "approve", "bob")
    assert (await thread.send(Command(resume="approve"), who("cfo")))["status"] == "done"


async def test_an_answer_through_a_parent_graph_is_held_against_the_rules() -> None:
    calls = Calls()
    inner = agent_with(calls.tools, checkpointer=None, store=None)

    async def work(state: MessagesState) -> dict[str, Any]:
        del state
        await inner.ainvoke({"plan": plan(bound("a", "send", {"text": "x"}))})
        return {}

    built = StateGraph(MessagesState, Context).add_node("work", work).add_edge(START, "work")
    outer = built.compile(checkpointer=InMemorySaver(), store=InMemoryStore())
    config: Any = {"configurable": {"thread_id": "1"}}
    first = await outer.ainvoke({"messages": []}, config, context=who("ann", **ONLY_BOSS))
    for answer in ("approve", {first["__interrupt__"][0].id: "approve"}):
        again = await outer.ainvoke(Command(resume=answer), config, context=who("eve", **ONLY_BOSS))
        assert "may not decide" in again["__interrupt__"][0].value["action_requests"][0]["description"]
        assert calls.made == []
    asked = (await outer.aget_state(config)).interrupts[0].id
    done = await outer.ainvoke(Command(resume={asked: "approve"}), config, context=who("boss", **ONLY_BOSS))
    assert ("__interrupt__" in done, calls.made) == (False, ["x"])


def test_the_names_of_questions_that_rules_may_name_are_those_there_are() -> None:
    from typing import get_args

    from plan_execute.context import QuestionName
    from plan_execute.people.questions import QUESTIONS

    assert set(get_args(QuestionName)) == set(QUESTIONS)


def test_a_refusal_is_an_invalid_answer() -> None:
    assert issubclass(NotAllowedError, InvalidAnswerError)


async def test_a_middlewares_question_about_a_call_is_held_against_the_rules_too() -> None:
    calls = Calls()
    model = ScriptedModel({"executor": [ScriptedModel.tool_calls(("send", {"text": "x"})), "sent"]})
    guard = HumanInTheLoopMiddleware(interrupt_on={"send": True})
    thread = Thread(agent_with(calls.tools, model, middleware=[guard]))
    rules = [{"who": ["boss"], "resource": "mail:x", "question": "confirm_call"}]
    await thread.send(
        {"plan": plan(think("a", tools=["send"]))}, who("ann", approval="never", approvers=rules)
    )
    for answer in ([{"type": "accept"}], {"decisions": [{"type": "approve"}]}, "approve"):
        assert "boss" in await refused(thread, answer, "eve")
    assert calls.made == []
    await thread.send(Command(resume=[{"type": "accept"}]), who("boss"))
    assert calls.made == ["x"]


async def _with_a_tool_that_asks(kind: str, rules: list[dict[str, Any]]) -> tuple[Thread, list[Any]]:
    """Start a run that ends at a question which a tool, or a named agent, asks itself."""
    said: list[Any] = []

    @tool
    def sign(text: str) -> str:
        """Sign something."""
        said.append(interrupt(f"sign {text}?"))
        return "signed"

    sign.metadata = {"effect": "write", "resource": "contracts:{text}"}

    def clerk(state: MessagesState) -> dict[str, Any]:
        said.append(interrupt("sign it?"))
        return {"messages": [AIMessage("signed")]}

    model = ScriptedModel({"executor": [ScriptedModel.tool_calls(("sign", {"text": "x"})), "signed"]})
    clerks = StateGraph(MessagesState).add_node("clerk", clerk).add_edge(START, "clerk").compile()
    thread = Thread(agent_with([sign], model, agents={"clerk": clerks}))
    steps = {
        "bound": bound("a", "sign", {"text": "x"}),
        "agent": think("a", tools=["sign"]),
        "named": {"id": "a", "task": "sign", "agent": "clerk", "depends_on": []},
        "loop": {**bound("a", "sign", {"text": "${item}"}), "for_each": "${inputs.all}"},
    }
    given = {**plan(steps[kind]), **({"inputs": {"all": {"default": ["x"]}}} if kind == "loop" else {})}
    await thread.send({"plan": given}, who("ann", approval="never", approvers=rules))
    (question,) = await thread.questions()
    assert question.value in ("sign x?", "sign it?")
    return thread, said


@pytest.mark.parametrize("kind", ["bound", "agent", "named", "loop"])
async def test_a_question_that_a_tool_asks_itself_is_answered_by_who_may_decide_about_its_call(
    kind: str,
) -> None:
    thread, said = await _with_a_tool_that_asks(kind, [{"who": ["boss"], "effect": "write"}])
    assert "boss" in await refused(thread, "yes", "eve")
    assert said == []
    result = await thread.send(Command(resume="yes"), who("boss"))
    assert (result["status"], said) == ("done", ["yes"])


@pytest.mark.parametrize("kind", ["bound", "agent"])
@pytest.mark.parametrize(
    ("rule", "speaks"),
    [
        ({"tool": "sign"}, True),
        ({"resource": "contracts:x"}, True),
        ({"question": "confirm_call"}, True),
        ({}, True),
        ({"resource": "contracts:y"}, False),
        ({"tool": "pay"}, False),
        ({"question": "ask_person"}, False),
    ],
    ids=str,
)
async def test_rules_speak_of_the_call_whose_tool_asks(kind: str, rule: Any, speaks: bool) -> None:
    thread, said = await _with_a_tool_that_asks(kind, [{"who": ["boss"], **rule}])
    if speaks:
        await refused(thread, "yes", "eve")
    else:
        await thread.send(Command(resume="yes"), who("eve"))
    assert said == ([] if speaks else ["yes"])


async def test_the_plan_of_a_sub_plan_is_approved_by_who_may_and_not_by_who_started_the_run() -> None:
    calls = Calls()
    inner = draft(draft_step("x", "send", {"text": "x"}))
    model = ScriptedModel({"planner": [inner], "synthesizer": ["inner", "outer"]})
    thread = Thread(agent_with(calls.tools, model))
    step = {"id": "s", "plan": {"goal": "send it"}, "depends_on": []}
    await thread.send({"plan": plan(step)}, who("ann", **NOT_OWN))
    await refused(thread, "approve", "ann")
    result = await thread.send(Command(resume="approve"), who("bob"))
    if "__interrupt__" in result:  # the sub-plan's own
        await refused(thread, "approve", "ann")
        result = await thread.send(Command(resume="approve"), who("bob"))
    assert (result["status"], calls.made) == ("done", ["x"])


async def test_a_rule_that_comes_later_holds_for_an_approval_that_is_on_record() -> None:
    calls = Calls()
    agent = agent_with(calls.tools)
    thread = Thread(agent)
    steps = bound("a", "send", {"text": "1"}), bound("b", "send", {"text": "bad"}, "a")
    asks: dict[str, Any] = {"on_failure": "ask", "max_attempts": 1}
    await thread.send({"plan": plan(*steps)}, who("ann", **asks))
    await thread.send(Command(resume="approve"), who("eve"))
    assert (await thread.question())["name"] == "handle_step_failure"
    with pytest.raises(NotAllowedError):
        await thread.send(Command(resume={"decision": "retry"}), who("eve", **asks, **ONLY_BOSS))
    result = await thread.send(Command(resume={"decision": "retry"}), who("boss", **asks, **ONLY_BOSS))
    assert "__interrupt__" in result
    assert (await thread.question())["name"] == "approve_plan"
    assert calls.made == ["1"], "eve's approval lets nothing more run"
    await thread.send(Command(resume="approve"), who("boss", **asks, **ONLY_BOSS))
    assert calls.made == ["1", "bad"]
