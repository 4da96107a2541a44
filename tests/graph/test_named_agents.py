"""Steps that a named agent does: any graph with messages, or a plain runnable."""

from __future__ import annotations

from typing import Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.store.memory import InMemoryStore
from langgraph.types import interrupt
from plans import FREE, Thread, agent_with, bound, codes, draft, plan
from pydantic import BaseModel
from toolset import Toolset

from plan_execute import Context, ScriptedModel
from plan_execute.errors import ConfigurationError
from plan_execute.spending.periods import spent_in_words
from plan_execute.storage.adapters import async_store
from plan_execute.storage.ledger import Ledger

calls = ScriptedModel.tool_calls


def by(agent: str, step_id: str = "a", *after: str, task: str = "do it", **fields: Any) -> dict[str, Any]:
    return {"id": step_id, "task": task, "agent": agent, "depends_on": list(after), **fields}


def graph_of(node: Any) -> Any:
    builder = StateGraph(MessagesState)
    builder.add_node("work", node)
    builder.add_edge(START, "work")
    builder.add_edge("work", END)
    return builder.compile()


def echo(state: Any) -> dict[str, Any]:
    return {"messages": [AIMessage("did: " + state["messages"][-1].text)]}


def reading(agent: Any) -> Any:
    return agent.with_config(metadata={"effect": "read", "description": "reads"})


async def test_a_graph_with_messages_gets_task_and_material_and_its_last_message_is_the_output() -> None:
    agent = agent_with(Toolset().tools, agents={"coder": graph_of(echo)})
    result = await Thread(agent, FREE).run(
        bound("x", "echo", {"value": {"n": 7}}), by("coder", "a", "x", task="write ${x.n} lines")
    )
    output = result["results"]["a"]["output"]
    assert output.startswith("did: ")
    assert "write 7 lines" in output
    assert '{"n": 7}' in output
    assert (result["status"], result["results"]["a"]["verdict"]) == ("done", "unverified")
    (call,) = result["results"]["a"]["evidence"]
    assert (call["tool"], call["ok"], call["effect"]) == ("agent:coder", True, "write")


@pytest.mark.parametrize(
    ("runnable", "output"),
    [
        (RunnableLambda(lambda given: len(given["messages"])), 1),
        (RunnableLambda(lambda given: {"found": ["x"]}), {"found": ["x"]}),
        (RunnableLambda(lambda given: AIMessage("said")), "said"),
        (lambda given: "a function", "a function"),
    ],
)
async def test_a_plain_runnable_or_function_answers_as_it_likes(runnable: Any, output: Any) -> None:
    result = await Thread(agent_with((), agents={"r": runnable}), FREE).run(by("r"))
    assert result["results"]["a"]["output"] == output


async def test_a_structured_response_is_the_output() -> None:
    class Found(BaseModel):
        n: int

    def work(_: Any) -> dict[str, Any]:
        return {"structured_response": Found(n=3)}

    class Answer(TypedDict):
        messages: list[Any]
        structured_response: Any

    builder = StateGraph(Answer)
    builder.add_node("work", work)
    builder.add_edge(START, "work")
    agent = agent_with(Toolset().tools, agents={"coder": builder.compile()})
    result = await Thread(agent, FREE).run(
        by("coder", output_schema={"type": "object", "properties": {"n": {"type": "integer"}}}),
        bound("b", "echo", {"value": "${a.n}"}),
    )
    assert (result["results"]["b"]["output"], result["results"]["a"]["verdict"]) == (3, "met")


async def test_usage_and_tool_calls_of_a_named_agent_count_against_the_budgets() -> None:
    tools = Toolset()
    model = ScriptedModel({"*": [calls(("look", {"q": "x"})), "found it"]})
    coder = create_agent(model, tools.tools)
    result = await Thread(agent_with((), agents={"coder": coder}), FREE).run(by("coder"))
    assert result["results"]["a"]["output"] == "found it"
    assert (result["usage"]["model_calls"], result["usage"]["tool_calls"]) == (2, 1)
    assert [call["tool"] for call in result["results"]["a"]["evidence"]] == ["agent:coder", "look"]
    model = ScriptedModel({"*": [calls(("look", {"q": "x"})), "found it"]})
    agent = agent_with((), agents={"coder": create_agent(model, tools.tools)})
    result = await Thread(agent, Context(approval="never", max_model_calls=1)).run(
        by("coder", on_failure="abort")
    )
    assert result["results"]["a"]["error"]["code"] == "budget_exceeded"


async def test_what_an_agent_did_before_a_budget_stopped_it_stays_on_record_as_perhaps_done() -> None:
    model, store = ScriptedModel({"*": ["first", "second"]}), InMemoryStore()
    coder = graph_of(lambda _: {"messages": [model.invoke("one"), model.invoke("two")]})
    agent = agent_with((), agents={"coder": coder}, checkpointer=InMemorySaver(), store=store)
    thread = Thread(agent, Context(approval="never", max_model_calls=1))
    result = await thread.run(by("coder", on_failure="abort"))
    assert result["results"]["a"]["error"]["code"] == "budget_exceeded"
    ledger = Ledger(async_store(store), thread.config["configurable"]["thread_id"])
    [(_, _, row)] = await ledger.effects_of_thread()
    assert (row["outcome"]["ok"], row["outcome"]["unknown"]) == (False, True)


async def test_what_a_named_agent_asks_reaches_a_person_and_the_answer_reaches_it() -> None:
    made = []

    def ask(state: Any) -> dict[str, Any]:
        said = interrupt({"pick": ["red", "blue"]})
        made.append(said)
        return {"messages": [AIMessage(f"picked {said}")]}

    agent = agent_with((), agents={"coder": graph_of(ask)})
    thread = Thread(agent, FREE)
    await thread.run(by("coder"), by("coder", "b"))
    questions = await thread.questions()
    assert len(questions) == 2
    result = await thread.answer({questions[0].id: "red", questions[1].id: "blue"})
    assert {r["output"] for r in result["results"].values()} == {"picked red", "picked blue"}
    assert sorted(made) == ["blue", "red"]


async def test_model_calls_of_a_named_agent_count_over_its_questions() -> None:
    model = ScriptedModel(["hm"], strict=False)

    async def ask(state: Any) -> dict[str, Any]:
        await model.ainvoke("what now?")
        return {"messages": [AIMessage(str(interrupt("who?")))]}

    thread = Thread(agent_with((), agents={"coder": graph_of(ask)}), FREE)
    await thread.run(by("coder"))
    result = await thread.answer("me")
    assert result["usage"]["model_calls"] == len(model.calls) == 2


def _each(call: Any, make: Any) -> None:
    for n in range(5):
        call(make(n))


def _in_turn(call: Any, make: Any) -> Any:
    return lambda _: _each(call.invoke, make)


def _at_once(call: Any, make: Any) -> Any:
    return lambda _: call.batch([make(n) for n in range(5)])


def _blocking(work: Any) -> Any:
    async def agent(state: Any) -> Any:
        return work(state)

    return agent


def _in_a_thread(work: Any) -> Any:
    return work


@pytest.mark.parametrize("where", [_in_a_thread, _blocking])
@pytest.mark.parametrize("how", [_in_turn, _at_once])
@pytest.mark.parametrize("budget", ["max_tool_calls", "max_model_calls", "max_model_calls per day"])
async def test_calls_that_an_agent_makes_without_await_are_held_to_the_budgets(
    where: Any, how: Any, budget: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plan_execute.execution.counting._PATIENCE_S", 0.05)
    made: list[int] = []

    @tool
    def poke(n: int) -> int:
        """Poke."""
        made.append(n)
        return n

    model = ScriptedModel(["hm"], strict=False)
    work = how(poke, lambda n: {"n": n}) if budget == "max_tool_calls" else how(model, lambda _: "what now?")
    store = InMemoryStore()
    agent = agent_with((), agents={"coder": reading(graph_of(where(work)))}, store=store)
    limit: dict[str, Any] = {budget: 2}
    if budget == "max_model_calls per day":
        limit = {"spend_limits": [{"per": "day", "max_model_calls": 2}]}
    context = Context.model_validate({"approval": "never", "on_failure": "abort", **limit})
    result = await Thread(agent, context).run(by("coder"))
    assert result["results"]["a"]["error"]["code"] == "budget_exceeded"
    assert len(made) + len(model.calls) == 2
    spent = await spent_in_words(store, context.model_dump())
    assert [words.partition(": ")[2] for words in spent] == ["2 of 2"] * len(context.spend_limits)


async def test_a_failing_agent_is_a_failed_step_and_a_write_is_not_repeated_by_itself() -> None:
    made = []

    def fail(_: Any) -> dict[str, Any]:
        made.append(1)
        raise ValueError("no luck")

    thread = Thread(
        agent_with((), agents={"coder": graph_of(fail)}), Context(approval="never", max_attempts=3)
    )
    await thread.run(by("coder"))
    assert (await thread.question())["name"] == "handle_step_failure"
    assert len(made) == 1, "an undeclared effect is a write"
    made.clear()
    reader = agent_with((), agents={"coder": reading(graph_of(fail))})
    result = await Thread(reader, Context(approval="never", max_attempts=3)).run(
        by("coder", on_failure="abort")
    )
    assert (result["results"]["a"]["error"]["code"], len(made)) == ("tool_failed", 3)
    assert "no luck" in result["results"]["a"]["error"]["message"]


async def test_an_agent_that_may_write_needs_approval_and_a_reading_one_does_not() -> None:
    thread = Thread(agent_with((), agents={"coder": graph_of(echo)}))
    await thread.run(by("coder"))
    question = await thread.question()
    assert question["name"] == "approve_plan"
    assert "agent:coder" in question["description"]
    result = await thread.answer("approve")
    assert result["status"] == "done"
    thread = Thread(agent_with((), agents={"coder": reading(graph_of(echo))}))
    assert (await thread.run(by("coder")))["status"] == "done"


async def test_a_loop_hands_each_item_to_the_agent_in_a_conversation_of_its_own() -> None:
    agent = agent_with((), agents={"coder": reading(graph_of(echo))})
    given = plan(
        by("coder", task="do ${item}", for_each="${inputs.all}"), inputs={"all": {"default": ["x", "y", "z"]}}
    )
    result = await Thread(agent, FREE).send({"plan": given})
    assert [
        f"do {name}" in out for name, out in zip("xyz", result["results"]["a"]["output"], strict=True)
    ] == [True] * 3
    assert "do x" not in result["results"]["a"]["output"][1]


async def test_the_planner_is_told_the_agents_and_can_name_one() -> None:
    step = {
        "id": "a",
        "task": "code it",
        "depends_on": [],
        "call": None,
        "arguments": None,
        "tools": [],
        "agent": "coder",
    }
    step |= {"success_criterion": None, "output_schema": None, "for_each": None, "when": None}
    model = ScriptedModel({"planner": [draft(step)], "synthesizer": ["done"]})
    agent = agent_with((), model, agents={"coder": reading(graph_of(echo))})
    result = await Thread(agent, FREE).send({"goal": "some code"})
    assert (result["status"], result["plan"]["steps"][0]["agent"]) == ("done", "coder")
    assert "coder [read]: reads" in str(model.calls[0].messages)


async def test_an_unknown_agent_is_an_issue_and_a_bad_one_is_refused_at_once() -> None:
    result = await Thread(agent_with((), agents={"coder": graph_of(echo)}), FREE).run(by("writer"))
    assert codes(result) == ["unknown_agent"]
    assert "coder" in result["plan_issues"][0]["message"]
    for name, agent, word in [("coder", object(), "object"), ("a b", echo, "a b")]:
        with pytest.raises(ConfigurationError, match=word):
            agent_with((), agents={name: agent})
    with pytest.raises(ConfigurationError, match="destroy"):
        agent_with((), agents={"c": graph_of(echo).with_config(metadata={"effect": "destroy"})})


async def test_another_plan_execute_agent_can_be_a_named_agent() -> None:
    inner_tools = Toolset()
    wire = {
        "id": "x",
        "task": "look",
        "depends_on": [],
        "call": "look",
        "arguments": '{"q": "deep"}',
        "tools": [],
    }
    model = ScriptedModel(
        {"planner": [draft({**wire, "success_criterion": None})], "synthesizer": ["inner answer"]}
    )
    inner = agent_with(inner_tools.tools, model, checkpointer=None, store=None)
    agent = agent_with((), agents={"inner": inner}, checkpointer=InMemorySaver())
    result = await Thread(agent, FREE).run(by("inner", task="look deep"))
    assert (result["status"], result["results"]["a"]["output"]) == ("done", "inner answer")
    assert inner_tools.named("look") == ["deep"]
