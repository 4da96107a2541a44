"""Read JSON with the place of every value."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from math import isfinite

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
)

__all__ = ["read_json"]

_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],:]|[^\s{}\[\],:"]+|\n')
_NOT_INTEGER = frozenset(".eENI")
_SURROGATE = re.compile("[\ud800-\udfff]")
_LONG = 40


def read_json(text: str) -> Marked:
    """Read a JSON text.

    Raises:
        UnreadableError: It is not JSON.
    """
    try:
        # An integer of thousands of digits is refused below, with its place.
        value = json.loads(text, parse_int=lambda digits: int(digits) if len(digits) <= _LONG else 0)
    except json.JSONDecodeError as error:
        place = Place(error.lineno, error.colno)
        raise UnreadableError(Problem(f"is not JSON: {error.msg}", place)) from error
    except RecursionError:
        _Walk(text).marked(None)  # It refuses text that is nested too deeply.
        raise
    return _Walk(text).marked(value)


class _Walk:
    """Walks through a valid JSON text and notes the place of every value."""

    def __init__(self, text: str) -> None:
        self._found = Marked()
        self._tokens = _tokens(text)

    def marked(self, value: object) -> Marked:
        self._value(*next(self._tokens), ())
        self._found.value = value
        return self._found

    def _value(self, piece: str, place: Place, path: KeyPath) -> None:
        check_depth(path, place)
        self._found.places.setdefault(path, place)
        if piece == "{":
            self._object(path)
        elif piece == "[":
            self._array(path)
        elif problem := _scalar_problem(piece, place):
            self._found.problems.append(problem)

    def _object(self, path: KeyPath) -> None:
        seen: dict[str, Place] = {}
        for piece, place in self._tokens:
            if piece == "}":
                return
            if piece != ",":
                inner = (*path, json.loads(piece))
                if problem := check_new(inner[-1], seen, place):
                    self._found.problems.append(problem)
                self._found.places[inner] = place
                next(self._tokens)  # Skip the colon.
                self._value(*next(self._tokens), inner)

    def _array(self, path: KeyPath) -> None:
        index = 0
        for piece, place in self._tokens:
            if piece == "]":
                return
            if piece != ",":
                self._value(piece, place, (*path, index))
                index += 1


def _tokens(text: str) -> Iterator[tuple[str, Place]]:
    line, start = 1, 0
    for found in _TOKEN.finditer(text):
        if found[0] == "\n":
            line, start = line + 1, found.end()
        else:
            yield found[0], Place(line, found.start() - start + 1)


def _scalar_problem(piece: str, place: Place) -> Problem | None:
    if piece[0] == '"':
        lone = "\\u" in piece and _SURROGATE.search(json.loads(piece))
        return (
            Problem("the text holds half of a surrogate pair, which is not Unicode", place) if lone else None
        )
    if piece in ("true", "false", "null"):
        return None
    if _NOT_INTEGER.isdisjoint(piece):
        return check_integer(piece, place)
    return None if isfinite(float(piece)) else not_json(piece, place)
