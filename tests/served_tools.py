"""Tools of a user, as a ``langgraph dev`` loads them: copied into its folder, named as module:attribute.

Each call is written down, with its first argument, in ``calls.txt`` of that folder.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from langchain_core.tools import BaseTool, StructuredTool

__all__ = ["TOOLS"]

CALLS = Path("calls.txt")
PATIENCE_S = 60


def _note(tool: str, argument: object) -> None:
    with CALLS.open("a", encoding="utf-8") as log:
        log.write(f"{tool} {argument}\n")


def _wait_for(name: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not Path(name).exists():
        if time.monotonic() > deadline:
            raise RuntimeError(f"nobody made {name}")
        time.sleep(0.02)


def look(city: str) -> dict[str, Any]:
    """Look up the weather."""
    _note("look", city)
    return {"city": city, "temp_c": 21}


def write(text: str) -> str:
    """Write the text down."""
    _note("write", text)
    return text


def keep(name: str) -> str:
    """Write, and take until a file of this name appears."""
    _note("keep", name)
    _wait_for(name)
    _note("kept", name)
    return name


def echo(text: str) -> str:
    """Return the text."""
    _note("echo", text)
    return text


def hold(name: str) -> str:
    """Wait until a file of this name appears."""
    _note("hold", name)
    _wait_for(name)
    return name


def fetch(name: str) -> str:
    """Read the file of this name; fail while there is none."""
    _note("fetch", name)
    return Path(name).read_text(encoding="utf-8")


def recite(word: str, times: int) -> str:
    """Say a word many times over."""
    _note("recite", word)
    return word * times


async def doze(text: str, seconds: float) -> str:
    """Sleep, and say so at both ends."""
    await asyncio.to_thread(_note, "doze", text)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(_note, "woke", text)
    return text


async def block(text: str) -> str:
    """Hold up the event loop, as no tool should."""
    time.sleep(0.01)
    return text


def _tool(func: Callable[..., Any], effect: str) -> BaseTool:
    ways = {"coroutine": func} if asyncio.iscoroutinefunction(func) else {"func": func}
    return StructuredTool.from_function(**ways, metadata={"effect": effect})


TOOLS = [
    look,  # its effect is not declared: a write
    *(_tool(func, "write") for func in (write, keep)),
    *(_tool(func, "read") for func in (echo, hold, fetch, recite, doze, block)),
]
