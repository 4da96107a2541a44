"""Keep data of earlier runs for later ones, across threads: what steps took, and the forms of outputs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired

from langgraph.store.base import BaseStore, GetOp, Item, PutOp
from typing_extensions import TypedDict

from .rows import ROOT, encode, load, put, search

__all__ = ["History", "OutputForms", "Sample"]

_PLACES = 200
"""The most runs that are kept."""
_PER_KIND = 20
"""The most samples of one kind that a run leaves, spread over all it had."""


class Sample(TypedDict):
    """What one step, or one model call, took; ``seconds`` is wall time."""

    seconds: float
    model_calls: int
    tokens: int
    cost: NotRequired[float]
    """Only if all its model calls had a price."""


class History:
    """Samples for estimates, by the kind of work.

    There is one row per run, in a bounded number of places: a new run replaces an old one.

    Args:
        store: Holds the runs, of all threads together.
    """

    def __init__(self, store: BaseStore) -> None:
        self._store = store
        self._space = (ROOT, "history")

    def rows(self, run_id: str, samples: Mapping[str, Sequence[Sample]]) -> list[PutOp]:
        """Make the row with a run's samples by kind; the same run replaces it."""
        if not samples:
            return []
        row = {"samples": {kind: _spread(taken) for kind, taken in samples.items()}}
        place = int.from_bytes(hashlib.sha256(run_id.encode()).digest()[:4]) % _PLACES
        return [put(self._space, f"{place:03d}", row)]

    async def samples(self) -> dict[str, list[Sample]]:
        """Return all samples by kind."""
        found: dict[str, list[Sample]] = {}
        for item in await search(self._store, self._space):
            for kind, taken in load(item)["samples"].items():
                found.setdefault(kind, []).extend(taken)
        return found


def _spread(taken: Sequence[Sample]) -> list[Sample]:
    step = max(1, -(-len(taken) // _PER_KIND))
    return list(taken[::step])


class OutputForms:
    """Forms of tools' outputs: one row per tool, with names and types but no values.

    Args:
        store: Holds the forms, of all threads together.
        tenant: The owner, because field names may reveal what data are about.
    """

    def __init__(self, store: BaseStore, tenant: str = "") -> None:
        self._store = store
        self._space = (ROOT, "output_forms", *([encode(tenant)] if tenant else []))

    async def known(self, tools: Mapping[str, str]) -> dict[str, dict[str, Any]]:
        """Return the known output forms of tools.

        Args:
            tools: Fingerprints by name: another tool of the same name has another entry.
        """
        return await self._known(tools, [])

    async def _known(self, tools: Mapping[str, str], beside: list[PutOp]) -> dict[str, dict[str, Any]]:
        wanted = [GetOp(self._space, encode(_key(*tool)), refresh_ttl=False) for tool in tools.items()]
        rows = await self._store.abatch([*wanted, *beside]) if wanted or beside else []
        found = zip(tools, rows, strict=False)
        return {name: load(row)["form"] for name, row in found if isinstance(row, Item)}

    async def keep(
        self, tools: Mapping[str, str], forms: Mapping[str, Mapping[str, Any]], *, beside: list[PutOp]
    ) -> None:
        """Store the new forms that differ from before, together with other rows."""
        known = await self._known({name: tools[name] for name in forms}, beside)
        rows = [
            put(self._space, _key(name, tools[name]), {"form": form})
            for name, form in forms.items()
            if known.get(name) != form
        ]
        if rows:
            await self._store.abatch(rows)


def _key(name: str, fingerprint: str) -> str:
    return f"{name} {fingerprint}"
