"""Keys under which LangGraph 1.2.22 hands a parent's run to a graph that is called as its node."""

from __future__ import annotations

__all__ = ["FROM_A_PARENT", "NAMESPACE", "PAD", "READ", "RESUME_MAP", "RESUMING", "RUNTIME", "SAVER", "TASK"]

SAVER, TASK, RESUMING, NAMESPACE, RUNTIME = (
    "__pregel_checkpointer",
    "__pregel_task_id",
    "__pregel_resuming",
    "checkpoint_ns",
    "__pregel_runtime",
)
READ = "__pregel_read"
"""The parent's function that reads its state."""
RESUME_MAP = "__pregel_resume_map"
"""Answers that were handed to the parent, by the id of their question."""
PAD = "__pregel_scratchpad"
"""Where ``interrupt`` finds answers that came without an id."""
FROM_A_PARENT = (
    TASK,
    RESUMING,
    RESUME_MAP,
    PAD,
    "__pregel_replay_state",
)
"""What a graph believes about the parent that called it."""
