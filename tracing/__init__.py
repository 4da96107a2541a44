"""What traces and callbacks see of a run: names, tags and marks of its parts, and OpenTelemetry spans."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .spans import OpenTelemetryTracer

__all__ = ["OpenTelemetryTracer"]


def __getattr__(name: str) -> Any:
    # LangChain's callbacks are heavy to import, and the rest of the room is used by every run.
    if name == "OpenTelemetryTracer":
        from .spans import OpenTelemetryTracer

        return OpenTelemetryTracer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has: OpenTelemetryTracer")
