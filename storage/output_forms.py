"""The forms of outputs that tools gave in earlier runs: one row per tool, with names and types, no values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langgraph.store.base import BaseStore, GetOp, Item, PutOp

from .rows import ROOT, dump, encode, load

__all__ = ["OutputForms"]


class OutputForms:
    """Forms of outputs, by tool.

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
        wanted = [GetOp(self._space, _key(*tool), refresh_ttl=False) for tool in tools.items()]
        rows = await self._store.abatch(wanted) if wanted else []
        found = zip(tools, rows, strict=True)
        return {name: load(row)["form"] for name, row in found if isinstance(row, Item)}

    async def keep(self, tools: Mapping[str, str], forms: Mapping[str, Mapping[str, Any]]) -> None:
        """Keep what was seen now, where it is something else than before."""
        known = await self.known({name: tools[name] for name in forms})
        rows = [
            PutOp(self._space, _key(name, tools[name]), {"json": dump({"form": form})}, index=False, ttl=None)
            for name, form in forms.items()
            if known.get(name) != form
        ]
        if rows:
            await self._store.abatch(rows)


def _key(name: str, fingerprint: str) -> str:
    return encode(f"{name} {fingerprint}")
