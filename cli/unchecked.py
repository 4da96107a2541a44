"""Stand in for tools that are not there, so that the rest of a plan can be checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..tools.toolbox import Toolbox

__all__ = ["UncheckedToolbox"]


class _AnyAgents(dict[str, Any]):
    """Holds an agent of every name."""

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str)


class UncheckedToolbox(Toolbox):
    """Holds every tool and named agent, and knows nothing about any."""

    def __init__(self) -> None:
        super().__init__()
        self.agents = _AnyAgents()

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str)

    def arguments_schema(self, name: str) -> dict[str, Any]:  # noqa: ARG002 - the same for every tool
        """Accept any arguments."""
        return {"type": "object", "additionalProperties": True}

    def resource(self, name: str, args: Mapping[str, Any] | None = None) -> str | None:  # noqa: ARG002
        """Know of no resource."""
        return None
