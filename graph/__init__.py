"""Decide what may happen next: the graph's wiring, its routing, the inner agent, and the door."""

from __future__ import annotations

from .build import create_plan_execute_agent
from .server import make_graph

__all__ = ["create_plan_execute_agent", "make_graph"]
