"""Hold an agent's tools: their argument schemas, effects and resources."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from string import Formatter
from typing import Any, Literal, get_args, get_type_hints

from langchain_core.tools import BaseTool, StructuredTool, Tool
from langchain_core.tools import tool as make_tool
from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from ..errors import BadArgumentsError, ConfigurationError, WorkLimitError, known
from ..langgraph_private import state_asked_by
from ..safety.schemas import BadSchemaError, read_schema
from ..state import Effect, agent_grant, digest
from .agents import named_agents
from .calls import ExactTool
from .output_forms import OUTPUT_SCHEMA, declared_form
from .threads import raising_only_exceptions, run_bounded, run_in_thread
from .toolsets import folder_of_tool
from .values import drained, taken

_log = logging.getLogger(__name__)

__all__ = ["Toolbox", "as_tool"]

EFFECTS: tuple[Effect, ...] = get_args(Effect)
_EFFECT_RANK: dict[str, int] = {"read": 0, "idempotent": 1, "write": 2}


def as_tool(given: BaseTool | Callable[..., Any]) -> BaseTool:
    """Turn a plain function into a tool, with the function's ``metadata``; leave tools unchanged.

    Raises:
        ConfigurationError: If it is neither, or is a function without a docstring.
    """
    if isinstance(given, BaseTool):
        return given
    if not callable(given):
        raise ConfigurationError(f"a tool must be a LangChain tool or a function, not {type(given).__name__}")
    try:
        made = make_tool(given)
    except (ValueError, TypeError) as error:
        name = getattr(given, "__name__", repr(given))
        raise ConfigurationError(f"{name} cannot be made a tool: {error}") from error
    if isinstance(declared := getattr(given, "metadata", None), Mapping):
        made.metadata = {**declared}
    return made


class Toolbox:
    """Tools by name. A tool's effect is from its metadata, else MCP annotations, else ``write``."""

    def __init__(
        self, tools: Iterable[BaseTool | Callable[..., Any]] = (), agents: Mapping[str, Any] | None = None
    ) -> None:
        self.agents = named_agents(agents)
        self._granted = {agent_grant(name): agent.effect for name, agent in self.agents.items()}
        self._tools: dict[str, BaseTool] = {}
        self._exact: dict[str, ExactTool] = {}
        self._schemas: dict[str, dict[str, Any]] = {}
        self._fingerprints: dict[str, str] = {}
        for given in tools:
            found = as_tool(given)
            if found.name in self._tools:
                raise ConfigurationError(f"two tools are named {found.name!r}; rename one of them")
            _declared_effect(found)
            self._tools[found.name] = _giving_json(_with_object_schema(found))

    def __contains__(self, name: object) -> bool:
        return name in self._tools or name in self._granted

    def __len__(self) -> int:
        return len(self._tools)

    @property
    def names(self) -> list[str]:
        """The tools' names, in the order given."""
        return list(self._tools)

    @property
    def tools(self) -> list[BaseTool]:
        """The tools themselves, in the order given."""
        return list(self._tools.values())

    def get(self, name: str) -> BaseTool:
        """Return a tool.

        Raises:
            ConfigurationError: If no tool has that name; the message names the known ones.
        """
        try:
            return self._tools[name]
        except KeyError:
            raise ConfigurationError(f"unknown tool {name!r}; known tools: {known(self._tools)}") from None

    def exact(self, name: str) -> ExactTool:
        """Return a tool as exact calls use it; it is read once."""
        if name not in self._exact:
            self._exact[name] = ExactTool(self.get(name))
        return self._exact[name]

    def missing_state(self, name: str) -> list[str]:
        """List the state fields that a tool needs and that a bound step does not have."""
        asked, optional = state_asked_by(self.exact(name).node, name)
        return [
            field for arg, field in asked.items() if field not in (None, "messages") and arg not in optional
        ]

    def effect(self, name: str) -> Effect:
        """Return the effect of a tool or a named agent; ``write`` for an unknown one."""
        if name in self._granted:
            return self._granted[name]
        return _declared_effect(self._tools[name]) if name in self._tools else "write"

    def effects(self, names: Iterable[str]) -> list[Effect]:
        """List the distinct effects of tools, the strongest last."""
        return sorted({self.effect(name) for name in names}, key=_EFFECT_RANK.__getitem__)

    def folders(self, thread_id: str) -> list[Path]:
        """List the base folders of paths in built-in file tools, for a thread."""
        found = (folder_of_tool(tool, thread_id) for tool in self._tools.values())
        return list(dict.fromkeys(folder for folder in found if folder is not None))

    def template(self, name: str) -> str | None:
        """Return a tool's declared resource: a name, or a template over its arguments."""
        declared = (self._tools[name].metadata or {}).get("resource") if name in self._tools else None
        return None if declared is None else str(declared)

    def template_fields(self, name: str) -> list[str]:
        """List the arguments that occur in a tool's resource."""
        fields = [field for _, field, _, _ in Formatter().parse(self.template(name) or "") if field]
        return [field.split(".")[0].split("[")[0] for field in fields]

    def known_resource(self, name: str, args: Mapping[str, Any] | None) -> str | None:
        """Return the resource that a call touches; None if the tool has none, or an argument is unknown.

        Args:
            name: The tool.
            args: Final values, without unknown ones.
        """
        if (template := self.template(name)) is None:
            return None
        given, fields = args or {}, self.template_fields(name)
        if not given.keys() >= set(fields):
            return None
        return template.format_map(given) if fields else template

    def fingerprints(self, names: Iterable[str]) -> dict[str, str]:
        """Return digests of the tool properties that a person approves: effects, resources and arguments."""
        return {name: self._fingerprint(name) for name in names}

    def _fingerprint(self, name: str) -> str:
        if name not in self._fingerprints:
            schema = self.arguments_schema(name) if name in self._tools else {}
            self._fingerprints[name] = digest([self.effect(name), self.template(name), schema])[:16]
        return self._fingerprints[name]

    def arguments_schema(self, name: str) -> dict[str, Any]:
        """Return the JSON Schema of a tool's arguments for models and plans."""
        if name not in self._schemas:
            self._schemas[name] = _arguments_schema(self.get(name))
        return self._schemas[name]

    def output_schema(self, name: str) -> Mapping[str, Any] | None:
        """Return the JSON Schema of a tool's output from its metadata, as for an MCP tool.

        An annotation is not used here: it tells the planner what to expect, but binds nobody.
        """
        declared = (self._tools[name].metadata or {}).get(OUTPUT_SCHEMA) if name in self._tools else None
        return declared if isinstance(declared, Mapping) else None

    async def check_arguments(self, name: str, args: Mapping[str, Any]) -> None:
        """Check a call's final arguments against the tool's JSON Schema, if nothing else does.

        A pydantic model checks its input when the tool is called. If the schema is a dict, as for an MCP
        tool, LangChain passes on everything (langchain-core 1.4).

        Raises:
            BadArgumentsError: If they do not fit; the message names the argument.
            WorkLimitError: If the check takes too long.
        """
        if self.exact(name).has_json_schema:
            await run_bounded(self._check_arguments, name, args)

    def _check_arguments(self, name: str, args: Mapping[str, Any]) -> None:
        try:
            problem = read_schema(self.arguments_schema(name)).best_problem(dict(args))
        except BadSchemaError as error:
            raise BadArgumentsError(f"{name}: its schema cannot be used: {error}") from error
        if problem is not None:
            where = ".".join(map(str, problem.absolute_path)) or "arguments"
            raise BadArgumentsError(f"{name}: {where}: {problem.message[:200]}")

    @property
    def argument_schemas(self) -> dict[str, dict[str, Any]]:
        """The JSON Schema of the arguments of each tool."""
        return {name: self.arguments_schema(name) for name in self._tools}

    def inventory(self) -> list[dict[str, Any]]:
        """Describe every tool: name, description, argument schema, effect, and its output if declared."""
        return [
            {
                "name": tool.name,
                "description": tool.description,
                "arguments": self.arguments_schema(tool.name),
                "effect": self.effect(tool.name),
                "output": declared_form(tool),
            }
            for tool in self._tools.values()
        ]


def _declared_effect(tool: BaseTool) -> Effect:
    metadata = tool.metadata or {}
    declared = metadata.get("effect") or _annotated_effect(metadata)
    if declared not in EFFECTS:
        raise ConfigurationError(
            f"tool {tool.name!r} declares the effect {declared!r}; known effects: {', '.join(EFFECTS)}"
        )
    return declared


def _annotated_effect(metadata: Mapping[str, Any]) -> Literal["read", "idempotent", "write"]:
    """Read MCP's tool annotations from langchain.mcp's place, or from that of langchain-mcp-adapters."""
    told = _within(_within(_within(metadata, "mcp"), "tool"), "annotations")
    if told.get("read_only_hint") or metadata.get("readOnlyHint"):
        return "read"
    return "idempotent" if told.get("idempotent_hint") or metadata.get("idempotentHint") else "write"


def _within(metadata: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    held = metadata.get(key)
    return held if isinstance(held, Mapping) else {}


def _arguments_schema(tool: BaseTool) -> dict[str, Any]:
    schema = tool.tool_call_schema
    if isinstance(schema, dict):
        return schema
    return schema.model_json_schema() if issubclass(schema, BaseModel) else schema.schema()


class _OneText(BaseModel):
    """The argument of a classic ``Tool``. LangChain offers it to models by the other name."""

    model_config = ConfigDict(title="input")

    tool_input: str = Field(validation_alias=AliasChoices("tool_input", "__arg1"))


def _with_object_schema(tool: BaseTool) -> BaseTool:
    """Give a tool with a plain JSON Schema one that providers accept, and log what is not checked."""
    schema = tool.args_schema
    if isinstance(tool, Tool) and schema is None:
        return tool.model_copy(update={"args_schema": _OneText})
    if not isinstance(schema, dict):
        return tool
    try:
        left_out = read_schema(schema).notes
    except (BadSchemaError, WorkLimitError) as error:
        left_out = [f"it cannot be used, so a plan that calls the tool is refused: {error}"]
    for note in left_out:
        _log.warning("the schema of the arguments of tool %r: %s", tool.name, note)
    if schema.get("type") == "object" and "properties" in schema:
        return tool
    return tool.model_copy(update={"args_schema": {**_NO_ARGUMENTS, **schema}})


_NO_ARGUMENTS: dict[str, Any] = {"type": "object", "properties": {}}
"""What OpenAI wants for a tool without arguments."""


def _giving_json(tool: BaseTool) -> BaseTool:
    """Run a tool's function outside the event loop if it blocks, and return its result as JSON."""
    if not isinstance(tool, StructuredTool | Tool):
        return tool
    function = tool.coroutine or (tool.func and _threaded(tool.func))
    if function is None:
        return tool
    with_artifact = tool.response_format == "content_and_artifact"

    @functools.wraps(function)
    async def call(*args: Any, **kwargs: Any) -> Any:
        with raising_only_exceptions():
            return await taken(tool.name, await function(*args, **kwargs), with_artifact=with_artifact)

    # LangChain asks for these at every call (langchain-core 1.8.3), and they take long to find out.
    with suppress(Exception):  # Some names only a type checker knows.
        call.__annotations__ = get_type_hints(function, include_extras=True)
        call.__signature__ = inspect.signature(call)  # type: ignore[attr-defined]
    return tool.model_copy(update={"coroutine": call})


def _threaded(func: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(func)
    async def call(*args: Any, **kwargs: Any) -> Any:
        # A generator does its work when it is read, so that happens in the thread too.
        return await run_in_thread(lambda: drained(func(*args, **kwargs)))

    return call
