"""What calls cost: the user's prices first, then the providers' lists, and none where none is known."""

import json

import pytest
from langchain_core.messages import AIMessage, ToolMessage
from langchain_openai import ChatOpenAI

from plan_execute import Context, ScriptedModel
from plan_execute.errors import ConfigurationError
from plan_execute.models.fallbacks import FallbackModel
from plan_execute.spending.budget import Meter, Tab
from plan_execute.spending.prices import Price, PriceTable, read_prices

OWN = {"mine": {"input": 2, "output": 10, "cached_input": 0.5}}


def said(name=None, given=1_000_000, written=100_000, cached=0):
    usage = {"input_tokens": given, "output_tokens": written, "total_tokens": given + written}
    if cached:
        usage["input_token_details"] = {"cache_read": cached}
    return AIMessage("x", usage_metadata=usage, response_metadata={"model_name": name} if name else {})


def openai(name, base_url=None):
    return ChatOpenAI(model=name, api_key="k", base_url=base_url)


def test_tokens_in_and_out_are_priced_and_cached_ones_by_their_own_price():
    table = read_prices(OWN)
    assert table.cost(None, said("mine")) == pytest.approx(2 + 1)
    assert table.cost(None, said("mine", cached=500_000)) == pytest.approx(1 + 0.25 + 1)


def test_without_a_price_for_cached_tokens_they_cost_what_the_others_do():
    table = read_prices({"mine": {"input": 2, "output": 10}})
    assert table.cost(None, said("mine", cached=500_000)) == pytest.approx(3)


@pytest.mark.parametrize("name", ["other", "mine-2", "min", "mine-mini", ""])
def test_a_model_that_is_not_in_the_table_has_no_price(name):
    assert read_prices(OWN).cost(None, said(name)) is None


@pytest.mark.parametrize("name", ["mine-2025-08-07", "mine-20250807"])
def test_a_dated_snapshot_costs_what_its_name_without_the_date_does(name):
    assert read_prices(OWN).cost(None, said(name)) == pytest.approx(3)


def test_the_model_that_answered_counts_not_the_one_that_was_asked():
    table = PriceTable({"a": Price(input=1, output=1), "b": Price(input=5, output=5)})
    assert table.cost(openai("a"), said("b", 1_000_000, 0)) == pytest.approx(5)
    assert table.cost(openai("a"), said(None, 1_000_000, 0)) == pytest.approx(1)


def test_list_prices_hold_where_their_provider_is_called_and_ones_own_everywhere():
    assert PriceTable().knows(openai("gpt-5-mini"))
    assert PriceTable().cost(openai("gpt-5-mini"), said("gpt-5-mini-2025-08-07")) == pytest.approx(0.45)
    local = openai("gpt-5-mini", "http://127.0.0.1:1/v1")
    assert not PriceTable().knows(local)
    assert PriceTable({"gpt-5-mini": Price(input=1, output=0)}).cost(local, said()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "endpoint", "cost"),
    [
        ("deepseek-chat", "https://api.deepseek.com/v1", None),
        ("anthropic/claude-sonnet-4.5", "https://openrouter.ai/api/v1", None),
        ("gpt-4o", None, 2.5 + 1),
        ("gpt-5.5", None, 2 * 5 + 1.5 * 3),  # beyond 272,000 tokens it has another price
    ],
)
def test_todays_models_of_many_providers_have_a_price(name, endpoint, cost):
    model = openai(name, endpoint)
    assert PriceTable().knows(model)
    found = PriceTable().cost(model, said(name))
    assert found > 0
    assert cost is None or found == pytest.approx(cost)


@pytest.mark.parametrize(
    ("name", "endpoint"),
    [
        ("qwen-3-coder-480b", "https://api.cerebras.ai/v1"),
        ("gpt-4o", "https://api.githubcopilot.com"),
        ("gpt-live-1", None),  # by the hour
        ("moderation", None),
    ],
)
def test_a_listed_model_without_a_price_of_its_tokens_is_not_taken_for_free(name, endpoint):
    model = openai(name, endpoint)
    assert not PriceTable().knows(model)
    assert PriceTable().cost(model, said(name)) is None
    own = PriceTable({name: Price(input=2, output=10)})
    assert own.knows(model)
    assert own.cost(model, said(name)) == pytest.approx(3)


def test_a_model_that_its_provider_names_free_costs_nothing():
    model = openai("deepseek/deepseek-r1:free", "https://openrouter.ai/api/v1")
    assert PriceTable().knows(model)
    assert PriceTable().cost(model, said("deepseek/deepseek-r1:free")) == 0


def test_cached_and_newly_cached_tokens_have_their_list_prices():
    class ChatAnthropic(ScriptedModel):
        """A model of another provider than OpenAI, which is known by its package."""

    ChatAnthropic.__module__ = "langchain_anthropic.chat_models"
    model = ChatAnthropic(["x"], model_name="claude-opus-4-5")
    answer = said("claude-opus-4-5", 100_000, 0)
    whole = PriceTable().cost(model, answer)
    assert whole == pytest.approx(0.5)
    answer.usage_metadata["input_token_details"] = {"cache_read": 100_000}
    assert PriceTable().cost(model, answer) == pytest.approx(0.05)
    answer.usage_metadata["input_token_details"] = {"cache_creation": 100_000}
    assert PriceTable().cost(model, answer) == pytest.approx(0.625)
    answer.usage_metadata["input_token_details"] = {"cache_read": 900_000}
    assert PriceTable().cost(model, answer) == pytest.approx(whole)


def test_a_model_of_no_known_provider_has_no_list_price_whatever_its_name():
    assert not PriceTable().knows(ScriptedModel(["x"], model_name="gpt-5-mini"))


def test_a_call_of_a_model_with_fallbacks_costs_what_the_member_that_answered_does():
    both = FallbackModel(members=[openai("mine", "http://127.0.0.1:1/v1"), openai("gpt-5-mini")])
    assert PriceTable().cost(both, said("gpt-5-mini")) == pytest.approx(0.45)
    assert PriceTable().cost(both, said("mine")) is None
    assert read_prices(OWN).cost(both, said("mine")) == pytest.approx(3)


@pytest.mark.parametrize("model", [openai("gpt-5-mini"), FallbackModel(members=[openai("gpt-5-mini")])])
def test_calls_that_are_recovered_after_a_crash_cost_what_they_did(model):
    tab = Tab(Meter(Context(max_cost=1)))
    tab.recover("executor", [said("gpt-5-mini"), ToolMessage("x", tool_call_id="1"), said()], model)
    assert tab.usage["cost"] == pytest.approx(0.9)
    assert tab.usage["by_role"]["executor"]["cost"] == pytest.approx(0.9)


def test_an_answer_without_token_counts_has_no_cost():
    assert read_prices(OWN).cost(None, AIMessage("x", response_metadata={"model_name": "mine"})) is None


def test_a_table_can_be_a_file_and_names_may_have_their_provider(tmp_path):
    (tmp_path / "p.json").write_text(json.dumps({"openai:mine": OWN["mine"]}))
    (tmp_path / "p.yaml").write_text("mine: {input: 2, output: 10}\nllama3:8b: {input: 0, output: 0}\n")
    assert read_prices(tmp_path / "p.json").cost(None, said("mine")) == pytest.approx(3)
    table = read_prices(str(tmp_path / "p.yaml"))
    assert table.cost(None, said("mine")) == pytest.approx(3)
    assert table.cost(None, said("llama3:8b")) == 0


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"input": -1, "output": 2}, ["'input'", "'mine'", "-1", "greater than or equal"]),
        ({"input": 1}, ["'output'", "'mine'", "required"]),
        ({"input": 1, "output": 1, "cahced": 1}, ["'cahced'", "cached_input"]),
        ({"input": "much", "output": 1}, ["'input'", "much"]),
        ({"input": float("inf"), "output": 1}, ["'input'", "finite"]),
        (3, ["'mine'", "input", "output"]),
        (None, ["'mine'", "NoneType"]),
    ],
)
def test_a_wrong_entry_is_refused_by_its_name(entry, words):
    with pytest.raises(ConfigurationError) as refused:
        read_prices({"mine": entry})
    assert all(word in str(refused.value) for word in words), str(refused.value)


@pytest.mark.parametrize("name", ["prices.yaml", "prices.json"])
def test_a_table_nested_too_deeply_is_refused_by_name(tmp_path, name):
    path = tmp_path / name
    path.write_text('{"a": ' + "[" * 900 + "]" * 900 + "}" if name.endswith("yaml") else "[" * 100_000)
    with pytest.raises(ConfigurationError, match=rf"{name} is nested too deeply"):
        read_prices(path)


@pytest.mark.parametrize("text", ["- a\n", "just words", "{", "\x00"])
def test_a_file_that_is_no_table_is_refused_with_its_path(tmp_path, text):
    path = tmp_path / "prices.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=r"prices\.yaml"):
        read_prices(path)
    with pytest.raises(ConfigurationError, match=r"none\.yaml"):
        read_prices(tmp_path / "none.yaml")
