"""Where a plan, a step or a call is edited: issues as one types, the difference before it is applied."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass

from ..report.markup import Markup, element
from .frame import Frame, field, note

__all__ = ["Edit", "edit_page"]

_LONGEST = 4000
"""Lines of a difference that are shown."""


@dataclass(frozen=True)
class Edit:
    """Something that is edited.

    Attributes:
        what: What it is, such as "the plan".
        target: The path that takes the edit.
        back: The path of what is shown when nothing is changed.
        original: Its text before.
        consequence: What becomes of the edit.
    """

    what: str
    target: str
    back: str
    original: str
    consequence: str


def edit_page(frame: Frame, edit: Edit, typed: str | None = None, refused: str | None = None) -> str:
    """Write the page.

    Args:
        frame: The page.
        edit: What is edited.
        typed: The text as it is now; None: as it was.
        refused: What is wrong with it.
    """
    text = edit.original if typed is None else typed
    box = field(
        "As YAML or JSON",
        "edited",
        text,
        rows=min(40, max(12, text.count("\n") + 2)),
        hint=edit.consequence,
        class_="code",
        spellcheck="false",
        data_checked=True,
    )
    buttons = element(
        "p",
        element("button", "Check", name="type", value="check"),
        " ",
        element("button", "Run it as edited", name="type", value="edit", class_="edit"),
        " ",
        element("a", "Leave it as it is", href=edit.back),
        class_="buttons",
    )
    check = element("section", *_check(edit.original, text, refused), id="check", aria_live="polite")
    form = frame.form(edit.target, element("div", element("div", box, buttons), check, class_="editor"))
    title = f"Edit {edit.what}"
    return frame.document(title, element("h1", title), form)


def _check(original: str, text: str, refused: str | None) -> Iterator[Markup]:
    yield element("h2", "What is wrong" if refused is not None else "What changes")
    if refused is not None:
        yield note(refused)
        return
    lines = [*difflib.unified_diff(original.splitlines(), text.splitlines(), lineterm="", n=2)][2:]
    if not lines:
        yield element("p", "Nothing has been changed.", class_="muted")
        return
    kinds = {"+": "added", "-": "removed", "@": "place"}
    written = [element("span", line + "\n", class_=kinds.get(line[:1])) for line in lines[:_LONGEST]]
    yield element("pre", *written, class_="difference", tabindex="0", dir="auto")
