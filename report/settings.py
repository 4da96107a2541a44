"""The settings of a run that somebody wants to know: those that steer it, and those that were changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..context import Context

__all__ = ["settings_that_matter"]

_ALWAYS = ("approval", "on_failure", "max_parallel", "max_attempts", "max_replans")
_NEVER = {"secret_names"}


def settings_that_matter(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """List settings as (title, value): a few always, the others where they are not as by default."""
    defaults = Context().model_dump(mode="json")
    fields = Context.model_fields
    settings = {**{name: defaults[name] for name in _ALWAYS}, **settings}
    named = [*_ALWAYS, *(name for name in settings if name not in _ALWAYS and name not in _NEVER)]
    return [
        (str(fields[name].title if name in fields else name), _said(settings[name]))
        for name in named
        if name in _ALWAYS or settings[name] != defaults.get(name)
    ]


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {item}" for key, item in value.items())
    return "none" if value is None else str(value)
