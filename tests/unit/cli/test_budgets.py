"""Budgets on the command line become settings, and a wrong one is named."""

import pytest

from plan_execute.cli.exits import BadUsageError
from plan_execute.cli.sources import Sources, read_budgets, read_settings


def test_every_budget_can_be_given():
    given = ["model_calls=20", "tokens=9000", "tool_calls=5", "cost=0.5", "seconds=90"]
    settings = read_settings(budgets=given, soft_share=0.8)
    assert settings.model_dump(exclude_defaults=True) == {
        "max_model_calls": 20,
        "max_tokens": 9000,
        "max_tool_calls": 5,
        "max_cost": 0.5,
        "max_seconds": 90,
        "soft_share": 0.8,
    }
    assert read_settings(budgets=None) is None


@pytest.mark.parametrize("wrong", ["dollars=3", "cost", "=3", "tokens=many", "tool_calls=1.5", "max_cost=1"])
def test_a_wrong_budget_is_named_with_the_known_ones(wrong):
    with pytest.raises(BadUsageError, match=r"--budget") as refused:
        read_budgets([wrong])
    assert wrong in str(refused.value)


def test_prices_come_from_the_option_or_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("PLAN_EXECUTE_PRICES", "env.yaml")
    assert Sources.read().prices == "env.yaml"
    chosen = Sources.read(prices=tmp_path / "p.yaml")
    assert chosen.prices == str(tmp_path / "p.yaml")
    assert "--prices" in chosen.resume_command("t")
