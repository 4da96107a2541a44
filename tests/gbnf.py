"""Write random texts of a grammar in GBNF, to hold a reader to all that the grammar allows."""

from __future__ import annotations

import random
import re
from functools import cache
from typing import Any

__all__ = ["Derivations"]

_TOKEN = re.compile(
    r'\s+|(?P<literal>"(?:[^"\\]|\\.)*")|(?P<chars>\[\^?(?:[^\]\\]|\\.)*\])|(?P<name>[A-Za-z][A-Za-z0-9-]*)'
    r"|(?P<count>\{\d+(?:,\d*)?\}|[?*+])|(?P<mark>[()|])"
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
_UNUSUAL = "\"'`{}[]()<>#$=:,;.-+*|&!?/ \tAzé日😀09_E"
"""Characters that a reader could take for something else, where the grammar leaves a choice."""

Node = tuple[Any, ...]


class Derivations:
    """A grammar, read from its text.

    Args:
        text: The grammar.
        longest: How often a part is repeated at most, whatever the grammar allows.
    """

    def __init__(self, text: str, longest: int = 6) -> None:
        rules = (line.split(" ::= ", 1) for line in text.splitlines() if line)
        self._sources = dict(rules)
        self._longest = longest
        self._parsed = cache(self._parse)

    @property
    def names(self) -> set[str]:
        """The names of all rules."""
        return set(self._sources)

    def write(self, choose: random.Random) -> str:
        """Write one text."""
        return self._written(("name", "root"), choose)

    def _parse(self, name: str) -> Node:
        source, at, tokens = self._sources[name], 0, []
        while at < len(source):
            found = _TOKEN.match(source, at)
            assert found, f"{name}: cannot read {source[at : at + 40]!r}"
            at = found.end()
            if found.lastgroup:
                tokens.append((found.lastgroup, found[0]))
        node, rest = self._choice(tokens)
        assert not rest, f"{name}: {rest[:3]} is left over"
        return node

    def _choice(self, tokens: list[tuple[str, str]]) -> tuple[Node, list[tuple[str, str]]]:
        ways: list[list[Node]] = [[]]
        while tokens and tokens[0] != ("mark", ")"):
            (kind, text), *tokens = tokens
            if text == "|" and kind == "mark":
                ways.append([])
            elif text == "(" and kind == "mark":
                inner, tokens = self._choice(tokens)
                assert tokens[:1] == [("mark", ")")], "a bracket is not closed"
                tokens = tokens[1:]
                ways[-1].append(inner)
            elif kind == "count":
                ways[-1].append(("repeat", ways[-1].pop(), *_times(text)))
            else:
                ways[-1].append((kind, text))
        return ("choice", *(("all", *way) for way in ways)), tokens

    def _written(self, node: Node, choose: random.Random) -> str:
        kind, *parts = node
        if kind == "choice":
            return self._written(choose.choice(parts), choose)
        if kind == "all":
            return "".join(self._written(part, choose) for part in parts)
        if kind == "repeat":
            part, least, most = parts
            times = choose.randint(least, min(most, least + self._longest))
            return "".join(self._written(part, choose) for _ in range(times))
        if kind == "name":
            return self._written(self._parsed(parts[0]), choose)
        return _unescaped(parts[0][1:-1]) if kind == "literal" else _one_of(parts[0], choose)


def _times(text: str) -> tuple[int, int]:
    if text in "?*+":
        return {"?": (0, 1), "*": (0, 99), "+": (1, 99)}[text]
    least, _, most = text[1:-1].partition(",")
    return int(least), int(most or least)


def _unescaped(text: str) -> str:
    return re.sub(r"\\(x[0-9A-Fa-f]{2}|.)", lambda found: _character(found[1]), text)


def _character(escape: str) -> str:
    return chr(int(escape[1:], 16)) if len(escape) == 3 else _ESCAPES.get(escape, escape)


def _one_of(chars: str, choose: random.Random) -> str:
    pattern = re.compile(chars)
    allowed = [one for one in (*_UNUSUAL, *map(chr, range(32, 127)), "\n", "\x01") if pattern.fullmatch(one)]
    return choose.choice(allowed)
