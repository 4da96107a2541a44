"""Read the values, options and references of one line of a plan, from left to right."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from ...safety.depth import MAX_DEPTH, too_deep_message
from ...safety.expressions import FUNCTIONS
from ...safety.plain_json import plain_json
from ..other_notations import other_notations
from .conditions import jmespath_condition
from .line_starts import BRACKETS, OPTION, TEXTS, label_named

__all__ = ["ProblemError", "Scanner", "option_named"]

Json = Any


class ProblemError(Exception):
    """A problem in a line."""


_BLANKS = re.compile(r"\s+")
_BETWEEN = re.compile(r"(?:[\s,;|.。，；…*`]|#[^\n]*)+")
_SAME_AS = {"tool": "tools", "depends_on": "after", "for_each": "each", "when": "if"}
"""Names of options in the JSON form and a common slip, with the right option."""
_NEXT_OPTION = re.compile(rf"[\s,;]+(?:{OPTION.pattern})|\s#|$", re.IGNORECASE)
_AND = re.compile(r"(?:,|\band\b)(?=\s*[\w$\"'])(?!\s*\w+\s*[:=])")
_ARGUMENT = re.compile(r"([A-Za-z_][\w-]*)\s*=(?!=)\s*")
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?(?!\w|\.\d)")
_NAME = re.compile(r"[^\W\d][\w-]*(?:\.[^\W\d][\w-]*)*|_\w*")
_ROOT = re.compile(r"\$(\w+)")
_PATH = re.compile(r"""\.(?:[A-Za-z_]\w*|"[^"\n]*"|\*)|\[""")
_CONSTANTS = {"true": True, "false": False, "null": None, "none": None}
_DOLLAR = re.compile(r"\$(\w+)(?![\w]|[.,]\d)")
_BRACED = re.compile(r"(?<!\$)\$\{((?:[^{}\"'`]|\"[^\"]*\"|'[^']*'|`[^`]*`|\{[^{}]*\})*)\}")
_BRACES_IN_CONDITION = re.compile(r"\$\{([^}]*)\}")
_LOOKUP = re.compile(
    r"""(?P<kept>`[^`]*`|'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\\['"])|\$(?P<label>\w+)|(?<![\w.])(?P<name>[^\W\d]\w*)"""
)
_FIRST_NUMBER = re.compile(r"\s*\$?(\d+)(?=\s*(?:[.\[|]|$))")


class Scanner:
    """Reads the parts of one line, from left to right."""

    def __init__(self, text: str, labels: Collection[str]) -> None:
        self._text, self._at, self._labels, self._depth = text, 0, labels, 0

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """Read what the pattern matches here, after blanks."""
        if blanks := _BLANKS.match(self._text, self._at):
            self._at = blanks.end()
        found = pattern.match(self._text, self._at)
        self._at = found.end() if found else self._at
        return found

    def option(self) -> str | None:
        """Read the name of the next option."""
        self.take(_BETWEEN)
        found = self.take(OPTION)
        return option_named(found[1]) if found else None

    def rest(self) -> str:
        """Return the rest of the line, shortened."""
        self.take(_BETWEEN)
        rest = " ".join(self._text[self._at :].split())
        return rest if len(rest) <= 60 else f"{rest[:60]}…"

    def argument_names(self) -> Iterator[str | None]:
        """Read a call to its closing bracket: yield each argument's name, whose value the caller reads."""
        while not self._takes(")"):
            named = self.take(_ARGUMENT)
            yield named[1] if named else None
            self._next(")")

    def _takes(self, mark: str) -> bool:
        return self.take(re.compile(re.escape(mark))) is not None

    def _next(self, closing: str) -> None:
        if not self._takes(",") and not self._text.startswith(closing, self._at):
            raise ProblemError(f"expected , or {closing} before: {self.rest() or 'the end'}")

    def value(self, *, bare: bool = False, refers: bool = False) -> Json:
        """Read one value.

        Args:
            bare: Whether a word without quotes is a value too.
            refers: Whether a text that is one reference is that reference, as for bare words.

        Raises:
            ProblemError: If there is none.
        """
        self.take(_BLANKS)
        mark = self._text[self._at : self._at + 1]
        if mark in TEXTS:
            return (self._quoted_reference() if bare or refers else None) or self.text()
        if mark == "$":
            return self._reference()
        if self._takes("["):
            with self._one_deeper():
                return list(self._items(bare=bare, refers=refers))
        if self._takes("{"):
            with self._one_deeper():
                return dict(self._members())
        if number := self.take(_NUMBER):
            return _number(number[0])
        return self._word(bare=bare)

    @contextmanager
    def _one_deeper(self) -> Iterator[None]:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ProblemError(too_deep_message("a value"))
        yield
        self._depth -= 1

    def _quoted_reference(self) -> str | None:
        """Read a text that consists of one reference, where plain text makes no sense."""
        found = _QUOTED.match(self._text, self._at)
        inner = Scanner(_unquoted(found[0]).strip(), self._labels) if found else None
        if found is None or inner is None or not inner._text.startswith("$"):
            return None
        try:
            reference = inner._reference()
        except ProblemError:
            return None  # A text such as "$".
        if inner.rest():
            return None
        self._at = found.end()
        return reference

    def is_step(self, number: int) -> bool:
        """Tell whether an earlier step has this number."""
        return label_named(str(number)) in self._labels

    def is_at_json(self) -> bool:
        """Tell whether an object or a list comes next."""
        self.take(_BLANKS)
        return self._text[self._at : self._at + 1] in ("{", "[")

    def names(self) -> list[Json]:
        """Read a list of names, with or without brackets."""
        value = self.value(bare=True)
        found = list(value) if isinstance(value, list) else [value]
        while self.take(_AND):
            found.append(self.value(bare=True))
        return found

    def _items(self, *, bare: bool, refers: bool) -> Iterator[Json]:
        while not self._takes("]"):
            yield self.value(bare=bare, refers=refers)
            self._next("]")

    def _members(self) -> Iterator[tuple[str, Json]]:
        while not self._takes("}"):
            self.take(_BLANKS)
            bare = self.take(_NAME)
            key = bare[0] if bare else self.text()
            if not self._takes(":"):
                raise ProblemError(f"expected : after the key {key!r}")
            yield key, self.value()
            self._next("}")

    def text(self) -> str:
        """Read a text in quotes, with the escapes of JSON.

        Raises:
            ProblemError: If it names a step by ``$1``, which is not a reference inside a text.
        """
        quoted = self._quoted()
        for dollar in _DOLLAR.finditer(_BRACED.sub("", quoted)):
            if label_named(dollar[1]) in self._labels:
                raise ProblemError(
                    f"within a text write ${{{dollar[1]}}} for the output of step {dollar[1]}; for the "
                    f"characters {dollar[0]} write \\u0024{dollar[1]}"
                )
        for found in other_notations(quoted, self._meant):
            raise ProblemError(
                f"{found.text} is not a reference: write {found.right}, or {found.literal} for the text"
            )
        return _BRACED.sub(lambda found: f"${{{_expression(found[1])}}}", _unescaped(quoted))

    def words(self) -> str:
        """Read a text in quotes, or without them up to the next option."""
        self.take(_BLANKS)
        return self.text() if self._text[self._at : self._at + 1] in TEXTS else self._to_next_option()

    def _to_next_option(self) -> str:
        end = _NEXT_OPTION.search(self._text, self._at)
        start, self._at = self._at, end.start() if end else len(self._text)
        if not (words := self._text[start : self._at].strip(" \t.,;*")):
            raise ProblemError("an option has no value")
        return words

    def _meant(self, name: str, path: str) -> str | None:
        return f"${{{name}{path}}}" if label_named(name) in self._labels else None

    def _quoted(self) -> str:
        found = self.take(_QUOTED)
        if found is None:
            raise ProblemError(f"expected a text in quotes before: {self.rest() or 'the end'}")
        return found[0]

    def condition(self) -> str:
        """Read a condition, with or without quotes, in which steps are named with or without a ``$``."""
        self.take(_BLANKS)
        is_quoted = self._text[self._at : self._at + 1] in TEXTS
        said = _unescaped(self._quoted()) if is_quoted else self._to_next_option()
        return _expression(_BRACES_IN_CONDITION.sub(lambda found: _expression(found[1]), said))

    def _reference(self) -> str:
        if self._text.startswith("${", self._at):
            end = _bracket_end(self._text, self._at + 1)
            found, self._at = self._text[self._at + 2 : end - 1], end
            return f"${{{_expression(found)}}}"
        root = self.take(_ROOT)
        if root is None:
            raise ProblemError("a $ must be followed by a step's number or name")
        return f"${{{label_named(root[1])}{jmespath_condition(self._path())}}}"

    def _path(self) -> str:
        start = self._at
        while part := _PATH.match(self._text, self._at):
            self._at = _bracket_end(self._text, self._at) if part[0] == "[" else part.end()
        return self._text[start : self._at]

    def _word(self, *, bare: bool) -> Json:
        found = self.take(_NAME)
        if found is None:
            raise ProblemError(f"expected a value before: {self.rest() or 'the end'}")
        root, dot, path = found[0].partition(".")
        root = label_named(root)
        word = f"{root}{dot}{path}"
        if word in FUNCTIONS and self._text.startswith("(", self._at):
            start, self._at = self._at, _bracket_end(self._text, self._at)
            return f"${{{word}{_expression(self._text[start : self._at])}}}"
        if word.lower() in _CONSTANTS:
            return _CONSTANTS[word.lower()]
        if root in self._labels or root == "inputs":
            return f"${{{word}{self._path()}}}"
        if bare:
            return word
        raise ProblemError(
            f"{word} is not a value: put text in quotes, and write ${word} for a step of that name"
        )


def _number(digits: str) -> Json:
    try:
        return plain_json(json.loads(digits))
    except ValueError as error:
        raise ProblemError(str(error)) from error


def option_named(name: str) -> str | None:
    """Return the option for a name; None if there is none."""
    lower = name.lower()
    return _SAME_AS.get(lower, lower) if OPTION.fullmatch(f"{name}=") else None


def _expression(said: str) -> str:
    """Translate an expression with ``$1`` into JMESPath over labels."""
    first = _FIRST_NUMBER.match(said)
    if first:
        said = f"{label_named(first[1])}{said[first.end() :]}"
    return jmespath_condition(_LOOKUP.sub(_looked_up, said))


def _looked_up(found: re.Match[str]) -> str:
    if found["kept"]:
        return found[0]
    name: str = found["label"] or found["name"]
    return label_named(name) if found["label"] or not name.isascii() else name


_QUOTED = re.compile("|".join(pattern.pattern for pattern in TEXTS.values()), re.DOTALL)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)|\"", re.DOTALL)


def _unescaped(quoted: str) -> str:
    """Read a text in quotes, with the escapes of JSON; any other backslash stands for itself."""
    text: str = json.loads(f'"{_ESCAPE.sub(_as_json, _unquoted(quoted))}"', strict=False)
    # Half of a surrogate pair could not be stored or sent.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _unquoted(quoted: str) -> str:
    marks = 3 if quoted[:3] in ('"""', "'''") and len(quoted) > 5 else 1
    return quoted[marks:-marks]


def _as_json(found: re.Match[str]) -> str:
    escaped = found[1]
    if escaped is None:
        return '\\"'
    if escaped == "'":
        return "'"
    return found[0] if len(escaped) > 1 or escaped in '"\\/bfnrt' else f"\\{found[0]}"


def _bracket_end(text: str, at: int) -> int:
    """Find the end of the bracket that opens here."""
    depth = 0
    for found in _NESTING.finditer(text, at):
        depth += BRACKETS.get(found[0], 0)
        if depth == 0:
            return found.end()
    raise ProblemError("a bracket is not closed")


_NESTING = re.compile(r"""[\[\](){}]|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`""")
