"""Keep large outputs in the store under a digest of their content, so that states and ledgers stay small.

The state and the ledger hold a *handle* instead: ``{"$artifact": {"digest", "bytes", "type", "items",
"preview"}}``. A handle refers only to content of its own thread. An output that looks like a handle is itself
stored as an artifact. So a handle in a result is always ours, never the words of a tool or a model.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import StorageDamagedError
from ..safety.plain_json import copied
from ..tools.texts import preview
from .rows import ROOT, dump, encode

if TYPE_CHECKING:
    # Who only looks at small outputs does not load LangGraph.
    from langgraph.store.base import BaseStore

__all__ = [
    "HANDLE",
    "ArtifactDamagedError",
    "Artifacts",
    "artifacts_of",
    "described_artifact",
    "shown",
    "unwrapped",
]

Json = Any

HANDLE = "$artifact"
"""The only key of a handle."""

PREVIEW_CHARACTERS = 600
"""How much of an output its handle shows: as much as the prompts that list finished steps."""

PIECE_CHARACTERS = 1_000_000
"""The most characters of an artifact's text in one row, because stores limit row sizes."""

CACHE_CHARACTERS = 64 * 1024 * 1024
"""How much artifact text a run keeps in memory for later steps."""

_PIECES_AT_ONCE = 16
_ALGORITHM = "sha256:"
_DIGEST = re.compile(f"{_ALGORITHM}([0-9a-f]{{64}})")


class ArtifactDamagedError(StorageDamagedError):
    """An artifact is missing or was changed: the steps that need it fail, the run continues."""


class Artifacts:
    """The large outputs of one thread, in a store whose async methods work (see `async_store`).

    Args:
        store: None if outputs stay inline, whatever their size.
        thread_id: The thread they belong to.
        limit: Bytes of JSON text (UTF-8) above which an output becomes an artifact.
    """

    def __init__(self, store: BaseStore | None = None, thread_id: str = "", limit: int = 32768) -> None:
        self._store = store
        self._namespace = artifacts_of(thread_id)
        self._limit = limit
        self._cached: OrderedDict[str, str] = OrderedDict()
        self._held = 0
        self._reading: dict[str, asyncio.Future[str]] = {}

    async def put_away(self, output: Json) -> Json:
        """Return an output in the form for the state: itself, or the handle of the artifact made from it.

        The artifact is in the store when this returns.

        Raises:
            ValueError: For NaN and infinity; ``TypeError`` for other values that are not JSON.
        """
        text = dump(output)
        data = text.encode()
        if not _looks_like_handle(output) and (self._store is None or len(data) <= self._limit):
            return output
        if self._store is None:
            return {HANDLE: {"value": output}}
        digest = hashlib.sha256(data).hexdigest()
        if digest not in self._cached:
            await self._write(digest, text)
            self._remember(digest, text)
        return {HANDLE: _description(output, digest, len(data))}

    async def value(self, output: Json, step_id: str) -> Json:
        """Return the exact output for a value in a result; it is a copy, which the caller may change.

        Args:
            output: The value in the state or the ledger.
            step_id: The step, for the error.

        Raises:
            ArtifactDamagedError: If the artifact is missing or was changed.
        """
        if not _looks_like_handle(output):
            return copied(output)
        if (kept := unwrapped(output)) is not output:
            return copied(kept)
        digest = _digest_of(output[HANDLE])
        if digest is None:
            raise ArtifactDamagedError(
                f"the output of step {step_id!r} is a handle without a digest: {preview(output, 200)}"
            )
        return json.loads(await self._text(digest, step_id))

    async def shown(self, output: Json, step_id: str, limit: int) -> str:
        """Show the beginning of an output; read it from its artifact if its handle shows less."""
        described = described_artifact(output)
        if described is not None and len(described["preview"]) < min(limit, described["bytes"]):
            try:
                return preview(await self.value(output, step_id), limit)
            except ArtifactDamagedError as error:
                return f"{shown(output, limit)} ({error})"
        return shown(output, limit)

    # --- the store -----------------------------------------------------------------------

    async def _write(self, digest: str, text: str) -> None:
        from langgraph.store.base import PutOp

        assert self._store is not None
        pieces = [text[at : at + PIECE_CHARACTERS] for at in range(0, len(text), PIECE_CHARACTERS)]
        rows = [
            PutOp(self._namespace, f"{digest}-{n}", {"json": piece}, index=False, ttl=None)
            for n, piece in enumerate(pieces)
        ]
        # A version with smaller pieces may have left more of them.
        await self._store.abatch([*rows, PutOp(self._namespace, f"{digest}-{len(rows)}", None)])

    async def _text(self, digest: str, step_id: str) -> str:
        """Return an artifact's text; simultaneous requests for the same one share the reading."""
        if digest in self._cached:
            self._cached.move_to_end(digest)
            return self._cached[digest]
        if digest not in self._reading:
            self._reading[digest] = asyncio.ensure_future(self._read(digest, step_id))
            self._reading[digest].add_done_callback(lambda _: self._reading.pop(digest))
        return await asyncio.shield(self._reading[digest])

    async def _read(self, digest: str, step_id: str) -> str:
        pieces: list[str] = []
        while len(pieces) % _PIECES_AT_ONCE == 0:
            more = await self._pieces(digest, len(pieces))
            pieces += more
            if not more:
                break
        text = "".join(pieces)
        if not pieces:
            raise self._damage(digest, step_id, "is not in the store")
        if hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() != digest:
            raise self._damage(digest, step_id, "was changed or cut off")
        self._remember(digest, text)
        return text

    async def _pieces(self, digest: str, first: int) -> list[str]:
        from langgraph.store.base import GetOp, Item

        if self._store is None:
            return []
        wanted = [
            GetOp(self._namespace, f"{digest}-{n}", refresh_ttl=False)
            for n in range(first, first + _PIECES_AT_ONCE)
        ]
        found = [row for row in await self._store.abatch(wanted) if isinstance(row, Item)]
        return [str(row.value["json"]) for row in found]

    def _remember(self, digest: str, text: str) -> None:
        self._cached[digest] = text
        self._held += len(text)
        while self._held > CACHE_CHARACTERS:
            self._held -= len(self._cached.popitem(last=False)[1])

    def _damage(self, digest: str, step_id: str, what: str) -> ArtifactDamagedError:
        where = "" if self._store is not None else " (no lasting store was given)"
        return ArtifactDamagedError(
            f"the output of step {step_id!r} cannot be read: artifact {_ALGORITHM}{digest} {what}{where}. "
            "Give the store that the thread was run with, or run the step again (retry)."
        )


def artifacts_of(thread_id: str) -> tuple[str, ...]:
    """Return the namespace of a thread's artifacts."""
    return (ROOT, "artifacts", encode(thread_id))


def shown(output: Json, limit: int) -> str:
    """Show the beginning of an output in a result; for a handle, show its preview."""
    described = described_artifact(output)
    if described is None:
        return preview(unwrapped(output), limit)
    return f"{described['preview'][:limit]}… ({described['bytes']:,} bytes in all)"


def _looks_like_handle(output: Json) -> bool:
    return isinstance(output, Mapping) and HANDLE in output


def unwrapped(output: Json) -> Json:
    """Return the output within a handle that only marks it as not being a handle."""
    said = output[HANDLE] if _looks_like_handle(output) else None
    return said["value"] if isinstance(said, Mapping) and "value" in said else output


def described_artifact(output: Json) -> Mapping[str, Any] | None:
    """Return a handle's description of its artifact; None for anything else and for incomplete forgeries."""
    said = output[HANDLE] if _looks_like_handle(output) else None
    if not (isinstance(said, Mapping) and isinstance(said.get("preview"), str)):
        return None
    return said if isinstance(said.get("bytes"), int) else None


def _digest_of(described: Any) -> str | None:
    named = described.get("digest") if isinstance(described, Mapping) else None
    found = _DIGEST.fullmatch(named) if isinstance(named, str) else None
    return found[1] if found else None


def _description(output: Json, digest: str, size: int) -> dict[str, Json]:
    text = output if isinstance(output, str) else dump(output)
    begins = text[:PREVIEW_CHARACTERS].encode("utf-8", "backslashreplace").decode()
    described: dict[str, Json] = {"digest": f"{_ALGORITHM}{digest}", "bytes": size, "type": _type_of(output)}
    counted = {"items": len(output)} if isinstance(output, list | dict) else {}
    return described | counted | {"preview": begins}


def _type_of(output: Json) -> str:
    """Name a JSON type as JSON Schema does."""
    return next(name for name, types in _TYPES.items() if isinstance(output, types))


_TYPES: dict[str, tuple[type, ...]] = {
    "null": (type(None),),
    "boolean": (bool,),
    "number": (int, float),
    "string": (str,),
    "array": (list, tuple),
    "object": (object,),
}
