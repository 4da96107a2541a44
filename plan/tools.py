"""What plan checks need to know about tools; this module does not load the tools' own code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from ..state import Effect

__all__ = ["Tools"]


class Tools(Protocol):
    """What plan checks ask a toolbox."""

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
        """Return the effect of a tool or a named agent."""
        ...

    def effects(self, names: Iterable[str]) -> list[Effect]:
        """List the distinct effects of tools, the strongest last."""
        ...

    def fingerprints(self, names: Iterable[str]) -> dict[str, str]:
        """Return digests of the tool properties that a person approves."""
        ...

    def template(self, name: str) -> str | None:
        """Return a tool's declared resource."""
        ...

    def template_fields(self, name: str) -> list[str]:
        """List the arguments that occur in a tool's resource."""
        ...

    def known_resource(self, name: str, args: Mapping[str, Any] | None) -> str | None:
        """Return the resource that a call touches, if it is known."""
        ...

    def arguments_schema(self, name: str) -> dict[str, Any]:
        """Return the JSON Schema of a tool's arguments."""
        ...

    def output_schema(self, name: str) -> Mapping[str, Any] | None:
        """Return the JSON Schema of a tool's output."""
        ...

    def missing_state(self, name: str) -> list[str]:
        """List the state fields that a tool needs and that a bound step does not have."""
        ...
