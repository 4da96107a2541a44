"""Read YAML 1.2 with the place of every value, from the parser's events, so that each alias is checked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from math import isfinite
from typing import Any

import yaml

from .places import (
    KeyPath,
    Marked,
    Place,
    Problem,
    UnreadableError,
    check_depth,
    check_integer,
    check_new,
    not_json,
    place_at,
)

__all__ = ["MAX_ALIASED", "looks_like_no_text", "read_yaml"]

MAX_ALIASED = 100_000
"""The most values that all aliases of a file may expand to; a long text counts as several."""

_LONG_TEXT = 100

# libyaml's parser is ten times as fast and gives the same events.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# YAML 1.2's core schema: PyYAML uses 1.1, which reads `no` as False, 1:30 as 90 and 1e3 as text.
_CONSTANTS = {"": None, "~": None} | {
    word: value
    for name, value in (("null", None), ("true", True), ("false", False))
    for word in (name, name.title(), name.upper())
}
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
_TEXT_TAGS = ("!", "tag:yaml.org,2002:str")
_MERGE = "<<"


def looks_like_no_text(text: str) -> bool:
    """Tell whether a plain scalar of these characters is read as something other than text."""
    return text in _CONSTANTS or bool(_INTEGER.fullmatch(text) or _FLOAT.fullmatch(text))


def read_yaml(text: str) -> Marked:
    """Read a YAML text of one document.

    Raises:
        UnreadableError: It is not YAML, or not of one document.
    """
    if odd := yaml.reader.Reader.NON_PRINTABLE.search(text):
        message = f"is not YAML: the character U+{ord(odd[0]):04X} may not stand in it"
        if odd[0] == "\0":
            message += "; if this is UTF-16, save it as UTF-8"
        raise UnreadableError(Problem(message, place_at(text, odd.start())))
    try:
        return _Build(text).document()
    except yaml.MarkedYAMLError as error:
        _check_depth_before(text, error)
        raise UnreadableError(_syntax_problem(text, error)) from error


def _check_depth_before(text: str, error: yaml.MarkedYAMLError) -> None:
    """Refuse deep nesting here, because PyYAML 6.0.4 reads ahead and fails at a limit of its own.

    Raises:
        UnreadableError: If the text before the error is nested too deeply.
    """
    if error.problem_mark is None:
        return
    depth = 0
    with suppress(yaml.MarkedYAMLError):  # The text is cut in the middle.
        for event in yaml.parse(text[: error.problem_mark.index], Loader=_Loader):
            depth -= isinstance(event, yaml.CollectionEndEvent)
            check_depth(range(depth), _place(event))
            depth += isinstance(event, yaml.CollectionStartEvent)


class _Build:
    """Builds plain JSON values from a parser's events."""

    def __init__(self, text: str) -> None:
        self._events: Iterator[Any] = yaml.parse(text, Loader=_Loader)
        self._found = Marked()
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._aliased = 0
        self._count = 0

    def document(self) -> Marked:
        next(self._events)  # The start of the stream.
        if isinstance(next(self._events), yaml.StreamEndEvent):
            raise UnreadableError(Problem("is empty"))
        self._found.value = self._value(next(self._events), ())
        next(self._events)  # The end of the document.
        second = next(self._events)
        if not isinstance(second, yaml.StreamEndEvent):
            message = "holds more than one document (a line of --- begins another); a plan file is one"
            raise UnreadableError(Problem(message, _place(second)))
        return self._found

    def _problem(self, message: str, event: Any) -> None:
        self._found.problems.append(Problem(message, _place(event)))

    def _value(self, event: Any, path: KeyPath) -> Any:
        place = _place(event)
        check_depth(path, place)
        self._found.places.setdefault(path, place)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, path)
        before = self._count
        self._count += 1
        value = self._build(event, path)
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, self._count - before)
        return value

    def _build(self, event: Any, path: KeyPath) -> Any:
        if event.tag is not None and event.tag != "!" and not _is_text(event):
            self._problem(f"the tag {event.tag!r} has no meaning in a plan", event)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        return self._mapping(path) if isinstance(event, yaml.MappingStartEvent) else self._sequence(path)

    def _mapping(self, path: KeyPath) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        seen: dict[str, Place] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._key(event, path)
            inner, place = (*path, key), _place(event)
            if problem := check_new(key, seen, place):
                self._found.problems.append(problem)
            self._found.places[inner] = place
            value = self._value(next(self._events), inner)
            if _is_merge(event):
                merged |= self._merged(value, event)
            else:
                found[key] = value
        for key in merged.keys() - found.keys():
            self._found.places.setdefault((*path, key), self._found.places[*path, _MERGE])
        return {**merged, **found}

    def _key(self, event: Any, path: KeyPath) -> str:
        if isinstance(event, yaml.ScalarEvent):
            # A key is text in JSON, so `1:` and `null:` are too.
            key = str(event.value)
            self._count += len(key) // _LONG_TEXT
            return key
        self._problem("a key must be text", event)
        return str(self._value(event, (*path, "(key)")))

    def _merged(self, value: Any, event: Any) -> dict[str, Any]:
        """Read the value after ``<<``; if several mappings have a key, the first one counts."""
        mappings = value if isinstance(value, list) else [value]
        if all(isinstance(mapping, dict) for mapping in mappings):
            return {key: item for mapping in reversed(mappings) for key, item in mapping.items()}
        self._problem("<< merges a mapping, or a list of mappings; put it in quotes if it is a key", event)
        return {}

    def _sequence(self, path: KeyPath) -> list[Any]:
        found: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            found.append(self._value(event, (*path, len(found))))
        return found

    def _alias(self, event: Any, path: KeyPath) -> Any:
        if event.anchor not in self._anchors:
            self._problem(
                f"*{event.anchor} must refer to an anchor that ends before it; put it in quotes if it "
                "is text",
                event,
            )
            return None
        value, size = self._anchors[event.anchor]
        self._aliased += size
        self._count += size
        if self._aliased > MAX_ALIASED:
            message = f"its aliases expand to more than {MAX_ALIASED} values"
            raise UnreadableError(Problem(message, _place(event)))
        return _copied(value, path, _place(event))

    def _scalar(self, event: Any) -> Any:
        self._count += len(event.value) // _LONG_TEXT
        # implicit[0] means written plain and without a tag, so its form tells the type.
        if not event.implicit[0] or event.tag in _TEXT_TAGS:
            return event.value
        text = event.value
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if _INTEGER.fullmatch(text):
            if problem := check_integer(text, _place(event)):
                self._found.problems.append(problem)
                return 0
            return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        return self._float(event) if _FLOAT.fullmatch(text) else text

    def _float(self, event: Any) -> float:
        text = event.value
        # Python writes .inf and .nan without the dot.
        number = float(text.replace(".i", "i").replace(".I", "I").replace(".n", "n").replace(".N", "N"))
        if not isfinite(number):
            self._found.problems.append(not_json(text, _place(event)))
        return number


def _copied(value: Any, path: KeyPath, place: Place) -> Any:
    """Copy the value of an alias; aliases of aliases may be nested deeper than the text itself."""
    check_depth(path, place)
    if isinstance(value, dict):
        return {key: _copied(item, (*path, key), place) for key, item in value.items()}
    if isinstance(value, list):
        return [_copied(item, (*path, index), place) for index, item in enumerate(value)]
    return value


def _place(event: Any) -> Place:
    return Place(event.start_mark.line + 1, event.start_mark.column + 1)


def _is_text(event: Any) -> bool:
    return isinstance(event, yaml.ScalarEvent) and event.tag in _TEXT_TAGS


def _is_merge(event: Any) -> bool:
    return isinstance(event, yaml.ScalarEvent) and event.value == _MERGE and bool(event.implicit[0])


# --- what a person may have meant --------------------------------------------------------

_HINTS = {
    "mapping values are not allowed": 'put a text that holds ": " in quotes',
    "while scanning an alias": "put a text that begins with * in quotes",
    "while scanning an anchor": "put a text that begins with & in quotes",
    "cannot start any token": "put a text that begins with this character in quotes",
    "block sequence": "the items of a list begin in the same column",
    "block mapping": "the keys of a mapping begin in the same column",
}


def _syntax_problem(text: str, error: yaml.MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    message = f"is not YAML: {error.problem or error}"
    if mark is None:
        return Problem(message)
    opened = error.context_mark
    if opened is not None and opened.line != mark.line:
        message += f" ({error.context} that begins in line {opened.line + 1})"
    hint = _hint(text, error, mark)
    return Problem(f"{message}; {hint}" if hint else message, Place(mark.line + 1, mark.column + 1))


def _hint(text: str, error: yaml.MarkedYAMLError, mark: Any) -> str | None:
    lines = text.split("\n")
    line = lines[mark.line] if mark.line < len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return "YAML is indented with spaces, never with tabs"
    said = f"{error.context} {error.problem}"
    if "flow" in said and re.search(r"[^\"']\$\{", _around(lines, error, mark)):
        return 'inside {…} and […] a reference needs quotes: "${…}"'
    return next((hint for words, hint in _HINTS.items() if words in said), None)


def _around(lines: list[str], error: yaml.MarkedYAMLError, mark: Any) -> str:
    first = error.context_mark.line if error.context_mark else mark.line
    return "\n".join(lines[first : mark.line + 1])
