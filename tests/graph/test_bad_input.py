"""What bad goals, bad tools and bad outputs get: a clear message or a correct run, never a hang."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.tools import BaseTool, tool
from langgraph.types import interrupt
from plans import FREE, Thread, agent_with, bound, draft, draft_step, plan, statuses, think
from toolset import Toolset, make_tool

from plan_execute import Context, ScriptedModel, create_plan_execute_agent
from plan_execute.errors import ConfigurationError, InvalidAnswerError, InvalidInputError

ONCE = Context(approval="never", on_failure="skip", max_attempts=1)

# --- answers -------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [object(), 2**70, "\ud800", float("nan")], ids=range(4))
async def test_an_answer_to_a_tool_that_cannot_be_kept_is_refused_and_the_question_stays(answer: Any) -> None:
    def ask() -> str:
        """Ask."""
        return str(interrupt("which?"))

    thread = Thread(agent_with([make_tool(ask)]), FREE)
    await thread.run(bound("a", "ask"))
    with pytest.raises(InvalidAnswerError, match=r"the answer is not plain JSON.*the question stays open"):
        await thread.answer(answer)
    assert (await thread.answer({"n": [2]}))["results"]["a"]["output"] == "{'n': [2]}"


# --- goals ---------------------------------------------------------------------------------


@pytest.mark.parametrize("goal", ["", " ", "\n\t", "\u00a0"])
async def test_an_empty_goal_is_refused(goal: str) -> None:
    with pytest.raises(InvalidInputError, match="the goal is empty"):
        await Thread(agent_with((), ScriptedModel({})), FREE).send({"goal": goal})


async def test_a_goal_of_a_megabyte_is_refused_saying_what_to_do() -> None:
    with pytest.raises(InvalidInputError, match=r"1,000,000 characters.*inputs or a file"):
        await Thread(agent_with((), ScriptedModel({})), FREE).send({"goal": "x" * 1_000_000})


SCRIPTS = [
    "Найди погоду в Москве",
    "東京の天気を調べて",
    "ابحث عن الطقس في القاهرة",
    "חפש את מזג האוויר",
    "दिल्ली का मौसम",
    "🌦️ wéather \u202e reversed \u200b",
    "zalgo t̸̢̛o̴̡͠d̶̛͝a̵͝y",
    "a\x00b nul",
    "line\r\nbreaks\u2028here",
    "${not.a.reference} {{braces}} <data>",
]


@pytest.mark.parametrize("goal", SCRIPTS)
async def test_a_goal_in_any_script_reaches_the_planner_and_the_answer_unchanged(goal: str) -> None:
    tools = Toolset()
    escaped = goal.replace("${", "$${")
    model = ScriptedModel(
        {"planner": [draft(draft_step("a", "look", {"q": escaped}))], "synthesizer": [goal]}
    )
    result = await Thread(agent_with(tools.tools, model), FREE).send({"goal": goal})
    assert (result["status"], result["goal"]) == ("done", goal)
    assert goal in "\n".join(str(m.text) for m in model.calls[0].messages)
    assert tools.named("look") == [goal]
    assert result["final_answer"] == goal.strip()


async def test_a_goal_with_a_lone_surrogate_is_refused_since_no_endpoint_could_take_it() -> None:
    thread = Thread(agent_with((), ScriptedModel({"planner": []})), FREE)
    with pytest.raises(InvalidInputError, match="lone surrogate"):
        await thread.send({"goal": "bad \ud800 text"})


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (float("nan"), "JSON has no number nan"),
        (2**64, "the integer 18446744073709551616 does not fit 64 bits"),
        ({1}, "a value of type set is not JSON"),
        ("\ud800", "it holds a lone surrogate"),
    ],
)
async def test_what_is_no_json_is_refused_with_its_place(value: Any, words: str) -> None:
    thread = Thread(agent_with((), None), FREE)
    step = bound("a", "look", {"q": ["x", {"y": value}]})
    with pytest.raises(InvalidInputError, match=rf"plan .*: steps\[0\]\.call\.args\.q\[1\]\.y: {words}"):
        await thread.send({"plan": plan(step)})
    with pytest.raises(InvalidInputError, match=rf"inputs .*: x: {words}"):
        await thread.send({"goal": "g", "inputs": {"x": value}})


# --- tools ---------------------------------------------------------------------------------


async def test_no_tools_at_all_is_fine_for_thinking() -> None:
    model = ScriptedModel(
        {
            "planner": [draft(draft_step("a"), draft_step("b", None, None, "a"))],
            "executor": ["x", "y"],
            "synthesizer": ["ok"],
        }
    )
    result = await Thread(agent_with((), model), FREE).send({"goal": "think twice"})
    assert (result["status"], len(result["results"])) == ("done", 2)
    assert "(none" in "\n".join(str(m.text) for m in model.calls[0].messages)


def test_two_tools_of_one_name_are_refused_when_the_agent_is_made() -> None:
    def look(q: str) -> str:
        """Another one."""
        return q

    with pytest.raises(ConfigurationError, match="two tools are named 'look'"):
        create_plan_execute_agent(tools=[*Toolset().tools, look])


@pytest.mark.parametrize(
    "bad", [7, "look", None, lambda q: q, {"name": "x"}], ids=lambda bad: type(bad).__name__
)
def test_something_that_is_no_tool_is_refused_when_the_agent_is_made(bad: Any) -> None:
    with pytest.raises(ConfigurationError):
        create_plan_execute_agent(tools=[bad])


@pytest.mark.parametrize("name", ["tools", "models", "agents", "middleware"])
@pytest.mark.parametrize("bad", [5, "look", Toolset().tools[0]], ids=lambda bad: type(bad).__name__)
def test_an_argument_of_another_kind_is_refused_by_its_name(name: str, bad: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"{name}= takes .*, not {type(bad).__name__}"):
        create_plan_execute_agent(None, **{name: bad})


def test_an_unknown_effect_is_refused_naming_the_known_ones() -> None:
    def touch() -> str:
        """Touch."""
        return ""

    with pytest.raises(ConfigurationError, match="'magic'; known effects: read, idempotent, write"):
        create_plan_execute_agent(tools=[make_tool(touch, effect="magic")])


class Weird(Exception):
    def __str__(self) -> str:
        raise RuntimeError("even its text fails")


def _raiser(error: BaseException) -> Any:
    def bang() -> str:
        """Raise."""
        raise error

    return make_tool(bang)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("odd"),
        KeyError("k"),
        Exception(),
        RuntimeError("ü\x00🎉"),
        StopIteration(1),
        StopAsyncIteration(),
        AssertionError(),
        RecursionError("deep"),
        MemoryError(),
        BaseExceptionGroup("g", [ValueError(1)]),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("kind", ["bound", "agent"])
async def test_whatever_a_tool_raises_fails_its_step_in_words_and_nothing_else(
    error: BaseException, kind: str
) -> None:
    tools = Toolset()
    model = ScriptedModel(
        {"executor": [ScriptedModel.tool_calls(("bang", {})), "it failed"], "synthesizer": ["ok"]}
    )
    step = bound("bad", "bang") if kind == "bound" else think("bad", tools=["bang"])
    agent = agent_with([*tools.tools, _raiser(error)], model if kind == "agent" else None)
    result = await Thread(agent, ONCE).run(step, bound("good", "wait", {"name": "good", "seconds": 0.02}))
    assert result["results"]["good"]["status"] == "done"
    told = result["results"]["bad"]["error"] or result["results"]["bad"]["evidence"][0]
    assert type(error).__name__ in str(told)
    assert tools.cancelled == []


@pytest.mark.parametrize("error", [SystemExit(3), GeneratorExit()], ids=lambda error: type(error).__name__)
async def test_a_tool_that_exits_fails_its_step_and_nothing_else(error: BaseException) -> None:
    result = await Thread(agent_with([_raiser(error)]), ONCE).run(bound("bad", "bang"))
    assert type(error).__name__ in str(result["results"]["bad"]["error"])


class Leaving(BaseException):
    """Passes all handlers of exceptions."""


@pytest.mark.parametrize("error", [SystemExit(3), Leaving("now")], ids=lambda error: type(error).__name__)
def test_an_async_tool_that_exits_fails_its_step_and_ends_no_event_loop(error: BaseException) -> None:
    async def bang() -> str:
        """Fail."""
        raise error

    plan = {"goal": "g", "steps": [bound("bad", "bang")]}
    result = create_plan_execute_agent(None, tools=[make_tool(bang)]).invoke({"plan": plan}, context=ONCE)
    assert f"the tool raised {type(error).__name__}: {error}" in result["results"]["bad"]["error"]["message"]


class Exiting(BaseTool):
    name: str = "bang"
    description: str = "Exit from code that nothing wraps."

    def _run(self) -> str:
        raise SystemExit(3)


def test_an_exit_from_a_tool_that_nothing_wraps_reaches_the_caller_and_later_runs_work() -> None:
    exiting = Exiting(metadata={"effect": "read"})
    agent = create_plan_execute_agent(None, tools=[exiting, *Toolset().tools])
    with pytest.raises(SystemExit):
        agent.invoke({"plan": {"goal": "g", "steps": [bound("bad", "bang")]}}, context=ONCE)
    looked = {"goal": "g", "steps": [bound("a", "look", {"q": "x"})]}
    assert agent.invoke({"plan": looked}, context=ONCE)["status"] == "done"


async def test_an_exception_whose_text_cannot_be_made_is_still_a_failed_step() -> None:
    result = await Thread(agent_with([_raiser(Weird())]), ONCE).run(bound("bad", "bang"))
    assert result["results"]["bad"]["status"] == "skipped"
    assert "bang raised Weird: its message cannot be read" in result["results"]["bad"]["error"]["message"]


async def test_a_group_of_exceptions_is_told_with_those_in_it() -> None:
    group = ExceptionGroup("all failed", [ValueError("no luck"), ExceptionGroup("more", [KeyError("k")])])
    result = await Thread(agent_with([_raiser(group)]), ONCE).run(bound("bad", "bang"))
    told = result["results"]["bad"]["error"]["message"]
    assert "all failed (2 sub-exceptions): ValueError: no luck; ExceptionGroup: more" in told
    assert told.endswith("KeyError: 'k'")


async def test_five_megabytes_of_output_go_through_exactly_and_prompts_stay_small() -> None:
    def big() -> str:
        """Return a lot."""
        return "x" * 5_000_000

    def size(text: str) -> int:
        """Measure."""
        return len(text)

    model = ScriptedModel({"synthesizer": ["ok"], "executor": ["seen"]})
    result = await Thread(agent_with([make_tool(big), make_tool(size)], model), FREE).run(
        bound("a", "big"), bound("b", "size", {"text": "${a}"}), think("c", "a")
    )
    assert (result["status"], result["results"]["b"]["output"]) == ("done", 5_000_000)
    assert all(sum(len(str(m.text)) for m in call.messages) < 300_000 for call in model.calls)
    assert len(result["final_answer"]) < 300_000


def _huge_integer() -> Any:
    return 2**70


def _lone_surrogate() -> Any:
    return "a\ud800b"


def _nested() -> Any:
    deep: Any = []
    for _ in range(400):
        deep = [deep]
    return deep


def _circular() -> Any:
    loop: list[Any] = []
    loop.append(loop)
    return loop


def _generator() -> Any:
    return (n for n in range(3))


def _object() -> Any:
    return object()


def _odd_keys() -> Any:
    return {1: "a", None: "b", (1, 2): "c"}


def _bytes() -> Any:
    return b"\xff\xfe"


def _lambda() -> Any:
    return lambda: 1


ODD = [
    _huge_integer,
    _lone_surrogate,
    _nested,
    _circular,
    _generator,
    _object,
    _odd_keys,
    _bytes,
    _lambda,
]


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd.__name__.strip("_"))
async def test_an_output_that_is_no_json_becomes_some_or_fails_its_step_and_nothing_else(odd: Any) -> None:
    def strange() -> Any:
        """Return something odd."""
        return odd()

    tools = Toolset()
    thread = Thread(agent_with([*tools.tools, make_tool(strange)]), ONCE)
    result = await thread.run(
        bound("a", "strange"), bound("z", "look", {"q": "z"}), bound("b", "echo", {"value": "${a}"})
    )
    assert statuses(result)["z"] == "done"
    assert statuses(result)["a"] in ("done", "skipped")
    kept = (await thread.agent.aget_state(thread.config)).values["results"]
    assert set(kept) == {"a", "b", "z"}, "what was finished is on record"


async def test_a_tool_that_returns_nothing_is_met_empty() -> None:
    def nothing() -> None:
        """Return nothing."""

    result = await Thread(agent_with([make_tool(nothing)]), ONCE).run(bound("a", "nothing"))
    assert (result["status"], result["results"]["a"]["verdict"]) == ("done", "met_empty")


async def test_a_tool_that_reports_its_failure_as_a_value_is_not_a_success() -> None:
    @tool
    def sulk(q: str) -> str:
        """Fail politely."""
        from langchain_core.tools import ToolException

        raise ToolException("not today")

    sulk.handle_tool_error = True
    sulk.metadata = {"effect": "read"}
    result = await Thread(agent_with([sulk]), ONCE).run(bound("a", "sulk", {"q": "x"}))
    assert "not today" in result["results"]["a"]["error"]["message"]


async def test_an_integer_beyond_64_bits_in_the_input_is_refused_in_words() -> None:
    with pytest.raises(InvalidInputError):
        await Thread(agent_with(Toolset().tools), FREE).send(
            {
                "plan": plan(bound("a", "echo", {"value": "${inputs.n}"}), inputs={"n": {}}),
                "inputs": {"n": 2**70},
            }
        )


async def test_ten_thousand_steps_are_refused_above_the_limit_and_thousands_of_arguments_are_fine() -> None:
    tools = Toolset()
    result = await Thread(agent_with(tools.tools), FREE).run(
        *(bound(f"s{n}", "look", {"q": "x"}) for n in range(10_001))
    )
    assert (result["plan_issues"][0]["code"], tools.calls) == ("too_many_steps", [])
    result = await Thread(agent_with(tools.tools), FREE).run(bound("a", "echo", {"value": list(range(5000))}))
    assert result["results"]["a"]["output"] == list(range(5000))
