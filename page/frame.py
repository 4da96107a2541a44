"""What all pages share: the head, the navigation, and forms with a token."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, unquote

from starlette.convertors import Convertor, register_url_convertor

from ..report.markup import Markup, element, exact

__all__ = ["Frame", "field", "moment", "note"]


@dataclass(frozen=True)
class Frame:
    """One request's page.

    Attributes:
        base: Where the page is mounted; "" at the root.
        token: What every form holds.
        read_only: Whether nothing can be changed; then there are no forms.
        waiting: How many questions are open.
    """

    base: str
    token: str
    read_only: bool
    waiting: int

    def link(self, *parts: str) -> str:
        """Return the path of a page."""
        return self.base + "/" + "/".join(map(_segment, parts))

    def form(self, action: str, *parts: object, **attributes: object) -> Markup:
        """Write a form with the page's token; "" if the page is read-only."""
        if self.read_only:
            return Markup("")
        token = element("input", type="hidden", name="form_token", value=self.token)
        return element("form", token, *parts, method="post", action=action, **attributes)

    def document(self, title: str, *parts: object, here: str = "", **body: object) -> str:
        """Write a whole page.

        Args:
            title: What the window is called.
            parts: The main part.
            here: Which of the main pages it is.
            body: Attributes of the body.
        """
        head = element(
            "head",
            element("meta", charset="utf-8"),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("meta", name="color-scheme", content="light dark"),
            element("title", f"({self.waiting}) {title}" if self.waiting else title),
            element("link", rel="stylesheet", href=self.link("static", "style.css")),
            element("link", rel="icon", href=self.link("static", "icon.svg")),
            element("script", src=self.link("static", "idiomorph.min.js"), defer=True),
            element("script", src=self.link("static", "board.js"), type="module"),
        )
        skip = element("a", "Skip to the content", href="#main", class_="skip")
        main = element("main", *parts, id="main", tabindex="-1")
        written = element(
            "body",
            skip,
            self._header(here),
            main,
            data_title=title,
            class_="board",
            **body,
        )
        return f"<!DOCTYPE html>\n{element('html', head, written, lang='en')}\n"

    def _header(self, here: str) -> Markup:
        count = element(
            "span", self.waiting or "", class_="count", id="waiting", aria_label=f"{self.waiting} waiting"
        )
        links = [
            ("inbox", self.link(), ["Inbox ", count]),
            ("runs", self.link("runs"), ["Runs"]),
            ("schedules", self.link("schedules"), ["Schedules"]),
            *([] if self.read_only else [("new", self.link("new"), ["New run"])]),
        ]
        listed = [
            element("a", *words, href=href, aria_current="page" if name == here else None)
            for name, href, words in links
        ]
        state = element("span", "read-only", class_="muted") if self.read_only else ""
        return element(
            "header",
            element("nav", *listed, aria_label="Pages"),
            state,
            element("span", id="link", role="status"),
        )


def _segment(part: str) -> str:
    """Write an id as one part of a path, quoted twice: servers decode once, and must see no slash or dots."""
    once = part.replace(".", "%2E") if part in (".", "..") else quote(part, safe="")
    return quote(once, safe="")


class Id(Convertor[str]):
    """An id in a path, as `Frame.link` writes it; Starlette's own converter would split it at a slash."""

    regex = "[^/]+"

    def convert(self, value: str) -> str:
        """Read it."""
        return unquote(value)

    def to_string(self, value: str) -> str:
        """Quote it once; Starlette quotes it again."""
        return quote(value, safe="")


register_url_convertor("id", Id())


def field(label: str, name: str, value: str = "", *, rows: int = 0, hint: str = "", **more: object) -> Markup:
    """Write a field with its label; of several lines if it has rows."""
    if rows:
        # A browser drops the first line end of a text area.
        box = element("textarea", "\n", exact(value), name=name, rows=rows, **more)
    else:
        box = element("input", name=name, value=exact(value), **more)
    said = element("span", hint, class_="hint") if hint else ""
    return element("label", element("span", label, class_="label"), said, box, class_="field")


def moment(at: str) -> Markup:
    """Write a moment; the browser tells how long ago it was."""
    return element("time", at[:16].replace("T", " "), datetime=at, class_="ago")


def note(words: str, kind: str = "failed") -> Markup:
    """Write what went wrong, so that a screen reader says it at once."""
    return element("p", words, class_=f"note {kind}", role="alert", dir="auto")
