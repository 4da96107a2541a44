"""What earlier runs leave for later ones, in all threads: what steps took, and the forms of outputs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired

from langgraph.store.base import BaseStore, GetOp, Item, PutOp
from typing_extensions import TypedDict

from .rows import ROOT, encode, load, put, search

__all__ = ["History", "OutputForms", "Sample"]

_PLACES = 200
"""Runs that are remembered at most."""
_PER_KIND = 20
"""Samples of one kind that a run leaves at most, spread over all it had."""


class Sample(TypedDict):
    """What one step, or one model call, took; ``seconds`` is wall time."""

    seconds: float
    model_calls: int
    tokens: int
    cost: NotRequired[float]
    """Only where all its model calls had a price."""


class History:
    """Samples that an estimate is made of, by the kind of work that they are of.

    One row per run, in a bounded number of places: a row of an old run gives way to that of a new one.

    Args:
        store: Where the runs are kept; they are not told apart by thread.
    """

    def __init__(self, store: BaseStore) -> None:
        self._store = store
        self._space = (ROOT, "history")

    def rows(self, run_id: str, samples: Mapping[str, Sequence[Sample]]) -> list[PutOp]:
        """Make the row that keeps the samples of a run by kind; the same run again replaces it."""
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
    """Forms of outputs that tools gave: one row per tool, with names and types, no values.

    Args:
        store: Where they are kept; they are not told apart by thread.
        tenant: Whose they are: names of fields may tell what another's data are about.
    """

    def __init__(self, store: BaseStore, tenant: str = "") -> None:
        self._store = store
        self._space = (ROOT, "output_forms", *([encode(tenant)] if tenant else []))

    async def known(self, tools: Mapping[str, str]) -> dict[str, dict[str, Any]]:
        """Return the forms of tools that were seen.

        Args:
            tools: Fingerprints by name: another tool of the same name has another form.
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
        """Keep what was seen now, where it is something else than before, and other rows in the same go."""
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
