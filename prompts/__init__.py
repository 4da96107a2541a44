"""What is said to models: one Markdown file per role, rendered strictly.

A prompt file has an optional ``---`` line: what is above it is the system
message, what is below the human message. ``{{name}}`` stands for a variable.
A variable that is missing or unknown is an error, never an empty string.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files

from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage

from ..errors import ConfigurationError, known

__all__ = ["PROMPTS", "quote", "render_prompt"]

PROMPTS = ("planner", "replanner", "executor", "evaluator", "judge", "synthesizer")
_VARIABLE = re.compile(r"\{\{(\w+)\}\}")


# Read at import: a server's event loop must not wait for a file.
_TEMPLATES = {name: files(__name__).joinpath(f"{name}.md").read_text(encoding="utf-8") for name in PROMPTS}


def _template(name: str) -> str:
    if name not in _TEMPLATES:
        raise ConfigurationError(f"unknown prompt {name!r}; known prompts: {known(PROMPTS)}")
    return _TEMPLATES[name]


def render_prompt(name: str, **variables: str) -> list[BaseMessage]:
    """Render a prompt as a system and a human message.

    Raises:
        ConfigurationError: If the prompt is unknown, or a variable is missing or not used by it.
    """
    template = _template(name)
    wanted = set(_VARIABLE.findall(template))
    if wanted != set(variables):
        raise ConfigurationError(
            f"prompt {name!r}: missing variables: {known(wanted - set(variables))}; "
            f"unknown variables: {known(set(variables) - wanted)}"
        )
    system, _, human = template.partition("\n---\n")
    return [SystemMessage(_fill(system, variables)), HumanMessage(_fill(human, variables))]


def _fill(text: str, variables: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda found: variables[found[1]], text).strip()


def quote(label: str, text: str, mark: str) -> str:
    """Delimit text that comes from outside, so that it reads as data and cannot end its own quotation.

    Args:
        label: What it is, for example ``output of weather``.
        text: The text; any occurrence of ``mark`` in it is removed.
        mark: A random word that the text cannot know.
    """
    return f"<data {mark} {label}>\n{text.replace(mark, '')}\n</data {mark}>"
