"""A secret is refused where it cannot be taken out, and taken out wherever else it may come from."""

import asyncio
import json
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command
from plans import FREE, Thread, agent_with, bound, codes, draft, draft_step, plan, statuses, think
from toolset import make_tool

from plan_execute import Context, ScriptedModel
from plan_execute.errors import InvalidPlanError, ToolFailedError
from plan_execute.graph.control import edit_plan

SECRET = "pl4nted-Secret-Value-7"
KEY = "s" + "k-proj-" + "aB3dE5fG7h" * 4


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("PLANTED_API_KEY", SECRET)


@pytest.fixture
def called():
    return []


@pytest.fixture
def tools(called):
    def fetch(url: str, token: str = "") -> str:
        """Fetch something."""
        called.append((url, token))
        return "fetched"

    def login() -> dict:
        """Give a token."""
        return {"token": f"Bearer {SECRET}", "note": f"use {KEY} for all"}

    async def slow_login() -> str:
        """Give a token without blocking."""
        await asyncio.sleep(0)
        return SECRET

    return [make_tool(fetch), make_tool(login), make_tool(slow_login)]


def everything(agent):
    """Write down all that a store and a saver in memory hold."""
    return repr(vars(agent.checkpointer.wrapped)) + repr(agent.store.wrapped._data)


# --- plans -------------------------------------------------------------------------------


@pytest.mark.parametrize(("secret", "name"), [(SECRET, "PLANTED_API_KEY"), (KEY, "key")])
@pytest.mark.parametrize(
    "step",
    [
        lambda value: bound("a", "fetch", {"url": "x", "token": value}),
        lambda value: bound("a", "fetch", {"url": f"https://h/?k={value}"}),
        lambda value: bound(
            "a", "fetch", {"url": "x"}, success_criteria=[{"type": "matches", "pattern": value}]
        ),
        lambda value: bound("a", "fetch", {"url": "x"}, output_schema={"const": value}),
        lambda value: bound("a", "fetch", {"url": "x"}, when=f"inputs.x == '{value}'"),
    ],
    ids=["argument", "inside an argument", "criterion", "schema", "condition"],
)
async def test_a_given_plan_with_a_secret_in_it_is_refused_by_name(tools, called, step, secret, name):
    agent = agent_with(tools)
    result = await Thread(agent, FREE).send({"plan": plan(step(secret)), "inputs": {"x": 1}})
    assert codes(result) == ["secret_in_plan"]
    [issue] = result["plan_issues"]
    assert issue["step_id"] == "a"
    assert f"a secret ({name})" in issue["message"]
    assert "from its own environment" in issue["message"]
    assert called == []
    assert secret not in json.dumps(result, default=str) + everything(agent)


@pytest.mark.parametrize("inputs", [{"token": SECRET}, {"deep": [{"x": f"a {KEY}"}]}])
async def test_an_input_with_a_secret_in_it_is_refused_with_and_without_a_plan(tools, called, inputs):
    model = ScriptedModel([])
    agent = agent_with(tools, model)
    for given in ({"plan": plan(bound("a", "fetch", {"url": "x"}))}, {"goal": "fetch it"}):
        result = await Thread(agent, FREE).send({**given, "inputs": inputs})
        assert (result["status"], codes(result)) == ("failed", ["secret_in_plan"])
        assert f"the input {next(iter(inputs))!r} contains a secret" in result["final_answer"]
        assert SECRET not in str(result)
    assert (called, model.calls) == ([], [])


async def test_the_default_of_an_input_may_be_no_secret_either(tools):
    given = plan(bound("a", "fetch", {"url": "${inputs.u}"}), inputs={"u": {"default": f"x{SECRET}"}})
    assert codes(await Thread(agent_with(tools), FREE).send({"plan": given})) == ["secret_in_plan"]


async def test_a_models_plan_with_a_secret_in_it_goes_back_to_the_model(tools, called):
    bad, good = ({"url": "x", "token": SECRET}, {"url": "x"})
    drafts = [draft(draft_step("a", "fetch", args)) for args in (bad, good)]
    model = ScriptedModel({"planner": drafts, "synthesizer": ["done"]})
    result = await Thread(agent_with(tools, model), FREE).send({"goal": f"fetch with {SECRET}"})
    assert (result["status"], called) == ("done", [("x", "")])
    told = "\n".join(str(message.content) for call in model.calls for message in call.messages)
    assert "secret_in_plan" in told
    assert SECRET not in told


async def test_a_persons_edit_with_a_secret_in_it_is_asked_about_again(tools, called):
    agent = agent_with(tools)
    thread = Thread(agent, Context(approval="always"))
    await thread.run(bound("a", "fetch", {"url": "x"}))
    edited = plan(bound("a", "fetch", {"url": "x", "token": SECRET}))
    await thread.answer({"type": "edit", "args": {"plan": edited}})
    request = await thread.question()
    assert "secret_in_plan" in request["description"]
    assert SECRET not in json.dumps(request) + everything(agent)
    with pytest.raises(InvalidPlanError, match="secret_in_plan") as refused:
        await edit_plan(agent, thread.config, edited)
    assert SECRET not in str(refused.value) + str(refused.value.issues)
    assert called == []


async def test_texts_of_a_plan_are_only_redacted(tools, called):
    given = plan(bound("a", "fetch", {"url": "x"}, task=f"use {SECRET}"), rationale=KEY, goal=f"a {SECRET}")
    result = await Thread(agent_with(tools), FREE).send({"plan": given})
    assert result["status"] == "done"
    assert result["plan"]["steps"][0]["task"] == "use [redacted PLANTED_API_KEY]"
    assert (result["goal"], result["plan"]["rationale"]) == ("a [redacted PLANTED_API_KEY]", "[redacted key]")


# --- what tools are called with ----------------------------------------------------------


async def test_a_step_fails_clearly_where_a_secret_was_to_be_passed_on(tools, called):
    result = await Thread(agent_with(tools), Context(approval="never", on_failure="abort")).run(
        bound("login", "login"),
        bound("whole", "fetch", {"url": "x", "token": "${login.token}"}),
        bound("text", "fetch", {"url": "x", "token": "as they say: ${login.note}"}),
    )
    assert statuses(result)["whole"] == "failed"
    error = result["results"]["whole"]["error"]
    assert (error["code"], "a secret (PLANTED_API_KEY)" in error["message"]) == ("bad_arguments", True)
    assert called in ([("x", "as they say: use [redacted key] for all")], [])


async def test_an_agent_is_told_that_secrets_are_not_passed_on(tools, called):
    calls = ScriptedModel.tool_calls(("fetch", {"url": "x", "token": SECRET}))
    model = ScriptedModel({"executor": [calls, "so be it"]})
    result = await Thread(agent_with(tools, model), FREE).run(think("a", tools=["fetch"]))
    assert called == []
    [call] = result["results"]["a"]["evidence"]
    assert (call["ok"], call["args"]["token"]) == (False, "[redacted PLANTED_API_KEY]")
    assert "secrets are not passed to tools" in call["output_preview"]


async def test_what_a_named_agent_says_is_redacted_before_it_is_cut_to_previews(tools):
    call = {"name": "fetch", "args": {"token": SECRET}, "id": "1", "type": "tool_call"}
    told = ToolMessage("x" * 290 + SECRET, tool_call_id="1", name="fetch")
    said = [AIMessage("", tool_calls=[call]), told, AIMessage(f"done with {KEY}")]

    async def work(given):
        if "fail" in given["messages"][-1].text:
            raise RuntimeError("y" * 290 + SECRET)
        return {"messages": said}

    agent = agent_with(tools, agents={"worker": RunnableLambda(work)})
    steps = [{"id": name, "task": f"do {name}", "agent": "worker"} for name in ("work", "fail")]
    thread = Thread(agent, Context(approval="never", on_failure="abort", max_attempts=1))
    result = await thread.run(*steps)
    assert result["results"]["work"]["output"] == "done with [redacted key]"
    assert result["results"]["fail"]["status"] == "failed"
    whole = json.dumps(result, default=str) + everything(agent)
    assert not [part for part in (SECRET, SECRET[:9], KEY[:20]) if part in whole]


# --- settings ----------------------------------------------------------------------------


async def test_a_run_may_name_its_own_secrets_and_a_later_context_cannot_take_that_back(monkeypatch, tools):
    monkeypatch.setenv("MY_CUSTOMER", "Nobody & Sons")

    def ask_about(q: str) -> str:
        """Tell who it is."""
        return "it is Nobody & Sons"

    agent = agent_with([make_tool(ask_about)])
    thread = Thread(agent, Context(approval="always", secret_names=("MY_*",)))
    await thread.run(bound("a", "ask_about", {"q": "who"}))
    result = await thread.agent.ainvoke(
        Command(resume="approve"), thread.config, context=Context(approval="never", secret_names=())
    )
    assert result["results"]["a"]["output"] == "it is [redacted MY_CUSTOMER]"


async def test_instructions_are_redacted_before_a_model_or_the_store_sees_them(tools):
    model = ScriptedModel({"executor": ["ok"]})
    agent = agent_with(tools, model)
    await Thread(agent, Context(approval="never", instructions=f"the key is {SECRET}")).run(think("a"))
    assert SECRET not in str(model.calls) + everything(agent)


async def test_what_a_client_writes_into_the_state_is_redacted_by_the_net(tools):
    agent = agent_with(tools)
    thread = Thread(agent, FREE)
    await thread.run(bound("a", "fetch", {"url": "x"}))
    said = [HumanMessage(KEY), HumanMessage("hello", id="1", told_by=KEY)]
    await agent.aupdate_state(thread.config, {"goal": f"now {SECRET}", "messages": said})
    snapshot = await agent.aget_state(thread.config)
    assert snapshot.values["messages"][-1].model_dump()["told_by"] == "[redacted key]"
    assert SECRET not in everything(agent)
    assert KEY not in everything(agent)


async def test_no_metadata_of_a_run_is_stored_with_a_secret_in_it(tools):
    agent = agent_with(tools)
    for n, told in enumerate([{"metadata": {"note": SECRET}}, {}]):
        config = {"configurable": {"thread_id": f"{n}", "assistant_id": SECRET, "note": KEY}, **told}
        given = {"plan": plan(bound("a", "fetch", {"url": "x"}))}
        assert (await agent.ainvoke(given, config, context=FREE))["status"] == "done"
    assert SECRET not in everything(agent)
    assert KEY not in everything(agent)


async def test_a_tool_that_changes_what_it_was_given_or_returned_brings_no_secret_into_the_record():
    held: dict[str, Any] = {}

    def give() -> dict:
        """Give something to change, and keep it."""
        held.update(note="nothing in it", deep=[{"more": "nothing here"}])
        return held

    def spoil(data: Any) -> str:
        """Change in place what was given, and what was returned."""
        for one in (data, held):
            one["note"] = SECRET
            one["deep"][0][KEY] = SECRET
        return "spoilt"

    below = draft(draft_step("x", "give"), draft_step("y", "spoil", {"data": "${x}"}, "x"))
    model = ScriptedModel({"planner": [below], "synthesizer": ["done"] * 2})
    agent = agent_with([make_tool(give), make_tool(spoil)], model)
    steps = [bound("a", "give"), bound("b", "spoil", {"data": "${a}"}, "a")]
    inner = {"id": "c", "plan": {"goal": "the same below"}, "depends_on": ["b"]}
    result = await Thread(agent, FREE).run(*steps, inner)
    assert result["results"]["a"]["output"]["note"] == "nothing in it"
    assert result["results"]["c"]["status"] == "done"
    assert SECRET not in repr(result) + everything(agent)
    assert KEY not in repr(result) + everything(agent)


async def test_a_client_that_changes_what_is_streamed_brings_no_secret_into_the_record(tools):
    def give(n: int) -> dict:
        """Give something to change."""
        return {"note": f"nothing in number {n}", "deep": [{"more": "nothing here"}]}

    def spoil(part):
        """Change all outputs in place, at any depth."""
        for value in list(part.values() if isinstance(part, dict) else part):
            if isinstance(value, dict | list | tuple):
                spoil(value)
        if isinstance(part, dict) and "note" in part:
            part["note"] = part[KEY] = SECRET

    agent = agent_with([make_tool(give)])
    thread = Thread(agent, FREE)
    steps = [bound(f"s{n}", "give", {"n": n}, *([f"s{n - 1}"] if n else [])) for n in range(4)]
    given = {"plan": plan(*steps)}
    async for chunk in agent.astream(given, thread.config, context=FREE, stream_mode=["values", "updates"]):
        spoil(chunk)
    result = (await agent.aget_state(thread.config)).values
    assert result["status"] == "done"
    assert SECRET not in repr(result) + everything(agent)
    assert KEY not in repr(result) + everything(agent)


# --- streams -----------------------------------------------------------------------------


class Chopped(ScriptedModel):
    """A model whose every character comes by itself."""

    async def _astream(self, *args, **kwargs):
        async for chunk in super()._astream(*args, **kwargs):
            text = str(chunk.message.content)
            for char in text or [""]:
                last = chunk.message.chunk_position if char == text[-1:] else None
                piece = chunk.message.model_copy(update={"content": char, "chunk_position": last})
                yield chunk.model_copy(update={"message": piece})


@pytest.mark.parametrize("modes", [["messages"], ["messages", "values", "updates", "custom", "debug"]])
async def test_a_secret_that_is_streamed_in_pieces_does_not_get_out(tools, modes):
    answer = f"Here you are: {SECRET}, or {KEY} if you like; " + "and so on " * 20
    model = Chopped({"executor": [answer]})
    agent = agent_with(tools, model)
    thread = Thread(agent, FREE)
    given = {"plan": plan(think("a"))}
    chunks = [
        chunk
        async for chunk in agent.astream(
            given, thread.config, context=FREE, stream_mode=modes, subgraphs=True
        )
    ]
    pieces = [data[0] for _, mode, data in chunks if mode == "messages" and data[0].type == "AIMessageChunk"]
    text = "".join(str(piece.content) for piece in pieces)
    assert (
        text.strip()
        == answer.replace(SECRET, "[redacted PLANTED_API_KEY]").replace(KEY, "[redacted key]").strip()
    )
    assert len([piece for piece in pieces if piece.content]) > 20, "it is still a stream"
    assert SECRET not in repr(chunks)
    assert KEY not in repr(chunks)


async def test_tool_calls_that_are_streamed_are_redacted_too(tools):
    calls = ScriptedModel.tool_calls(("fetch", {"url": f"https://h/{SECRET}"}))
    agent = agent_with(tools, ScriptedModel({"executor": [calls, "ok"]}))
    chunks = [
        chunk
        async for chunk in agent.astream(
            {"plan": plan(think("a", tools=["fetch"]))},
            Thread(agent).config,
            context=FREE,
            stream_mode="messages",
            subgraphs=True,
        )
    ]
    assert "[redacted PLANTED_API_KEY]" in repr(chunks)
    assert SECRET not in repr(chunks)


def test_sync_streams_pass_the_same_net(tools):
    agent = agent_with(tools, checkpointer=InMemorySaver(), store=InMemoryStore())
    config = {"configurable": {"thread_id": "t"}}
    chunks = list(
        agent.stream({"plan": plan(bound("a", "login"))}, config, context=FREE, stream_mode="debug")
    )
    assert "[redacted PLANTED_API_KEY]" in repr(chunks)
    assert SECRET not in repr(chunks)
    assert isinstance(agent.get_state(config).values["messages"][-1], AIMessage)


async def test_what_a_tool_says_about_its_own_failure_holds_no_secret_for_models_either():
    def login(q: str) -> str:
        """Log in."""
        raise ToolFailedError(f"exit 1: no access with {SECRET}")

    script = [ScriptedModel.tool_calls(("login", {"q": "a"})), "done"]
    model = ScriptedModel({"executor": script, "synthesizer": ["ok"]})
    settings = Context(approval="never", max_attempts=1, on_failure="skip")
    result = await Thread(agent_with([make_tool(login)], model), settings).run(
        bound("b", "login", {"q": "x"}), think("a", tools=["login"])
    )
    assert "no access with [redacted" in result["results"]["b"]["error"]["message"]
    assert SECRET not in repr(result)
    assert SECRET not in repr([call.messages for call in model.calls])
