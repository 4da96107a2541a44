"""Markdown that models and tools wrote, made harmless for whoever shows it.

An image is loaded when an answer is shown, and its address can carry away what the model has read;
a link needs a click; HTML can do both, and can hide what follows it. The text is parsed by a real
parser (markdown-it), the blocks that hold such a thing are written anew without it, and the result is
parsed again, until there is none left. What will not come clean is shown as code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

__all__ = ["as_code", "code_span", "link_targets", "neutralise_links", "plain_line", "without_html"]

Foreign = Callable[[str], bool]

_ROUNDS = 6
_TARGET_SHOWN = 300

_BARE_URL = re.compile(
    r"(?:[a-z][a-z0-9+.\-]{1,30}://|(?:mailto|xmpp|tel|sms|data|javascript|vbscript):|www\.)[^\s<>\"`]+"
    r"|(?<![\w.+\-])[\w.+\-]++@[\w\-]++(?:\.[\w\-]++)++(?:[\w.+\-]*+@[\w\-]++(?:\.[\w\-]++)++)*+",
    re.IGNORECASE,
)
"""What chat UIs make a link of although no Markdown says so (GitHub's autolinks, and a little more)."""
_TRAILING = ".,;:!?'\")]}*_~"
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_HARMLESS_TAG = re.compile(r"</?(?:br|hr|b|i|em|strong|sub|sup|kbd)\s*/?>", re.IGNORECASE)
_SPECIAL = re.compile(
    r"[\\`\[\]]|\*(?!\s)|(?<=\S)\*|(?<!\w)_|_(?!\w)|~(?=~)|<(?=[A-Za-z/!?])|&(?=#|[A-Za-z])"
)
"""What means something within a line; a ``_`` within a word and a ``*`` between spaces do not."""
_BLOCK_START = re.compile(
    r"(?:#{1,6}(?=\s|$)|[-+](?=\s|$)|\d{1,9}(?=[.)](?:\s|$))|>|=+\s*$|-+\s*$)", re.MULTILINE
)


# --- what others use ---------------------------------------------------------------------


def neutralise_links(text: str, own: Collection[str]) -> str:
    """Take the power out of the links and images of a Markdown text; their words stay.

    Args:
        text: Markdown, for example a final answer.
        own: Targets that may stay, as ``link_targets`` gives them; every other one, and every HTML
            tag that may do something, is shown as text.
    """
    keep = {_key(target) for target in own}
    return _cleaned(text, lambda target: _key(target) not in keep)


def without_html(text: str) -> str:
    """Make sure that what is written below a Markdown text is seen: no open comment, tag or code block."""
    cleaned = _cleaned(text, lambda _: False)
    below = "what stands below"
    end = _parser().parse(f"{cleaned}\n\n{below}")[-2:]
    return cleaned if end and end[0].content == below and end[0].level == 1 else as_code(cleaned)


def link_targets(texts: Iterable[str]) -> set[str]:
    """Collect the targets of links and images, and the bare URLs, of Markdown texts."""
    found: set[str] = set()
    for text in texts:
        found.update(_variants(text))
        tokens, references = _parse(text)
        found.update(reference["href"] for reference in references)
        for token in tokens:
            for child in _all_children(token):
                found.update(_variants(child.content) if child.type == "text" else (_target(child),))
    return found - {""}


def plain_line(text: str) -> str:
    """Write a text as one line of Markdown that means nothing but its words."""
    return _escaped(" ".join(text.split()))


def code_span(text: str) -> str:
    """Write a text as inline code, whatever backticks it holds."""
    line = " ".join(text.splitlines())
    fence = "`" * (max(map(len, re.findall("`+", line)), default=0) + 1)
    pad = " " if line[:1] in ("`", " ", "") or line[-1:] in ("`", " ") else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def as_code(text: str) -> str:
    """Show a text as it is, as a block of code: nothing in it means anything."""
    fence = "`" * max(3, max(map(len, re.findall("`+", text)), default=0) + 1)
    return f"{fence}\n{text}\n{fence}"


# --- reading -----------------------------------------------------------------------------


@cache
def _parser() -> MarkdownIt:
    # Imported late: reading it takes longer than the rest of the package.
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark").enable("strikethrough")
    # Others follow a javascript: or data: link that markdown-it would not make one of.
    parser.validateLink = _accept  # type: ignore[method-assign]
    return parser


def _accept(url: str) -> bool:  # noqa: ARG001 - the signature is markdown-it's
    return True


def _parse(text: str) -> tuple[list[Token], list[dict[str, Any]]]:
    environment: dict[str, Any] = {}
    tokens = _parser().parse(text, environment)
    named = list(environment.get("references", {}).values())
    return tokens, [*named, *environment.get("duplicate_refs", [])]


def _all_children(token: Token) -> Iterable[Token]:
    for child in token.children or ():
        yield child
        yield from _all_children(child)


def _target(token: Token) -> str:
    return str(token.attrGet("href") or token.attrGet("src") or "")


def _key(target: str) -> str:
    return _parser().normalizeLink(target)


def _variants(text: str) -> Iterable[str]:
    """Yield the bare URLs of a text, with and without the punctuation that may follow them."""
    for found in _BARE_URL.finditer(text):
        yield found[0]
        yield found[0].rstrip(_TRAILING)


def _is_harmless_html(text: str) -> bool:
    return all(_HARMLESS_TAG.match(text, tag.start()) for tag in _TAG.finditer(text))


def _is_foreign(token: Token, foreign: Foreign) -> bool:
    if token.type in ("link_open", "image"):
        return _leads_away(_target(token), foreign)
    if token.type == "html_inline":
        return not _is_harmless_html(token.content)
    if token.type != "text":
        return False
    # "<!--" that is no comment for this parser may be one for another.
    urls = (found[0] for found in _BARE_URL.finditer(token.content))
    return "<!--" in token.content or any(_is_foreign_url(url, foreign) for url in urls)


def _leads_away(target: str, foreign: Foreign) -> bool:
    """Tell whether a target leaves the page that shows it, and is not one that may stay."""
    return bool(target) and not target.startswith("#") and foreign(target)


def _is_foreign_url(url: str, foreign: Foreign) -> bool:
    return foreign(url) and foreign(url.rstrip(_TRAILING))


# --- writing anew ------------------------------------------------------------------------


class _Edit(NamedTuple):
    start: int
    lines: list[str]


def _cleaned(text: str, foreign: Foreign) -> str:
    for _ in range(_ROUNDS):
        edited = _pass(text, foreign)
        if edited == text:
            return text
        if edited is None:
            break
        text = edited
    return as_code(text)


def _pass(text: str, foreign: Foreign) -> str | None:
    """Write anew every block that holds something foreign; None: one that could not be found again."""
    tokens, references = _parse(text)
    # As the parser counts lines.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd").split("\n")
    edits: list[_Edit] = []
    for token in tokens:
        if token.type == "html_block" and token.map and not _is_harmless_html(token.content):
            start, end = token.map
            edits.append(_Edit(start, [_without_tags(line) for line in lines[start:end]]))
        elif token.map and any(_is_foreign(child, foreign) for child in _all_children(token)):
            edit = _rewritten(token, lines, foreign)
            if edit is None:
                return None
            edits.append(edit)
    for reference in references:
        if _leads_away(reference["href"], foreign):
            start, end = reference["map"]
            edits.append(_Edit(start, [""] * (end - start)))
    if not edits:
        return text
    for edit in edits:
        lines[edit.start : edit.start + len(edit.lines)] = edit.lines
    return "\n".join(lines)


def _without_tags(line: str) -> str:
    return _TAG.sub(lambda tag: "<" if _HARMLESS_TAG.match(line, tag.start()) else "&lt;", line)


def _rewritten(token: Token, lines: Sequence[str], foreign: Foreign) -> _Edit | None:
    """Write a paragraph or a heading anew in its place: behind ``> ``, a list's bullet, ``#``."""
    start = (token.map or [0])[0]
    old, new = token.content.split("\n"), _inline(token.children or [], foreign).split("\n")
    if len(old) != len(new):
        return None
    written = []
    for line, before, after in zip(lines[start:], old, new, strict=False):
        at = line.rfind(before)
        if at < 0:
            return None
        written.append(line[:at] + after + line[at + len(before) :])
    return _Edit(start, written)


def _inline(tokens: Sequence[Token], foreign: Foreign) -> str:
    """Write inline Markdown, without what is foreign in it."""
    parts: list[str] = []
    links: list[tuple[Token, int]] = []
    for token in tokens:
        match token.type:
            case "text":
                at_start = not parts or parts[-1].endswith("\n")
                parts.append(_text(token.content, foreign, at_start=at_start))
            case "code_inline":
                parts.append(code_span(token.content))
            case "softbreak":
                parts.append("\n")
            case "hardbreak":
                parts.append("\\\n")
            case "html_inline":
                parts.append(_without_tags(token.content))
            case "image":
                parts.append(_image(token, foreign))
            case "link_open":
                links.append((token, len(parts)))
            case "link_close":
                opened, at = links.pop()
                parts[at:] = [_link(opened, "".join(parts[at:]), foreign)]
            case _:
                parts.append(token.markup)
    return "".join(parts)


def _text(text: str, foreign: Foreign, *, at_start: bool) -> str:
    parts, done = [], 0
    for found in _BARE_URL.finditer(text):
        parts.append(_escaped(text[done : found.start()], at_start=at_start and done == 0))
        parts.append(_bare_url(found[0], foreign))
        done = found.end()
    return "".join([*parts, _escaped(text[done:], at_start=at_start and done == 0)])


def _bare_url(url: str, foreign: Foreign) -> str:
    if not _is_foreign_url(url, foreign):
        return url
    target = url.rstrip(_TRAILING)
    return _shown_target(target) + _escaped(url[len(target) :], at_start=False)


def _link(opened: Token, words: str, foreign: Foreign) -> str:
    target = _target(opened)
    if not _leads_away(target, foreign):
        return f"[{words}](<{_destination(target)}>)"
    shown = _shown_target(target)
    return shown if not words.strip() or words in (shown, target) else f"{words} ({shown})"


def _image(token: Token, foreign: Foreign) -> str:
    words = _escaped(" ".join("".join(child.content for child in token.children or ()).split()))
    target = _target(token)
    if not _leads_away(target, foreign):
        return f"![{words}](<{_destination(target)}>)"
    return f"{words or 'image'} ({_shown_target(target)})"


def _destination(target: str) -> str:
    return target.replace("&", "&amp;")


def _shown_target(target: str) -> str:
    shown = target if len(target) <= _TARGET_SHOWN else f"{target[:_TARGET_SHOWN]}…"
    return code_span(shown)


def _escaped(text: str, *, at_start: bool = True) -> str:
    escaped = _SPECIAL.sub(_escape, text)
    if at_start and (block := _BLOCK_START.match(escaped)):
        mark = block[0]
        # A backslash before a digit is a backslash: of "1." it is the dot that makes a list.
        return f"{mark}\\{escaped[len(mark) :]}" if mark.isdigit() else f"\\{escaped}"
    return escaped


def _escape(found: re.Match[str]) -> str:
    return {"<": "&lt;", "&": "&amp;"}.get(found[0], f"\\{found[0]}")
