"""Whatever is handed in as a plan, nothing raises but our own errors, and the thread can go on."""

import asyncio
import json
from copy import deepcopy

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plans import Thread, agent_with, bound, plan, think
from toolset import Toolset

from plan_execute import Context, ScriptedModel
from plan_execute.errors import PlanExecuteError
from plan_execute.plan.rules import PlanFacts, validate_plan
from plan_execute.tools.toolbox import Toolbox

VALID = plan(
    bound("a", "look", {"q": "${inputs.city}"}, output_schema={"type": "string", "pattern": "^x"}),
    bound(
        "b",
        "look",
        {"q": "${a} and ${inputs.city}"},
        "a",
        when="a != 'x'",
        success_criteria=[{"type": "not_empty"}],
    ),
    bound("c", "echo", {"value": "${item}"}, "b", for_each="${[a, b]}"),
    think(
        "d", "b", tools=["look"], success_criteria=[{"type": "expression", "expression": "length(@) > `0`"}]
    ),
    {"id": "e", "plan": {"goal": "${b}"}, "depends_on": ["c", "d"]},
    inputs={"city": {"type": "string", "default": "Rome"}},
    answer="It is ${b}.",
)


def nested(levels, within):
    value = "x"
    for _ in range(levels):
        value = [value] if within == "list" else {"a": value}
    return value


ODD = st.one_of(
    st.sampled_from(
        [
            None, True, 0, -1, 1e308, 10**30, "", "a", "b", "x" * 3000, "\x00", "${a}", "${", "${!!!a}",
            "${foo(a)}", "${a > `0`}", "!" * 3000 + "a", "(" * 500, "a" + "|[@,@]" * 30, "^(a|a)*$", "inputs",
            "é", [], {}, [[]], ["a", "a"], ["a", 1], {"$ref": "#"}, {"$ref": "http://127.0.0.1:9/x"},
            {"type": "date"}, {"a": {"b": 1}}, {"pattern": "("}, {"type": "judge"}, {"id": "a"}, {"goal": ""},
            {"tool": "look", "args": {}},
        ]
    ),
    st.builds(nested, st.sampled_from([5, 90, 150, 600, 3000]), st.sampled_from(["list", "object"])),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=5,
    ),
)  # fmt: skip


def places(value, path=()):
    yield path
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(item, (*path, key))


PLACES = sorted((path for path in places(VALID) if path), key=len, reverse=True)
CHANGES = st.lists(
    st.tuples(st.sampled_from(PLACES), st.sampled_from(["set", "drop", "add", "twice"]), ODD),
    min_size=1,
    max_size=4,
)


def broken(changes):
    """Change a valid plan in a few places; a change that an earlier one took the ground from is left out."""
    made = deepcopy(VALID)
    for (*way, last), what, odd in changes:
        holder = made
        for key in way:
            is_there = (
                key in holder
                if isinstance(holder, dict)
                else isinstance(holder, list) and key in range(len(holder))
            )
            holder = holder[key] if is_there else None
        if isinstance(holder, list) and last in range(len(holder)):
            if what == "drop":
                del holder[last]
            elif what == "twice":
                holder.append(deepcopy(holder[last]))
            else:
                holder[last] = odd
        elif isinstance(holder, dict):
            if what == "drop":
                holder.pop(last, None)
            else:
                holder[f"{last}x" if what == "add" else last] = odd
    return made


def cyclic(ids_and_needs):
    return plan(*(bound(step_id, "look", {"q": "x"}, *needs) for step_id, needs in ids_and_needs))


IDS = st.sampled_from("abc")
GRAPHS = st.lists(st.tuples(IDS, st.lists(IDS, max_size=2)), min_size=1, max_size=5).map(cyclic)
PLANS = st.one_of(CHANGES.map(broken), CHANGES.map(broken), GRAPHS, ODD)
MANY = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
SOME = settings(MANY, max_examples=40)
ONCE = Context(approval="never", on_failure="abort", max_attempts=1, max_plan_attempts=1, step_timeout_s=5)


def test_the_plan_that_is_broken_here_is_valid():
    assert validate_plan(VALID, PlanFacts(Toolbox(Toolset().tools), 100))[1] == []


@MANY
@given(PLANS)
def test_the_validator_says_what_is_wrong_with_anything(raw):
    understood, issues = validate_plan(raw, PlanFacts(Toolbox(Toolset().tools), 100, inputs={"city": "Rome"}))
    assert understood is not None or issues
    for issue in issues:
        assert issue["code"]
        assert issue["message"]


@SOME
@given(PLANS)
def test_a_given_plan_ends_as_a_result_or_as_an_error_of_ours_and_the_thread_can_go_on(raw):
    async def run():
        model = ScriptedModel({"*": ["done"] * 50}, strict=False)
        thread = Thread(agent_with(Toolset().tools, model), ONCE)
        try:
            result = await thread.send({"goal": "g", "plan": raw})
            assert result["status"] in ("done", "partial", "failed")
        except PlanExecuteError:
            pass
        assert (await thread.run(bound("z", "look", {"q": "x"})))["status"] == "done"

    asyncio.run(run())


def written(raw):
    """Write a plan as a model does; the library cannot write what is nested very deep."""
    try:
        return raw if isinstance(raw, str) else json.dumps(raw)
    except RecursionError:
        return f'{{"steps": {"[" * 3000}{"]" * 3000}}}'


@SOME
@given(PLANS)
def test_what_a_planner_answers_ends_as_a_result(raw):
    async def run():
        model = ScriptedModel({"planner": [written(raw)] * 20, "*": ["done"] * 50}, strict=False)
        thread = Thread(agent_with(Toolset().tools, model), ONCE)
        result = await thread.send({"goal": "g"})
        assert result["status"] in ("done", "partial", "failed")
        assert (await thread.run(bound("z", "look", {"q": "x"})))["status"] == "done"

    asyncio.run(run())


@SOME
@given(GRAPHS)
def test_steps_of_a_planner_that_depend_on_each_other_in_any_way_end_as_a_result(raw):
    common = {"task": "t", "call": "look", "arguments": '{"q": "x"}', "tools": [], "success_criterion": None}
    wire = [{"id": step["id"], "depends_on": step["depends_on"], **common} for step in raw["steps"]]

    async def run():
        said = {"outcome": "plan", "rationale": "r", "steps": wire}
        model = ScriptedModel({"planner": [said] * 20, "*": ["done"] * 50}, strict=False)
        result = await Thread(agent_with(Toolset().tools, model), ONCE).send({"goal": "g"})
        assert result["status"] in ("done", "failed")

    asyncio.run(run())


@SOME
@given(PLANS)
def test_an_edit_by_a_person_runs_or_leaves_the_question_open(raw):
    async def run():
        model = ScriptedModel({"*": ["done"] * 50}, strict=False)
        thread = Thread(agent_with(Toolset().tools, model), Context(approval="always", on_failure="abort"))
        await thread.run(bound("z", "look", {"q": "x"}))
        try:
            result = await thread.answer({"type": "edit", "args": {"plan": raw}})
        except PlanExecuteError:
            result = None
        questions = await thread.questions()
        if questions:
            assert (await thread.answer({"type": "reject", "message": "no"}))["status"]
        else:
            assert result is not None
            assert result["status"] in ("done", "partial", "failed")

    asyncio.run(run())
