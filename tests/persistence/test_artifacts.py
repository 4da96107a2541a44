"""Large outputs are out of the state, and exact wherever they are used: references, checks, later runs."""

import asyncio
import json
import sqlite3
from contextlib import closing

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command
from plans import FREE, agent_with, bound, plan, statuses, think
from savers import thread
from toolset import Toolset, make_tool

from plan_execute import Context, ScriptedModel, create_plan_execute_agent, local_persistence, prune_threads
from plan_execute.errors import InvalidInputError, StorageDamagedError, ThreadNotFoundError
from plan_execute.graph.control import edit_plan, retry_steps
from plan_execute.state import OutputState

BIG = {"rows": [{"n": n, "text": "lorem é"} for n in range(20_000)], "last": "end"}
SIZE = len(json.dumps(BIG, ensure_ascii=False).encode())
HANDLE = "$artifact"
ASK = Context(approval="never", on_failure="ask", max_attempts=1)


class Tools:
    """``big`` reads a lot, ``keep`` writes and gives back, ``spoil`` changes its argument."""

    def __init__(self):
        self.kept = []
        self.bigs = 0
        self.output = BIG

    @property
    def all(self):
        async def big() -> object:
            """Give a lot."""
            self.bigs += 1
            return self.output

        async def keep(value: object) -> object:
            """Keep a value."""
            self.kept.append(json.loads(json.dumps(value)))
            return value

        async def spoil(value: object) -> str:
            """Change what it is given."""
            value["rows"].clear()
            return "spoilt"

        kinds = {big: "read", keep: "write", spoil: "read"}
        return [*(make_tool(func, effect=effect) for func, effect in kinds.items()), *Toolset().tools]


@pytest.fixture
def tools():
    return Tools()


@pytest.fixture
def storage(tmp_path):
    with local_persistence(tmp_path / "x.db") as (checkpointer, store):
        yield {"checkpointer": checkpointer, "store": store}


@pytest.fixture
def agent(tools, storage):
    return create_plan_execute_agent(None, tools.all, **storage)


BIG_STEP = bound("a", "big")
BIG_PLAN = plan(BIG_STEP, bound("b", "keep", {"value": "${a}"}), bound("c", "echo", {"value": "${b.last}"}))


def run(agent, *steps, context=FREE, config=None):
    return agent.invoke({"plan": plan(*steps)}, config or thread(), context=context)


def is_handle(output):
    return isinstance(output, dict) and set(output) == {HANDLE}


def test_dependents_get_the_exact_value_and_the_state_a_handle(agent, tools):
    result = agent.invoke({"plan": BIG_PLAN}, thread(), context=FREE)
    assert set(statuses(result).values()) == {"done"}
    assert tools.kept == [BIG]
    outputs = {step_id: step["output"] for step_id, step in result["results"].items()}
    assert is_handle(outputs["a"])
    assert outputs["a"] == outputs["b"], "the same content is the same artifact"
    assert outputs["a"][HANDLE]["bytes"] == SIZE
    assert outputs["c"] == "end"
    assert agent.get_output(thread(), "a") == agent.get_output(thread(), "b") == BIG
    assert agent.get_output(thread(), "c") == "end"


def test_the_file_holds_a_large_output_once(agent, tmp_path):
    agent.invoke({"plan": BIG_PLAN}, thread(), context=FREE)
    rest, artifacts = sizes(tmp_path / "x.db")
    assert rest < 100_000
    assert SIZE <= artifacts < 1.3 * SIZE


def sizes(path):
    """Return the bytes of all values but artifacts, and those of the artifacts."""
    with closing(sqlite3.connect(path)) as connection:
        rows = "SELECT coalesce(sum(length(CAST({} AS BLOB))), 0) FROM {}"
        tables = [("value", "writes"), ("value", "checkpoint_blobs"), ("checkpoint", "checkpoints")]
        rest = sum(connection.execute(rows.format(*table)).fetchone()[0] for table in tables)
        store = rows.format("value", "store") + " WHERE prefix {} 'plan_execute.artifacts%'"
        ledger = connection.execute(store.format("NOT LIKE")).fetchone()[0]
        return rest + ledger, connection.execute(store.format("LIKE")).fetchone()[0]


def test_a_hundred_dependents_of_one_large_output_read_it_at_most_once(agent, storage):
    reads = []
    storage["store"].wrapped.shared.connection.set_trace_callback(
        lambda sql: reads.append(sql) if "SELECT" in sql and "artifacts" in sql else None
    )
    steps = [bound(f"s{n}", "echo", {"value": "${a.last}"}, "a") for n in range(100)]
    result = run(agent, BIG_STEP, *steps)
    assert result["status"] == "done"
    assert len(reads) <= 1


def test_a_tool_that_changes_its_argument_changes_nobody_elses(agent, tools):
    tools.output = {"rows": [1, 2], "last": "end"}  # small: it stays in the state
    for config in (thread("small"), thread("big")):
        result = run(
            agent,
            BIG_STEP,
            bound("s", "spoil", {"value": "${a}"}),
            bound("k", "keep", {"value": "${a}"}, "s"),
            config=config,
        )
        assert result["status"] == "done"
        assert agent.get_output(config, "a") == tools.kept[-1] == tools.output
        tools.output = BIG


@pytest.mark.parametrize(
    ("criterion", "verdict"),
    [
        ({"type": "expression", "expression": "length(rows) == `20000`"}, "met"),
        ({"type": "matches", "pattern": '"last": "end"}$'}, "met"),
        ({"type": "expression", "expression": "rows[20000]"}, "failed"),
        ({"type": "json_schema", "schema": {"required": ["digest"]}}, "failed"),
    ],
)
def test_criteria_see_the_exact_value(agent, criterion, verdict):
    result = run(
        agent, {**BIG_STEP, "max_attempts": 1, "on_failure": "abort", "success_criteria": [criterion]}
    )
    assert result["results"]["a"]["verdict"] == verdict
    assert is_handle(result["results"]["a"]["output"])


def test_agent_steps_are_shown_the_value_and_an_answer_as_long_is_the_answer(tools, storage):
    seen = []

    def answer(messages):
        seen.append("\n".join(message.text for message in messages))
        return "long answer " * 10_000

    tools.output = "beginning " + "x" * 60_000 + " end"
    model = ScriptedModel({"executor": [answer, answer], "synthesizer": ["written"]})
    agent = create_plan_execute_agent(model, tools.all, **storage)
    result = run(agent, BIG_STEP, think("t", "a"))
    assert tools.output in seen[0]
    assert is_handle(result["results"]["t"]["output"])
    result = run(agent, think("only"), config=thread("only"))
    assert result["final_answer"] == ("long answer " * 10_000).strip()


def test_the_synthesizer_is_shown_as_much_of_a_large_output_as_of_a_small_one(tools, storage):
    said = []

    def write(messages):
        said.append("\n".join(message.text for message in messages))
        return "written"

    tools.output = "x" * 7_000 + "MIDDLE" + "x" * 50_000
    agent = create_plan_execute_agent(ScriptedModel({"synthesizer": [write]}), tools.all, **storage)
    run(agent, BIG_STEP, bound("b", "look", {"q": "b"}))
    assert "MIDDLE" in said[0]
    assert HANDLE not in said[0]


def test_the_report_shows_a_preview_and_the_size(agent):
    report = run(agent, BIG_STEP)["final_answer"]
    assert '{"rows": [{"n": 0, "text": "lorem é"}' in report
    assert f"({SIZE:,} bytes in all)" in report


# --- people ------------------------------------------------------------------------------


def test_a_question_about_a_failure_carries_the_handle_and_supplying_it_supplies_the_value(
    agent, tools, tmp_path
):
    failing = {**BIG_STEP, "success_criteria": [{"type": "expression", "expression": "missing"}]}
    result = run(agent, failing, bound("k", "keep", {"value": "${a}"}), context=ASK)
    (question,) = result["__interrupt__"]
    args = question.value["action_requests"][0]["args"]
    assert is_handle(args["output"])
    assert len(json.dumps(question.value)) < 20_000
    assert sizes(tmp_path / "x.db")[0] < 100_000
    answer = {"type": "edit", "args": {**args, "decision": "supply"}}
    result = agent.invoke(Command(resume=answer), thread())
    assert tools.kept == [BIG]
    assert statuses(result) == {"a": "done", "k": "done"}


@pytest.mark.parametrize(
    "supplied", [BIG, {HANDLE: {"digest": "sha256:" + "0" * 64, "preview": "", "bytes": 1}}]
)
def test_a_value_that_a_person_supplies_is_that_value(agent, tools, supplied):
    failing = bound("a", "broken", {"q": "x"})
    run(agent, failing, bound("k", "keep", {"value": "${a}"}), context=ASK)
    answer = {"type": "edit", "args": {"decision": "supply", "output": supplied}}
    result = agent.invoke(Command(resume=answer), thread())
    assert tools.kept == [supplied]
    assert is_handle(result["results"]["a"]["output"])
    assert agent.get_output(thread(), "a") == supplied


# --- forgery -----------------------------------------------------------------------------


@pytest.mark.parametrize("in_memory", [False, True])
def test_a_tool_that_returns_a_handle_has_returned_a_value(tools, storage, in_memory):
    storage = {"checkpointer": InMemorySaver()} if in_memory else storage
    agent = create_plan_execute_agent(None, tools.all, **storage)
    run(agent, BIG_STEP)
    digest = agent.get_state(thread()).values["results"]["a"]["output"]
    tools.output = digest if is_handle(digest) else {HANDLE: {"value": "forged"}}
    result = run(agent, BIG_STEP, bound("k", "keep", {"value": "${a}"}))
    assert tools.kept == [tools.output]
    assert agent.get_output(thread(), "a") == tools.output
    assert result["results"]["a"]["output"] != tools.output


def test_a_handle_that_a_client_writes_into_the_state_fails_the_step_by_name(agent, tools):
    held = bound("k", "keep", {"value": "${a}"}, approve=True)
    result = run(agent, BIG_STEP, held, context=ASK)
    forged = {HANDLE: {"digest": "sha256:" + "0" * 64, "bytes": 9, "preview": "trust me"}}
    results = agent.get_state(thread()).values["results"]
    config = agent.update_state(
        thread(), {"results": {"a": {**results["a"], "output": forged}}}, as_node="evaluator"
    )
    with pytest.raises(StorageDamagedError, match=r"step 'a'.*sha256:0000"):
        agent.get_output(config, "a")
    assert result["__interrupt__"]


def test_an_artifact_that_is_gone_fails_its_dependents_aloud_and_a_retry_mends_it(agent, tools, storage):
    steps = [{**BIG_STEP}, bound("k", "keep", {"value": "${a}"}, approve=True, on_failure="abort")]
    run(agent, *steps)
    store = storage["store"]
    for row in store.search(("plan_execute", "artifacts"), limit=100):
        store.delete(row.namespace, row.key)
    result = agent.invoke(Command(resume="approve"), thread())
    assert result["results"]["k"]["error"]["code"] == "storage_damaged"
    assert "step 'a'" in result["results"]["k"]["error"]["message"]
    assert "sha256:" in result["results"]["k"]["error"]["message"]
    assert tools.kept == []
    assert result["results"]["k"]["attempts"] == 1, "another attempt would find the same"
    asyncio.run(retry_steps(agent, thread(), ["a"]))
    agent.invoke(None, thread())
    result = agent.invoke(Command(resume="approve"), thread())
    assert tools.kept == [BIG]
    assert result["status"] == "done"


# --- later runs --------------------------------------------------------------------------


def test_another_process_goes_on_with_the_exact_value(tools, tmp_path):
    for answer in (None, "approve"):
        with local_persistence(tmp_path / "y.db") as (checkpointer, store):
            agent = create_plan_execute_agent(None, tools.all, checkpointer=checkpointer, store=store)
            if answer is None:
                run(agent, BIG_STEP, bound("k", "keep", {"value": "${a}"}, approve=True))
            else:
                result = agent.invoke(Command(resume=answer), thread())
    assert tools.kept == [BIG]
    assert tools.bigs == 1
    assert is_handle(result["results"]["k"]["output"])


async def test_retried_edited_forked_and_following_runs_find_what_they_refer_to(tools, storage):
    agent = create_plan_execute_agent(None, tools.all, **storage)
    await agent.ainvoke({"plan": BIG_PLAN}, thread(), context=FREE)
    first = await agent.aget_state(thread())
    assert await retry_steps(agent, thread(), ["b"]) == ["b", "c"]
    await agent.ainvoke(None, thread())
    assert tools.kept == [BIG, BIG]
    edited = (await agent.aget_state(thread())).values["plan"]
    more = {**edited, "steps": [*edited["steps"], bound("d", "echo", {"value": "${a.rows[7].n}"})]}
    await edit_plan(agent, thread(), more)
    result = await agent.ainvoke(None, thread())
    assert result["results"]["d"]["output"] == 7
    tools.output = "another goal"
    await agent.ainvoke({"plan": plan(BIG_STEP)}, thread(), context=FREE)
    assert await agent.aget_output(thread(), "a") == "another goal"
    assert await agent.aget_output(first.config, "a") == BIG
    states = [state async for state in agent.aget_state_history(thread())]
    before = next(s for s in states if s.next == ("dispatcher",) and s.created_at < first.created_at)
    forked = await agent.ainvoke(None, before.config)
    assert statuses(forked)["b"] == "done"
    assert tools.bigs == 2, "the fork uses the recorded results"


def test_the_outcome_of_a_write_on_record_is_its_exact_output(agent, tools, tmp_path):
    run(agent, BIG_STEP, bound("k", "keep", {"value": "${a}"}))
    with closing(sqlite3.connect(tmp_path / "x.db")) as connection:
        query = "SELECT value FROM store WHERE prefix LIKE 'plan_execute.effects%'"
        ((row,),) = connection.execute(query).fetchall()
    recorded = json.loads(json.loads(row)["json"])
    assert is_handle(recorded["outcome"]["output"])
    assert len(row) < 5000


# --- where there is no lasting store -----------------------------------------------------


@pytest.mark.parametrize("storage", [{}, {"checkpointer": InMemorySaver()}, {"store": InMemoryStore()}])
def test_without_a_store_that_lasts_as_long_as_the_checkpoints_outputs_stay_inline(tools, storage):
    agent = create_plan_execute_agent(None, tools.all, **storage)
    result = run(agent, BIG_STEP, bound("k", "keep", {"value": "${a}"}))
    assert result["results"]["a"]["output"] == BIG
    assert tools.kept == [BIG]


def test_a_store_in_memory_beside_checkpoints_on_disk_gets_no_artifacts(tools, storage):
    agent = create_plan_execute_agent(
        None, tools.all, checkpointer=storage["checkpointer"], store=InMemoryStore()
    )
    assert run(agent, BIG_STEP)["results"]["a"]["output"] == BIG


def test_the_limit_is_a_setting_of_the_run(agent):
    wide = Context(approval="never", max_inline_bytes=10**7)
    assert run(agent, BIG_STEP, context=wide)["results"]["a"]["output"] == BIG


async def test_a_parent_graph_gets_the_exact_value_through_its_own_store(tools):
    saver, store = InMemorySaver(), InMemoryStore()
    agent = create_plan_execute_agent(None, tools.all)
    builder = StateGraph(OutputState, Context)
    builder.add_node("work", agent)
    builder.add_edge(START, "work")
    builder.add_edge("work", END)
    parent = builder.compile(checkpointer=saver, store=store)
    result = await parent.ainvoke({"plan": BIG_PLAN}, thread(), context=FREE)
    assert tools.kept == [BIG]
    assert is_handle(result["results"]["a"]["output"])
    assert await agent.aget_output(thread(), "a", result=result["results"]["a"], store=store) == BIG


# --- asking for an output ----------------------------------------------------------------


def test_asking_for_an_output_that_is_not_there_says_what_is(agent):
    with pytest.raises(ThreadNotFoundError, match="'t'"):
        agent.get_output(thread(), "a")
    run(agent, bound("a", "look", {"q": "x"}), bound("b", "look", {"q": "y"}, "a", approve=True))
    with pytest.raises(InvalidInputError, match=r"'b' has no result yet; steps with a result: a"):
        agent.get_output(thread(), "b")
    with pytest.raises(InvalidInputError, match="'z' is not a step of the plan"):
        agent.get_output(thread(), "z")


async def test_an_agent_in_memory_gives_exact_values_too(tools):
    agent = agent_with(tools.all)
    await agent.ainvoke({"plan": BIG_PLAN}, thread(), context=FREE)
    assert await agent.aget_output(thread(), "a") == BIG


# --- loops and conditions ----------------------------------------------------------------


def test_a_loop_over_a_large_list_gives_a_large_list_and_both_are_exact(agent, tools):
    each = bound("e", "echo", {"value": ["${item.n}", "${index}"]}, for_each="${a.rows}")
    tools.output = {"rows": [{"n": n, "text": "x" * 100} for n in range(400)]}
    result = run(agent, BIG_STEP, each, bound("k", "keep", {"value": "${e}"}), context=FREE)
    assert set(statuses(result).values()) == {"done"}
    assert tools.kept == [[[n, n] for n in range(400)]]
    large = bound("e", "echo", {"value": "${item.text}${item.text}"}, for_each="${a.rows}")
    narrow = Context(approval="never", max_inline_bytes=256)
    tools.output = {"rows": [{"text": str(n) * 100} for n in range(20)]}
    result = run(agent, BIG_STEP, large, bound("k", "keep", {"value": "${e}"}), context=narrow)
    assert is_handle(result["results"]["e"]["output"])
    assert result["results"]["e"]["output"][HANDLE]["items"] == 20
    assert tools.kept[-1] == agent.get_output(thread(), "e") == [str(n) * 200 for n in range(20)]


def test_an_item_that_looks_like_a_handle_is_a_value(agent, tools):
    tools.output = [{HANDLE: {"digest": "sha256:" + "0" * 64}}, 1]
    run(agent, BIG_STEP, bound("e", "echo", {"value": "${item}"}, for_each="${a}"))
    assert agent.get_output(thread(), "e") == tools.output


def test_a_condition_sees_the_exact_value(agent, tools):
    steps = [
        bound(i, "look", {"q": i}, when=w) for i, w in [("y", "length(a.rows) > `19999`"), ("n", "a.digest")]
    ]
    assert statuses(run(agent, BIG_STEP, *steps)) == {"a": "done", "y": "done", "n": "skipped"}


def test_a_tool_that_changes_its_item_changes_no_other_and_not_the_record(agent, tools):
    tools.output = [{"rows": [n]} for n in range(3)]
    result = run(
        agent,
        BIG_STEP,
        bound("s", "spoil", {"value": "${item}"}, for_each="${a}"),
        bound("k", "keep", {"value": "${a}"}, "s"),
    )
    assert result["status"] == "done"
    assert tools.kept == [tools.output]


def test_a_large_output_of_the_form_asked_for_is_the_structured_output(tools, storage):
    form = {
        "title": "Lot",
        "type": "object",
        "properties": {"last": {"type": "string"}},
        "required": ["last"],
    }
    agent = create_plan_execute_agent(ScriptedModel({}), tools.all, response_format=form, **storage)
    result = run(agent, BIG_STEP)
    assert result["status"] == "done"
    assert result["output"] == BIG


# --- what must not be on the disk --------------------------------------------------------


def test_artifacts_are_encrypted_where_the_file_is_and_go_with_their_thread(tools, tmp_path):
    path, key = tmp_path / "sealed.db", "ab" * 16
    with local_persistence(path, encryption_key=key) as (checkpointer, store):
        agent = create_plan_execute_agent(None, tools.all, checkpointer=checkpointer, store=store)
        assert run(agent, BIG_STEP, bound("k", "keep", {"value": "${a}"}))["status"] == "done"
    with local_persistence(path, encryption_key=key) as (checkpointer, store):
        agent = create_plan_execute_agent(None, checkpointer=checkpointer, store=store)
        assert agent.get_output(thread(), "a") == BIG
    assert b"lorem" not in path.read_bytes()
    assert len(prune_threads(local_persistence(path, encryption_key=key)).deleted) == 1
    assert path.stat().st_size < 500_000


def test_a_secret_in_a_large_output_is_in_no_artifact(tools, storage, tmp_path, monkeypatch):
    monkeypatch.setenv("PLANTED_API_KEY", "correct-horse-battery-staple")
    tools.output = {"text": "x" * 50_000, "key": "correct-horse-battery-staple"}
    agent = create_plan_execute_agent(None, tools.all, **storage)
    context = Context(approval="never", secret_names=["PLANTED_API_KEY"])
    assert run(agent, BIG_STEP, context=context)["status"] == "done"
    assert "[redacted" in agent.get_output(thread(), "a")["key"]
    for file in tmp_path.glob("x.db*"):
        assert not file.is_file() or b"correct-horse" not in file.read_bytes()
