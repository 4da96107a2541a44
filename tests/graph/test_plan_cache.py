"""A plan that worked is used again for the same question, shown as such, and given up when it fails."""

from __future__ import annotations

import json
import unicodedata
from datetime import timedelta
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.store.memory import InMemoryStore
from plans import FREE, Thread, agent_with, draft, draft_step, statuses
from toolset import Toolset, make_tool

from plan_execute import Context, PlanCache, ScriptedModel
from plan_execute.errors import ConfigurationError
from plan_execute.graph.control import cancel_run, retry_steps
from plan_execute.state import OutputState

GOAL = "write x down"
ONCE = Context(approval="never", on_failure="abort", max_attempts=1)
GOOD = draft(draft_step("a", "look", {"q": "x"}), draft_step("b", "wr", {"text": "${a}"}, "a"))
READS = draft(draft_step("a", "look", {"q": "x"}))


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.seconds = 1_700_000_000.0

    def __call__(self) -> float:
        return self.seconds


class Office:
    """Agents on one store, with a planner that writes the same plan whenever it is asked."""

    def __init__(self, *drafts: Any, ttl_s: float = 3600.0) -> None:
        self.tools, self.store, self.clock = Toolset(), InMemoryStore(), Clock()
        self.drafts, self.ttl_s = drafts or (GOOD,), ttl_s
        self.models: list[ScriptedModel] = []

    def agent(self, *, tools: Any = None, name: str = "scripted", **options: Any) -> Any:
        model = ScriptedModel(
            {"planner": list(self.drafts), "synthesizer": ["ok"], "*": ["thought"]}, strict=False
        )
        self.models.append(model.model_copy(update={"model_name": name}))
        namespace = options.pop("namespace", "default")
        cache = PlanCache(self.ttl_s, namespace, max_entries=options.pop("max_entries", 1000), now=self.clock)
        given = {"plan_cache": cache, "store": self.store, **options}
        return agent_with(self.tools.tools if tools is None else tools, self.models[-1], **given)

    async def run(self, goal: Any = GOAL, context: Context = FREE, **options: Any) -> dict[str, Any]:
        """Run a goal on a new thread of a new agent."""
        given = goal if isinstance(goal, dict) else {"goal": goal}
        return await Thread(self.agent(**options), context).send(given)

    def planner_calls(self) -> int:
        return sum(call.role == "planner" for model in self.models for call in model.calls)

    def entries(self) -> list[Any]:
        return self.store.search(("plan_execute", "cached_plans"))

    async def asks_the_planner(self, goal: Any = GOAL, context: Context = FREE, **options: Any) -> bool:
        before = self.planner_calls()
        await self.run(goal, context, **options)
        return self.planner_calls() > before


def events(result: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [event for event in result["audit"] if event["event"] == name]


# --- hits --------------------------------------------------------------------------------


async def test_a_goal_that_was_done_needs_no_planner_the_second_time() -> None:
    office = Office()
    first, second = await office.run(), await office.run()
    assert office.planner_calls() == 1
    assert (first["usage"]["model_calls"], second["usage"]["model_calls"]) == (2, 1)
    assert second["status"] == "done"
    assert second["plan"]["steps"] == first["plan"]["steps"]
    assert office.tools.named("wr") == ["found x", "found x"], "the work itself is done again"


async def test_a_hit_is_a_plan_of_its_own() -> None:
    office = Office()
    first, second = await office.run(), await office.run(" write  x\u00a0down\n")
    assert second["plan"]["id"] != first["plan"]["id"]
    assert (second["plan"]["revision"], second["plan"]["goal"]) == (1, " write  x\u00a0down\n")
    assert office.planner_calls() == 1


async def test_audit_and_progress_say_that_it_is_a_hit_how_old_and_from_which_thread() -> None:
    office = Office()
    earlier = Thread(office.agent(), FREE)
    await earlier.send({"goal": GOAL})
    office.clock.seconds += 1800
    later = Thread(office.agent(), FREE)
    seen = [
        e async for e in later.agent.astream({"goal": GOAL}, later.config, context=FREE, stream_mode="custom")
    ]
    thread_id = earlier.config["configurable"]["thread_id"]
    (created,) = [event for event in seen if event["type"] == "plan_created"]
    assert created["recalled"]["thread_id"] == thread_id
    assert created["recalled"]["age_s"] == 1800
    (event,) = events((await later.agent.aget_state(later.config)).values, "plan_recalled")
    assert (event["by"], event["revision"]) == ({"kind": "cache"}, 1)
    assert thread_id in event["evidence"][0]
    assert "30 minutes ago" in event["evidence"][0]


async def test_a_hit_is_approved_like_any_plan_and_the_question_says_that_it_is_one() -> None:
    office = Office()
    await office.run()
    office.clock.seconds += 7200
    office.ttl_s = 10_000
    await office.run()
    thread = Thread(office.agent())
    await thread.send({"goal": GOAL})
    question = await thread.question()
    assert question["name"] == "approve_plan"
    assert "plan cache" in question["description"]
    assert "0 seconds ago" in question["description"]
    assert office.tools.named("wr") == ["found x"] * 2, "nothing of it runs unasked"
    assert (await thread.answer("approve"))["status"] == "done"
    assert office.planner_calls() == 2, "its first plan had expired"


async def test_an_approval_of_the_same_plan_in_another_thread_does_not_count() -> None:
    office = Office()
    first = Thread(office.agent())
    await first.send({"goal": GOAL})
    await first.answer("approve")
    second = Thread(office.agent())
    assert "__interrupt__" in await second.send({"goal": GOAL})


async def test_without_plan_cache_nothing_is_kept_or_recalled() -> None:
    office = Office()
    assert await office.asks_the_planner(plan_cache=None)
    assert office.entries() == []
    await office.run()
    assert await office.asks_the_planner(plan_cache=None)


async def test_an_agent_without_a_store_keeps_plans_for_as_long_as_it_lives() -> None:
    office = Office()
    for saver in (InMemorySaver(), None):
        agent = office.agent(store=None, checkpointer=saver)
        before = office.planner_calls()
        for _ in range(2):
            assert (await Thread(agent, FREE).send({"goal": GOAL}))["status"] == "done"
        assert office.planner_calls() == before + 1


@pytest.mark.parametrize("given", [timedelta(hours=1), 3600, 0.5, PlanCache()])
async def test_how_long_plans_are_kept_is_a_timedelta_seconds_or_a_plan_cache(given: Any) -> None:
    office = Office()
    agent = office.agent(plan_cache=given)
    for _ in range(2):
        await Thread(agent, FREE).send({"goal": GOAL})
    assert office.planner_calls() == 1


@pytest.mark.parametrize("given", [0, -1, float("nan"), float("inf"), True, "7d", timedelta(0), {"ttl_s": 1}])
def test_a_bad_plan_cache_is_refused_where_it_is_given(given: Any) -> None:
    with pytest.raises(ConfigurationError, match="plan_cache"):
        agent_with((), None, plan_cache=given)


@pytest.mark.parametrize("bad", [{"namespace": ""}, {"namespace": 7}, {"max_entries": 0}, {"ttl_s": None}])
def test_bad_settings_of_a_plan_cache_are_named(bad: Any) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(bad))):
        PlanCache(**bad)


# --- what the key covers -----------------------------------------------------------------


def _renamed() -> list[Any]:
    return [
        tool.model_copy(update={"name": "look_up"}) if tool.name == "look" else tool
        for tool in Toolset().tools
    ]


def _with_argument() -> list[Any]:
    def look(q: str, deep: bool = False) -> str:
        """Look something up."""
        return f"found {q}"

    return [make_tool(look) if tool.name == "look" else tool for tool in Toolset().tools]


def _now_writing() -> list[Any]:
    return [
        tool.model_copy(update={"metadata": {"effect": "write"}}) if tool.name == "look" else tool
        for tool in Toolset().tools
    ]


def _described() -> list[Any]:
    return [
        tool.model_copy(update={"description": "Look only at beverages."}) if tool.name == "look" else tool
        for tool in Toolset().tools
    ]


OTHERS = {
    "goal": {"goal": "write y down"},
    "case": {"goal": "Write X down"},
    "input": {"goal": {"goal": GOAL, "inputs": {"city": "Rome"}}},
    "tool name": {"tools": _renamed()},
    "tool arguments": {"tools": _with_argument()},
    "tool effect": {"tools": _now_writing()},
    "tool description": {"tools": _described()},
    "one more tool": {"tools": [*Toolset().tools, make_tool(lambda q: q, effect="read", x=1)]},
    "planner model": {"name": "another"},
    "model override": {"models": {"planner": ScriptedModel({"planner": [GOOD]}, model_name="third")}},
    "instructions": {"context": Context(approval="never", instructions="Be thorough.")},
    "max_steps": {"context": Context(approval="never", max_steps=5)},
    "max_iterations": {"context": Context(approval="never", max_iterations=3)},
    "budget": {"context": Context(approval="never", max_tool_calls=9)},
    "namespace": {"namespace": "another tenant"},
    "agents": {"agents": {"coder": lambda given: given}},
}


@pytest.mark.parametrize("what", OTHERS)
async def test_another_question_is_no_hit(what: str) -> None:
    office = Office()
    await office.run()
    assert not await office.asks_the_planner()
    result = await office.run(**OTHERS[what])
    assert events(result, "plan_recalled") == []
    assert not await office.asks_the_planner(), "the first entry is still there"


async def test_another_prompt_is_another_question(monkeypatch: pytest.MonkeyPatch) -> None:
    from plan_execute.models import prompts

    office = Office()
    await office.run()
    changed = {**prompts._TEMPLATES, "planner": "Plan well.\n" + prompts._TEMPLATES["planner"]}
    monkeypatch.setattr(prompts, "_TEMPLATES", changed)
    assert await office.asks_the_planner()


@pytest.mark.parametrize(
    "format_of", [f"plan_execute.plan.reuse.{name}" for name in ("FORMAT", "SCHEMA_VERSION")]
)
async def test_another_format_is_another_question(monkeypatch: pytest.MonkeyPatch, format_of: str) -> None:
    office = Office()
    await office.run()
    monkeypatch.setattr(format_of, 999)
    assert await office.asks_the_planner()


@pytest.mark.parametrize(
    "settings",
    [{"max_parallel": 2}, {"on_failure": "abort"}, {"decision_timeout_s": 9.0}, {"soft_share": 0.5}],
)
async def test_how_a_plan_is_run_and_approved_is_no_part_of_the_question(settings: Any) -> None:
    office = Office()
    await office.run()
    assert not await office.asks_the_planner(context=Context(approval="never", **settings))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("look  at\ttea", "look at tea"),
        ("caf\u00e9", unicodedata.normalize("NFD", "caf\u00e9")),
        ("one\r\ntwo", "one\ntwo"),
        ("  tea\n", "tea"),
    ],
)
async def test_goals_that_differ_in_nothing_that_can_matter_are_one(first: str, second: str) -> None:
    office = Office()
    await office.run(first)
    assert not await office.asks_the_planner(second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("read Notes.txt", "read notes.txt"),
        ("compute 10\u00b2", "compute 102"),
        ('replace "  " in a', 'replace " " in a'),
        ("def f():\n  pass", "def f():\n pass"),
    ],
)
async def test_goals_that_may_mean_different_things_are_two(first: str, second: str) -> None:
    office = Office()
    await office.run(first)
    assert await office.asks_the_planner(second)


async def test_a_function_chooses_the_tenant_of_each_run() -> None:
    office = Office()
    agent = office.agent(namespace=lambda configurable: str(configurable["tenant"]))

    async def run(tenant: str) -> int:
        before = office.planner_calls()
        config = {"configurable": {"thread_id": f"{tenant}-{before}-{len(office.models)}", "tenant": tenant}}
        office.models.append(office.models[0])
        await agent.ainvoke({"goal": GOAL}, config, context=FREE)
        office.models.pop()
        return office.planner_calls() - before

    assert [await run("ada") for _ in range(1)] == [1]
    assert await run("bob") == 1
    config = {"configurable": {"thread_id": "again", "tenant": "ada"}}
    before = office.planner_calls()
    assert (await agent.ainvoke({"goal": GOAL}, config, context=FREE))["status"] == "done"
    assert office.planner_calls() == before


async def test_a_function_that_names_no_tenant_is_refused_before_anything_runs() -> None:
    with pytest.raises(ConfigurationError, match="namespace"):
        await Office().run(namespace=lambda configurable: None)


# --- inputs ------------------------------------------------------------------------------

USES_INPUT = draft(draft_step("a", "look", {"q": "${inputs.city}"}))


async def test_a_plan_is_used_again_with_the_input_values_of_the_run() -> None:
    office = Office(USES_INPUT)
    for city in ("Rome", "Oslo"):
        result = await office.run({"goal": "weather", "inputs": {"city": city}})
        assert result["results"]["a"]["output"] == f"found {city}"
    assert office.planner_calls() == 1


async def test_a_planner_whose_plan_may_serve_other_values_is_told_the_names_only() -> None:
    office = Office(USES_INPUT)
    await office.run({"goal": "weather", "inputs": {"city": "Rome"}})
    said = "\n".join(str(m.text) for m in office.models[0].calls[0].messages)
    assert "Rome" not in said
    assert '"city": "string"' in said
    await office.run({"goal": "weather", "inputs": {"city": "Rome"}}, plan_cache=None)
    assert "Rome" in "\n".join(str(m.text) for m in office.models[1].calls[0].messages)


@pytest.mark.parametrize("inputs", [{"town": "Rome"}, {"city": ["Rome"]}, {"city": "Rome", "day": 1}, {}])
async def test_inputs_of_other_names_or_types_are_another_question(inputs: Any) -> None:
    office = Office(READS)
    await office.run({"goal": "weather", "inputs": {"city": "Rome"}})
    assert await office.asks_the_planner({"goal": "weather", "inputs": inputs})


# --- what is not kept --------------------------------------------------------------------


async def test_a_follow_up_leaves_no_plan() -> None:
    office = Office()
    thread = Thread(office.agent(), FREE)
    await thread.send({"goal": "something else"})
    await thread.send({"goal": GOAL})
    assert await office.asks_the_planner(), "the follow-up was planned with the conversation in sight"


async def test_a_follow_up_asks_the_planner_even_for_a_goal_that_is_kept() -> None:
    office = Office()
    thread = Thread(office.agent(), FREE)
    for _ in range(2):
        await thread.send({"goal": GOAL})
    assert office.planner_calls() == 2


async def test_messages_before_the_goal_keep_it_out_of_the_cache() -> None:
    office = Office()
    talk = [HumanMessage("I am in Oslo"), AIMessage("Noted"), HumanMessage(GOAL)]
    await office.run({"messages": talk})
    assert office.entries() == []
    await office.run({"messages": [HumanMessage(GOAL)]})
    assert not await office.asks_the_planner(), "a goal said in a message is a goal"


async def test_a_plan_that_was_given_is_not_kept() -> None:
    office = Office()
    result = await office.run({"plan": {"goal": GOAL, "steps": [{"id": "a", "task": "t", "tools": []}]}})
    assert result["status"] == "done"
    assert office.entries() == []


@pytest.mark.parametrize(
    "answer",
    [
        {"type": "reject", "message": "in red"},
        {"type": "edit", "args": {"plan": {"goal": GOAL, "steps": [{"id": "z", "task": "t", "tools": []}]}}},
    ],
)
async def test_a_plan_that_a_person_shaped_is_not_kept_and_a_hit_they_changed_is_dropped(answer: Any) -> None:
    office = Office()
    for has_hit in (False, True):
        if has_hit:
            await office.run()
            assert len(office.entries()) == 1
        thread = Thread(office.agent())
        await thread.send({"goal": GOAL})
        result = await thread.answer(answer)
        if "__interrupt__" in result:
            result = await thread.answer("approve")
        assert result["status"] == "done"
        assert office.entries() == []
        assert len(events(result, "cached_plan_dropped")) == has_hit


async def test_a_plan_that_had_to_be_revised_is_not_kept_and_its_hit_is_dropped() -> None:
    fails = draft(draft_step("a", "flaky", {"q": "x"}))
    office = Office(fails)
    revise = Context(approval="never", on_failure="replan", max_attempts=1)
    await office.run(context=revise)
    assert len(office.entries()) == 1
    office.tools.failures = [ValueError("not today")] * 2
    model = ScriptedModel({"replanner": [READS, READS], "planner": [fails], "synthesizer": ["ok", "ok"]})
    for kept in (1, 0):
        assert len(office.entries()) == kept
        thread = Thread(office.agent(models={"planner": office.models[0], "replanner": model}), revise)
        result = await thread.send({"goal": GOAL})
        assert (result["status"], result["replans"]) == ("done", 1)
    assert office.entries() == []


async def test_a_plan_whose_output_a_person_supplied_is_not_kept() -> None:
    office = Office(draft(draft_step("a", "broken", {"q": "x"})))
    thread = Thread(office.agent(), Context(approval="never", on_failure="ask", max_attempts=1))
    await thread.send({"goal": GOAL})
    result = await thread.answer({"decision": "supply", "output": "by hand"})
    assert result["status"] == "done"
    assert office.entries() == []


async def test_a_rolling_plan_is_not_kept() -> None:
    first = READS | {"complete": False}
    second = draft(draft_step("b", "look", {"q": "${a}"}, "a")) | {"complete": True}
    office = Office(first, second)
    result = await office.run()
    assert (result["status"], office.planner_calls()) == ("done", 2)
    assert office.entries() == []


async def test_what_is_planned_within_a_step_is_kept_as_a_goal_of_its_own() -> None:
    step = draft_step("sub") | {"goal": GOAL}
    office = Office(draft(step), GOOD)
    assert (await office.run("the whole"))["status"] == "done"
    assert len(office.entries()) == 2
    assert not await office.asks_the_planner("the whole")


@pytest.mark.parametrize("outcome", ["failed", "partial", "rejected", "cannot plan"])
async def test_a_run_that_did_not_end_done_leaves_no_plan(outcome: str) -> None:
    drafts = {
        "failed": draft(draft_step("a", "broken", {"q": "x"})),
        "partial": draft(draft_step("a", "look", {"q": "x"}), draft_step("b", "broken", {"q": "x"})),
        "rejected": GOOD,
        "cannot plan": draft(outcome="cannot_plan", rationale="no"),
    }
    office = Office(drafts[outcome])
    approval = "always" if outcome == "rejected" else "never"
    thread = Thread(office.agent(), Context(approval=approval, on_failure="abort", max_attempts=1))
    result = await thread.send({"goal": GOAL})
    if outcome == "rejected":
        result = await thread.answer({"type": "reject"})
    assert result["status"] == ("failed" if outcome == "cannot plan" else outcome)
    assert office.entries() == []


# --- hits that fail ----------------------------------------------------------------------


@pytest.mark.parametrize("outcome", ["failed", "partial", "rejected", "cancelled"])
async def test_a_hit_whose_run_does_not_end_done_is_dropped(outcome: str) -> None:
    steps = [draft_step("a", "flaky", {"q": "x"})]
    if outcome == "partial":
        steps.append(draft_step("b", "look", {"q": "x"}))
    office = Office(draft(*steps))
    await office.run(context=ONCE)
    assert len(office.entries()) == 1
    asked = outcome in ("rejected", "cancelled")
    office.tools.failures = [] if asked else [ValueError("not today")]
    thread = Thread(office.agent(), ONCE.model_copy(update={"approval": "always" if asked else "never"}))
    result = await thread.send({"goal": GOAL})
    if outcome == "rejected":
        result = await thread.answer({"type": "reject"})
    if outcome == "cancelled":
        await cancel_run(thread.agent, thread.config)
        result = (await thread.agent.aget_state(thread.config)).values
    assert result["status"] == {"cancelled": "failed"}.get(outcome, outcome)
    assert office.entries() == []


async def test_a_run_that_failed_and_was_mended_by_a_person_s_retry_keeps_its_plan() -> None:
    office = Office(draft(draft_step("a", "flaky", {"q": "x"})))
    await office.run(context=ONCE)
    office.tools.failures = [ValueError("not today")]
    thread = Thread(office.agent(), ONCE)
    assert (await thread.send({"goal": GOAL}))["status"] == "failed"
    assert office.entries() == []
    await retry_steps(thread.agent, thread.config)
    assert (await thread.send(None))["status"] == "done"
    assert len(office.entries()) == 1


async def test_a_dropped_hit_is_on_record() -> None:
    office = Office(draft(draft_step("a", "flaky", {"q": "x"})))
    context = Context(approval="never", on_failure="abort")
    await office.run()
    office.tools.failures = [ValueError("not today")] * 9
    result = await office.run(context=context)
    assert result["status"] == "failed"
    (event,) = events(result, "cached_plan_dropped")
    assert event["trigger"] == "its run ended failed"
    assert office.entries() == []
    office.tools.failures = []
    assert await office.asks_the_planner()
    assert len(office.entries()) == 1


async def test_a_failing_run_does_not_drop_a_plan_that_was_proved_since() -> None:
    office = Office(draft(draft_step("a", "wr", {"text": "x"})))
    await office.run()
    waiting = Thread(office.agent())
    await waiting.send({"goal": GOAL})
    office.clock.seconds += office.ttl_s + 1
    assert await office.asks_the_planner()
    result = await waiting.answer({"type": "reject"})
    assert result["status"] == "rejected"
    assert len(office.entries()) == 1


async def test_a_hit_that_can_no_longer_run_is_dropped_and_planned_anew() -> None:
    office = Office()
    await office.run()
    (item,) = office.entries()
    row = json.loads(item.value["json"])
    row["plan"]["steps"][0]["call"]["tool"] = "gone"
    office.store.put(item.namespace, item.key, {"json": json.dumps(row)})
    result = await office.run(context=Context(approval="never", max_plan_attempts=1))
    assert result["status"] == "done"
    assert office.planner_calls() == 2
    (event,) = events(result, "cached_plan_dropped")
    assert event["trigger"] == "the cached plan can no longer run"
    said = "\n".join(str(m.text) for m in office.models[-1].calls[0].messages)
    assert "cannot run" not in said, "the planner did not write that plan"
    assert json.loads(office.entries()[0].value["json"])["plan"]["steps"][0]["call"]["tool"] == "look"


# --- time and room -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("later", "hit"), [(0, True), (3599, True), (3600, False), (1e9, False), (-200, True), (-301, False)]
)
async def test_a_plan_is_used_until_its_time_is_over_by_our_clock(later: float, hit: bool) -> None:
    office = Office()
    await office.run()
    office.clock.seconds += later
    assert await office.asks_the_planner() is not hit


async def test_a_shorter_time_holds_for_plans_that_were_kept_for_longer() -> None:
    office = Office()
    await office.run()
    office.clock.seconds += 100
    office.ttl_s = 99
    assert await office.asks_the_planner()


async def test_using_a_plan_does_not_renew_it() -> None:
    office = Office()
    await office.run()
    for _ in range(2):
        office.clock.seconds += 1799
        assert not await office.asks_the_planner()
    office.clock.seconds += 10
    assert await office.asks_the_planner()


async def test_the_oldest_plans_and_those_that_expired_give_way() -> None:
    office = Office()
    for number in range(5):
        office.clock.seconds += 1
        await office.run(f"goal {number}", max_entries=3)
    assert len(office.entries()) == 3
    assert not await office.asks_the_planner("goal 4")
    assert await office.asks_the_planner("goal 0", max_entries=3)
    office.clock.seconds += 5000
    await office.run("goal 9")
    assert len(office.entries()) == 1


# --- damage ------------------------------------------------------------------------------

DAMAGE = {
    "no text": {"plan": "x"},
    "no JSON": {"json": "{"},
    "a list": {"json": "[]"},
    "null": {"json": None},
    "newer": {"json": '{"format": 2, "steps": "as they are written then"}'},
    "a field less": {"json": '{"format": 1, "goal": "g"}'},
    "deep": {"json": "[" * 100_000},
    "no number": {
        "json": '{"format": 1, "goal": "g", "plan": {"steps": []}, "model": "m", "thread_id": "t", '
        '"stored_at": "yesterday", "expires_at": 1}'
    },
    "an unknown step": {
        "json": '{"format": 1, "goal": "g", "plan": {"steps": [{"id": "a", "shell": "rm"}]}, '
        '"model": "m", "thread_id": "t", "stored_at": 1, "expires_at": 1e12}'
    },
}


@pytest.mark.parametrize("what", DAMAGE)
async def test_an_entry_that_cannot_be_read_is_ignored_and_the_audit_says_so(what: str) -> None:
    office = Office()
    await office.run()
    (item,) = office.entries()
    office.store.put(item.namespace, item.key, DAMAGE[what])
    result = await office.run()
    assert result["status"] == "done"
    assert office.planner_calls() == 2
    (event,) = events(result, "cached_plan_ignored")
    assert "cannot be read" in event["trigger"]
    assert not await office.asks_the_planner(), "a good plan took its place"


async def test_entries_are_json_text() -> None:
    office = Office()
    await office.run()
    (item,) = office.entries()
    assert list(item.value) == ["json"]
    row = json.loads(item.value["json"])
    assert row["plan"]["steps"][0]["call"] == {"tool": "look", "args": {"q": "x"}}
    assert "id" not in row["plan"]


# --- embedded ----------------------------------------------------------------------------


async def test_a_parent_graph_s_store_keeps_the_plans_of_its_node() -> None:
    office = Office()

    def parent() -> Any:
        builder = StateGraph(OutputState, Context)
        builder.add_node("work", office.agent(store=None, checkpointer=None))
        builder.add_edge(START, "work")
        builder.add_edge("work", END)
        return builder.compile(checkpointer=InMemorySaver(), store=office.store)

    for number in range(2):
        config: Any = {"configurable": {"thread_id": str(number)}}
        result = await parent().ainvoke({"goal": GOAL}, config, context=FREE)
        assert statuses(result) == {"a": "done", "b": "done"}
    assert office.planner_calls() == 1
