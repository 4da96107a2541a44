"""Keep secrets out of what is sent to LangSmith."""

from __future__ import annotations

from typing import Any

from pydantic_core import to_jsonable_python

from ..safety.redaction import Redactor
from .entry import redactor_of_entry

__all__ = ["RedactingClient"]

_CONTENT = ("name", "inputs", "outputs", "error", "events", "tags", "extra", "serialized")
"""What LangSmith is told of a run, besides ids and times."""


class RedactingClient:
    """Stands before a LangSmith client and takes the secrets out of the runs that are ours."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def create_run(self, *args: Any, **told: Any) -> None:
        """Tell LangSmith of a run that begins."""
        self._client.create_run(*args, **_without_secrets(told))

    def update_run(self, *args: Any, **told: Any) -> None:
        """Tell LangSmith how a run ended."""
        self._client.update_run(*args, **_without_secrets(told))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def _without_secrets(told: dict[str, Any]) -> dict[str, Any]:
    redactor = redactor_of_entry((told.get("extra") or {}).get("metadata"))
    if redactor is None:
        return told
    return {
        key: _plain(value, redactor) if key in _CONTENT and value else value for key, value in told.items()
    }


def _plain(value: Any, redactor: Redactor) -> Any:
    """Write a value as JSON first: LangSmith would write objects whose texts nobody has searched."""
    try:
        plain = to_jsonable_python(value, fallback=str, serialize_unknown=True, bytes_mode="base64")
    except (ValueError, RecursionError) as error:
        plain = {"unreadable": f"{type(error).__name__}: {error}"}
    return redactor.value(plain)
