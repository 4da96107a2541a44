"""The command line and the server's graph are traced when environment variables say so."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from trace_server import TraceServer

from plan_execute.context import Environment
from plan_execute.errors import ConfigurationError
from plan_execute.tracing.export import tracers_of

TOOLS = 'def look() -> str:\n    """Look."""\n    import os\n    return os.environ["SHOP_TOKEN"]\n'
PLAN = "goal: look\nsteps:\n  - id: look\n    call: {tool: look, args: {}}\n"


def test_the_command_line_sends_spans_over_otlp_and_runs_to_langsmith_and_loses_none_at_its_end(tmp_path):
    (tmp_path / "looking.py").write_text(TOOLS)
    (tmp_path / "look.yaml").write_text(PLAN)
    program = shutil.which("plan-execute", path=str(Path(sys.executable).parent))
    assert program
    with TraceServer() as server:
        env = {name: value for name, value in os.environ.items() if not name.startswith("PLAN_EXECUTE_")}
        env |= {
            "PLAN_EXECUTE_DB": str(tmp_path / "threads.db"),
            "PLAN_EXECUTE_TRACING": "otel",
            "OTEL_EXPORTER_OTLP_ENDPOINT": server.url,
            "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "true",
            "LANGSMITH_TRACING": "true",
            "LANGSMITH_ENDPOINT": server.url,
            "LANGSMITH_API_KEY": "not-a-key-but-secret",
            "SHOP_TOKEN": "whisper-me-not-1234",
        }
        command = [program, "run", "--plan", "look.yaml", "--tools", "looking:look", "--yes"]
        done = subprocess.run(
            command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        sent = "\n".join(server.bodies)
    assert {"invoke_agent plan_execute", "step look", "execute_tool look"} <= set(server.spans)
    assert server.path_of("look") == ["plan_execute", "executor", "step look", "attempt 1", "look"]
    assert server.runs["plan_execute"]["end_time"]
    assert "whisper" not in sent
    assert "[redacted SHOP_TOKEN]" in sent
    assert "not-a-key-but-secret" not in sent


def test_nothing_is_traced_unless_it_is_asked_for():
    assert tracers_of(Environment.read({})) == []


def test_an_unknown_way_of_tracing_is_refused_with_the_known_ones():
    with pytest.raises(ConfigurationError, match="known: otel"):
        tracers_of(Environment.read({"PLAN_EXECUTE_TRACING": "jaeger"}))


@pytest.mark.parametrize(("value", "captured"), [("", False), ("no_content", False), ("span_only", True)])
def test_content_is_asked_for_by_the_variable_of_opentelemetrys_own_instrumentations(value, captured):
    environ = {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": value}
    assert Environment.read(environ).captures_content is captured


def test_the_servers_graph_makes_spans_for_whatever_provider_there_is():
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    from plan_execute.graph import build, server

    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        trace.set_tracer_provider(TracerProvider())
    given = trace.get_tracer_provider()
    agent = build.create_plan_execute_agent()
    traced = server.watched_by(agent, Environment(tracing="otel"))
    assert [type(one).__name__ for one in traced.config["callbacks"]] == ["OpenTelemetryTracer"]
    assert trace.get_tracer_provider() is given
    assert server.watched_by(agent, Environment()) is agent
