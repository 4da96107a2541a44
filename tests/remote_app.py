"""A graph with messages, as another team serves it: copied into the folder of a ``langgraph dev``.

What it does stands in its last message: ``ask``, ``hold NAME``, ``fail``; each start of its work and
each end is a line in ``work.txt`` of that folder.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import interrupt

WORK = Path("work.txt")


def _note(line: str) -> None:
    with WORK.open("a", encoding="utf-8") as log:
        log.write(f"{line}\n")


async def work(state: MessagesState) -> dict[str, Any]:
    """Do what the words of the last message say."""
    text = state["messages"][-1].text
    words = text.split()
    mark = next((word for word in words if word.startswith("mark-")), "mark-none")
    said = [str(interrupt({"question": n, "mark": mark})) for n in range(words.count("ask"))]
    await asyncio.to_thread(_note, f"begin {mark}")
    get_stream_writer()({"progress": mark})
    if "fail" in words:
        raise RuntimeError(f"{mark} cannot be done")
    if "hold" in words:
        for _ in range(1000):
            if await asyncio.to_thread(Path(f"{mark}.go").exists):
                break
            await asyncio.sleep(0.02)
    await asyncio.to_thread(_note, f"end {mark}")
    usage = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
    answer = AIMessage(" ".join(["did", mark, *said]), usage_metadata=usage)  # type: ignore[arg-type]
    return {"messages": [answer]}


_builder = StateGraph(MessagesState)
_builder.add_node("work", work)
_builder.add_edge(START, "work")
_builder.add_edge("work", END)
worker = _builder.compile()
