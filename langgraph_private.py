"""What this package needs of LangGraph and LangGraph does not promise, all in one place.

Seen in langgraph 1.2.22, langgraph-prebuilt 1.1.2, langgraph-checkpoint 4.3.2, and its savers for SQLite
3.1.2 and PostgreSQL 3.2.0, which have no public way to these. ``tests/structure/test_langgraph_traps.py``
pins what no other test would miss; ``test_langgraph_private.py`` finds any other use.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    # Who only looks at what is kept does not load LangGraph.
    from langchain_core.messages import ToolCall
    from langchain_core.runnables import RunnableConfig
    from langchain_core.tools import BaseTool
    from langgraph.graph.state import CompiledStateGraph, StateGraph
    from langgraph.prebuilt import ToolNode, ToolRuntime

__all__ = [
    "CHECKPOINT_VERSION",
    "ENTRY",
    "FROM_A_PARENT",
    "INTERRUPTS",
    "NAMESPACE",
    "NEXT_NODE",
    "NOT_OUTPUT",
    "NO_TASK",
    "NO_WRITES",
    "OVERWRITE",
    "READ",
    "REPLAY_STATE",
    "RESUME_MAP",
    "RESUMING",
    "RUNTIME",
    "SAVER",
    "SCRATCHPAD",
    "SENT_TASKS",
    "STREAM",
    "TASK",
    "BlobHook",
    "CursorHook",
    "StoredQuestion",
    "inject_tool_args",
    "is_of_a_task",
    "is_served",
    "keeps_subgraphs_apart",
    "made_into",
    "path_text",
    "place_of_task",
    "read_by_their_routes",
    "read_channels",
    "read_written",
    "sent_at",
    "sent_orders",
    "served_run",
    "sort_ids_after",
    "state_asked_by",
    "unpacked",
    "uses_default_pool",
]

Graph = TypeVar("Graph", bound="CompiledStateGraph[Any, Any, Any, Any]")

# --- keys in config["configurable"] --------------------------------------------------------

SAVER = "__pregel_checkpointer"
"""The checkpointer of the run; a subgraph finds its parent's there."""
NAMESPACE = "checkpoint_ns"
"""Which subgraph's checkpoints are meant."""
RUNTIME = "__pregel_runtime"
"""The parent's runtime: its context and store."""
STREAM = "__pregel_stream"
"""The parent's stream: a subgraph without one drops custom events, and RemoteGraph forwards into it."""
READ = "__pregel_read"
"""The parent's function that reads its state; only a run inside another one has it."""
TASK = "__pregel_task_id"
"""The parent's task."""
RESUMING = "__pregel_resuming"
"""Whether the parent goes on from a checkpoint."""
SCRATCHPAD = "__pregel_scratchpad"
"""What numbers the subgraph calls and questions of a task; without it a namespace stays as it is given.

``interrupt`` finds there answers that came without an id.
"""
RESUME_MAP = "__pregel_resume_map"
"""Answers that were handed to the parent, by the id of their question."""
REPLAY_STATE = "__pregel_replay_state"
"""Where a fork takes the checkpoints of subgraphs from."""
FROM_A_PARENT = (TASK, RESUMING, SCRATCHPAD, RESUME_MAP, REPLAY_STATE)
"""What a graph believes about the parent that called it; a client of a server could send these."""
NO_TASK = "00000000-0000-0000-0000-000000000000"
"""The task of updates that belong to no node: beside a checkpoint they count as its state."""


# --- what a checkpoint holds -----------------------------------------------------------------

CHECKPOINT_VERSION = 4
"""The form of checkpoints."""
ENTRY = "__start__"
"""The node that takes the input in, and the channel that brings it."""
NEXT_NODE = "branch:to:"
"""What the channel that starts a node is called, before the node's name."""
SENT_TASKS = "__pregel_tasks"
"""The channel of what was sent to nodes."""
INTERRUPTS = "__interrupt__"
"""The channel of what a task asks."""
NOT_OUTPUT = frozenset({"__error__", "__error_source_node__", "__resume__", INTERRUPTS})
"""Channels that say how a task goes on; any other write means that it has ended."""
NO_WRITES = "__no_writes__"
"""What a task writes that has ended and has nothing to write."""
OVERWRITE = "__overwrite__"
"""Marks an update that replaces a value instead of being added to it."""
_PATH = re.compile(r"~__pregel_(?:push, (\d+)|pull, (\w+))")


def place_of_task(path: str) -> int | str:
    """Return which task a path beside its writes means: the number of what was sent, or the node.

    Raises:
        ValueError: If the path is of another form.
    """
    found = _PATH.match(path)
    if found is None:
        raise ValueError(path)
    return found[2] or int(found[1])


class StoredQuestion(NamedTuple):
    """An ``Interrupt``."""

    value: Any
    id: str


class StoredTask(NamedTuple):
    """A ``Send``."""

    node: str


def unpacked(kind: str, data: bytes) -> Any:
    """Read a value that LangGraph has stored, if it is plain data.

    Raises:
        ValueError: If it is not.
    """
    import ormsgpack

    if kind == "null":
        return None
    if kind != "msgpack":
        raise ValueError(kind)
    return ormsgpack.unpackb(data, ext_hook=_known_object, option=ormsgpack.OPT_NON_STR_KEYS)


def _known_object(code: int, data: bytes) -> Any:
    module, name, given, *_ = unpacked("msgpack", data)
    if (code, module, name) == (2, "langgraph.types", "Interrupt"):
        return StoredQuestion(given["value"], given["id"])
    if (code, module, name) == (1, "langgraph.types", "Send"):
        return StoredTask(given[0])
    raise ValueError(name)


def is_of_a_task(key: str) -> bool:
    """Tell whether a key belongs to the task that runs, and means nothing once it has ended."""
    return key != RUNTIME and key.startswith(("__pregel", "checkpoint"))


def is_served(config: RunnableConfig) -> bool:
    """Tell whether a LangGraph server runs the graph: langgraph-api 0.16.7 names itself in the metadata."""
    return "langgraph_api_version" in (config.get("metadata") or {})


def served_run(config: RunnableConfig) -> str | None:
    """Return the id that a server gave the run, which its checkpoints bear too; None: no server runs it."""
    return (config.get("metadata") or {}).get("run_id") if is_served(config) else None


def sent_at(config: RunnableConfig) -> float | None:
    """Return when a client sent a run to a server, in seconds since the epoch; None: no server says so."""
    milliseconds = (config.get("configurable") or {}).get("__request_start_time_ms__")
    return milliseconds / 1000 if isinstance(milliseconds, int | float) else None


def keeps_subgraphs_apart(config: RunnableConfig) -> bool:
    """Tell whether a server's client reads the newer protocol, with streams of its own for each subgraph."""
    return bool((config.get("configurable") or {}).get("__event_streaming_v2"))


# --- functions -----------------------------------------------------------------------------


def read_channels(config: RunnableConfig, names: Sequence[str]) -> Any:
    """Read the graph's state from inside a task, as conditional edges do; a sent task gets only its order."""
    from langgraph.pregel._read import ChannelRead

    return ChannelRead.do_read(config, select=list(names))


def read_written(config: RunnableConfig, names: Sequence[str]) -> Any:
    """Read parts of the state with what the running node has written, as conditional edges do.

    For that they copy all channels of the graph, also those of its wiring (langgraph 1.2.24).
    """
    read = config["configurable"][READ]
    scratchpad, channels, managed, task = read.args
    return read.func(scratchpad, {name: channels[name] for name in names}, managed, task, list(names), True)


def read_by_their_routes(builder: StateGraph[Any, Any, Any, Any]) -> None:
    """Read no state for the conditional edges of a graph: their routes read what they need."""
    from langgraph.graph._branch import BranchSpec

    class Branch(BranchSpec):
        def run(self, writer: Any, _: Any = None) -> Any:
            return super().run(writer)

    for start, branches in builder.branches.items():
        builder.branches[start] = {name: Branch(*branch) for name, branch in branches.items()}


def sent_orders(checkpoint: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what was sent to the tasks that are numbered in their paths; a server reads it as JSON."""
    sent = checkpoint["channel_values"].get("__pregel_tasks") or []
    return [dict(one["arg"] if isinstance(one, dict) else one.arg) for one in sent]


def path_text(path: Any) -> str:
    """Write a task's path as the checkpointer keeps it beside the task's writes."""
    from langgraph.pregel._algo import task_path_str

    return task_path_str(path)


def sort_ids_after(ticks: int) -> None:
    """Let the checkpoint ids that this process makes from now on sort after a time (100 ns since 1582)."""
    from langgraph.checkpoint.base import id as ids

    if ticks > (ids._last_v6_timestamp or 0):
        ids._last_v6_timestamp = ticks  # type: ignore[assignment]


def inject_tool_args(
    node: ToolNode, tool: BaseTool, call: ToolCall, runtime: ToolRuntime[Any, Any]
) -> dict[str, Any]:
    """Give a call's arguments with what the tool asks to be given by the runtime, outside an agent."""
    return dict(node._inject_tool_args(call, runtime, tool)["args"])


def state_asked_by(node: ToolNode, name: str) -> tuple[dict[str, str | None], set[str]]:
    """Return the state's fields that a tool asks for, by argument, and the arguments with a default."""
    injected = node._injected_args.get(name)
    return ({}, set()) if injected is None else (dict(injected.state), set(injected._optional_state_args))


def made_into(kind: type[Graph], compiled: CompiledStateGraph[Any, Any, Any, Any], **more: Any) -> Graph:
    """Make a compiled graph into one of a subclass: ``StateGraph.compile`` knows no class but its own.

    ``Pregel.copy`` makes copies like this.
    """
    return kind(**{key: value for key, value in vars(compiled).items() if key != "__orig_class__"}, **more)


# --- classes of savers and stores ------------------------------------------------------------


def uses_default_pool(store: object) -> bool:
    """Tell whether a store's async calls wait for asyncio's default pool, which blocked tools fill.

    ``PostgresStore.abatch`` only hands ``batch`` to it.
    """
    return getattr(type(store).abatch, "__module__", "") == "langgraph.store.postgres.base"  # type: ignore[attr-defined]


class CursorHook:
    """Let a saver or store open its cursors itself: LangGraph's take each of them from ``_cursor``."""

    def open_cursor(self, **options: Any) -> Any:
        """Open a cursor, as a context manager; the options are LangGraph's."""
        raise NotImplementedError

    def _cursor(self, **options: Any) -> Any:
        return self.open_cursor(**options)


class BlobHook:
    """Let a PostgresSaver change values that it keeps apart before it writes them."""

    def writable(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values as they can be written."""
        raise NotImplementedError

    def _dump_blobs(
        self, thread_id: str, checkpoint_ns: str, values: dict[str, Any], versions: Any
    ) -> list[tuple[str, str, str, str, str, bytes | None]]:
        dumped: list[Any] = super()._dump_blobs(thread_id, checkpoint_ns, self.writable(values), versions)  # type: ignore[misc]
        return dumped
