"""Write updates of the state beside a checkpoint, without making a new one.

A new checkpoint would leave behind the results of siblings that had finished, which are pending writes of
the old one. LangGraph keeps the update of a ``Command`` like this, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import WRITES_IDX_MAP, BaseCheckpointSaver

from ..langgraph_private import NO_TASK

__all__ = ["write_beside"]


async def write_beside(
    saver: BaseCheckpointSaver[Any], config: RunnableConfig, updates: Sequence[tuple[str, Any]]
) -> None:
    """Add updates of channels to those that stand beside a checkpoint.

    Args:
        saver: The checkpointer.
        config: Names the checkpoint.
        updates: Pairs of a channel and its update, in their order.
    """
    found = await saver.aget_tuple(config)
    if found is None or not updates:
        return
    # A saver numbers the writes of a task from 0 and keeps those that are there.
    earlier = [
        (channel, value)
        for task, channel, value in found.pending_writes or ()
        if task == NO_TASK and channel not in WRITES_IDX_MAP
    ]
    await saver.aput_writes(found.config, [*earlier, *updates], NO_TASK)
