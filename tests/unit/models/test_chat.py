"""Choosing and creating the model of a role."""

from __future__ import annotations

import functools
import operator

import pytest
from openai_stub import OpenAIStub, Reply

from plan_execute.errors import ConfigurationError, MissingModelError
from plan_execute.models.chat import ROLES, ChatModels, endpoint_of, model_name
from plan_execute.models.fallbacks import members_of
from plan_execute.models.scripted import ScriptedModel

LOCAL = "http://127.0.0.1:9/v1"


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def test_a_role_has_its_own_model_or_the_default() -> None:
    default, planner = ScriptedModel(), ScriptedModel()
    models = ChatModels(default, {"planner": planner})
    assert models.get("planner") is planner
    assert all(models.get(role) is default for role in ROLES if role != "planner")


def test_names_for_one_run_replace_the_entries_of_the_same_key() -> None:
    planner = ScriptedModel()
    models = ChatModels(ScriptedModel(), {"planner": planner}, base_url=LOCAL)
    assert model_name(models.get("planner", {"planner": "openai:a"})) == "a"
    assert models.get("planner", {"default": "b"}) is planner
    assert model_name(models.get("executor", {"default": "b"})) == "b"


@pytest.mark.parametrize("name", ["gpt-5-mini", "qwen3", "qwen3:8b", "openai:qwen3", "claude-x", "org/model"])
def test_any_name_is_served_by_a_base_url_without_a_key(name: str) -> None:
    model = ChatModels(name, base_url=LOCAL).get("executor")
    assert model_name(model) == name.removeprefix("openai:")
    assert endpoint_of(model) == LOCAL


@pytest.mark.parametrize("name", ["gpt-5-mini", "qwen3"])
def test_a_base_url_in_the_environment_needs_no_key(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", LOCAL)
    assert endpoint_of(ChatModels(name).get("planner")) == LOCAL


def test_the_client_does_not_retry_behind_our_back() -> None:
    with OpenAIStub(lambda _: Reply.failure(500)) as stub:
        model = ChatModels("m", base_url=stub.base_url).get("planner")
        with pytest.raises(Exception, match="stub failure"):
            model.invoke("hi")
    assert len(stub.requests) == 1


def test_the_client_cuts_off_no_call_before_its_own_limit_does() -> None:
    model = ChatModels("m", base_url=LOCAL).get("planner")
    for client in (model.root_client, model.root_async_client):  # type: ignore[attr-defined]
        request = client._client.build_request("POST", LOCAL, timeout=client.timeout)
        assert request.extensions["timeout"] == dict.fromkeys(("connect", "read", "write", "pool"))


async def test_streamed_tokens_are_counted_on_any_endpoint() -> None:
    with OpenAIStub([Reply("hello", usage=(3, 4))]) as stub:
        model = ChatModels("m", base_url=stub.base_url).get("planner")
        chunks = [chunk async for chunk in model.astream("hi")]
    usages = [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata]
    assert [usage["total_tokens"] for usage in usages] == [7]


async def test_a_stream_that_says_in_each_part_what_it_used_so_far_is_counted_once() -> None:
    reply = Reply("four tokens or so", usage=(500, 4), usage_counts_up=True)
    with OpenAIStub([reply, reply]) as stub:
        model = ChatModels("m", base_url=stub.base_url).get("planner")
        waited = [chunk async for chunk in model.astream("hi")]
        for chunks in (waited, list(model.stream("hi"))):
            whole = functools.reduce(operator.add, chunks)
            usage = whole.usage_metadata
            assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (500, 4, 504)


def test_a_model_is_created_once() -> None:
    models = ChatModels("m", base_url=LOCAL)
    assert models.get("planner") is models.get("executor")


@pytest.mark.parametrize("name", ["gpt-5-mini", "openai:gpt-5-mini", "qwen3"])
def test_a_missing_key_is_a_clear_error(name: str) -> None:
    said = rf"'{name}' of the planner has no API key: set OPENAI_API_KEY\. .*base URL.*bound steps"
    with pytest.raises(MissingModelError, match=said):
        ChatModels(name).get("planner")


def test_no_model_at_all_names_the_role_and_the_ways_on() -> None:
    models = ChatModels(None, {"planner": ScriptedModel()})
    assert models.has("planner")
    assert not models.has("executor")
    assert models.has("executor", {"executor": "x"})
    with pytest.raises(
        MissingModelError, match=r"the executor needs a model .*ScriptedModel.*base URL.*bound steps"
    ):
        models.get("executor")


def test_a_provider_that_is_not_installed_is_a_clear_error() -> None:
    with pytest.raises(ConfigurationError, match="'anthropic:claude-x' of the planner needs a package"):
        ChatModels("anthropic:claude-x").get("planner")


def test_a_provider_that_is_not_installed_is_named_with_the_package_to_install() -> None:
    with pytest.raises(ConfigurationError, match=r"pip install.* langchain-mistralai"):
        ChatModels("mistralai:m").get("planner")


@pytest.mark.parametrize("name", ["opnai:gpt-5", "manager:x", "qwen3:8b"])
def test_a_provider_that_does_not_exist_is_refused_with_the_known_ones(name: str) -> None:
    word = name.partition(":")[0]
    known = r"anthropic, .*ollama, openai, .*A model on a server of your own needs that server's base URL"
    with pytest.raises(ConfigurationError, match=rf"no provider '{word}'.*; known: {known}"):
        ChatModels(name).get("planner")


@pytest.mark.parametrize("name", ["openai:qwen3:8b", "ft:gpt-5-mini:shop::x1"])
def test_a_colon_in_the_name_of_an_openai_model_is_no_provider(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    assert model_name(ChatModels(name).get("planner")) == name.removeprefix("openai:")


def test_a_server_that_the_environment_names_may_know_names_with_colons(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", LOCAL)
    assert model_name(ChatModels("qwen3:8b").get("planner")) == "qwen3:8b"


def test_fallbacks_are_made_once_and_shared_with_who_names_them_alone() -> None:
    models = ChatModels("a|b", {"planner": "b"}, base_url=LOCAL)
    members = members_of(models.get("executor"))
    assert [model_name(member) for member in members] == ["a", "b"]
    assert models.get("planner") is members[1]


def test_a_model_with_fallbacks_can_be_called_by_itself() -> None:
    with OpenAIStub(lambda b: Reply.failure(401) if b["model"] == "a" else Reply("hello")) as stub:
        model = ChatModels("a|b", base_url=stub.base_url).get("executor")
        assert model.invoke("hi").text == "hello"


def test_unknown_roles_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match=r"'manager'.*known: evaluator, executor, planner"):
        ChatModels(None, {"manager": "x"})
    with pytest.raises(ConfigurationError, match=r"'manager'.*default"):
        ChatModels(None).has("planner", {"manager": "x"})


def test_an_endpoint_is_named_without_credentials() -> None:
    model = ChatModels("m", base_url="http://me:secret@127.0.0.1:9/v1").get("planner")
    assert endpoint_of(model) == LOCAL


def test_a_model_without_a_name_is_known_by_its_class() -> None:
    assert model_name(ScriptedModel(model_name="")) == "ScriptedModel"
