"""The tools an agent was given: their argument schemas, effects and resources."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from string import Formatter
from typing import Any, Literal, get_args

from jsonschema.exceptions import best_match
from jsonschema.validators import validator_for
from langchain_core.tools import BaseTool, StructuredTool, Tool
from langchain_core.tools import tool as make_tool
from langgraph.prebuilt import ToolNode
from pydantic import BaseModel

from ..errors import BadArgumentsError, ConfigurationError, known
from ..state import Effect, agent_grant, digest
from .agents import named_agents
from .threads import run_in_thread

__all__ = ["Toolbox", "as_tool"]

EFFECTS: tuple[Effect, ...] = get_args(Effect)
_EFFECT_RANK: dict[str, int] = {"read": 0, "idempotent": 1, "write": 2}


def as_tool(given: BaseTool | Callable[..., Any]) -> BaseTool:
    """Turn a plain function into a tool; leave tools as they are.

    Raises:
        ConfigurationError: If it is neither, or a function without a docstring.
    """
    if isinstance(given, BaseTool):
        return given
    if not callable(given):
        raise ConfigurationError(f"a tool must be a LangChain tool or a function, not {type(given).__name__}")
    try:
        return make_tool(given)
    except (ValueError, TypeError) as error:
        name = getattr(given, "__name__", repr(given))
        raise ConfigurationError(f"{name} cannot be made a tool: {error}") from error


class Toolbox:
    """Tools by name. A tool's effect comes from its metadata, from MCP annotations, else it is ``write``."""

    def __init__(
        self, tools: Iterable[BaseTool | Callable[..., Any]] = (), agents: Mapping[str, Any] | None = None
    ) -> None:
        self.agents = named_agents(agents)
        self._granted = {agent_grant(name): agent.effect for name, agent in self.agents.items()}
        self._tools: dict[str, BaseTool] = {}
        self._nodes: dict[str, ToolNode] = {}
        self._validators: dict[str, Any] = {}
        self._fingerprints: dict[str, str] = {}
        for given in tools:
            found = as_tool(given)
            if found.name in self._tools:
                raise ConfigurationError(f"two tools are named {found.name!r}; rename one of them")
            _declared_effect(found)
            self._tools[found.name] = _off_the_loop(found)

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
            ConfigurationError: If there is none of that name; the message names the known ones.
        """
        try:
            return self._tools[name]
        except KeyError:
            raise ConfigurationError(f"unknown tool {name!r}; known tools: {known(self._tools)}") from None

    def node(self, name: str) -> ToolNode:
        """Return the node of a tool alone, which knows what to inject into its calls; it is made once."""
        if name not in self._nodes:
            self._nodes[name] = ToolNode([self.get(name)])
        return self._nodes[name]

    def effect(self, name: str) -> Effect:
        """Return what a tool, or a named agent, does to the world; ``write`` for an unknown one."""
        if name in self._granted:
            return self._granted[name]
        return _declared_effect(self._tools[name]) if name in self._tools else "write"

    def effects(self, names: Iterable[str]) -> list[Effect]:
        """List the distinct effects of tools, the strongest last."""
        return sorted({self.effect(name) for name in names}, key=_EFFECT_RANK.__getitem__)

    def template(self, name: str) -> str | None:
        """Return what a tool declares as its resource: a name, or a template over its arguments."""
        declared = (self._tools[name].metadata or {}).get("resource") if name in self._tools else None
        return None if declared is None else str(declared)

    def template_fields(self, name: str) -> list[str]:
        """List the arguments that a tool's resource is named by."""
        fields = [field for _, field, _, _ in Formatter().parse(self.template(name) or "") if field]
        return [field.split(".")[0].split("[")[0] for field in fields]

    def known_resource(self, name: str, args: Mapping[str, Any] | None) -> str | None:
        """Return the resource that a call touches; None where the tool has none, or an argument is not known.

        Args:
            name: The tool.
            args: Final values; those that are not known are left out.
        """
        template, given, fields = self.template(name), args or {}, self.template_fields(name)
        if template is None or not given.keys() >= set(fields):
            return None
        return template.format_map(given) if fields else template

    def fingerprints(self, names: Iterable[str]) -> dict[str, str]:
        """Return digests of what a person approves tools for: their effects, resources and arguments."""
        return {name: self._fingerprint(name) for name in names}

    def _fingerprint(self, name: str) -> str:
        if name not in self._fingerprints:
            schema = self.arguments_schema(name) if name in self._tools else {}
            self._fingerprints[name] = digest([self.effect(name), self.template(name), schema])[:16]
        return self._fingerprints[name]

    def arguments_schema(self, name: str) -> dict[str, Any]:
        """Return the JSON Schema of what a model or a plan may pass to a tool."""
        return _arguments_schema(self.get(name))

    def check_arguments(self, name: str, args: Mapping[str, Any]) -> None:
        """Hold the final arguments of a call to the tool's JSON Schema, where nothing else does.

        A pydantic model checks what it is given when the tool is called; LangChain passes on whatever
        there is where the schema is a dict, as that of an MCP tool (langchain-core 1.4).

        Raises:
            BadArgumentsError: If they do not fit; the message names the argument.
        """
        if not isinstance(self.get(name).tool_call_schema, dict):
            return
        if error := best_match(self._validator(name).iter_errors(dict(args))):
            where = ".".join(map(str, error.absolute_path)) or "arguments"
            raise BadArgumentsError(f"{name}: {where}: {error.message[:200]}")

    def _validator(self, name: str) -> Any:
        if name not in self._validators:
            schema = self.arguments_schema(name)
            self._validators[name] = validator_for(schema)(schema)
        return self._validators[name]

    @property
    def signatures(self) -> dict[str, list[str]]:
        """Names of the arguments of each tool, in the order of its schema."""
        return {name: list(self.arguments_schema(name).get("properties", {})) for name in self._tools}

    def inventory(self) -> list[dict[str, Any]]:
        """Describe every tool: name, description, argument schema, effect."""
        return [
            {
                "name": tool.name,
                "description": tool.description,
                "arguments": self.arguments_schema(tool.name),
                "effect": self.effect(tool.name),
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
    """Read MCP's tool annotations, which langchain-mcp-adapters puts into the metadata."""
    if metadata.get("readOnlyHint"):
        return "read"
    return "idempotent" if metadata.get("idempotentHint") else "write"


def _arguments_schema(tool: BaseTool) -> dict[str, Any]:
    schema = tool.tool_call_schema
    if isinstance(schema, dict):
        return schema
    return schema.model_json_schema() if issubclass(schema, BaseModel) else schema.schema()


def _off_the_loop(tool: BaseTool) -> BaseTool:
    """Give a tool that has only a blocking function a coroutine that runs it in a thread."""
    if isinstance(tool, StructuredTool | Tool) and tool.func is not None and tool.coroutine is None:
        return tool.model_copy(update={"coroutine": _threaded(tool.func)})
    return tool


def _threaded(func: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(func)
    async def call(*args: Any, **kwargs: Any) -> Any:
        return await run_in_thread(func, *args, **kwargs)

    return call
