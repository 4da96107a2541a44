"""What the door does so that a run can be traced: it names the run, and keeps its secrets out of traces."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from langchain_core.callbacks import AsyncCallbackManager, BaseCallbackHandler, BaseCallbackManager
from langchain_core.runnables import RunnableConfig
from pydantic_core import to_jsonable_python

from ..context import run_redactor
from ..safety.redaction import Redactor
from .marks import ENTRY, TAG, SpanKeeper, with_marks

__all__ = ["watched_entry"]


@contextmanager
def watched_entry(
    config: RunnableConfig, own: RunnableConfig | None, thread_id: str, redactor: Redactor
) -> Iterator[RunnableConfig]:
    """Give the config with which the graph runs: as it is where nobody watches.

    Args:
        config: The caller's.
        own: What the agent was given by ``with_config``.
        thread_id: What traces call the conversation.
        redactor: Keeps the run's secrets out of LangSmith's traces and of OpenTelemetry's content.
    """
    given = config.get("callbacks")
    manager = AsyncCallbackManager.configure(
        inheritable_callbacks=given, local_callbacks=(own or {}).get("callbacks")
    )
    if not manager.handlers:
        yield config
        return
    shield_tracers(manager.handlers)
    if not _has_langsmith(_handlers(given)) and _has_langsmith(manager.inheritable_handlers):
        # LangSmith is on by its environment variables: its tracer is made here, to be the shielded one.
        config = {**config, "callbacks": AsyncCallbackManager.configure(inheritable_callbacks=given)}
        shield_tracers(_handlers(config["callbacks"]))
    entry, watching = uuid4().hex, [*manager.handlers, *_handlers(config.get("callbacks"))]
    known = [redactors for handler in watching if (redactors := _redactors_of(handler)) is not None]
    for redactors in known:
        redactors[entry] = redactor
    try:
        yield with_marks(config, {ENTRY: entry, "thread_id": thread_id}, tags=[TAG])
    finally:
        for redactors in known:
            redactors.pop(entry, None)  # two handlers may share a client


def _handlers(callbacks: Any) -> list[BaseCallbackHandler]:
    return callbacks.handlers if isinstance(callbacks, BaseCallbackManager) else list(callbacks or ())


def _redactors_of(handler: BaseCallbackHandler) -> dict[str, Redactor] | None:
    """Return the redactors of the runs that a handler watches now, by the name in their metadata."""
    watcher = getattr(handler, "client", handler)
    return watcher.redactors if isinstance(watcher, RedactingClient | SpanKeeper) else None


def shield_tracers(handlers: list[BaseCallbackHandler]) -> None:
    """Let LangSmith's tracers send only what has passed the redactor of the run that it belongs to."""
    from langchain_core.tracers.langchain import LangChainTracer

    for handler in handlers:
        # In place: LangGraph merges and copies callbacks in many ways, and a copy keeps its client.
        if isinstance(handler, LangChainTracer) and not isinstance(handler.client, RedactingClient):
            handler.client = RedactingClient(handler.client)  # type: ignore[assignment]


def _has_langsmith(handlers: list[BaseCallbackHandler]) -> bool:
    from langchain_core.tracers.langchain import LangChainTracer

    return any(isinstance(handler, LangChainTracer) for handler in handlers)


# --- LangSmith ---------------------------------------------------------------------------

_CONTENT = ("name", "inputs", "outputs", "error", "events", "tags", "extra", "serialized")
"""What LangSmith is told of a run, besides ids and times."""


class RedactingClient:
    """Stands before a LangSmith client and takes the secrets out of the runs that are ours."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.redactors: dict[str, Redactor] = {}

    def create_run(self, *args: Any, **told: Any) -> None:
        """Tell LangSmith of a run that begins."""
        self._client.create_run(*args, **self._without_secrets(told))

    def update_run(self, *args: Any, **told: Any) -> None:
        """Tell LangSmith how a run ended."""
        self._client.update_run(*args, **self._without_secrets(told))

    def _without_secrets(self, told: dict[str, Any]) -> dict[str, Any]:
        entry = ((told.get("extra") or {}).get("metadata") or {}).get(ENTRY)
        if entry is None:
            return told  # no run of ours
        # What comes after its run has ended is still redacted, by the names that hold by default.
        redactor = self.redactors.get(str(entry)) or run_redactor()
        return {
            key: _plain(value, redactor) if key in _CONTENT and value else value
            for key, value in told.items()
        }

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def _plain(value: Any, redactor: Redactor) -> Any:
    """Write a value as JSON first: LangSmith would write objects whose texts nobody has searched."""
    try:
        plain = to_jsonable_python(value, fallback=str, serialize_unknown=True, bytes_mode="base64")
    except (ValueError, RecursionError) as error:
        plain = {"unreadable": f"{type(error).__name__}: {error}"}
    return redactor.value(plain)
