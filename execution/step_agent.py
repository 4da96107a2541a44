"""The inner ReAct subgraph of agent steps: built once; each call is checked against the step's grant."""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolCall, ToolMessage
from langchain_core.runnables.config import var_child_runnable_config
from langgraph.config import get_config
from langgraph.errors import GraphBubbleUp, is_invalid_resume
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt.tool_node import ToolCallRequest
from langgraph.types import Command, TracePolicy

from ..errors import (
    BadArgumentsError,
    BudgetExceededError,
    IterationLimitError,
    ModelOutputError,
    PlanExecuteError,
    ToolFailedError,
    WorkLimitError,
    known,
)
from ..models.client_errors import as_model_error, describe_model
from ..models.fallbacks import first_that_answers
from ..models.json_modes import refuses_response_settings, response_settings
from ..models.limits import refuses_token_limit, token_limit, within_time
from ..models.metered import counted
from ..models.prompts import quote
from ..models.retrying import retry_transient
from ..models.servers import UNKNOWN, require_tools, server_of
from ..run import StepScope, step_scope_of
from ..state import Effect, Evidence
from ..storage.calls import is_collected_fault
from ..storage.ids import CallId
from ..tools.calls import failed_call, require_credentials, without_secrets
from ..tools.idempotency import keyed_tool
from ..tools.texts import preview
from ..tools.toolbox import Toolbox
from ..tools.values import plain_output, spoken
from ..tracing.marks import current_span
from .counting import counting
from .effects import call_once, content_of
from .endings import with_cannot
from .evidence import ANSWER, CALLED_WITH, MADE
from .granted import asks_for_a_call, confirmed_call
from .middleware import Outermost, check_middleware, tool_name
from .turns import as_text, correction_of, raise_if_no_result

__all__ = ["as_subgraph", "make_step_agent"]

Hook = TypeVar("Hook", bound=Callable[..., Any])


def make_step_agent(
    model: BaseChatModel, toolbox: Toolbox, middleware: Sequence[AgentMiddleware[Any, Any]] = ()
) -> CompiledStateGraph[Any, Any, Any, Any]:
    """Build the ReAct agent that every agent step shares.

    Args:
        model: The default; a run may name another one.
        toolbox: All tools; what a step may use is decided per call.
        middleware: The embedder's own; the guard is the innermost, so that nothing can bypass it.

    Raises:
        ConfigurationError: If a middleware would bypass the guard.
    """
    guard = StepGuard(toolbox, model)
    if not middleware:
        return create_agent(model, toolbox.tools, middleware=[guard], name="step_agent")
    check_middleware(middleware, toolbox)
    around = [Outermost(toolbox), *middleware, guard]
    return create_agent(model, toolbox.tools, middleware=around, name="step_agent")


def as_subgraph(step_agent: CompiledStateGraph[Any, Any, Any, Any]) -> CompiledStateGraph[Any, Any, Any, Any]:
    """Draw the executor's work as a graph, so that Studio finds the agent at ``executor:agent``.

    It is only drawn: a step calls the agent itself, which saves a loop and a checkpoint.
    """
    drawn = StateGraph(MessagesState)
    drawn.add_node("agent", step_agent)
    # langchain-core 1.7.2 omits the agent from a Mermaid picture if the executor has only one node.
    drawn.add_conditional_edges(START, lambda _: "agent step", {"agent step": "agent", "any other step": END})
    drawn.add_edge("agent", END)
    return drawn.compile(name="executor")


def _signed(hook: Hook) -> Hook:
    """Note a hook's signature: langsmith 0.15 asks for it at every call, and reading it takes long."""
    hook.__signature__ = inspect.signature(hook)  # type: ignore[attr-defined]
    return hook


class StepGuard(AgentMiddleware[Any, Any]):
    """Lets a step see and call only the tools that the approved plan grants it, within its limits.

    The two methods that LangChain calls are plain functions that return an awaitable. For a coroutine
    function, LangChain 1.4.7 uses two threads per call, traced or not, which takes a tenth of an agent step's
    time. So a trace shows the guard without a duration; the calls in it have theirs.
    """

    trace_policy = TracePolicy(process_outputs=lambda _: {})

    def __init__(self, toolbox: Toolbox, model: BaseChatModel) -> None:
        super().__init__()
        self._toolbox, self._model = toolbox, model

    @_signed
    def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> Coroutine[Any, Any, ModelResponse[Any]]:
        """Offer the step's tools only; count the turn and the call."""
        return self._model_call(request, handler)

    @_signed
    def awrap_tool_call(
        self,
        request: ToolCallRequest,
        handler: Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]],
    ) -> Coroutine[Any, Any, ToolMessage | Command[Any]]:
        """Refuse calls that are not granted; make calls with effects once; tell the model about failures."""
        return self._tool_call(request, handler)

    async def _model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> ModelResponse[Any]:
        scope = step_scope_of(get_config())
        _recover(scope, request.messages)
        # A middleware may have removed turns from the conversation.
        turns = max(scope.turns, sum(isinstance(message, AIMessage) for message in request.messages))
        if turns >= scope.max_iterations:
            raise IterationLimitError(f"no answer within max_iterations={scope.max_iterations} turns")
        left = scope.max_iterations - turns
        # A middleware may choose the model, as a router or a fallback.
        chosen = request.model is not self._model
        model = request.model if chosen else scope.model or request.model
        offered = [tool for tool in request.tools if tool_name(tool) in scope.tools]

        async def ask(member: BaseChatModel, tries: int) -> ModelResponse[Any]:
            who = describe_model("executor", member)
            shown = [_quoted(message, scope.run.mark, member.profile or {}) for message in request.messages]

            async def say(told: Sequence[AnyMessage]) -> ModelResponse[Any]:
                wanted = {"model": member, "tools": offered, "messages": [*shown, *told]}
                try:
                    return await _in_form(scope, request, wanted, handler, tries, who)
                except (GraphBubbleUp, BudgetExceededError):
                    raise
                except Exception as error:
                    raise as_model_error(error, "executor", member) from error

            return await _corrected(say, request.messages, scope, left, who)

        scope.turns = turns + 1
        try:
            answer = await first_that_answers(model, ask)
        except PlanExecuteError as error:
            scope.unanswered = error
            raise
        scope.unanswered = None
        # Tools are called with the recorded arguments, which contain no secrets.
        return scope.run.redact(answer)

    async def _tool_call(
        self,
        request: ToolCallRequest,
        handler: Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]],
    ) -> ToolMessage | Command[Any]:
        scope, call = step_scope_of(get_config()), request.tool_call
        # A middleware may have replaced the granted tool.
        if call["name"] not in scope.tools or request.tool is not self._toolbox.get(call["name"]):
            return _refusal(call, scope)
        if (answer := _given_answer(request)) is not None:
            return answer  # A person's answer stands, whatever another middleware sends here.
        _recover(scope, request.state["messages"])
        effect = self._toolbox.effect(call["name"])
        tool, name, asked = self._toolbox.get(call["name"]), call["name"], _asked(request)
        takes_key = self._toolbox.exact(name).takes_key
        order = _order(request, asked)
        args = scope.run.redact(call["args"])
        args = await self._confirmed(request, scope, args, effect, [order, *_changed(asked, name, args)])
        if args is not call["args"]:
            request = request.override(tool_call={**call, "args": args})
        seen = scope.begin_call(request.tool_call, effect)

        async def make(this: CallId) -> Any:
            keyed = request
            if takes_key:
                key = dict.fromkeys(takes_key, this.idempotency_key)
                keyed = request.override(tool=keyed_tool(tool, key))
            return await _made(keyed, handler, scope, transient_tries=1 if effect == "write" else 4)

        call_id = str(call["id"] or "")
        try:
            require_credentials(name, args)
            await self._toolbox.check_arguments(name, args)
            changed = "".join(_changed(asked, name, args))
            output = await call_once(
                scope,
                name,
                args,
                effect,
                make,
                order=order,
                instead_of=changed,
                call_id=call_id,
                tell=partial(scope.tell_call, request.runtime, seen),
            )
        except (ToolFailedError, BadArgumentsError, WorkLimitError) as error:
            answer = ToolMessage(str(error), tool_call_id=call["id"], name=name, status="error")
        else:
            answer = _message(output, call)
        ok = answer.status != "error"
        # A person or a middleware may have changed the call, which the model's own turn does not show.
        changes = {CALLED_WITH: args} if args != asked["args"] else {}
        answer.response_metadata = {MADE: ok, **changes}
        if (around := ANSWER.get()) is not None and around[0] is scope:
            around[1].clear()
            around[1].update(answer.response_metadata)
        _ended(scope, request, seen, ok=ok, output=answer.text)
        return answer

    async def _confirmed(
        self,
        request: ToolCallRequest,
        scope: StepScope,
        args: dict[str, Any],
        effect: Effect,
        occasion: Sequence[Any],
    ) -> dict[str, Any]:
        """Show a person a call's arguments if that is needed and the call can be made with them."""
        name = request.tool_call["name"]
        has_read = any(isinstance(message, ToolMessage) for message in request.state["messages"])
        if not asks_for_a_call(scope, effect, has_read=has_read):
            return args
        try:
            await self._toolbox.check_arguments(name, args)
        except (BadArgumentsError, WorkLimitError):
            return args  # The call is refused, and the model is told why.
        return await confirmed_call(scope, name, args, self._toolbox, occasion)


def _given_answer(request: ToolCallRequest) -> ToolMessage | None:
    """Return a call's answer from before the call: a person rejected it, or answered for the tool."""
    ids = {request.tool_call["id"], request.runtime.tool_call_id}
    for message in reversed(request.state["messages"]):
        if isinstance(message, AIMessage):
            return None
        if isinstance(message, ToolMessage) and message.tool_call_id in ids:
            return message
    return None


def _ended(scope: StepScope, request: ToolCallRequest, seen: Evidence, *, ok: bool, output: str) -> None:
    """Record a call that ended, as evidence for an attempt that is interrupted later."""
    scope.end_call(request.runtime, seen, ok=ok, output=output)
    scope.calls.append(seen)


def _quoted(message: AnyMessage, mark: str, profile: Mapping[str, Any]) -> AnyMessage:
    """Show the model a tool's output as quoted data; the recorded conversation keeps it unchanged.

    Args:
        message: The message.
        mark: The delimiter of the data.
        profile: What LangChain knows of the model, such as whether it sees images.
    """
    if not isinstance(message, ToolMessage):
        return message
    # The tool's name is not used: a refused call has a name that the model made up.
    content = message.content
    if isinstance(content, str):
        return message.model_copy(update={"content": quote("tool output", content, mark)})
    return message.model_copy(update={"content": [_quoted_block(block, mark, profile) for block in content]})


def _quoted_block(block: str | dict[str, Any], mark: str, profile: Mapping[str, Any]) -> str | dict[str, Any]:
    if isinstance(block, str):
        return quote("tool output", block, mark)
    if isinstance(text := block.get("text"), str):
        return {**block, "text": quote("tool output", text, mark)}
    if (named := _in_words(block) or _unseen(block, profile)) is not None:
        return {"type": "text", "text": quote("tool output", named, mark)}
    return block


def _in_words(block: dict[str, Any]) -> str | None:
    """Describe a link, or data without a type, which providers refuse; None for other blocks."""
    kind, data = block.get("type"), block.get("base64") or block.get("blob") or block.get("data")
    if kind in ("file", "resource", "resource_link") and not data:
        link = block.get("url") or block.get("uri") or (block.get("resource") or {}).get("uri")
        return f"a link to {link}" if link else json.dumps(block, ensure_ascii=False, default=str)
    if kind in ("file", "resource") and not (block.get("mime_type") or block.get("mimeType")):
        return f"a file of {len(str(data)) * 3 // 4} bytes; its type is not known, so it is not shown"
    return None


_SEES = {
    "image": ("image_inputs", "image_tool_message"),
    "audio": ("audio_inputs",),
    "video": ("video_inputs",),
}
"""Keys of a model's profile that must not be false if it should get such a block from a tool."""


def _unseen(block: dict[str, Any], profile: Mapping[str, Any]) -> str | None:
    """Describe a block that the model is known not to accept; its provider would refuse the whole request."""
    kind = str(block.get("type"))
    wanted = _SEES.get(kind, ()) + (("image_url_inputs",) if kind == "image" and block.get("url") else ())
    if all(profile.get(ability) is not False for ability in wanted):
        return None
    where = f" at {block['url']}" if block.get("url") else ""
    return f"{kind} ({block.get('mime_type') or 'of unknown type'}){where}, which this model cannot process"


def _recover(scope: StepScope, messages: Sequence[Any]) -> None:
    """At the first call of an entry, all earlier messages were counted in an earlier entry."""
    if not scope.recovered:
        scope.recovered = True
        scope.tab.recover("executor", messages, scope.model)


_CORRECTIONS = 2
"""How often an unusable turn is corrected."""


async def _corrected(
    say: Callable[[Sequence[AnyMessage]], Awaitable[ModelResponse[Any]]],
    before: Sequence[AnyMessage],
    scope: StepScope,
    left: int,
    who: str,
) -> ModelResponse[Any]:
    """Ask for a turn, and tell the model what to correct until the turn is usable.

    Args:
        say: Asks the model; it gets the messages since the recorded conversation.
        before: The recorded conversation.
        scope: The step.
        left: How many turns it may still take.
        who: The model, for messages.

    Raises:
        ModelCallError: If no turn is usable.
    """
    told: list[AnyMessage] = []
    for corrections in range(_CORRECTIONS + 1):
        response = await say(told)
        turn = _turn_in(response)
        if turn is None:
            return response
        raise_if_no_result(turn, who)
        problem = correction_of(turn, [*before, *told], scope.tools, scope.output_schema)
        if problem is None:
            response.result = [*told, *response.result]
            return response
        if corrections + 1 >= left:
            break
        told += [as_text(turn), HumanMessage(problem)]
    raise ModelOutputError(f"{who} gave no usable turn: {problem} For a known call use a bound step.")


@contextmanager
def _named_call(scope: StepScope) -> Iterator[None]:
    """Name the model call for traces: create_agent (langchain 1.4) calls the model without a config."""
    token = var_child_runnable_config.set({**get_config(), "run_name": f"executor {scope.step_id}"})
    try:
        yield
    finally:
        var_child_runnable_config.reset(token)


def _asked(request: ToolCallRequest) -> ToolCall:
    """Return the call as in the model's last turn; a person or a middleware may change it afterwards."""
    this = request.tool_call
    turns = (message for message in reversed(request.state["messages"]) if isinstance(message, AIMessage))
    return next((call for call in next(turns).tool_calls if call["id"] == this["id"]), this)


def _changed(asked: ToolCall, name: str, args: Mapping[str, Any]) -> list[str]:
    """Return what the model asked for if the call was changed, because it may repeat an earlier one."""
    if asked["name"] == name and asked["args"] is args:
        return []
    wanted = content_of(asked["name"], asked["args"])
    return [wanted] if content_of(name, args) != wanted else []


def _order(request: ToolCallRequest, this: ToolCall) -> int:
    """Count the earlier calls with the same content, because a model that is asked again uses new ids."""
    said = [message for message in request.state["messages"] if isinstance(message, AIMessage)]
    same = [
        (message is said[-1], call["id"])
        for message in said
        for call in message.tool_calls
        if (call["name"], call["args"]) == (this["name"], this["args"])
    ]
    before = sum(not now for now, _ in same)
    ids = [call_id for now, call_id in same if now]
    return before + (ids.index(this["id"]) if this["id"] in ids else 0)


async def _in_form(
    scope: StepScope,
    request: ModelRequest[Any],
    wanted: dict[str, Any],
    handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    tries: int,
    who: str,
) -> ModelResponse[Any]:
    """Ask for the step's declared form if the model supports it; the answer is checked anyway.

    Args:
        scope: The step.
        request: What the agent asks.
        wanted: What to use instead: ``model``, ``tools``, ``messages``.
        handler: Asks.
        tries: How often.
        who: The model, for messages.
    """
    model = wanted["model"]
    own = scope.output_schema
    server = await server_of(model) if own is not None or wanted["tools"] else UNKNOWN
    if wanted["tools"]:
        require_tools(server, who)
    schema = None if own is None else with_cannot(own, is_bounded=bool(server.program))
    form = response_settings(model, schema, server, wanted["tools"])
    limit = token_limit(model, scope.tab.call_limits())

    async def ask() -> ModelResponse[Any]:
        # LangChain 1.4.7 takes 60 µs to change a request, so all of it is changed at once.
        formed = request.override(**wanted, model_settings={**request.model_settings, **limit, **form})
        return await retry_transient(lambda: _counted(scope, model, formed, handler, who), tries=tries)

    try:
        return await ask()
    except Exception as error:
        if limit and refuses_token_limit(model, error):
            limit = {}
        elif form and refuses_response_settings(model, error):
            form = {}
        else:
            raise
    return await ask()


async def _counted(
    scope: StepScope,
    model: BaseChatModel,
    request: ModelRequest[Any],
    handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    who: str,
) -> ModelResponse[Any]:
    async def call() -> ModelResponse[Any]:
        with counting(None), _named_call(scope), current_span(get_config()):
            return await within_time(handler(request), scope.tab.call_limits(), who)

    return await counted(call, _turn_in, scope.tab, "executor", model, request.messages)


def _turn_in(response: ModelResponse[Any]) -> AIMessage | None:
    return next((message for message in response.result if isinstance(message, AIMessage)), None)


async def _made(
    request: ToolCallRequest,
    handler: Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]],
    scope: StepScope,
    *,
    transient_tries: int,
) -> Any:
    """Make one tool call; an exception becomes a ToolFailedError that the model can read."""
    name = request.tool_call["name"]

    async def attempt() -> ToolMessage | Command[Any]:
        scope.tab.tool_call()
        await scope.tab.keep()
        with counting(None):
            return await handler(request)

    try:
        answer = await retry_transient(attempt, tries=transient_tries)
    except ToolFailedError as failure:
        raise without_secrets(failure, scope.run.redactor) from failure.__cause__
    except (GraphBubbleUp, BudgetExceededError):
        raise
    except Exception as error:
        if is_invalid_resume(error) or is_collected_fault(error):
            raise
        raise failed_call(name, error, scope.run.redactor) from error
    answer = spoken(answer, name)
    if answer.status == "error":
        raise ToolFailedError(preview(scope.run.redact(str(answer.text)), 2000))
    return scope.run.redact(
        {part: plain_output(name, getattr(answer, part)) for part in ("content", "artifact")}
    )


def _message(output: Any, call: Any) -> ToolMessage:
    """Tell the model a call's output; an output that a person gave may be any JSON."""
    made = (
        output
        if isinstance(output, dict) and output.keys() == {"content", "artifact"}
        else {"content": output}
    )
    return ToolMessage(
        _content(made["content"]), tool_call_id=call["id"], name=call["name"], artifact=made.get("artifact")
    )


def _content(said: Any) -> Any:
    """Return a tool's output in the form of a message; a list without content blocks is also a text."""
    has_blocks = isinstance(said, list) and any(isinstance(block, dict) and "type" in block for block in said)
    return said if isinstance(said, str) or has_blocks else json.dumps(said, ensure_ascii=False)


def _refusal(call: Any, scope: StepScope) -> ToolMessage:
    text = f"refused: this step may not call {call['name']!r}; it may call: {known(scope.tools)}"
    return ToolMessage(text, tool_call_id=call["id"], name=call["name"], status="error")
