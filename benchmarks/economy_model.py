"""The model of ``economy.py``: it answers as a script says, counts tokens, and takes the declared time."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))  # the server is that of the tests

from openai_stub import Reply

__all__ = ["Body", "Call", "Model", "Said", "Script", "best_tokenizer", "compact", "tokenizer"]

Body = dict[str, Any]
Said = tuple[str | None, list[tuple[str, dict[str, Any]]]]
"""Text and tool calls of an answer."""
Script = Callable[[Body], tuple[str, Said]]
"""Who is asking, and what the model says."""


def tokenizer(name: str) -> Callable[[str], int]:
    """Return what counts tokens."""
    if name == "chars":
        return lambda text: math.ceil(len(text) / 4)
    import tiktoken

    encoding = tiktoken.get_encoding("o200k_base")
    return lambda text: len(encoding.encode(text))


def best_tokenizer() -> str:
    """Name the tokenizer of today's models if its vocabulary is here or can be loaded, else ``chars``."""
    try:
        tokenizer("tiktoken")
    except (ImportError, OSError) as error:  # what requests raises is an OSError
        print(
            f"tokens are counted as four characters each: no vocabulary for tiktoken ({type(error).__name__})"
        )
        return "chars"
    return "tiktoken"


@dataclass
class Call:
    """One model call, as the server saw it."""

    who: str
    prompt: int
    completion: int
    parts: dict[str, int]

    @property
    def first_token_s(self) -> float:
        """Seconds before anything is written."""
        return 0.25 + 0.00002 * self.prompt

    @property
    def seconds(self) -> float:
        """The declared latency."""
        return self.first_token_s + TOKEN_S * self.completion


TOKEN_S = 0.005


@dataclass
class Model:
    """Answers as a script says, and counts."""

    script: Script
    count: Callable[[str], int]
    delays: bool = False
    calls: list[Call] = field(default_factory=list)

    def __call__(self, body: Body) -> Reply:
        """Answer a request of the client's."""
        who, (text, called) = self.script(body)
        parts = self._parts(body)
        pieces = [text or "", *(name + compact(arguments) for name, arguments in called)]
        call = Call(who, sum(parts.values()), sum(map(self.count, pieces)), parts)
        self.calls.append(call)
        return Reply(
            text,
            tool_calls=called,
            usage=(call.prompt, call.completion),
            delay_s=call.first_token_s * self.delays,
            token_s=TOKEN_S * self.delays,
        )

    def _parts(self, body: Body) -> dict[str, int]:
        parts: dict[str, int] = {}
        for message in body["messages"]:
            told = str(message.get("content") or "")
            called = message.get("tool_calls")
            role = message["role"]
            parts[role] = parts.get(role, 0) + self.count(told + (compact(called) if called else ""))
        if body.get("tools"):
            parts["tools"] = self.count(compact(body["tools"]))
        if body.get("response_format"):
            parts["schema"] = self.count(compact(body["response_format"]))
        return parts


def compact(value: Any) -> str:
    """Write JSON as models do in strict modes."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
