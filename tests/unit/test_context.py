"""Settings: what is refused, what counts as absent, what the environment says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from plan_execute import create_plan_execute_agent
from plan_execute.context import Context, Environment, needs_approval, stricter, to_context
from plan_execute.errors import ConfigurationError


@pytest.mark.parametrize("absent", [None, {}])
def test_none_and_an_empty_mapping_are_absent(absent: Any) -> None:
    assert to_context(absent) is None


def test_a_mapping_becomes_a_context_and_a_context_stays_itself() -> None:
    context = Context(max_parallel=3)
    assert to_context(context) is context
    assert to_context({"max_parallel": 3}) == context


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"max_paralel": 3}, "max_paralel: unknown setting.*did you mean 'max_parallel'"),
        ({"approvers": [{"whom": ["a"]}]}, r"approvers\.0\.whom: unknown.*requester, .*did you mean 'who'"),
        ({1: 2}, "1: unknown setting; known settings: approval, "),
        ({"max_parallel": 0}, "max_parallel.*not 0"),
        ({"approval": "sometimes"}, "approval.*always.*not 'sometimes'"),
        ({"max_cost": float("inf")}, "max_cost.*finite number"),
        ({"max_tokens": 10**30}, "max_tokens: .*does not fit 64 bits"),
        ({"instructions": "\ud800"}, "instructions: .*lone surrogate"),
        ({"soft_share": 2}, "soft_share"),
        ({"step_timeout_s": -1}, "step_timeout_s"),
        ({"models": {"chef": "x"}}, "chef.*known roles"),
        ({"max_replans": -1}, "max_replans"),
        (3, "not int"),
        ("x", "not str"),
    ],
)
def test_a_bad_setting_is_named_with_what_is_known(given: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        to_context(given)


@pytest.mark.parametrize(
    ("error", "use"),
    [
        (ValidationError, lambda given: Context(**given)),
        (ValidationError, Context.model_validate),
        (ConfigurationError, lambda given: create_plan_execute_agent(None, policy=given)),
        (
            ConfigurationError,
            lambda given: create_plan_execute_agent(None).invoke({"goal": "x"}, context=given),
        ),
        (
            ConfigurationError,
            lambda given: asyncio.run(create_plan_execute_agent(None).ainvoke({"goal": "x"}, context=given)),
        ),
    ],
    ids=["made", "validated", "policy", "invoke", "ainvoke"],
)
def test_a_misspelt_setting_is_explained_at_every_door(
    error: type[Exception], use: Callable[[Any], Any]
) -> None:
    with pytest.raises(error, match=r"bad context: aproval: .*did you mean 'approval'\?") as refused:
        use({"aproval": "never"})
    assert "pydantic.dev" not in str(refused.value)


def test_what_is_no_mapping_is_refused_without_a_place() -> None:
    with pytest.raises(ValidationError, match=r"bad context: Input should be .*, not 3"):
        Context.model_validate(3)


class _More(BaseModel):
    model_config = ConfigDict(extra="forbid")

    colour: str = ""


class _Own(Context):
    """An embedder's settings."""

    more: _More = _More()
    anything: Any = None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"more": {"size": 1}}, r"more\.size: Extra inputs are not permitted"),
        ({"mor": {}}, "mor: unknown setting.*did you mean 'more'"),
        ({"approvers": [{"whom": ["a"]}]}, r"approvers\.0\.whom: unknown.*did you mean 'who'"),
        ({"instructions": "\ud800"}, "instructions: .*lone surrogate"),
    ],
)
def test_a_bad_setting_of_a_subclass_is_named(given: Any, words: str) -> None:
    with pytest.raises(ValidationError, match=f"bad context: .*{words}"):
        _Own.model_validate(given)


def test_a_subclass_may_have_settings_that_are_no_json() -> None:
    anything = object()
    assert _Own(anything=anything, max_parallel=2).anything is anything


def test_settings_survive_json() -> None:
    context = Context(approval="never", max_cost=1.5, models={"planner": "m"}, step_timeout_s=None)
    assert to_context(context.model_dump(mode="json", exclude_defaults=True)) == context


def test_a_context_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Context().approval = "never"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("left", "right", "more"),
    [("never", "writes", "writes"), ("always", "never", "always"), ("writes", "always", "always")],
)
def test_the_stricter_policy_asks_more_often(left: Any, right: Any, more: str) -> None:
    assert stricter(left, right) == stricter(right, left) == more


@pytest.mark.parametrize(
    ("policy", "effects", "needed"),
    [
        ("always", [], True),
        ("never", ["write"], False),
        ("writes", ["read", "idempotent"], False),
        ("writes", ["read", "write"], True),
    ],
)
def test_a_plan_needs_approval_by_policy_and_effects(policy: Any, effects: list[str], needed: bool) -> None:
    assert needs_approval(policy, effects) is needed


def test_a_models_plan_may_have_fewer_steps_than_a_given_one_unless_set() -> None:
    assert Context().step_limit(by_model=True) < Context().step_limit(by_model=False)
    assert (
        Context(max_steps=7).step_limit(by_model=True) == Context(max_steps=7).step_limit(by_model=False) == 7
    )


def test_the_environment_is_read_and_empty_values_are_absent() -> None:
    assert Environment.read({}) == Environment()
    read = Environment.read(
        {"PLAN_EXECUTE_MODEL": "m", "PLAN_EXECUTE_DB": "x.db", "EDITOR": "ed", "PLAN_EXECUTE_TOOLS": ""}
    )
    assert (read.model, read.database, read.editor, read.tools) == ("m", "x.db", "ed", None)
    assert Environment.read({"VISUAL": "vi", "EDITOR": "ed"}).editor == "vi"
