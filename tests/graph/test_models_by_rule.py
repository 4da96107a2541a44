"""A step may ask for a class of models or a model, and a stronger one may try again."""

from __future__ import annotations

from typing import Any

import pytest
from openai_stub import OpenAIStub, Reply
from plans import Thread, agent_with, bound, draft, draft_step, think
from prompts_sent import shown_to
from pydantic import PrivateAttr
from toolset import Toolset

from plan_execute import Context, ScriptedModel
from plan_execute.errors import ConfigurationError, ModelUnavailableError

ONCE = Context(approval="never", on_failure="abort")
CHECKED = [{"type": "matches", "pattern": "good"}]


class Named(ScriptedModel):
    """A scripted model with a name of its own."""

    _asked: list[str] = PrivateAttr(default_factory=list)

    def __init__(self, name: str, script: Any = (), **settings: Any) -> None:
        super().__init__(script, **settings)
        self.model_name = name


def _agent(tools: Any = (), usual: Any = None, **classes: Any) -> Any:
    usual = usual or Named("usual", {"executor": ["usual"], "synthesizer": ["ok"]}, strict=False)
    return agent_with(tools, usual, models=classes)


async def test_a_step_is_done_by_the_class_that_it_asks_for_and_the_others_by_the_usual_model() -> None:
    agent = _agent(fast=Named("quick", ["from fast"]), strong=Named("deep", ["from strong"]))
    result = await Thread(agent, ONCE).run(think("a", model="fast"), think("b", model="strong"), think("c"))
    outputs = {step: result["results"][step]["output"] for step in "abc"}
    assert outputs == {"a": "from fast", "b": "from strong", "c": "usual"}


async def test_the_settings_of_a_run_say_which_models_the_classes_are() -> None:
    with OpenAIStub(lambda body: Reply(f"I am {body['model']}")) as stub:
        agent = agent_with([], "usual-1", base_url=stub.base_url)
        context = Context(approval="never", models={"fast": "small-1"})
        steps = think("a", model="fast"), think("b", "a", model="other-2")
        result = await Thread(agent, context).run(*steps, answer="${b}")
    assert result["results"]["a"]["output"] == "I am small-1"
    assert result["results"]["b"]["output"] == "I am other-2", "a step may name a model itself"


@pytest.mark.parametrize("field", ["model", "escalate"])
@pytest.mark.parametrize("name", ["strong", "clever"])
async def test_a_class_that_nobody_gave_a_model_is_an_issue_that_names_the_known_ones(
    name: str, field: str
) -> None:
    result = await Thread(_agent(fast=Named("quick", ["x"])), ONCE).run(think("a", **{field: name}))
    (issue,) = result["plan_issues"]
    assert (issue["code"], issue["step_id"], issue["field"]) == ("unknown_model", "a", [field])
    assert f"there is no class '{name}' of models; known classes: fast." in issue["message"]


async def test_a_model_that_cannot_be_made_is_an_issue_before_anything_runs() -> None:
    tools = Toolset()
    result = await Thread(_agent(tools.tools), ONCE).run(
        bound("a", "look", {"q": "x"}), think("b", model="nobody:model-1")
    )
    assert [issue["code"] for issue in result["plan_issues"]] == ["unknown_model"]
    assert tools.calls == []


@pytest.mark.parametrize(
    "step",
    [bound("a", "look", {"q": "x"}, model="fast"), {"id": "a", "ask": {"question": "?"}, "model": "fast"}],
)
async def test_only_a_step_with_tools_has_a_model(step: dict[str, Any]) -> None:
    result = await Thread(_agent(Toolset().tools, fast=Named("quick")), ONCE).run(step)
    (issue,) = result["plan_issues"]
    assert (issue["code"], issue["field"]) == ("malformed_plan", ["model"])


# --- planners ----------------------------------------------------------------------------


async def test_a_planner_is_told_the_classes_and_may_ask_for_them() -> None:
    lines = (
        '1. "an easy thing" model=fast\n2. "a hard thing" model="strong" after=[1]\n3. "the rest" after=[2]'
    )
    usual = Named("usual", {"planner": [lines], "executor": ["usual"], "synthesizer": ["ok"]})
    agent = _agent(usual=usual, fast=Named("quick", ["from fast"]), strong=Named("deep", ["from strong"]))
    result = await Thread(agent, ONCE).send({"goal": "g"})
    (shown,) = shown_to(usual, "planner")
    assert "`model=…`" in shown
    assert "`fast`" in shown
    assert [step.get("model") for step in result["plan"]["steps"]] == ["fast", "strong", None]
    assert [one["output"] for one in result["results"].values()] == ["from fast", "from strong", "usual"]


async def test_a_planner_without_classes_is_told_of_none() -> None:
    usual = Named("usual", {"planner": ['1. "think"'], "executor": ["x"], "synthesizer": ["ok"]})
    await Thread(_agent(usual=usual), ONCE).send({"goal": "g"})
    (shown,) = shown_to(usual, "planner")
    assert "model=" not in shown


async def test_a_planner_may_name_classes_only_since_which_models_there_are_is_for_people_to_say() -> None:
    wrong = draft({**draft_step("a"), "model": "openai:gpt-5"})
    right = draft({**draft_step("a"), "model": "fast"})
    usual = Named("usual", {"planner": [wrong, right], "synthesizer": ["ok"]})
    result = await Thread(_agent(usual=usual, fast=Named("quick", ["from fast"])), ONCE).send({"goal": "g"})
    second = shown_to(usual, "planner")[1]
    assert "there is no class 'openai:gpt-5' of models; known classes: fast" in second
    assert result["results"]["a"]["output"] == "from fast"


# --- the stronger model ------------------------------------------------------------------


def _escalating(fast: list[Any], strong: list[Any]) -> tuple[Any, Named, Named]:
    quick, deep = Named("quick", fast), Named("deep", strong)
    return _agent(Toolset().tools, fast=quick, strong=deep), quick, deep


async def test_after_an_unmet_check_the_stronger_model_tries_again_and_keeps_at_it() -> None:
    agent, quick, deep = _escalating(["bad"], ["bad, too", ModelUnavailableError("gone"), "good"])
    step = think("a", model="fast", escalate="strong", max_attempts=4, success_criteria=CHECKED)
    result = await Thread(agent, ONCE).run(step)
    assert result["results"]["a"]["output"] == "good"
    assert (len(quick.calls), len(deep.calls)) == (1, 3)


async def test_the_settings_may_say_which_model_tries_again_and_a_step_says_otherwise() -> None:
    agent, quick, deep = _escalating(["good"], ["good"])
    usual = agent.models.get("executor")
    context = ONCE.model_copy(update={"escalate": "strong"})
    first, second = (
        think("a", success_criteria=CHECKED),
        think("b", escalate="fast", success_criteria=CHECKED),
    )
    await Thread(agent, context).run(first, second)
    assert (len(quick.calls), len(deep.calls)) == (1, 1)
    assert sum(call.role == "executor" for call in usual.calls) == 2


async def test_a_model_that_could_not_be_reached_is_no_reason_for_another_one() -> None:
    agent, quick, deep = _escalating([ModelUnavailableError("gone"), "good"], [])
    step = think("a", model="fast", escalate="strong", success_criteria=CHECKED)
    result = await Thread(agent, ONCE).run(step)
    assert (result["results"]["a"]["output"], len(quick.calls), len(deep.calls)) == ("good", 2, 0)


async def test_of_a_loop_only_the_items_that_fell_short_go_to_the_stronger_model() -> None:
    def by_item(messages: Any) -> str:
        return "good" if "apple" in str(messages[-1].text) else "bad"

    agent, quick, deep = _escalating([by_item] * 2, ["good, too"])
    step = think("a", model="fast", escalate="strong", success_criteria=CHECKED, for_each="${list}")
    result = await Thread(agent, ONCE).run(bound("list", "echo", {"value": ["apple", "pear"]}), step)
    assert result["results"]["a"]["output"] == ["good", "good, too"]
    assert (len(quick.calls), len(deep.calls)) == (2, 1)


async def test_the_stronger_model_may_call_what_the_step_may_call_and_no_more() -> None:
    call = ScriptedModel.tool_calls(("wr", {"text": "evil"}))
    agent, _, deep = _escalating(["bad"], [call, "good"])
    step = think("a", tools=["look"], model="fast", escalate="strong", success_criteria=CHECKED)
    result = await Thread(agent, ONCE).run(step)
    assert all(one.tools == ("look",) for one in deep.calls)
    assert [(one["tool"], one["ok"]) for one in result["results"]["a"]["evidence"]] == [("wr", False)]


async def test_a_stronger_model_that_is_not_there_is_refused_before_the_run() -> None:
    context = ONCE.model_copy(update={"escalate": "strong"})
    with pytest.raises(
        ConfigurationError, match=r"escalate: there is no class 'strong'.*known classes: fast"
    ):
        await Thread(_agent(fast=Named("quick")), context).run(think("a"))


# --- what it costs -----------------------------------------------------------------------


async def test_what_each_model_was_used_for_and_cost_is_on_record() -> None:
    prices = {
        "small-1": {"input": 1_000_000, "output": 1_000_000},
        "big-1": {"input": 9_000_000, "output": 9_000_000},
        "usual-1": {"input": 2_000_000, "output": 2_000_000},
    }
    with OpenAIStub(lambda body: Reply("good" if body["model"] == "big-1" else "bad")) as stub:
        agent = agent_with([], "usual-1", base_url=stub.base_url, prices=prices)
        context = ONCE.model_copy(update={"models": {"fast": "small-1", "strong": "big-1"}})
        step = think("a", model="fast", escalate="strong", success_criteria=CHECKED)
        result = await Thread(agent, context).run(
            step, think("b", success_criteria=[{"type": "not_empty"}]), answer="${a}"
        )
    models = result["usage"]["by_model"]
    assert {name: one["model_calls"] for name, one in models.items()} == {
        "small-1": 1,
        "big-1": 1,
        "usual-1": 1,
    }
    tokens = {name: one["input_tokens"] + one["output_tokens"] for name, one in models.items()}
    assert models["big-1"]["cost"] == 9 * tokens["big-1"]
    assert models["small-1"]["cost"] == tokens["small-1"]
    assert result["usage"]["cost"] == sum(one["cost"] for one in models.values())
    assert set(result["results"]["a"]["usage"]["by_model"]) == {"small-1", "big-1"}


async def test_a_model_without_a_price_is_refused_where_the_cost_has_a_limit() -> None:
    with OpenAIStub(lambda body: Reply("x")) as stub:
        prices = {"usual-1": {"input": 1, "output": 1}}
        agent = agent_with([], "usual-1", base_url=stub.base_url, prices=prices)
        context = ONCE.model_copy(update={"models": {"fast": "small-1"}, "max_cost": 1.0})
        result = await Thread(agent, context).run(think("a", model="fast"))
        assert stub.requests == []
    (issue,) = result["plan_issues"]
    assert "no price for the model 'small-1'" in issue["message"]
