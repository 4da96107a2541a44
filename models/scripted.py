"""A chat model that answers from a script, for tests, documentation and the demo.

It is a real ``BaseChatModel``: it streams, calls tools and fills schemas like any other, and it fails with an
error if it is asked for more than its script contains.
"""

from __future__ import annotations

import asyncio
import copy
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, TypeAlias

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call, tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import ensure_config
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import PrivateAttr

from ..errors import ScriptError, known
from ..tools.texts import shortened
from .prompts.statements import control_letter

__all__ = ["Reply", "Script", "ScriptedCall", "ScriptedModel"]

Reply: TypeAlias = Any
"""A text, a dict or list (JSON), an ``AIMessage``, an exception, or a function of the messages."""
Script: TypeAlias = Mapping[str, Sequence[Reply]] | Sequence[Reply]
"""Replies by ``role``, ``role:step`` or ``*`` (anyone); a plain sequence is for anyone."""

_TEXT_CHUNKS = 4
_LAST_MESSAGE = 1000
"""How many characters of what was asked an error shows."""
_MARKS = "plan_execute_marks"


@dataclass(frozen=True)
class ScriptedCall:
    """One call that the scripted model received."""

    role: str | None
    """``plan_execute_role`` of the call's metadata."""
    step: str | None
    """``plan_execute_step`` of the call's metadata."""
    messages: tuple[BaseMessage, ...]
    tools: tuple[str, ...]
    """Names of the tools offered."""
    reply: Reply
    """What it answered: a message, or the exception that it raised."""


class _Tape:
    """The script and how far it was played; all copies and bindings of a model share it."""

    def __init__(self, script: Script, *, strict: bool) -> None:
        keyed = script if isinstance(script, Mapping) else {"*": script}
        self._replies: dict[str, list[Reply]] = {key: list(replies) for key, replies in keyed.items()}
        self._played = dict.fromkeys(self._replies, 0)
        self._strict = strict
        self._lock = Lock()
        self.calls: list[ScriptedCall] = []

    def __deepcopy__(self, _memo: dict[int, Any]) -> _Tape:
        return self

    def take(
        self, role: str | None, step: str | None, messages: Sequence[BaseMessage]
    ) -> tuple[str, int, Reply]:
        with self._lock:
            key = self._key(role, step)
            replies, index = self._replies[key], self._played[key]
            if index >= len(replies) and (self._strict or not replies):
                raise ScriptError(_ran_out(role, step, key, len(replies), messages))
            self._played[key] = index + 1
            return key, index, replies[min(index, len(replies) - 1)]

    def _key(self, role: str | None, step: str | None) -> str:
        for key in (f"{role}:{step}", role, "*"):
            if key in self._replies:
                return str(key)
        msg = f"the script has no replies for {_caller(role, step)}; it has: {known(self._replies)}"
        raise ScriptError(msg)

    def record(self, call: ScriptedCall) -> None:
        with self._lock:
            self.calls.append(call)

    def unused(self) -> dict[str, list[Reply]]:
        with self._lock:
            rest = {key: replies[self._played[key] :] for key, replies in self._replies.items()}
        return {key: replies for key, replies in rest.items() if replies}


class ScriptedModel(BaseChatModel):
    """Answer from a script, in order, by the role (and step) that is asking.

    A key ``"executor:pack"`` wins over ``"executor"``, which wins over ``"*"``. A dict or
    list becomes the call of a tool that the caller forces (structured output), else JSON text.

    Args:
        script: The replies; see ``Script`` and ``Reply``.
        strict: Raise ``ScriptError`` when replies run out; else the last one is repeated.
        latency_s: Seconds that every answer takes.

    Example:
        >>> model = ScriptedModel({"planner": ["a plan"]})
        >>> model.invoke("hi", {"metadata": {"plan_execute_role": "planner"}}).text
        'a plan'
    """

    model_name: str = "scripted"
    latency_s: float = 0.0
    _tape: _Tape = PrivateAttr()

    def __init__(
        self, script: Script = (), *, strict: bool = True, latency_s: float = 0.0, **settings: Any
    ) -> None:
        super().__init__(**{"latency_s": latency_s, **settings})
        self._tape = _Tape(script, strict=strict)

    @staticmethod
    def tool_calls(*calls: tuple[str, Mapping[str, Any]], text: str = "") -> AIMessage:
        """Make a reply that calls tools: ``tool_calls(("search", {"q": "x"}), text="Looking.")``."""
        return AIMessage(
            text, tool_calls=[tool_call(name=name, args=dict(args), id=None) for name, args in calls]
        )

    @staticmethod
    def verdict(*, met: bool, gap: str = "") -> Callable[[Sequence[BaseMessage]], dict[str, Any]]:
        """Make a reply of an honest judge on a criterion: the control does not hold."""

        def judge(messages: Sequence[BaseMessage]) -> dict[str, Any]:
            control = control_letter("\n".join(str(message.text) for message in messages))
            if control is None:
                raise ScriptError("this reply is a verdict, but the call was not a judge's question")
            findings = {"a": {"met": met, "gap": gap}, "b": {"met": met, "gap": gap}}
            return findings | {control: {"met": False, "gap": "the word is not there"}}

        return judge

    @property
    def calls(self) -> list[ScriptedCall]:
        """All calls so far, in the order of their answers."""
        return self._tape.calls

    def assert_used(self) -> None:
        """Raise ``ScriptError`` if replies were never asked for."""
        unused = self._tape.unused()
        if unused:
            rest = "; ".join(
                f"{key}: {len(replies)} ({_preview(replies[0])})" for key, replies in unused.items()
            )
            msg = f"replies of the script were never asked for: {rest}"
            raise ScriptError(msg)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_name": self.model_name}

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | Any],
        *,
        tool_choice: str | dict[str, Any] | bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Offer tools; their names appear in ``calls``."""
        offered = [convert_to_openai_tool(tool) for tool in tools]
        return self.bind(tools=offered, tool_choice=tool_choice, **kwargs)

    # langchain-core 1.7.2 gives _stream and _astream no run manager, so no metadata: the caller's marks are
    # passed as a call option instead.

    def invoke(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        """Answer with the next reply."""
        return super().invoke(input, config, stop=stop, **_marked(config, kwargs))

    async def ainvoke(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        """Answer with the next reply."""
        return await super().ainvoke(input, config, stop=stop, **_marked(config, kwargs))

    def stream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Iterator[AIMessageChunk]:
        """Answer with the next reply, in pieces."""
        yield from super().stream(input, config, stop=stop, **_marked(config, kwargs))

    async def astream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessageChunk]:
        """Answer with the next reply, in pieces."""
        async for chunk in super().astream(input, config, stop=stop, **_marked(config, kwargs)):
            yield chunk

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,  # noqa: ARG002 - the signature is BaseChatModel's
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        time.sleep(self.latency_s)
        return _result(self._answer(messages, run_manager, kwargs))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,  # noqa: ARG002 - the signature is BaseChatModel's
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        await asyncio.sleep(self.latency_s)
        return _result(self._answer(messages, run_manager, kwargs))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,  # noqa: ARG002 - the signature is BaseChatModel's
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        time.sleep(self.latency_s)
        for chunk in _chunks(self._answer(messages, run_manager, kwargs)):
            if run_manager:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,  # noqa: ARG002 - the signature is BaseChatModel's
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        await asyncio.sleep(self.latency_s)
        for chunk in _chunks(self._answer(messages, run_manager, kwargs)):
            if run_manager:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    def _answer(
        self,
        messages: list[BaseMessage],
        run_manager: CallbackManagerForLLMRun | AsyncCallbackManagerForLLMRun | None,
        options: Mapping[str, Any],
    ) -> AIMessage:
        """Play the next reply for the caller, and record the call."""
        marks = options.get(_MARKS) or (run_manager.metadata if run_manager else {})
        role, step = marks.get("plan_execute_role"), marks.get("plan_execute_step")
        key, index, reply = self._tape.take(role, step, messages)
        while callable(reply):
            reply = reply(messages)
        tools = tuple(tool["function"]["name"] for tool in options.get("tools") or ())
        answer = reply if isinstance(reply, BaseException) else _message(reply, options, tools)
        if isinstance(answer, AIMessage):
            _complete(answer, messages, f"{key}_{index}", str(options.get("model") or self.model_name))
        self._tape.record(ScriptedCall(role, step, tuple(messages), tools, answer))
        if isinstance(answer, BaseException):
            raise answer
        return answer


def _marked(config: RunnableConfig | None, options: dict[str, Any]) -> dict[str, Any]:
    """Add the caller to a call's options: from the config, which inherits from its surroundings."""
    given = ensure_config(config)
    inherited = getattr(given.get("callbacks"), "metadata", None) or {}
    metadata = {**inherited, **(given.get("metadata") or {})}
    marks = {key: value for key, value in metadata.items() if key.startswith("plan_execute_")}
    return {**options, _MARKS: marks}


def _caller(role: str | None, step: str | None) -> str:
    asking = f"the role {role!r}" if role else "a call without a role"
    return f"{asking}, step {step!r}" if step else asking


def _ran_out(role: str | None, step: str | None, key: str, held: int, messages: Sequence[BaseMessage]) -> str:
    noun = "reply" if held == 1 else "replies"
    said = f"the script ran out: {_caller(role, step)} asked again, and {key!r} held {held} {noun}"
    return f"{said}. The last message:\n{shortened(messages[-1].text, _LAST_MESSAGE)}" if messages else said


def _preview(reply: Reply) -> str:
    text = reply.content or reply.tool_calls if isinstance(reply, AIMessage) else reply
    shown = " ".join(str(text).split())
    return shown if len(shown) <= 60 else f"{shown[:60]}…"


def _message(reply: Reply, options: Mapping[str, Any], tools: Sequence[str]) -> AIMessage:
    if isinstance(reply, AIMessage):
        # LangChain writes ids and metadata into the message that it gets.
        return copy.deepcopy(reply)
    if isinstance(reply, str):
        return AIMessage(reply)
    if isinstance(reply, dict | list):
        forced = _forced_tool(options.get("tool_choice"), tools)
        if forced and isinstance(reply, dict):
            return ScriptedModel.tool_calls((forced, reply))
        return AIMessage(json.dumps(reply, ensure_ascii=False))
    kind = type(reply).__name__
    msg = f"a reply of the script is a {kind}: it can be text, JSON, a message, an error or a function"
    raise ScriptError(msg)


def _forced_tool(choice: Any, tools: Sequence[str]) -> str | None:
    """Return the tool that must be called, or ``None`` if the model may choose."""
    if isinstance(choice, dict):
        choice = choice.get("function", {}).get("name")
    if choice in tools:
        return str(choice)
    return tools[0] if tools and choice in ("any", "required", True) else None


def _complete(answer: AIMessage, messages: Sequence[BaseMessage], call_id: str, model: str) -> None:
    """Add what a provider would: ids of tool calls, usage (4 characters per token), finish reason."""
    for index, call in enumerate(answer.tool_calls):
        call["id"] = call["id"] or f"call_{call_id}_{index}"
    if answer.usage_metadata is None:
        answer.usage_metadata = _usage(messages, answer)
    finish = "tool_calls" if answer.tool_calls else "stop"
    answer.response_metadata = {"model_name": model, "finish_reason": finish, **answer.response_metadata}


def _usage(messages: Sequence[BaseMessage], answer: AIMessage) -> UsageMetadata:
    called = [{"name": call["name"], "args": call["args"]} for call in answer.tool_calls]
    written = str(answer.text) + (json.dumps(called, default=str) if called else "")
    read = sum(len(str(message.text)) for message in messages) // 4
    return UsageMetadata(
        input_tokens=read, output_tokens=len(written) // 4, total_tokens=read + len(written) // 4
    )


def _result(answer: AIMessage) -> ChatResult:
    return ChatResult(generations=[ChatGeneration(message=answer)])


def _chunks(answer: AIMessage) -> Iterator[ChatGenerationChunk]:
    """Split a message as a provider streams it: text in pieces, tool calls in two, then the usage."""
    for piece in _pieces(answer.content):
        yield ChatGenerationChunk(message=AIMessageChunk(content=piece))
    for index, call in enumerate(answer.tool_calls):
        args = json.dumps(call["args"], ensure_ascii=False)
        half = len(args) // 2
        yield _call_chunk(index, args[:half], name=call["name"], call_id=call["id"])
        yield _call_chunk(index, args[half:])
    last = AIMessageChunk(
        content="",
        additional_kwargs=answer.additional_kwargs,
        response_metadata=answer.response_metadata,
        usage_metadata=answer.usage_metadata,
        chunk_position="last",
    )
    yield ChatGenerationChunk(message=last)


def _pieces(content: Any) -> Iterator[Any]:
    if not isinstance(content, str):
        yield content
        return
    size = max(1, -(-len(content) // _TEXT_CHUNKS))
    yield from (content[start : start + size] for start in range(0, len(content), size))


def _call_chunk(
    index: int, args: str, *, name: str | None = None, call_id: str | None = None
) -> ChatGenerationChunk:
    chunk = tool_call_chunk(name=name, args=args, id=call_id, index=index)
    return ChatGenerationChunk(message=AIMessageChunk(content="", tool_call_chunks=[chunk]))
