"""What ``show`` says of a thread, and what the options for models become."""

from types import SimpleNamespace
from typing import Any

import pytest

from plan_execute.cli.exits import BadUsageError
from plan_execute.cli.sources import read_settings
from plan_execute.cli.views import thread_lines
from plan_execute.errors import ConfigurationError


def test_a_thread_is_shown_with_what_each_model_was_used_for():
    models = {"small-1": {"model_calls": 2, "cost": 0.25}, "big-1": {"model_calls": 1}}
    snapshot: Any = SimpleNamespace(
        values={"goal": "g", "usage": {"by_model": models}}, interrupts=(), tasks=()
    )
    shown = "\n".join(thread_lines("t", snapshot, "done"))
    assert "Models:\n  big-1: 1 model call\n  small-1: 2 model calls, cost 0.25" in shown


def test_models_and_escalation_become_settings():
    settings = read_settings(models=["fast=openai:gpt-5-mini", "planner=a|b"], escalate="strong")
    assert settings is not None
    assert settings.models == {"fast": "openai:gpt-5-mini", "planner": "a|b"}
    assert settings.escalate == "strong"


@pytest.mark.parametrize("given", ["fast", "fast=", "=x"])
def test_a_model_without_a_name_is_bad_usage(given):
    with pytest.raises(BadUsageError, match="is not NAME=MODEL"):
        read_settings(models=[given])


def test_a_role_that_there_is_not_is_refused_with_the_known_ones():
    with pytest.raises(ConfigurationError, match=r"unknown role 'chef'; known roles: .*fast, strong"):
        read_settings(models=["chef=x"])
