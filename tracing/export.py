"""Switch tracing on by environment variables, for the command line and the server's graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..context import Environment
from ..errors import ConfigurationError

if TYPE_CHECKING:
    from langchain_core.callbacks import BaseCallbackHandler

__all__ = ["tracers_of"]

_SDK = "opentelemetry-sdk opentelemetry-exporter-otlp-proto-http"


def tracers_of(environment: Environment) -> list[BaseCallbackHandler]:
    """Make the tracers that the environment asks for; LangSmith needs none, LangChain adds its own.

    Raises:
        ConfigurationError: If ``PLAN_EXECUTE_TRACING`` is not known, or what it needs is not installed.
    """
    if environment.tracing is None:
        return []
    if environment.tracing != "otel":
        raise ConfigurationError(
            f"PLAN_EXECUTE_TRACING is {environment.tracing!r}; known: otel (LangSmith has LANGSMITH_TRACING)"
        )
    from .spans import OpenTelemetryTracer

    tracer = OpenTelemetryTracer(capture_content=environment.captures_content)
    _require_provider()
    return [tracer]


def _require_provider() -> None:
    """Send spans over OTLP, where neither a program around us nor ``opentelemetry-instrument`` says how."""
    from opentelemetry import trace

    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise ConfigurationError(
            f"PLAN_EXECUTE_TRACING=otel needs somewhere to send spans to: pip install {_SDK}, "
            "or run the program with opentelemetry-instrument"
        ) from error
    # The SDK reads OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME and so on by itself, and sends what is
    # left when the process ends.
    provider: Any = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
