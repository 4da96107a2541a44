"""The last place that keeps secrets out of what a run streams, also where a model's words come in pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import AIMessageChunk

from .redaction import Redactor

__all__ = ["RedactedStream"]

Wrap = Callable[[AIMessageChunk], Any]

LONGEST_HELD = 8192
"""Characters after which a text without white space is given on: it is longer than any key."""
_WORDS_HELD = 3
"""A key may be told by the words before it: ``Authorization: Basic …``."""


_ENDS = ("message-finish", "error")
"""Events of LangGraph's protocol v3 after which nothing comes of a message."""


@dataclass
class _Block:
    """The text of a content block that is held back, and a chunk that tells where it belongs.

    Attributes:
        chunk: One of the chunks that its pieces came in.
        text: What is held.
        name: The part of a delta that holds it: ``text``, ``args`` and so on.
    """

    chunk: dict[str, Any]
    text: str = ""
    name: str = ""

    @property
    def is_text(self) -> bool:
        """Whether it is read as it comes; anything else is held until it is whole."""
        return self.name == "text"

    def add(self, delta: Mapping[str, Any]) -> None:
        """Hold another piece."""
        self.name = next((one for one in delta if one != "type" and isinstance(delta[one], str)), self.name)
        self.text += delta.get(self.name, "")

    def chunk_of(self, text: str) -> dict[str, Any]:
        """Make a chunk of a part of the text."""
        event, *rest = self.chunk["data"]
        given = {**event, "delta": {**event["delta"], self.name: text}}
        return {**self.chunk, "data": (given, *rest)}


@dataclass
class RedactedStream:
    """Redacts the chunks of one run, one after the other.

    A secret may come in several pieces. So the text of streamed messages is held back to the last words,
    and anything else in them (calls, content blocks) until the message is whole.
    """

    redactor: Redactor
    _blocks: dict[Any, _Block] = field(default_factory=dict)
    _held: dict[str, tuple[AIMessageChunk, Wrap]] = field(default_factory=dict)
    _clean: dict[Any, Any] = field(default_factory=dict)
    """What the last values held and was found clean: most of the state is the same in the next ones."""

    def cleaned(self, chunk: Any) -> Iterator[Any]:
        """Give what may be shown of a chunk: of pieces of a block (protocol v3), what is settled."""
        event, key = _event_in(chunk)
        if event.get("event") == "content-block-delta":
            block = self._blocks.setdefault(key, _Block(chunk))
            block.add(event["delta"])
            cut = self._cut(block.text) if block.is_text else 0
            yield from self._part_of(block, cut)
            return
        # What is held comes before the end of its block; a message that ends has no open blocks.
        is_over = event.get("event") in _ENDS
        for one in [one for one in self._blocks if one == key or (is_over and one[0] == key[0])]:
            block = self._blocks.pop(one)
            yield from self._part_of(block, len(block.text))
        yield self.clean(chunk)

    def _part_of(self, block: _Block, cut: int) -> Iterator[Any]:
        if given := block.text[:cut]:
            block.text = block.text[cut:]
            yield self.redactor.value(block.chunk_of(given))

    def clean(self, chunk: Any) -> Any:
        """Return a chunk of any stream mode without secrets."""
        found = _message_in(chunk)
        if found is not None:
            return self.redactor.value(found[1](self._settled(*found)))
        is_values = isinstance(chunk, tuple) and len(chunk) > 1 and chunk[-2] == "values"
        return chunk if is_values and self._is_clean(*chunk) else self.redactor.value(chunk)

    def _is_clean(self, *chunk: Any) -> bool:
        """Tell whether values of the graph hold no secret; what an earlier chunk held is not searched again.

        Nothing in the state is changed in place, as what tools stream may be.
        """
        *address, values = chunk
        if not isinstance(values, dict):
            return False
        known = self._clean
        new = {name: held for name, held in values.items() if name not in known or known[name] is not held}
        searched = [address, new]
        if self.redactor.value(searched) is not searched:
            return False
        self._clean |= new
        return True

    def rest(self) -> Iterator[Any]:
        """Give what is held of messages that ended without saying so."""
        for block in self._blocks.values():
            yield from self._part_of(block, len(block.text))
        for piece, wrap in self._held.values():
            yield self.redactor.value(wrap(piece))
        self._blocks.clear()
        self._held.clear()

    def _settled(self, piece: AIMessageChunk, wrap: Wrap) -> AIMessageChunk:
        """Return the part of a message that can no longer become a secret, and hold the rest."""
        if piece.id is None:
            return piece
        earlier = self._held.pop(piece.id, None)
        whole = earlier[0] + piece if earlier else piece
        if piece.chunk_position == "last":
            return whole
        text = whole.content if isinstance(whole.content, str) and _is_plain(whole) else ""
        cut = self._cut(text)
        given = AIMessageChunk(content=text[:cut], id=piece.id)
        if cut < len(text) or not text:
            rest = whole.model_copy(update={"content": whole.content[cut:]})
            self._held[piece.id] = (rest, wrap)
        return given

    def _cut(self, text: str) -> int:
        """Return how much of a text is settled: all before its last words, and before an open secret."""
        cut = len(text)
        for _ in range(_WORDS_HELD):
            cut = max(text.rfind(space, 0, max(cut, 0)) for space in " \n\t")
        cut = min(cut + 1, self.redactor.begun_at(text))
        return cut if len(text) - cut < LONGEST_HELD else len(text)


def _is_plain(piece: AIMessageChunk) -> bool:
    return not (piece.tool_call_chunks or piece.additional_kwargs)


def _event_in(chunk: Any) -> tuple[Mapping[str, Any], tuple[Any, Any]]:
    """Find the event of a message in a chunk of protocol v3, and which block of which message it is about."""
    if isinstance(chunk, dict) and chunk.get("type") == "messages":
        event, metadata = chunk["data"]
        if isinstance(event, dict):
            message = (*chunk["ns"], metadata.get("langgraph_checkpoint_ns"), metadata.get("run_id"))
            return event, (message, event.get("index"))
    return {}, (None, None)


def _message_in(chunk: Any) -> tuple[AIMessageChunk, Wrap] | None:
    """Find the message in (message, metadata), or in that after its mode; and how to put it back."""
    if isinstance(chunk, dict) and chunk.get("type") == "messages":
        return _inside(chunk["data"], lambda data: {**chunk, "data": data})
    if not isinstance(chunk, tuple) or not chunk:
        return None
    if isinstance(chunk[0], AIMessageChunk):
        return chunk[0], lambda message: (message, *chunk[1:])
    return _inside(chunk[-1], lambda last: (*chunk[:-1], last))


def _inside(part: Any, wrap: Callable[[Any], Any]) -> tuple[AIMessageChunk, Wrap] | None:
    found = _message_in(part)
    if found is None:
        return None
    message, put_back = found
    return message, lambda changed: wrap(put_back(changed))
