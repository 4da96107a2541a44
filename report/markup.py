"""HTML and SVG written so that no text can become markup: what is not `Markup` is escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from html import escape

from ..safety.visible_text import visible

__all__ = ["Markup", "element", "exact", "join", "text"]


class Markup(str):
    """Text that is HTML already. Only this module and the Markdown renderer make any."""

    __slots__ = ()


_IS_PLAIN = re.compile("[ !#-%(-;=?-~\n]*").fullmatch
"""Most texts need no change; checking for that is faster than replacing nothing."""
_VOID = {"meta", "link", "br", "input", "rect", "path", "circle", "line", "use"}


def text(value: object) -> Markup:
    """Escape a text, and show what is invisible in it."""
    if isinstance(value, Markup):
        return value
    written = str(value)
    return Markup(written) if _IS_PLAIN(written) else Markup(escape(visible(written), quote=True))


def exact(value: str) -> Markup:
    """Escape a text that a person edits: what is invisible in it must come back as it is."""
    return Markup(escape(value, quote=True))


def join(parts: Iterable[object], between: str = "") -> Markup:
    """Put parts together, each escaped unless it is markup."""
    return Markup(text(between).join(text(part) for part in parts))


@cache
def _attribute(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def element(tag: str, /, *children: object, **attributes: object) -> Markup:
    """Write an element.

    Args:
        tag: Its name.
        children: Markup stays, everything else is escaped.
        attributes: None leaves one out, True gives no value; ``class_`` is ``class``, ``_`` becomes ``-``.
    """
    written = "".join(
        f" {_attribute(key)}" if value is True else f' {_attribute(key)}="{text(value)}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if tag in _VOID:
        return Markup(f"<{tag}{written}>" if tag in ("meta", "link", "br", "input") else f"<{tag}{written}/>")
    return Markup(f"<{tag}{written}>{join(children)}</{tag}>")
