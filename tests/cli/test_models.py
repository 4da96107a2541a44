"""``models``: what is known of a model before anything is spent on it."""

import pytest


def test_price_context_and_abilities_of_a_model_are_said_without_a_call(cli):
    done = cli("models", "openai:gpt-5-mini", "--json", OPENAI_API_KEY="k")
    [facts] = done.json["models"]
    assert facts["provider"] == "OpenAI"
    assert facts["price"] == {"input": 0.25, "cached_input": 0.025, "output": 2.0, "from": "list"}
    assert facts["context_window"] == 400_000
    assert {"tools", "images"} <= set(facts["takes"])


def test_a_model_whose_key_or_package_is_missing_is_known_by_its_name(cli):
    done = cli("models", "anthropic:claude-sonnet-4-5|openai:gpt-5.5", "--json")
    first, second = done.json["models"]
    assert (first["provider"], second["provider"]) == ("Anthropic", "OpenAI")
    assert first["price"]["input"] == 3
    assert second["price"]["more_beyond"] == 272_000


def test_a_price_of_ones_own_stands_before_the_list(cli):
    (cli.folder / "prices.yaml").write_text("gpt-5-mini: {input: 1, output: 3}\n")
    done = cli("models", "openai:gpt-5-mini", "--prices", "prices.yaml", OPENAI_API_KEY="k")
    assert "  price: 1 input, 3 output per million tokens (your price)" in done.out


def test_a_model_of_a_server_of_ones_own_has_no_list_price_whatever_its_name(cli):
    done = cli("models", "gpt-5-mini", "--base-url", "http://127.0.0.1:1/v1")
    assert "gpt-5-mini (http://127.0.0.1:1/v1)" in done.out
    assert "price: not known" in done.out


@pytest.mark.parametrize(("args", "words"), [(["opnai:x"], "did you mean openai"), ([], "EXECUTE_MODEL")])
def test_a_model_that_nobody_knows_or_none_is_an_error(cli, args, words):
    done = cli("models", *args)
    assert done.code in (1, 2)
    assert words in done.err
