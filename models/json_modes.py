"""Know the ways to ask a model for JSON, and remember which one each model accepts.

LangChain's ``with_structured_output`` is used only to put a schema into the request. Its parsers are not
used: in langchain-openai 1.7.3, ``include_raw=True`` still raises on fenced JSON, prose, truncation and
content filters, and hides refusals under function calling.
"""

from __future__ import annotations

import inspect
import json
import re
import warnings
from collections.abc import Sequence
from typing import Any, Literal

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.runnables import Runnable, RunnableSequence
from langchain_core.utils.function_calling import convert_to_openai_tool

from .chat import model_name, speaks_openai
from .client_errors import rejects_mode
from .endpoints import OPENAI_HOST, endpoint_of
from .reading import Reading, TextForm, was_cut_off
from .servers import Server
from .wire_schema import is_strict, takes_any_keys

__all__ = [
    "BindError",
    "Mode",
    "bind",
    "modes_after",
    "modes_for",
    "refuses_bounds",
    "refuses_response_settings",
    "remember",
    "response_settings",
    "takes_bounds",
    "with_schema_shown",
]

Mode = Literal["text", "json_schema", "function_calling", "prompted"]
"""``text`` is our own form (see ``TextForm``); ``prompted`` puts the schema into words."""

_MODES: tuple[Mode, ...] = ("json_schema", "function_calling", "prompted")
_WORKED: dict[str, Mode] = {}
"""The mode that worked, by class, name and endpoint of the model; kept as long as the process runs."""

_REFUSING: set[str] = set()
"""Models whose endpoints refused a schema together with tools; kept as long as the process runs."""


def modes_for(model: BaseChatModel, form: TextForm[Any] | None = None) -> tuple[Mode, ...]:
    """List the modes to try, the likeliest first: the text form, what worked before, the rest."""
    worked = _WORKED.get(_key(model), _MODES[0])
    return (*(() if form is None else ("text",)), *_MODES[_MODES.index(worked) :])


def modes_after(
    mode: Mode, answer: AIMessage, reading: Reading[Any], *, again: bool, model: BaseChatModel
) -> tuple[Mode, ...]:
    """Continue with the accepted mode, unless the endpoint seems to ignore it."""
    if mode == "text":
        in_json = again or not reading.has_json or was_cut_off(answer)
        return modes_for(model) if in_json else ("text", *modes_for(model))
    ignored = not reading.has_json and not was_cut_off(answer) and str(answer.text).strip()
    return ("prompted",) if ignored else _MODES[_MODES.index(mode) :]


def remember(model: BaseChatModel, mode: Mode) -> None:
    """Use this mode first for this model from now on."""
    if mode != "text":
        _WORKED[_key(model)] = mode


def _key(model: BaseChatModel) -> str:
    cls = type(model)
    return f"{cls.__module__}.{cls.__qualname__}|{model_name(model)}|{endpoint_of(model)}"


_UNBOUNDED: set[str] = set()
"""Models whose servers refused bounded texts; kept as long as the process runs."""
_REFUSED_BOUND = re.compile(r"(?i)max_?length|repetition|grammar|xgrammar|unsupported (?:keyword|feature)")


def takes_bounds(model: BaseChatModel, mode: Mode) -> bool:
    """Tell whether to bound the texts of a schema: OpenAI's server refuses that, most others apply it."""
    elsewhere = endpoint_of(model) and OPENAI_HOST not in endpoint_of(model) and speaks_openai(model)
    return mode == "json_schema" and bool(elsewhere) and _key(model) not in _UNBOUNDED


def refuses_bounds(model: BaseChatModel, error: BaseException) -> bool:
    """Tell whether an error means that the server refuses bounded texts, and remember it."""
    if not rejects_mode(error) or not _REFUSED_BOUND.search(str(error)):
        return False
    _UNBOUNDED.add(_key(model))
    return True


class BindError(Exception):
    """The model's class does not have this mode."""


def bind(model: BaseChatModel, wire: dict[str, Any], mode: Mode) -> Runnable[Any, Any]:
    """Put the schema into the request in the given mode; only the request part is kept."""
    if mode in ("text", "prompted"):
        return model
    strict = {"strict": True} if mode == "json_schema" and _takes_strict(model) and is_strict(wire) else {}
    try:
        with warnings.catch_warnings():
            # langchain-openai 1.7.3 warns the user if it changes the mode for older models.
            warnings.simplefilter("ignore")
            structured = model.with_structured_output(wire, method=mode, **strict)
    except Exception as error:  # Providers raise NotImplementedError, ValueError, TypeError or KeyError.
        raise BindError(str(error)) from error
    return structured.first if isinstance(structured, RunnableSequence) else structured


def _takes_strict(model: BaseChatModel) -> bool:
    return "strict" in inspect.signature(model.with_structured_output).parameters


def with_schema_shown(history: Sequence[BaseMessage], wire: dict[str, Any]) -> list[BaseMessage]:
    """Write the schema into the last human message, because some endpoints refuse two in a row."""
    asked = (
        "Answer with one JSON object that fits this JSON Schema, and with nothing else:\n"
        f"{json.dumps(wire, ensure_ascii=False)}"
    )
    *before, last = history or [HumanMessage("")]
    if isinstance(last, HumanMessage) and isinstance(last.content, str):
        return [*before, last.model_copy(update={"content": f"{last.content}\n\n{asked}".lstrip()})]
    return [*before, last, HumanMessage(asked)]


def response_settings(
    model: BaseChatModel, schema: dict[str, Any] | None, server: Server, tools: Sequence[Any] = ()
) -> dict[str, Any]:
    """Return the call settings for JSON of this schema together with tools, if the model supports that.

    It does if its profile says so, if it has worked in this process, or if its server is known to. Together
    with tools, only the profile counts, and every tool must fit OpenAI's strict mode, which langchain-openai
    then requires. The answer may still be anything.
    """
    if schema is None:
        return {}
    profile: Any = getattr(model, "profile", None) or {}
    says_so = profile.get("structured_output") and not server.program
    works = says_so or server.program or _WORKED.get(_key(model)) == "json_schema"
    if not works or _key(model) in _REFUSING or not speaks_openai(model):
        return {}
    if tools and not says_so:
        return {}  # llama.cpp and others apply the form to the whole answer, so no tool could be called.
    # Strict mode closes every object, so a tool that takes any keys would get none.
    if any(takes_any_keys(convert_to_openai_tool(tool)["function"]["parameters"]) for tool in tools):
        return {}
    # ChatOpenAI.bind_tools (langchain-openai 1.7.3) takes the form's name from the schema's title.
    titled = {"title": "step_output", **schema}
    named = {"name": "step_output", "schema": titled, "strict": is_strict(schema)}
    return {"response_format": {"type": "json_schema", "json_schema": named}}


def refuses_response_settings(model: BaseChatModel, error: BaseException) -> bool:
    """Tell whether an error means that the endpoint refuses these settings, and remember it."""
    if not rejects_mode(error):
        return False
    _REFUSING.add(_key(model))
    return True
