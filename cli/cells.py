"""Shorten texts to so many cells of a terminal, whatever is in them."""

from __future__ import annotations

from rich.cells import cell_len, set_cell_size

__all__ = ["cut", "cut_in_the_middle"]


def cut(text: str, width: int) -> str:
    """Shorten a text at its end."""
    return text if cell_len(text) <= width else set_cell_size(text, max(width - 1, 0)).rstrip() + "…"


def cut_in_the_middle(text: str, width: int) -> str:
    """Shorten an error: what is wrong stands at its end."""
    if cell_len(text) <= width:
        return text
    head = cut(text, max(width * 2 // 5, 1))
    tail = text[::-1]
    while cell_len(tail) > width - cell_len(head):
        tail = tail[:-1]
    return head + tail[::-1]
