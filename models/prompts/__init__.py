"""Render the prompts: one Markdown file per role, rendered strictly.

A prompt file may have a ``---`` line: the text above it is the system message, the text below it the human
message. ``{{name}}`` is a variable. A missing or unknown variable is an error, never an empty string.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage

from ...errors import ConfigurationError, known
from ...plan.references import Reference, expression_roots, fill, render

__all__ = [
    "PROMPTS",
    "fill_fragment",
    "fill_quoted",
    "find_delimiter",
    "quote",
    "render_prompt",
    "unquote",
]

PROMPTS = ("planner", "replanner", "executor", "evaluator", "judge", "synthesizer")
_FRAGMENTS = ("plan_lines", "plan_fields")
"""Parts that the prompts of several roles share."""
_VARIABLE = re.compile(r"\{\{(\w+)\}\}")


# Read at import, because a server's event loop must not wait for a file.
_TEMPLATES = {
    name: files(__name__).joinpath(f"{name}.md").read_text(encoding="utf-8")
    for name in (*PROMPTS, *_FRAGMENTS)
}
_WANTED = {name: frozenset(_VARIABLE.findall(template)) for name, template in _TEMPLATES.items()}


def render_prompt(name: str, **variables: str) -> list[BaseMessage]:
    """Render a prompt as a system and a human message.

    Raises:
        ConfigurationError: If the prompt is unknown, or a variable is missing or not used by it.
    """
    if name not in PROMPTS:
        raise ConfigurationError(f"unknown prompt {name!r}; known prompts: {known(PROMPTS)}")
    system, _, human = _checked(name, variables).partition("\n---\n")
    return [SystemMessage(_fill(system, variables)), HumanMessage(_fill(human, variables))]


def fill_fragment(name: str, **variables: str) -> str:
    """Fill in a part that the prompts of several roles share.

    Raises:
        ConfigurationError: If a variable is missing or not used by it.
    """
    return _fill(_checked(name, variables), variables)


def _checked(name: str, variables: Mapping[str, str]) -> str:
    if (wanted := _WANTED[name]) != variables.keys():
        raise ConfigurationError(
            f"prompt {name!r}: missing variables: {known(wanted - variables.keys())}; "
            f"unknown variables: {known(variables.keys() - wanted)}"
        )
    return _TEMPLATES[name]


def _fill(text: str, variables: Mapping[str, str]) -> str:
    """Fill in a text; leave out a line whose variables are all empty."""
    lines = []
    for line in text.split("\n"):
        filled = _VARIABLE.sub(lambda found: variables[found[1]], line) if "{{" in line else line
        if filled or filled is line:
            lines.append(filled)
    return "\n".join(lines).strip()


# --- text that comes from outside ---------------------------------------------------------

_BLANKED = "[…]"
"""Replaces the mark in a text; without a replacement, ``deaddeadbeefbeef`` could close up to it."""


def quote(label: str, text: str, mark: str, *, inline: bool = False) -> str:
    """Delimit text from outside, so that it reads as data and cannot end its own quotation.

    Args:
        label: A label such as ``output of weather``; never text from outside.
        text: The text; every occurrence of ``mark`` in it, ignoring case, is blanked out.
        mark: A random word that the text cannot know; "" only where the prompt is not sent (a cache's key).
        inline: Whether it is within a sentence; text of several lines still gets its own lines.
    """
    safe = re.sub(re.escape(mark), _BLANKED, text, flags=re.IGNORECASE) if mark else text
    edge = "" if inline and len(safe.splitlines()) <= 1 else "\n"
    return f"<data {mark} {label}>{edge}{safe}{edge}</data {mark}>"


_QUOTATION = re.compile(r"<data [0-9a-f]{8} [^>\n]*>\n?|\n?</data [0-9a-f]{8}>")


def unquote(text: str) -> str:
    """Remove the delimiters from a model's answer, because a model that repeats its material repeats them."""
    return _QUOTATION.sub("", text)


def fill_quoted(text: str, scope: Mapping[str, Any], mark: str) -> str:
    """Fill in the references of a text that a model will read, with their values quoted.

    The text is an instruction; another step's output is not, and must not become one by being inserted.
    Numbers, true, false and null are inserted unchanged.

    Raises:
        UnresolvedReferenceError: If a reference has no value.
    """

    def show(reference: Reference, value: Any) -> str:
        if value is None or isinstance(value, bool | int | float):
            return render(value)
        label = " ".join(sorted(expression_roots(reference.expression))) or "value"
        return quote(label, render(value), mark, inline=True)

    return fill(text, scope, show)


_DELIMITERS = re.compile(
    r"</?\s*data\s+[0-9a-f]{6,}"  # Our delimiter, with any mark.
    r"|<\|\s*/?\w{2,24}\s*\|>"  # For example <|im_start|>, <|eot_id|>, <|system|>.
    r"|\[/?INST\]|<</?SYS>>|</?(?:start|end)_of_turn>",
    re.IGNORECASE,
)


def find_delimiter(text: str, mark: str) -> str | None:
    """Find text that could only serve to end a quotation or to open a message of its own.

    That is this run's mark, which nobody outside can know, our delimiter with any other mark, and the
    delimiters of chat templates.
    """
    if mark.lower() in text.lower():
        return "the delimiter of this run"
    found = _DELIMITERS.search(text)
    return found[0] if found else None
