"""The editor of a plan, step or call: shows issues while you type, and changes before they are applied."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..report.markup import Markup, element
from .frame import Frame, field, note
from .step_form import step_form

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
        consequence: What happens when it is applied, in words.
        tools: The known tools if a plan is edited, else None.
        stops: Whether applying it stops a running run.
    """

    what: str
    target: str
    back: str
    original: str
    consequence: str
    tools: Sequence[str] | None = None
    stops: bool = False


def edit_page(
    frame: Frame, edit: Edit, typed: str | None = None, refused: str | None = None, step: str = ""
) -> str:
    """Write the page.

    Args:
        frame: The page.
        edit: What is edited.
        typed: The text as it is now; None: as it was.
        refused: What is wrong with it.
        step: The step whose form is shown.
    """
    text = edit.original if typed is None else typed
    box = field(
        "As YAML or JSON",
        "edited",
        text,
        rows=min(36, max(12, text.count("\n") + 2)),
        hint=edit.consequence,
        class_="code",
        spellcheck="false",
    )
    run = "Stop it, and run it as edited" if edit.stops else "Run it as edited"
    buttons = element(
        "p",
        element("button", "Check", name="type", value="check"),
        " ",
        element("button", run, name="type", value="edit", class_="edit"),
        " ",
        element("a", "Leave it as it is", href=edit.back),
        class_="buttons",
    )
    said = _check(edit.original, text, refused)
    check = element("section", *said, id="check", aria_live="polite", aria_label="Check", tabindex="0")
    beside = element("div", check, "" if edit.tools is None else step_form(text, step, edit.tools))
    # Enter in a field presses the first button, which applies nothing.
    first = element(
        "button", "Check", name="type", value="check", class_="first", tabindex="-1", aria_hidden="true"
    )
    form = frame.form(
        edit.target,
        first,
        element("div", element("div", box, buttons), beside, class_="editor"),
        data_checked=True,
    )
    title = f"Edit {edit.what}"
    stops = element("p", _STOPS, class_="muted") if edit.stops else ""
    return frame.document(title, element("h1", title), stops, form)


_STOPS = (
    "This run goes on while you edit. If your edit can run, the run is stopped for it, and the steps that "
    "run then are cut off: a read is repeated, and you are asked about a write."
)


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
