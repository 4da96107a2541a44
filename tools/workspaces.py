"""Choose the folders in which a thread's built-in tools work, next to its database."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path

__all__ = ["data_folder", "server_workspaces", "workspace_of", "workspaces_of"]


def data_folder() -> Path:
    """Return the folder of the user's data."""
    from platformdirs import user_data_path

    return user_data_path("plan-execute", appauthor=False)


def server_workspaces() -> Path:
    """Return the folder of all workspaces of a LangGraph server.

    It is not the current folder, because a server with hot reload would restart at every file that a tool
    writes.
    """
    return data_folder() / "server.workspaces"


def workspaces_of(database: Path) -> Path:
    """Return the folder of all workspaces of a database that is a file."""
    return database.with_name(f"{database.name}.workspaces")


def workspace_of(workspaces: Path, thread_id: str) -> Path:
    """Return the folder of a thread's file tools and commands, unless another one is given."""
    # A thread's id may be any text, so it is not always valid as a folder name.
    plain = re.fullmatch(r"[A-Za-z0-9][\w-]{0,63}", thread_id, re.ASCII)
    hashed = sha256(thread_id.encode(errors="surrogatepass")).hexdigest()[:32]
    return workspaces / (thread_id if plain else f"thread.{hashed}")
