"""ChatOpenAI for the many servers that support most of OpenAI's protocol, but not all of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import openai
from langchain_core.messages import AIMessageChunk
from langchain_core.messages.ai import UsageMetadata, subtract_usage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_openai import ChatOpenAI
from pydantic import PrivateAttr

from .endpoints import OPENAI_HOST, endpoint_of

__all__ = ["OpenAIEndpoint"]

_REFUSALS = {400, 404, 415, 422, 501}


class OpenAIEndpoint(ChatOpenAI):
    """Repairs what langchain-openai 1.7.3 expects and some servers do not do.

    It asks for the usage of streamed answers until the server refuses, counts repeated usage in stream parts
    once, also sends the older name of the token limit, numbers tool calls without an id, and turns arguments
    that are an object into text.
    """

    _takes_stream_options: bool = PrivateAttr(default=True)

    async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        count = _Count()
        async for chunk in self._astream_as_taken(*args, **kwargs):
            yield count.further(chunk)

    def _stream(self, *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        yield from map(_Count().further, self._stream_as_taken(*args, **kwargs))

    async def _astream_as_taken(self, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        if self._takes_stream_options:
            begun = False
            try:
                async for chunk in super()._astream(*args, **kwargs):
                    begun = True
                    yield chunk
            except openai.APIStatusError as error:
                if begun or not self._refuses_stream_options(error):
                    raise
            else:
                return
        async for chunk in super()._astream(*args, **{**kwargs, "stream_usage": False}):
            yield chunk

    def _stream_as_taken(self, *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        if self._takes_stream_options:
            begun = False
            try:
                for chunk in super()._stream(*args, **kwargs):
                    begun = True
                    yield chunk
            except openai.APIStatusError as error:
                if begun or not self._refuses_stream_options(error):
                    raise
            else:
                return
        yield from super()._stream(*args, **{**kwargs, "stream_usage": False})

    def _get_request_payload(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        payload: dict[str, Any] = super()._get_request_payload(*args, **kwargs)
        # Only OpenAI's server refuses the older name, and not all others know the newer one.
        if OPENAI_HOST not in endpoint_of(self) and "max_completion_tokens" in payload:
            payload["max_tokens"] = payload.pop("max_completion_tokens")
        return payload

    def _create_chat_result(self, response: Any, *args: Any, **kwargs: Any) -> ChatResult:
        for choice in getattr(response, "choices", None) or ():
            for call in getattr(choice.message, "tool_calls", None) or ():
                call.function.arguments = _as_text(call.function.arguments)
        result = super()._create_chat_result(response, *args, **kwargs)
        for generation in result.generations:
            for call in getattr(generation.message, "tool_calls", ()):
                call["id"] = call["id"] or _new_id()
        return result

    def _convert_chunk_to_generation_chunk(
        self, chunk: dict[str, Any], *args: Any, **kwargs: Any
    ) -> ChatGenerationChunk | None:
        for choice in chunk.get("choices") or ():
            for call in (choice.get("delta") or {}).get("tool_calls") or ():
                if function := call.get("function"):
                    function["arguments"] = _as_text(function.get("arguments"))
        piece = super()._convert_chunk_to_generation_chunk(chunk, *args, **kwargs)
        for call in getattr(piece.message, "tool_call_chunks", ()) if piece else ():
            if call["name"] and not call["id"]:  # The first piece of a call has its name.
                call["id"] = _new_id()
        return piece

    def _refuses_stream_options(self, error: openai.APIStatusError) -> bool:
        """Tell whether the server cannot report a stream's usage, and remember it."""
        said = str(error)
        if error.status_code in _REFUSALS and ("stream_options" in said or "include_usage" in said):
            self._takes_stream_options = False
        return not self._takes_stream_options


class _Count:
    """A stream's usage so far. LangChain adds up the parts; some servers repeat the total in each."""

    def __init__(self) -> None:
        self._before: UsageMetadata | None = None

    def further(self, chunk: ChatGenerationChunk) -> ChatGenerationChunk:
        """Keep in a part of the stream only the usage since the previous part."""
        message = chunk.message
        if isinstance(message, AIMessageChunk) and (said := message.usage_metadata):
            message.usage_metadata = subtract_usage(said, self._before)
            self._before = said
        return chunk


def _as_text(arguments: Any) -> str | None:
    return arguments if arguments is None or isinstance(arguments, str) else json.dumps(arguments)


def _new_id() -> str:
    return f"call_{uuid4().hex[:24]}"
