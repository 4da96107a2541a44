"""Force an answer to follow a grammar, if a model's server can do that."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from langchain_core.language_models import BaseChatModel

from ..context import GrammarPolicy
from ..plan.notations.grammar import Bounds
from .chat import model_name
from .client_errors import rejects_mode
from .endpoints import endpoint_of
from .servers import Server, server_of

__all__ = ["AnswerGrammar", "grammar_settings", "refuses_grammar"]

WIDE = Bounds()
TIGHT = Bounds(text=60, items=6)
"""The limit of texts after an answer was cut off, because a weak model fills every text to its end."""
_MOST_STEPS = 30
_LONGEST = 400_000
"""The most characters of a grammar that is sent."""


@dataclass(frozen=True)
class AnswerGrammar:
    """A grammar for the text form of an answer."""

    write: Callable[..., str]
    """Writes the grammar for ``bounds=``."""
    steps: int | None = None
    """The most steps of a plan, if that is set."""
    policy: GrammarPolicy = "auto"


_REFUSING: set[str] = set()
"""Models whose servers refused a grammar; kept as long as the process runs."""
_REFUSED = re.compile(r"(?i)grammar|structured.?output|guided|sampler|extra (?:inputs|fields)|unknown")


async def grammar_settings(
    model: BaseChatModel, grammar: AnswerGrammar | None, *, tight: bool
) -> dict[str, Any]:
    """Return the call settings that enforce a grammar; none if the server does not support it."""
    if grammar is None or grammar.policy == "off" or _key(model) in _REFUSING:
        return {}
    server = await server_of(model)
    program = server.program if grammar.policy == "auto" else grammar.policy
    # llama.cpp applies the grammar to the thinking too, which would prevent it.
    if not program or (program == "llama.cpp" and server.thinks and grammar.policy == "auto"):
        return {}
    bounds = TIGHT if tight else WIDE
    text = grammar.write(bounds=replace(bounds, steps=min(grammar.steps or bounds.steps, _MOST_STEPS)))
    if len(text) > _LONGEST:
        return {}
    own = getattr(model, "extra_body", None) or {}
    return {"extra_body": {**own, **_request(program, server, text)}}


def _request(program: str, server: Server, text: str) -> dict[str, Any]:
    if program == "llama.cpp":
        return {"grammar": text}
    if server.version and server.version < (0, 11):
        return {"guided_grammar": text}
    return {"structured_outputs": {"grammar": text}}


def refuses_grammar(model: BaseChatModel, error: BaseException) -> bool:
    """Tell whether an error means that the server refuses grammars, or this one, and remember it."""
    if not rejects_mode(error) or not _REFUSED.search(str(error)):
        return False
    _REFUSING.add(_key(model))
    return True


def _key(model: BaseChatModel) -> str:
    return f"{model_name(model)}|{endpoint_of(model)}"
