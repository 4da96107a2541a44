"""The scripted model passes the tests that LangChain has for every chat model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage, ToolMessage
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from plan_execute import ScriptedModel
from plan_execute.models.scripted import Reply

JOKE = {"setup": "Why did the cat cross the road?", "punchline": "It was on the other side."}
CALLS: tuple[tuple[str, Reply], ...] = (
    (
        r"magic_function\(\)|no arguments|magic_function_no_args",
        ScriptedModel.tool_calls(("magic_function_no_args", {})),
    ),
    (r"magic_function", ScriptedModel.tool_calls(("magic_function", {"input": 3}))),
    (r"Pirate", ScriptedModel.tool_calls(("greeting_generator", {"answer_style": "Pirate"}))),
    (r"weather in San Francisco", ScriptedModel.tool_calls(("get_weather", {"location": "San Francisco"}))),
    (r"customer named '(?P<customer_name>[^']+)'", ScriptedModel.tool_calls(("unicode_customer", {}))),
    (r"joke", JOKE),
    (r"Hello!", {}),
)
"""What the standard tests ask for, and what a model worth its name answers."""


def answer(messages: Sequence[BaseMessage]) -> Reply:
    """Reply as a real model would to what the standard tests say."""
    last = messages[-1]
    if isinstance(last, ToolMessage):
        return "There it is."
    for asked, reply in CALLS:
        if found := re.search(asked, str(last.text)):
            if not found.groupdict():
                return reply
            return ScriptedModel.tool_calls(("unicode_customer", {**found.groupdict(), "description": "big"}))
    return "Hello, what can I do for you?"


class _Described:
    """What both suites want to know of the model."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ScriptedModel

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"script": {"*": [answer]}, "strict": False}

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_anthropic_inputs(self) -> bool:
        return True

    @property
    def supports_model_override(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return "scripted-too"


class TestScriptedModelUnit(_Described, ChatModelUnitTests):
    """What holds without calling the model."""


class TestScriptedModelIntegration(_Described, ChatModelIntegrationTests):
    """What holds when the model is called."""
