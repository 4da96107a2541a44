"""Milliseconds per step over what LangGraph itself costs for the same calls, by saver; and where they go.

Run ``python benchmarks/overhead.py [--json FILE] [--quick] [--postgres] [--profile FILE]``. Ours is a plan of
independent steps. The baseline for a bound step is a node of plain LangGraph that calls the tool, for an
agent step a node that calls a ``create_agent`` agent; all are sent out in one superstep, with as many slots,
the same tool, the same model (which answers at once: a tool call, then a text) and the same saver. Ours and
baseline take turns, and the least of several runs counts, since other programs only ever add to it.
``--profile`` writes what a profiler says of our side.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import gc
import io
import operator
import pstats
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from langchain.agents import create_agent
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send
from measuring import Promise, Report, Table, measure, options, server_or_none
from typing_extensions import TypedDict

from plan_execute import Context, create_plan_execute_agent, local_persistence, postgres_persistence

SLOTS = 8
SIZES = {"bound": 300, "agent": 100}
MOST_AGENT_RATIO, MOST_BOUND_MS = 1.5, 4.0
LEAST_SHARE = 1.0
"""Parts of the program with a smaller share, in percent, are not listed."""
CONFIG: Any = {"configurable": {"thread_id": "1"}, "recursion_limit": 10_000}

Persistence = Callable[[], Any]
"""Opens a fresh (checkpointer, store)."""


@tool
async def look_up(label: str) -> dict[str, str]:
    """Look something up."""
    return {"label": label, "text": "x" * 200}


look_up.metadata = {"effect": "read"}


class Answers(BaseChatModel):
    """Calls the tool, then answers; at once."""

    @property
    def _llm_type(self) -> str:
        return "answers"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:  # noqa: ARG002
        """Offer tools; it uses the one it knows."""
        return self

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,  # noqa: ARG002
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> ChatResult:
        usage = {"input_tokens": 100, "output_tokens": 10, "total_tokens": 110}
        if isinstance(messages[-1], ToolMessage):
            message = AIMessage("found it", usage_metadata=usage)
        else:
            called = [{"name": "look_up", "args": {"label": "a"}, "id": "c", "type": "tool_call"}]
            message = AIMessage("", tool_calls=called, usage_metadata=usage)
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(self, *args: Any, **kwargs: Any) -> ChatResult:
        return self._generate(*args, **kwargs)


# --- the two sides -----------------------------------------------------------------------


class BareState(TypedDict, total=False):
    """State of the baseline."""

    outputs: Annotated[dict[str, Any], operator.or_]


def bare(kind: str, size: int, saver: Any) -> Awaitable[Any]:
    """Make the calls from nodes of plain LangGraph."""
    free, agent = asyncio.Semaphore(SLOTS), create_agent(Answers(), [look_up])

    async def execute(order: dict[str, str]) -> dict[str, Any]:
        async with free:
            if kind == "bound":
                output = await look_up.ainvoke({"label": order["id"]})
            else:
                found = await agent.ainvoke({"messages": [("human", f"look up {order['id']}")]})
                output = found["messages"][-1].text
        return {"outputs": {order["id"]: output}}

    builder = StateGraph(BareState)
    builder.add_node("execute", execute)  # type: ignore[arg-type]
    orders = [Send("execute", {"id": f"s{n}"}) for n in range(size)]
    builder.add_conditional_edges(START, lambda _: orders, ["execute"])
    builder.add_edge("execute", END)
    graph: Any = builder.compile(checkpointer=saver)
    return graph.ainvoke({"outputs": {}}, CONFIG)  # type: ignore[no-any-return]


def ours(kind: str, size: int, saver: Any, store: Any) -> Awaitable[Any]:
    """Make the calls from steps of a plan."""
    call = {"call": {"tool": "look_up", "args": {"label": "a"}}}
    work = call if kind == "bound" else {"tools": ["look_up"]}
    steps = [{"id": f"s{n}", "task": f"look up s{n}", **work} for n in range(size)]
    model = None if kind == "bound" else Answers()
    agent = create_plan_execute_agent(model, [look_up], checkpointer=saver, store=store)
    context = Context(approval="never", max_parallel=SLOTS)
    return agent.ainvoke({"plan": {"goal": "look", "steps": steps}}, CONFIG, context=context)


# --- measuring ---------------------------------------------------------------------------


class Spent(NamedTuple):
    """What a step took."""

    processor_ms: float
    wall_ms: float


async def spent_on(work: Awaitable[Any], size: int) -> Spent:
    """Measure one run."""
    gc.collect()  # Else what the side before has left is looked through.
    processor, wall = time.process_time(), time.perf_counter()
    result = await work
    spent = time.process_time() - processor, time.perf_counter() - wall
    assert result.get("status", "done") == "done", result["final_answer"]
    return Spent(*(seconds / size * 1000 for seconds in spent))


async def least(kind: str, size: int, persistence: Persistence, runs: int) -> tuple[Spent, Spent]:
    """Run both sides in turn; return the least that each took: ours, and the baseline."""
    both: dict[str, list[Spent]] = {"ours": [], "bare": []}
    for _ in range(runs + 1):  # the first is for imports and first use
        for side, found in both.items():
            async with persistence() as (saver, store):
                work = bare(kind, size, saver) if side == "bare" else ours(kind, size, saver, store)
                found.append(await spent_on(work, size))
    mine, theirs = (Spent(*map(min, zip(*found[1:], strict=True))) for found in both.values())
    return mine, theirs


@asynccontextmanager
async def nothing() -> AsyncIterator[tuple[None, None]]:
    """Keep nothing."""
    yield None, None


@asynccontextmanager
async def memory() -> AsyncIterator[tuple[InMemorySaver, None]]:
    """Keep it in memory."""
    yield InMemorySaver(), None


@asynccontextmanager
async def sqlite() -> AsyncIterator[Any]:
    """Keep it in a file of its own."""
    with tempfile.TemporaryDirectory() as folder:
        async with local_persistence(Path(folder) / "runs.db") as both:
            yield both


def persistences(stack: ExitStack, postgres: bool) -> dict[str, Persistence]:
    """List what state is kept in."""
    found: dict[str, Persistence] = {"none": nothing, "memory": memory, "SQLite": sqlite}
    if postgres and (server := stack.enter_context(server_or_none())):
        found["PostgreSQL"] = lambda: postgres_persistence(server.new_schema())
    return found


def profiled(kind: str, size: int) -> cProfile.Profile:
    """Profile the event loop's thread on our side, kept in SQLite."""

    async def run() -> None:
        async with sqlite() as (saver, store):
            await ours(kind, size, saver, store)

    asyncio.run(run())
    profiler = cProfile.Profile()
    gc.collect()
    gc.disable()  # A collection would be counted where it happens to begin.
    try:
        profiler.runcall(asyncio.run, run())
    finally:
        gc.enable()
    return profiler


def listing(profiler: cProfile.Profile) -> str:
    """Write what a profiler says: where the time itself is, and under what."""
    out = io.StringIO()
    stats = pstats.Stats(profiler, stream=out).strip_dirs()
    for order in ("tottime", "cumtime"):
        stats.sort_stats(order).print_stats(30)
    return out.getvalue()


def shares(profiler: cProfile.Profile) -> dict[str, float]:
    """Return the share of each part of the program in percent; functions in C count for who calls them."""
    seconds: dict[str, float] = {}
    stats: dict[Any, Any] = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    for (file, _, name), (_, _, own, _, callers) in stats.items():
        if "epoll" in name:
            continue  # It waits.
        by = {part_of(caller[0]): 0.0 for caller in callers} if file == "~" else {part_of(file): own}
        for caller, (_, _, spent, _) in callers.items() if file == "~" else ():
            by[part_of(caller[0])] += spent
        for part, spent in by.items():
            seconds[part] = seconds.get(part, 0.0) + spent
    return {part: 100 * spent / sum(seconds.values()) for part, spent in seconds.items()}


def part_of(file: str) -> str:
    """Name the part of the program that a source file belongs to."""
    _, of_ours, rest = file.rpartition("/plan_execute/")
    if of_ours:
        room, inside, _ = rest.partition("/")
        return f"{room}/" if inside else "state.py, run.py …"
    _, of_library, rest = file.rpartition("/site-packages/")
    if of_library:
        return next((f"{name} …" for name in ("langgraph", "langchain") if rest.startswith(name)), "other")
    return "asyncio" if "/asyncio/" in file else "other"


def where(found: dict[str, dict[str, float]]) -> Table:
    """List the parts of the program that take most of the time."""
    parts = sorted(
        {part for one in found.values() for part in one}, key=lambda part: -found["bound"].get(part, 0)
    )
    rows = [[part, *(one.get(part, 0.0) for one in found.values())] for part in parts]
    few = [row for row in rows if max(row[1:]) >= LEAST_SHARE]
    columns = ["part", *(f"{kind} step, %" for kind in found)]
    title = "Where the event loop's thread is, in runs kept in SQLite"
    return Table(title, columns, few, "C functions count for their callers; a profiler makes Python dearer.")


def work(chosen: argparse.Namespace) -> Report:
    """Measure every kind of step with every saver."""
    report = Report("Overhead")
    rows = []
    with ExitStack() as stack:
        for name, persistence in persistences(stack, chosen.postgres).items():
            for kind, size in SIZES.items():
                mine, theirs = asyncio.run(least(kind, size, persistence, 2 if chosen.quick else 5))
                ratio = mine.processor_ms / theirs.processor_ms
                rows.append(
                    [f"{kind} step", name, *mine, *theirs, mine.processor_ms - theirs.processor_ms, ratio]
                )
                if kind == "agent":
                    what = f"agent step, {name}: at most {MOST_AGENT_RATIO} × a create_agent node"
                    report.promises.append(Promise(what, f"{ratio:.2f}", ratio <= MOST_AGENT_RATIO))
                elif name == "SQLite":
                    what = f"bound step, SQLite: under {MOST_BOUND_MS:g} ms over LangGraph"
                    over = mine.wall_ms - theirs.wall_ms
                    report.promises.append(Promise(what, f"{over:.2f} ms", over < MOST_BOUND_MS))
    columns = [
        "",
        "saver",
        "ours, CPU ms",
        "ours, ms",
        "LangGraph, CPU ms",
        "LangGraph, ms",
        "over, CPU ms",
        "ratio",
    ]
    notes = f"{SIZES['bound']} bound or {SIZES['agent']} agent steps in {SLOTS} slots; least of several runs."
    report.tables.append(
        Table("Per step, beside the same calls in nodes of plain LangGraph", columns, rows, notes)
    )
    if chosen.profile:
        chosen.profile.parent.mkdir(parents=True, exist_ok=True)
        found = {kind: profiled(kind, size) for kind, size in SIZES.items()}
        titles = {kind: f"{size} {kind} steps with SQLite\n" for kind, size in SIZES.items()}
        texts = [titles[kind] + listing(profiler) for kind, profiler in found.items()]
        chosen.profile.write_text("\n".join(texts), encoding="utf-8")
        report.tables.append(where({kind: shares(profiler) for kind, profiler in found.items()}))
    return report


if __name__ == "__main__":
    parser = options(__doc__)
    parser.add_argument("--postgres", action="store_true", help="measure PostgreSQL too")
    parser.add_argument("--profile", type=Path, help="write a profile of our side into this file")
    raise SystemExit(measure(parser, work))
