"""Plans as YAML or JSON files, with the line of every value so that an issue can point at it."""

from __future__ import annotations

import copy
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, Literal

import yaml

from ..errors import ConfigurationError, InvalidPlanError

__all__ = ["PlanFile", "dump_plan", "issue_line", "load_plan_file", "save_plan_file"]

KeyPath = tuple[str | int, ...]

MAX_BYTES = 5 * 1024 * 1024
MAX_DEPTH = 64
MAX_ALIASED = 100_000
"""How many values all aliases of a YAML file may stand for together."""

# libyaml's parser is ten times as fast and gives the same events
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# YAML 1.2's core schema: PyYAML's own is 1.1, which reads `no` as False, 1:30 as 90 and 1e3 as text.
_CONSTANTS = {"": None, "~": None} | {
    word: value
    for name, value in (("null", None), ("true", True), ("false", False))
    for word in (name, name.title(), name.upper())
}
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)

_FOREIGN_BREAKS = frozenset("\r\x85\u2028\u2029")
_NOT_INTEGER = frozenset(".eENI")
_JSON_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],:]|[^\s{}\[\],:"]+|\n')


@dataclass(frozen=True)
class PlanFile:
    """A plan as read from a file."""

    plan: dict[str, Any]
    path: Path
    lines: dict[KeyPath, int]
    """The 1-based line of every value by its path, such as ``("steps", 0, "id")``; ``()`` is the whole."""


class _Malformed(Exception):
    """What is wrong, and in which line where that is known."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


def load_plan_file(path: str | os.PathLike[str]) -> PlanFile:
    """Read a plan; ``.json`` as JSON, everything else as YAML 1.2 (so dates and `yes` stay text).

    Raises:
        InvalidPlanError: With one ``malformed_plan`` issue that names the file and, where known, the line.
    """
    source = Path(path)
    try:
        text = _read(source)
        plan, lines = _read_json(text) if source.suffix.lower() == ".json" else _read_yaml(text)
        if not isinstance(plan, dict):
            raise _Malformed(f"a plan is a mapping, this is {_kind(plan)}", lines.get(()))
    except _Malformed as error:
        place = f"{source}:{error.line}" if error.line else str(source)
        raise _invalid(f"{place}: {error}") from error
    return PlanFile(plan, source, lines)


def _invalid(message: str) -> InvalidPlanError:
    return InvalidPlanError(message, [{"code": "malformed_plan", "step_id": None, "message": message}])


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise _Malformed(f"cannot be read ({error.strerror})") from error
    if len(content) > MAX_BYTES:
        raise _Malformed(f"is larger than {MAX_BYTES // 1024**2} MB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _Malformed("is not UTF-8 text", line) from error


def _kind(value: Any) -> str:
    names = {dict: "a mapping", list: "a list", str: "text", bool: "a boolean", type(None): "empty"}
    return names.get(type(value), "a number")


# JSON


def _read_json(text: str) -> tuple[Any, dict[KeyPath, int]]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise _Malformed(f"is not JSON: {error.msg} (column {error.colno})", error.lineno) from error
    except (ValueError, RecursionError) as error:
        raise _Malformed(f"is not usable JSON: {error}") from error
    return value, _JsonLines(text).lines


class _JsonLines:
    """The line of every value of a valid JSON text."""

    def __init__(self, text: str) -> None:
        self.lines: dict[KeyPath, int] = {}
        self._pieces = self._numbered(text)
        self._value(*next(self._pieces), ())

    @staticmethod
    def _numbered(text: str) -> Iterator[tuple[str, int]]:
        line = 1
        for found in _JSON_TOKEN.finditer(text):
            if found[0] == "\n":
                line += 1
            else:
                yield found[0], line

    def _value(self, piece: str, line: int, path: KeyPath) -> None:
        _check_depth(path, line)
        self.lines.setdefault(path, line)
        if piece == "{":
            self._object(path)
        elif piece == "[":
            self._array(path)
        elif (
            piece[0] in "-0123456789NI" and not _NOT_INTEGER.isdisjoint(piece) and not isfinite(float(piece))
        ):
            raise _not_json(piece, line)

    def _object(self, path: KeyPath) -> None:
        for piece, line in self._pieces:
            if piece == "}":
                return
            if piece != ",":
                inner = (*path, json.loads(piece))
                _check_new(inner, self.lines, line)
                self.lines[inner] = line
                next(self._pieces)  # the colon
                self._value(*next(self._pieces), inner)

    def _array(self, path: KeyPath) -> None:
        index = 0
        for piece, line in self._pieces:
            if piece == "]":
                return
            if piece != ",":
                self._value(piece, line, (*path, index))
                index += 1


def _check_depth(path: KeyPath, line: int) -> None:
    if len(path) > MAX_DEPTH:
        raise _Malformed(f"is nested more than {MAX_DEPTH} levels deep", line)


def _check_new(path: KeyPath, lines: Mapping[KeyPath, int], line: int) -> None:
    if path in lines:
        raise _Malformed(f"the key {path[-1]!r} stands here twice (first in line {lines[path]})", line)


def _not_json(value: str, line: int) -> _Malformed:
    return _Malformed(f"{value} is not a number that JSON has; put it in quotes if it is text", line)


# YAML


def _read_yaml(text: str) -> tuple[Any, dict[KeyPath, int]]:
    try:
        return _YamlReader(text).read()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _Malformed(f"is not YAML: {error.problem or error}", mark.line + 1 if mark else None) from error
    except yaml.reader.ReaderError as error:
        raise _Malformed(f"is not YAML: {error.reason} (position {error.position})") from error


@dataclass
class _YamlReader:
    """Builds plain JSON values from the parser's events, so that nothing is expanded unseen."""

    text: str
    lines: dict[KeyPath, int] = field(default_factory=dict)
    _anchors: dict[str, tuple[Any, int]] = field(default_factory=dict)
    _aliased: int = 0
    _count: int = 0

    def read(self) -> tuple[Any, dict[KeyPath, int]]:
        self._events = yaml.parse(self.text, Loader=_Loader)
        next(self._events)  # the start of the stream
        first = next(self._events)
        if isinstance(first, yaml.StreamEndEvent):
            raise _Malformed("is empty")
        value = self._value(next(self._events), ())
        next(self._events)  # the end of the document
        second = next(self._events)
        if not isinstance(second, yaml.StreamEndEvent):
            raise _Malformed("holds more than one document", _line(second))
        return value, self.lines

    def _value(self, event: Any, path: KeyPath) -> Any:
        line = _line(event)
        _check_depth(path, line)
        self.lines.setdefault(path, line)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event.anchor, line)
        before = self._count
        self._count += 1
        value = self._build(event, path)
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, self._count - before)
        return value

    def _build(self, event: Any, path: KeyPath) -> Any:
        if isinstance(event, yaml.ScalarEvent):
            return _scalar(event)
        if event.tag not in (None, "!"):
            raise _bad_tag(event)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(path)
        return self._sequence(path)

    def _mapping(self, path: KeyPath) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = _key(event)
            inner = (*path, key)
            _check_new(inner, self.lines, _line(event))
            self.lines[inner] = _line(event)
            found[key] = self._value(next(self._events), inner)
        return found

    def _sequence(self, path: KeyPath) -> list[Any]:
        found: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            found.append(self._value(event, (*path, len(found))))
        return found

    def _alias(self, anchor: str | None, line: int) -> Any:
        if anchor is None or anchor not in self._anchors:
            raise _Malformed(f"*{anchor} refers to no value that is complete before it", line)
        value, size = self._anchors[anchor]
        self._aliased += size
        self._count += size
        if self._aliased > MAX_ALIASED:
            raise _Malformed(f"its aliases stand for more than {MAX_ALIASED} values", line)
        return copy.deepcopy(value)


def _line(event: Any) -> int:
    line: int = event.start_mark.line
    return line + 1


def _key(event: Any) -> str:
    if not isinstance(event, yaml.ScalarEvent):
        raise _Malformed("a key must be text", _line(event))
    # a key is text in JSON, so `1:` and `null:` are too
    return str(event.value)


def _scalar(event: Any) -> Any:
    if event.tag in ("!", "tag:yaml.org,2002:str"):
        return event.value
    if event.tag is not None:
        raise _bad_tag(event)
    # implicit[0]: written plain, so its form says what it is
    return _plain(event.value, _line(event)) if event.implicit[0] else event.value


def _plain(text: str, line: int) -> Any:
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text):
        return _integer(text, line)
    if not _FLOAT.fullmatch(text):
        return text
    # Python writes .inf and .nan without the dot
    number = float(text.replace(".i", "i").replace(".I", "I").replace(".n", "n").replace(".N", "N"))
    if not isfinite(number):
        raise _not_json(text, line)
    return number


def _integer(text: str, line: int) -> int:
    try:
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    except ValueError as error:
        raise _Malformed(f"the number is too long ({len(text)} digits)", line) from error


def _bad_tag(event: Any) -> _Malformed:
    return _Malformed(f"the tag {event.tag!r} has no meaning in a plan", _line(event))


# pointing and writing


def issue_line(plan_file: PlanFile, issue: Mapping[str, Any]) -> int | None:
    """Return the line of the step that a validation issue names, of the plan if it names none.

    None: no step of the file has this id.
    """
    step_id = issue.get("step_id")
    if step_id is None:
        return plan_file.lines.get(())
    steps = plan_file.plan.get("steps")
    for index, step in enumerate(steps if isinstance(steps, list) else ()):
        # a file may say `id: 1`, which the plan calls "1"
        if isinstance(step, dict) and str(step.get("id")) == str(step_id):
            return plan_file.lines.get(("steps", index))
    return None


def dump_plan(plan: dict[str, Any], *, format: Literal["yaml", "json"]) -> str:
    """Write a plan as text that `load_plan_file` reads back as the same value.

    Raises:
        TypeError: The plan holds something that is not JSON.
        ValueError: It holds NaN or infinity.
    """
    text = json.dumps(plan, ensure_ascii=False, allow_nan=False, indent=2) + "\n"
    if format == "json":
        return text
    written: str = yaml.dump(
        json.loads(text), Dumper=_PlanDumper, sort_keys=False, allow_unicode=True, width=100
    )
    return written


class _PlanDumper(yaml.SafeDumper):
    """Block style, multi-line text as ``|``, and quotes where YAML 1.1 or 1.2 would see no text."""

    def ignore_aliases(self, _: Any) -> bool:
        return True


def _represent_text(dumper: _PlanDumper, text: str) -> yaml.ScalarNode:
    if not _FOREIGN_BREAKS.isdisjoint(text):
        # PyYAML 6.0 folds these like line breaks in every other style
        style: str | None = '"'
    elif "\n" in text:
        style = "|"
    elif text in _CONSTANTS or _INTEGER.fullmatch(text) or _FLOAT.fullmatch(text):
        style = "'"
    else:
        style = None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_PlanDumper.add_representer(str, _represent_text)


def save_plan_file(plan: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Write a plan to a ``.yaml``, ``.yml`` or ``.json`` file, whole or not at all.

    Raises:
        ConfigurationError: The name ends in something else.
    """
    target = Path(path)
    text = dump_plan(plan, format=_format_of(target))
    handle, draft = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(draft).replace(target)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def _format_of(path: Path) -> Literal["yaml", "json"]:
    suffix = path.suffix.lower()
    if suffix in (".yaml", ".yml"):
        return "yaml"
    if suffix == ".json":
        return "json"
    raise ConfigurationError(f"a plan file ends in .yaml, .yml or .json: {path}")
