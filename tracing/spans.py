"""OpenTelemetry spans of runs, as a LangChain callback handler, by the GenAI semantic conventions.

The conventions are those of opentelemetry.io's semantic-conventions-genai as of v1.41, status *development*.
What goes beyond them has the prefix ``plan_execute.``. docs/tracing.md lists all spans and attributes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage, ToolMessage
from langchain_core.outputs import LLMResult
from langgraph.errors import GraphBubbleUp, GraphInterrupt

from ..context import run_redactor
from ..errors import ConfigurationError
from ..safety.redaction import Redactor
from .contents import input_messages, output_messages, plain_text
from .marks import AGENT, ATTEMPT, CALL, ENTRY, ITEM, PART, PLAN, REVISION, ROLE, STEP, SpanKeeper

if TYPE_CHECKING:
    from opentelemetry.context import Context as SpanContext
    from opentelemetry.trace import Span, TracerProvider

__all__ = ["OpenTelemetryTracer"]

_PLANNING = ("planner", "replanner")
_UNSHOWN_NODES = ("executor", "dispatcher")
"""Nodes of the graph without a span: steps have their own, and sending them takes no time."""
_OF_MARKS = {
    PLAN: "plan_execute.plan.id",
    REVISION: "plan_execute.revision",
    ROLE: "plan_execute.role",
    STEP: "plan_execute.step.id",
    ATTEMPT: "plan_execute.attempt",
    ITEM: "plan_execute.item",
}
_PROVIDERS = {
    "azure": "azure.ai.openai",
    "amazon_bedrock": "aws.bedrock",
    "bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "google_genai": "gcp.gemini",
    "google_vertexai": "gcp.vertex_ai",
    "ibm": "ibm.watsonx.ai",
    "mistral": "mistral_ai",
    "mistralai": "mistral_ai",
    "xai": "x_ai",
}
"""LangChain's names of providers that OpenTelemetry calls otherwise."""


@dataclass
class _Open:
    """A run of LangChain that has begun; without a span it only stands between others."""

    entry: str | None
    """The run of our graph that it belongs to."""
    context: SpanContext
    """In which what is within it begins."""
    kind: str = ""
    """``graph`` (one of ours), ``agent`` (another), ``step``, ``attempt``, ``node``, ``call``; or empty."""
    span: Span | None = None
    graph: _Open | None = None
    """The nearest graph of ours around it, or itself."""
    name: str = ""
    waits: bool = False
    """Of a graph: whether a question was asked within it."""


@dataclass(frozen=True)
class _Start:
    """What LangChain says of a run that begins."""

    run_id: UUID
    parent: _Open | None
    name: str
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def entry(self) -> str | None:
        return self.metadata.get(ENTRY)

    @property
    def marks(self) -> dict[str, Any]:
        """Give what the conventions and we call the marks of who is asking."""
        known = {ours: self.metadata.get(mark) for mark, ours in _OF_MARKS.items()}
        known["gen_ai.conversation.id"] = self.metadata.get("thread_id")
        return {key: value for key, value in known.items() if value is not None}


class OpenTelemetryTracer(BaseCallbackHandler, SpanKeeper):
    """Makes OpenTelemetry spans of what happens in runs; pass it in ``config={"callbacks": [tracer]}``.

    One tracer serves any number of runs at the same time. Outside of plan_execute it makes spans of model and
    tool calls only.

    Args:
        tracer_provider: Where spans go; None: OpenTelemetry's global provider.
        capture_content: Whether spans hold what models and tools are told and say, without the run's secrets.

    Raises:
        ConfigurationError: If the extra ``otel`` is not installed.
    """

    run_inline = True
    """Events are taken in the task and in the order in which they happen."""

    def __init__(
        self, tracer_provider: TracerProvider | None = None, *, capture_content: bool = False
    ) -> None:
        try:
            from opentelemetry import context, trace
        except ImportError as error:
            raise ConfigurationError(
                "OpenTelemetryTracer needs the extra `otel`: pip install 'plan-execute[otel]'"
            ) from error
        self._context, self._trace = context, trace
        self._tracer = trace.get_tracer("plan_execute", tracer_provider=tracer_provider)
        self._capture = capture_content
        self._open: dict[UUID, _Open] = {}
        self.redactors: dict[str, Redactor] = {}

    # --- graphs, nodes, steps ------------------------------------------------------------

    def on_chain_start(
        self,
        serialized: dict[str, Any] | None,
        inputs: Any,  # noqa: ARG002 - the signature is BaseCallbackHandler's
        *,
        run_id: UUID,
        **told: Any,
    ) -> None:
        """Begin the span of an agent, a node or a part of a step; what else is a chain has none."""
        start = self._starting(run_id, told, told.get("name") or (serialized or {}).get("name"))
        parent, agent = start.parent, start.metadata.get(AGENT)
        if start.entry is not None and (parent is None or parent.entry != start.entry):
            self._begin(start, "graph", f"invoke_agent {start.name}", _invocation(start.name))
        elif part := start.metadata.get(PART):
            self._begin(start, part, start.name)
        elif parent is not None and parent.kind == "attempt" and agent:
            self._begin(start, "agent", f"invoke_agent {agent}", _invocation(agent))
        elif parent is not None and parent.kind == "graph" and _is_shown_node(start):
            self._begin_node(start, parent.name)
        else:
            self._pass_through(start)

    def _begin_node(self, start: _Start, agent: str) -> None:
        if start.name in _PLANNING:
            told = {"gen_ai.operation.name": "plan", "gen_ai.agent.name": agent, _OF_MARKS[ROLE]: start.name}
            self._begin(start, "node", f"plan {agent}", told)
        else:
            self._begin(start, "node", start.name)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **_: Any) -> None:
        """End the span with what is known of the outcome; a step or a run that failed is an error."""
        run, told = self._open.get(run_id), outputs if isinstance(outputs, Mapping) else {}
        if run is not None and run.kind in ("step", "attempt"):
            shown = {f"plan_execute.{key}": told.get(key) for key in ("status", "verdict", "attempts")}
            self._end(run_id, shown, error_type=(told.get("error") or {}).get("code"))
        elif run is not None and run.kind == "graph":
            status = "waiting" if run.waits else told.get("status")
            failed = "run_failed" if status == "failed" else None
            self._end(run_id, {"plan_execute.status": status}, error_type=failed)
        else:
            self._end(run_id)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """End the span; a question to a person is no error."""
        self._fail(run_id, error)

    # --- models --------------------------------------------------------------------------

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        **told: Any,
    ) -> None:
        """Begin the span of a model call."""
        start = self._starting(run_id, told, (serialized or {}).get("name"))
        self._begin_model_call(start, "chat", told, [message for batch in messages for message in batch])

    def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: list[str],
        *,
        run_id: UUID,
        **told: Any,
    ) -> None:
        """Begin the span of a call of a model that completes text."""
        start = self._starting(run_id, told, (serialized or {}).get("name"))
        self._begin_model_call(start, "text_completion", told, prompts)

    def _begin_model_call(
        self, start: _Start, operation: str, options: Mapping[str, Any], said: Sequence[BaseMessage | str]
    ) -> None:
        told, params = start.metadata, options.get("invocation_params") or {}
        names = (told.get("ls_model_name"), params.get("model"), params.get("model_name"), start.name)
        model = next((str(name) for name in names if name), "unknown")
        provider = str(told.get("ls_provider") or "unknown")
        shown = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": _PROVIDERS.get(provider, provider),
            "gen_ai.request.model": model,
            "gen_ai.request.temperature": told.get("ls_temperature"),
            "gen_ai.request.max_tokens": told.get("ls_max_tokens"),
        }
        self._begin(start, "call", f"{operation} {model}", shown, client=True)
        if self._capture:
            self._show(start.run_id, {"gen_ai.input.messages": input_messages(said)})

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_: Any) -> None:
        """End the span with what the model spent."""
        generations = [one for batch in response.generations for one in batch]
        said = [message for one in generations if (message := getattr(one, "message", None)) is not None]
        if self._capture:
            self._show(run_id, {"gen_ai.output.messages": output_messages(generations)})
        usage: Mapping[str, Any] = next((one.usage_metadata for one in said if _is_priced(one)), {})
        read, written = usage.get("input_token_details") or {}, usage.get("output_token_details") or {}
        told = said[0].response_metadata if said else {}
        reasons = [reason for one in said if (reason := _finish_reason(one.response_metadata))]
        shown = {
            "gen_ai.usage.input_tokens": usage.get("input_tokens"),
            "gen_ai.usage.output_tokens": usage.get("output_tokens"),
            "gen_ai.usage.cache_read.input_tokens": read.get("cache_read"),
            "gen_ai.usage.reasoning.output_tokens": written.get("reasoning"),
            "gen_ai.response.model": told.get("model_name") or told.get("model"),
            "gen_ai.response.id": told.get("id"),
            "gen_ai.response.finish_reasons": reasons or None,
        }
        self._end(run_id, shown)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """End the span of a model call that failed."""
        self._fail(run_id, error)

    # --- tools ---------------------------------------------------------------------------

    def on_tool_start(
        self,
        serialized: dict[str, Any],
        input_str: str,
        *,
        run_id: UUID,
        inputs: dict[str, Any] | None = None,
        tool_call_id: str | None = None,
        **told: Any,
    ) -> None:
        """Begin the span of a tool call."""
        start = self._starting(run_id, told, (serialized or {}).get("name"))
        shown = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": start.name,
            "gen_ai.tool.type": "function",
            "gen_ai.tool.call.id": tool_call_id or start.metadata.get(CALL),
        }
        self._begin(start, "call", f"execute_tool {start.name}", shown)
        if self._capture:
            args = plain_text(inputs if inputs is not None else input_str)
            self._show(run_id, {"gen_ai.tool.call.arguments": args})

    def on_tool_end(self, output: Any, *, run_id: UUID, **_: Any) -> None:
        """End the span of a tool call; one whose message says that it failed is an error."""
        if self._capture:
            said = output.content if isinstance(output, ToolMessage) else output
            self._show(run_id, {"gen_ai.tool.call.result": plain_text(said)})
        failed = isinstance(output, ToolMessage) and output.status == "error"
        self._end(run_id, error_type="tool_error" if failed else None)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """End the span of a tool call that raised."""
        self._fail(run_id, error)

    # --- retrievers ----------------------------------------------------------------------

    def on_retriever_start(
        self,
        serialized: dict[str, Any] | None,
        query: str,  # noqa: ARG002 - the signature is BaseCallbackHandler's
        *,
        run_id: UUID,
        **told: Any,
    ) -> None:
        """Begin the span of a retrieval."""
        start = self._starting(run_id, told, told.get("name") or (serialized or {}).get("name"))
        self._begin(start, "call", f"retrieval {start.name}", {"gen_ai.operation.name": "retrieval"})

    def on_retriever_end(self, documents: Sequence[Any], *, run_id: UUID, **_: Any) -> None:  # noqa: ARG002
        """End the span of a retrieval."""
        self._end(run_id)

    def on_retriever_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """End the span of a retrieval that failed."""
        self._fail(run_id, error)

    # --- spans ---------------------------------------------------------------------------

    def _starting(self, run_id: UUID, told: Mapping[str, Any], name: Any) -> _Start:
        """Read what LangChain says of every beginning."""
        parent_id = told.get("parent_run_id")
        parent = self._open.get(parent_id) if parent_id is not None else None
        return _Start(run_id, parent, str(name or "unnamed"), told.get("metadata") or {})

    def _around(self, start: _Start) -> SpanContext:
        return start.parent.context if start.parent is not None else self._context.get_current()

    def _pass_through(self, start: _Start) -> None:
        graph = start.parent.graph if start.parent is not None else None
        self._open[start.run_id] = _Open(start.entry, self._around(start), graph=graph, name=start.name)

    def _begin(
        self,
        start: _Start,
        kind: str,
        title: str,
        shown: Mapping[str, Any] | None = None,
        *,
        client: bool = False,
    ) -> None:
        around = self._around(start)
        spans = self._trace.SpanKind
        span = self._tracer.start_span(
            title,
            context=around,
            kind=spans.CLIENT if client else spans.INTERNAL,
            attributes=_known({**start.marks, **(shown or {})}),
        )
        run = _Open(start.entry, self._trace.set_span_in_context(span, around), kind, span, name=start.name)
        run.graph = run if kind == "graph" else start.parent.graph if start.parent is not None else None
        self._open[start.run_id] = run

    def _show(self, run_id: UUID, content: Mapping[str, str]) -> None:
        """Put content on a span, without the secrets of its run."""
        run = self._open.get(run_id)
        if run is None or run.span is None:
            return
        redactor = self.redactors.get(run.entry or "") or run_redactor()
        for key, text in content.items():
            run.span.set_attribute(key, redactor.text(text))

    def _end(
        self, run_id: UUID, shown: Mapping[str, Any] | None = None, *, error_type: str | None = None
    ) -> None:
        run = self._open.pop(run_id, None)
        if run is None or run.span is None:
            return
        run.span.set_attributes(_known({**(shown or {}), "error.type": error_type}))
        if error_type is not None:
            run.span.set_status(self._trace.StatusCode.ERROR, error_type)
        run.span.end()
        if run.kind == "graph":
            self._end_what_is_left_of(run)

    def _end_what_is_left_of(self, graph: _Open) -> None:
        """End what nobody has told the end of, such as tasks that were given up: an open span is lost."""
        for run_id, run in list(self._open.items()):
            if run.graph is graph:
                self._end(run_id, error_type="abandoned")

    def _fail(self, run_id: UUID, error: BaseException) -> None:
        run = self._open.get(run_id)
        if isinstance(error, GraphBubbleUp | GeneratorExit):
            # A question to a person, or a caller who has read enough, is no fault.
            asked = isinstance(error, GraphInterrupt)
            if asked and run is not None and run.graph is not None:
                run.graph.waits = True
            self._end(run_id, {"plan_execute.status": "waiting" if asked else None})
        else:
            # Not the exception's text: it may hold anything, and content is off by default.
            self._end(run_id, error_type=getattr(error, "code", None) or type(error).__qualname__)

    @contextmanager
    def current(self, run_id: UUID) -> Iterator[None]:
        """Make the span of a run the current one, within one task."""
        run = self._open.get(run_id)
        token = self._context.attach(run.context) if run is not None else None
        try:
            yield
        finally:
            if token is not None:
                self._context.detach(token)


def _invocation(agent: str) -> dict[str, Any]:
    return {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": "plan_execute",
        "gen_ai.agent.name": agent,
    }


def _is_shown_node(start: _Start) -> bool:
    return start.metadata.get("langgraph_node") == start.name and start.name not in _UNSHOWN_NODES


def _is_priced(said: Any) -> bool:
    return bool(getattr(said, "usage_metadata", None))


def _finish_reason(told: Mapping[str, Any]) -> str | None:
    names = ("finish_reason", "stop_reason", "stopReason", "done_reason")
    return next((str(told[name]) for name in names if told.get(name)), None)


def _known(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in attributes.items() if value is not None}
