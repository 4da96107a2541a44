"""What checking a plan asks of the tools there are: it does not load what tools are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from ..state import Effect

__all__ = ["Tools"]


class Tools(Protocol):
    """What is asked of a toolbox."""

    @property
    def agents(self) -> Mapping[str, Any]:
        """The named agents."""
        ...

    def __contains__(self, name: object) -> bool: ...

    @property
    def names(self) -> list[str]:
        """The tools' names."""
        ...

    def effect(self, name: str) -> Effect:
        """Return what a tool, or a named agent, does to the world."""
        ...

    def effects(self, names: Iterable[str]) -> list[Effect]:
        """List the distinct effects of tools, the strongest last."""
        ...

    def fingerprints(self, names: Iterable[str]) -> dict[str, str]:
        """Return digests of what a person approves tools for."""
        ...

    def template(self, name: str) -> str | None:
        """Return what a tool declares as its resource."""
        ...

    def template_fields(self, name: str) -> list[str]:
        """List the arguments that a tool's resource is named by."""
        ...

    def known_resource(self, name: str, args: Mapping[str, Any] | None) -> str | None:
        """Return the resource that a call touches, where it is known."""
        ...

    def arguments_schema(self, name: str) -> dict[str, Any]:
        """Return the JSON Schema of what may be passed to a tool."""
        ...

    def output_schema(self, name: str) -> Mapping[str, Any] | None:
        """Return the JSON Schema that a tool declares for its output."""
        ...

    def missing_state(self, name: str) -> list[str]:
        """List the fields of a graph's state that a tool asks for, and that a bound step does not have."""
        ...
