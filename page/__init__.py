"""The page: what waits and what runs, in a browser; `plan-execute serve` shows it."""

from __future__ import annotations
