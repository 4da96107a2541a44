"""Find the lines of a plan in a reply, and classify each.

A model puts bullets, quotation marks, bold type, ``Step 2:`` and more before a step. All that is removed
here. The rest is a step, an option of the previous step, the answer, a note, an end, or prose.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from ...state import MODEL_CLASSES
from .ascii_names import in_ascii

__all__ = ["BRACKETS", "OPTION", "TEXTS", "Line", "label_named", "lines_of"]

Kind = Literal["step", "option", "answer", "note", "end", "prose", "closing", "suspect", "json", "break"]


@dataclass(frozen=True)
class Line:
    """One line; it may continue on further lines within brackets and texts.

    Attributes:
        number: From 1.
        said: The text, shortened.
        kind: ``suspect`` is prose that could be work, ``closing`` is prose about the plan or to its
            reader; ``break`` is an empty line, a fence or a rule.
        work: The text after the label; for a note or an end, its words.
        label: The name by which other steps refer to it; ``_1`` for a number.
        title: The words of a second label, as in ``1. Look it up: look("x")``.
        closed: Whether every bracket and text in it is closed.
        is_list_item: Whether a number, a letter, a bullet or a name precedes it.
        is_indented: Whether it is indented, or has a bullet.
        end: ``more``, ``finished`` or ``impossible``.
    """

    number: int
    said: str
    kind: Kind
    work: str = ""
    label: str | None = None
    title: str = ""
    closed: bool = True
    is_list_item: bool = False
    is_indented: bool = False
    end: str = ""


def label_named(name: str) -> str:
    """Return the label for a number or a name; labels that are not ids begin with ``_``."""
    if name.isdecimal():
        return f"_{int(name)}"
    return name if name.isascii() else "_" + re.sub(r"\W+", "_", in_ascii(name))


def lines_of(text: str, tools: Collection[str], agents: Collection[str]) -> Iterator[Line]:
    """Find the lines of a reply."""
    at = 0
    find = _Finder(tools, agents)
    while at < len(text):
        end = _line_end(text, at)
        line, start = find.line(text[at:end], text.count("\n", 0, at) + 1)
        if start is not None:
            closing = _closing(text, at + start)
            end = closing if closing is not None else end
            line = replace(line, work=text[at + start : end].strip(), closed=closing is not None)
        yield line
        at = end + 1


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


# --- what stands before the work ---------------------------------------------------------

_BULLETS = "-+•‣◦▪●○–·►∙⁃"
_STEP_WORDS = "step|task|action|schritt|étape|etape|paso|passo|шаг|步骤|步驟|ステップ|단계"
_DECORATION = re.compile(
    rf"(?P<margin>[\s>|\ufeff\u200b-\u200f\u2060]*)"
    rf"(?P<bullet>(?:(?:[{_BULLETS}]|\*(?=\s))\s*)*(?:\[[ xX✓]?\]\s*)?)[*`]*\s*"
)
_NUMBER = re.compile(
    rf"(?:(?:{_STEP_WORDS})\s*)?\$?(?:[(（\[【#]?\s*(?P<number>\d+(?:\.\d+)*)[*`]*\s*"
    r"(?:[.):=|、．：）\]】。]+|[-–—]+(?=\s)|->|→|(?P<blank>(?=[\s\"'“„«「‘])))|\(?(?P<letter>[A-Za-z])\)(?=\s))[*`\s|]*",
    re.IGNORECASE,
)
_NAME = re.compile(r"\$?(?P<name>[^\W\d]\w*)[*`]*\s*[:=：](?!=)[*`]*\s*")
_TITLE = re.compile(r"(?P<title>[^\W\d][^:：\"'(=\n]{1,80})[:：][*`]*\s*")
_QUOTES = "\"'“„«「‘"
_CALL = re.compile(r"[A-Za-z_][\w.-]*\s*\(")
_BARE_CALL = re.compile(r"[A-Za-z_][\w.-]*\(")
"""How a step without a label begins; nothing else, because prose may be in the same place."""
_WHO = re.compile(rf"(?:(?P<who>[A-Za-z_][\w.-]*)\s*)?[{_QUOTES}]")
_RETURN = re.compile(rf"return\b[*`]*\s*(?=[{_QUOTES}$`])", re.IGNORECASE)
_END = re.compile(
    r"(?P<end>more|finished)[\W_]*|(?P<reason>more|finished|impossible)\s*[*`]*\s*[:：(–—-]\s*(?P<why>.+)",
    re.I,
)
OPTION = re.compile(
    r"(?P<option>tools?|after|depends_on|check|for_each|each|if_failed|else_of|if|when|output|confirm"
    # Prose says "Model: …", too.
    rf"|model(?=\s*=|\s*[:：]\s*[\"']?(?:{'|'.join(MODEL_CLASSES)})\b))\s*[:=：](?!=)\s*",
    re.IGNORECASE,
)
_BREAK = re.compile(r"[\s>|]*(?:</?[A-Za-z][\w-]*>|```[\w+-]*|~~~\w*|[-=*_|:\s]*)[\s|]*")
_JSON = re.compile(r"\s*[{\[]\s*(?:[\"{\[\]}]|//|$)")
_HEADING = re.compile(r"[\s>|]*(?:\*\*[^*]+\*\*|__[^_]+__|[^\n]*[:：])\s*")


_IN_ORDER = re.compile(
    r"[\s>*_]*(?:and\s+)?(?:first|second|third|then|next|finally|lastly|after\s+that|afterwards?)\b",
    re.IGNORECASE,
)
"""How prose begins that continues with the work."""
_SENTENCE_END = re.compile(r"(?<=[.!?…])\s+(?=\S)")
_CLOSING = re.compile(
    r"[\s>*_(]*(?:(?:th(?:is|ese|at)|the|my|all|both)\s+(?:(?:above|whole|entire)\s+)?(?:plan|steps|calls|order|"
    r"answer|lines)\b|(?:th(?:is|ese|at)|it|they)\s+(?:is|are|will|would|should|can|does|do|ensures?|gives?|"
    r"makes?|covers?|gets?|reach(?:es)?|uses?|runs?|works?)\b|(?:i|we)\s+(?:hope|assumed?|have|used?|kept|chose|"
    r"wrote|did|could not|cannot)\b|hope\b|let me know|feel free|please (?:let me know|tell me|note)|note\b|"
    r"here\b|if you\b|in this plan|steps?\s+\d+,?\s+(?:and|is|are|to|uses?|gets?|runs?|depends?|needs?)\b|"
    r"no (?:other|further|more)\b|thanks?\b|done\b|explanation\b|rationale\b)",
    re.IGNORECASE,
)
"""How sentences after a plan begin that are not part of it; others could be work without a label."""


class _Finder:
    """Classifies a line, using the names of tools and agents."""

    def __init__(self, tools: Collection[str], agents: Collection[str]) -> None:
        self._agents = {*agents, "goal"}
        names = "|".join(map(re.escape, sorted(tools, key=len, reverse=True)))
        self._known_call = re.compile(
            rf"(?<![\w.])(?:{names})\s?\(|^\W*(?:{names})\s*[:：]" if names else r"(?!)"
        )

    def line(self, line: str, number: int) -> tuple[Line, int | None]:
        """Classify a line, and find where its work begins if it may continue after the end of the line."""
        plain = Line(number, _shortened(line), "prose")
        if _BREAK.fullmatch(line):
            return replace(plain, kind="break"), None
        if _JSON.match(line):
            return replace(plain, kind="json"), None
        decoration = _DECORATION.match(line)
        assert decoration is not None  # It also matches nothing.
        at, bullet = decoration.end(), bool(decoration["bullet"])
        plain = replace(
            plain, is_list_item=bullet, is_indented=bullet or bool(decoration["margin"].strip("\ufeff"))
        )
        if line.startswith("#", at) and not re.match(r"#\d", line[at:]):
            return self._note(plain, line[at:].strip("# \t\r")), None
        if (found := self._fixed(plain, line, at)) is not None:
            return found
        step, start = self._step(plain, line, at)
        if start is not None:
            return step, start
        if option := OPTION.match(line, at):
            return replace(plain, kind="option"), option.start()
        return self._prose(plain, line), None

    def _note(self, plain: Line, words: str) -> Line:
        """Take a note; if it looks like a step, it may be one to leave out, or a heading."""
        number = _NUMBER.match(words)
        start = number.end() if number else 0
        is_work = self._known_call.search(words) or (
            number and self._begins_work(words, start, labelled=True)
        )
        return replace(plain, kind="suspect" if is_work else "note", work=words)

    def _fixed(self, plain: Line, line: str, at: int) -> tuple[Line, int | None] | None:
        """Find the answer or an end, which may be numbered like a step."""
        numbered = _NUMBER.match(line, at)
        for start in (at, numbered.end() if numbered else at):
            if answer := _RETURN.match(line, start):
                return replace(plain, kind="answer"), answer.end()
            ended = _END.fullmatch(line[start:].strip().rstrip("*`| "))
            if ended and (ended["end"] or not self._may_be_step(ended)):
                word, why = (
                    (ended["end"] or ended["reason"]).lower(),
                    (ended["why"] or "").rstrip(")").strip(),
                )
                return replace(plain, kind="end", end=word, work=why), None
        return None

    def _may_be_step(self, ended: re.Match[str]) -> bool:
        """Tell whether ``more: …`` is a step of that name."""
        why = ended["why"]
        return ended["reason"].lower() != "impossible" and bool(
            self._known_call.search(why) or why[0] in _QUOTES
        )

    def _step(self, plain: Line, line: str, at: int) -> tuple[Line, int | None]:
        """Find the labels of a step; the work begins at None if the line is not a step."""
        label, title, start = None, "", at
        if (number := _NUMBER.match(line, at)) and (
            number["blank"] is None or self._begins_work(line, number.end(), labelled=True)
        ):
            label, start = number["letter"] or _numbered(number["number"]), number.end()
        option = OPTION.match(line, start) if label is None else None
        if option and not self._known_call.match(line, option.end()):
            is_text = line[option.end() : option.end() + 1] in (*_QUOTES,)
            if plain.is_indented or not is_text:
                return plain, None
        if (named := _NAME.match(line, start)) and self._begins_work(line, named.end(), labelled=True):
            title, start = named["name"], named.end()
        elif (titled := _TITLE.match(line, start)) and self._known_call.match(line, titled.end()):
            title, start = titled["title"].strip("*` "), titled.end()
        found = replace(plain, kind="step", label=label, title=title, is_list_item=True)
        if label is not None or title:
            return found, start
        unlabelled = replace(found, is_list_item=plain.is_list_item)
        return (unlabelled, start) if self._begins_work(line, start, labelled=False) else (plain, None)

    def _begins_work(self, line: str, at: int, *, labelled: bool) -> bool:
        if labelled:
            return bool(_CALL.match(line, at) or _WHO.match(line, at))
        who = _WHO.match(line, at)
        is_text = who is not None and (not who["who"] or who["who"] in self._agents)
        return bool(_BARE_CALL.match(line, at)) or (is_text and not _is_key(line, at))

    def _prose(self, plain: Line, line: str) -> Line:
        is_heading = not plain.is_list_item and bool(_HEADING.fullmatch(line))
        goes_on = plain.is_list_item or _IN_ORDER.match(line)
        if self._known_call.search(line) or (goes_on and not is_heading):
            return replace(plain, kind="suspect")
        if is_heading:
            return replace(plain, kind="break")
        sentences = _SENTENCE_END.split(line.strip())
        return replace(plain, kind="closing") if all(map(_CLOSING.match, sentences)) else plain


def _numbered(number: str) -> str:
    """Return the label of a number; a number such as ``1.1`` cannot be referenced."""
    return label_named(number) if number.isdecimal() else "_" + "_".join(part for part in number.split("."))


_KEY = re.compile(r'"[^"\n]*"\s*:')


def _is_key(line: str, at: int) -> bool:
    """Tell whether a text is the key of a member of a JSON object."""
    return _KEY.match(line, at) is not None


def _shortened(line: str, limit: int = 100) -> str:
    said = " ".join(line.split())
    return said if len(said) <= limit else f"{said[:limit]}…"


# --- where a line ends -------------------------------------------------------------------

TEXTS = {
    '"': re.compile(r'"""(?:[^\\]|\\.)*?"""|"(?:[^"\\]|\\.)*"', re.DOTALL),
    "'": re.compile(r"'''(?:[^\\]|\\.)*?'''|'(?:[^'\\]|\\.)*'", re.DOTALL),
    "“": re.compile(r'“(?:[^”\\]|\\.)*”|“(?:[^"\\]|\\.)*"', re.DOTALL),
    "„": re.compile(r'„(?:[^“”"\\]|\\.)*[“”"]', re.DOTALL),
    "«": re.compile(r"«(?:[^»\\]|\\.)*»", re.DOTALL),
    "「": re.compile(r"「(?:[^」\\]|\\.)*」", re.DOTALL),
    "‘": re.compile(r"‘(?:[^’\\]|\\.|’(?=\w))*’", re.DOTALL),
}
"""Texts in quotes, by the mark that opens them."""
_MARKS = re.compile(r"""\n|\#|["“„«「\[\](){}]|(?<!\w)['‘]""")
BRACKETS = {"[": 1, "(": 1, "{": 1, "]": -1, ")": -1, "}": -1}


def _closing(text: str, at: int) -> int | None:
    """Find the end of line outside of brackets and texts; None if something is never closed."""
    depth = 0
    while found := _MARKS.search(text, at):
        mark, at = found[0], found.end()
        if mark == "\n" and depth <= 0:
            return found.start()
        if mark == "#" and depth <= 0:
            at = _line_end(text, at)
        elif mark in TEXTS:
            closed = TEXTS[mark].match(text, found.start())
            if closed is None:
                return None
            at = closed.end()
        depth += BRACKETS.get(mark, 0)
    return len(text) if depth <= 0 else None
