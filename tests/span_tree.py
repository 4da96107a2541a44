"""Spans in memory, and the tree that they make."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from plan_execute.tracing import OpenTelemetryTracer

__all__ = ["Spans"]


class Spans:
    """A tracer whose spans are kept in memory."""

    def __init__(self, **options: Any) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = OpenTelemetryTracer(self.provider, **options)

    @property
    def all(self) -> list[ReadableSpan]:
        """The finished spans, in the order in which they began."""
        return sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def named(self, name: str) -> list[ReadableSpan]:
        """The spans of one name."""
        return [span for span in self.all if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        """The only span of a name."""
        (only,) = self.named(name)
        return only

    def path(self, span: ReadableSpan) -> str:
        """The names from the root down to a span."""
        by_id = {one.context.span_id: one for one in self.all if one.context is not None}
        names = [span.name]
        while span.parent is not None and span.parent.span_id in by_id:
            span = by_id[span.parent.span_id]
            names.insert(0, span.name)
        return " > ".join(names)

    @property
    def paths(self) -> set[str]:
        """The paths of all spans."""
        return {self.path(span) for span in self.all}
