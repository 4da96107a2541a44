"""Read and write plans as YAML or JSON files; an issue can point at the place of each value."""

from __future__ import annotations

import codecs
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from ...errors import ConfigurationError, InvalidPlanError
from .json_places import read_json
from .places import FOREIGN_BREAKS, KeyPath, Marked, Place, Problem, UnreadableError, place_at
from .whole_files import write_whole
from .yaml_places import looks_like_no_text, read_yaml

__all__ = [
    "SCHEMA_NAME",
    "STDIN",
    "PlanFile",
    "check_writable",
    "dump_plan",
    "issue_place",
    "load_mapping",
    "load_plan_file",
    "read_plan_text",
    "save_plan_file",
]

MAX_BYTES = 5 * 1024 * 1024
SCHEMA_NAME = "plan.schema.json"
"""The name of plan files' JSON Schema wherever it is published."""
STDIN = Path("-")
"""Stands for the standard input, or output."""


@dataclass(frozen=True)
class PlanFile:
    """A plan as read from a file.

    Attributes:
        plan: The plan in the file, without ``$schema`` and ``$comment``, which are for editors and readers.
        path: The file; `STDIN` for the standard input.
        places: The place of each value.
    """

    plan: dict[str, Any]
    path: Path
    places: Mapping[KeyPath, Place] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The file's name, for a message."""
        return _name(self.path)


_FOR_EDITORS = ("$schema", "$comment")
"""Keys of the document that are not part of the plan; JSON has no comments."""


def load_plan_file(path: str | os.PathLike[str]) -> PlanFile:
    """Read a plan; ``.json`` as JSON, everything else as YAML 1.2 (so dates and `yes` stay text).

    Raises:
        InvalidPlanError: With a ``malformed_plan`` issue for everything that cannot be read,
            each with its ``line`` and ``column`` where they are known.
    """
    source = Path(path)
    found = _load(source, "a plan")
    plan = {key: value for key, value in found.value.items() if key not in _FOR_EDITORS}
    return PlanFile(plan, source, found.places)


def read_plan_text(text: str, name: str) -> PlanFile:
    """Read a plan that a person wrote into an editor.

    Args:
        text: YAML.
        name: Its name in messages.

    Raises:
        InvalidPlanError: As `load_plan_file`.
    """
    found = _checked(lambda: read_yaml(text), name, "a plan")
    return PlanFile(found.value, Path(name), found.places)


def load_mapping(path: str | os.PathLike[str], what: str) -> dict[str, Any]:
    """Read any YAML or JSON mapping, such as input values.

    Args:
        path: The file; `STDIN` for the standard input.
        what: Its name in messages, such as "a file of input values".

    Raises:
        InvalidPlanError: As `load_plan_file`.
    """
    found: dict[str, Any] = _load(Path(path), what).value
    return found


def _load(source: Path, what: str) -> Marked:
    def read() -> Marked:
        text = _decoded(_content(source))
        if source == STDIN:
            return _read_either(text)
        return read_json(text) if source.suffix.lower() == ".json" else read_yaml(text)

    return _checked(read, _name(source), what)


def _checked(read: Callable[[], Marked], name: str, what: str) -> Marked:
    """Refuse what cannot be read completely."""
    try:
        found = read()
        problems: Sequence[Problem] = found.problems
    except UnreadableError as error:
        raise _invalid(name, error.problems) from error
    if not problems and not isinstance(found.value, dict):
        problems = [
            Problem(f"{what} must be a mapping, but this is {_kind(found.value)}", found.places.get(()))
        ]
    if problems:
        raise _invalid(name, problems)
    return found


def _invalid(name: str, problems: Sequence[Problem]) -> InvalidPlanError:
    issues = [
        {
            "code": "malformed_plan",
            "step_id": None,
            "message": message,
            "line": place.line if place else None,
            "column": place.column if place else None,
        }
        for message, place in problems
    ]
    lines = [
        f"{name}:{place.line}:{place.column}: {said}" if place else f"{name}: {said}"
        for said, place in problems
    ]
    return InvalidPlanError("\n".join(lines), issues)


def _name(path: Path) -> str:
    return "(standard input)" if path == STDIN else str(path)


def _content(path: Path) -> bytes:
    try:
        if path == STDIN:
            content = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with path.open("rb") as file:
                content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UnreadableError(Problem(f"cannot be read ({error.strerror})")) from error
    if len(content) > MAX_BYTES:
        message = f"is larger than {MAX_BYTES // 1024**2} MB; put long material into files that tools read"
        raise UnreadableError(Problem(message))
    return content


_ENCODINGS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Encodings by the mark at the beginning, which Windows writes; UTF-32's begins like UTF-16's, so it is
first.
"""


def _decoded(content: bytes) -> str:
    encoding = next((name for mark, name in _ENCODINGS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        before = content[: error.start].decode(encoding, "replace")
        message = f"is not {encoding.removesuffix('-sig').upper()} text; save it as UTF-8"
        raise UnreadableError(Problem(message, place_at(before, len(before)))) from error
    # A lone \r is a line break only on old Macs; both readers count \n.
    return text.replace("\r\n", "\n")


def _read_either(text: str) -> Marked:
    """Read the standard input, whose name does not tell its format: JSON if it is JSON, else YAML."""
    try:
        return read_json(text)
    except UnreadableError:
        return read_yaml(text)


def _kind(value: Any) -> str:
    names = {dict: "a mapping", list: "a list", str: "text", bool: "a boolean", type(None): "empty"}
    return names.get(type(value), "a number")


# --- pointing ----------------------------------------------------------------------------


def issue_place(plan_file: PlanFile, issue: Mapping[str, Any]) -> Place | None:
    """Return the place of the field that a validation issue is about, or of what should contain it.

    None if no step of the file has the issue's step id.
    """
    path: KeyPath = tuple(issue.get("field") or ())
    if (step_id := issue.get("step_id")) is not None:
        steps = _steps_called(plan_file.plan, str(step_id))
        if not steps:
            return None
        # If two steps share an id, the second is the one too many; other issues belong to the step with the
        # field.
        meant = steps[-1:] if issue["code"] == "duplicate_id" else steps
        paths: list[KeyPath] = [("steps", index, *path) for index in meant]
        path = next((one for one in paths if one in plan_file.places), paths[0])
    while path and path not in plan_file.places:
        path = path[:-1]
    return plan_file.places.get(path)


def _steps_called(plan: Mapping[str, Any], step_id: str) -> list[int]:
    steps = plan.get("steps")
    return [
        index
        for index, step in enumerate(steps if isinstance(steps, list) else ())
        # A file may say `id: 1`, which is "1" in the plan.
        if isinstance(step, dict) and str(step.get("id")) == step_id
    ]


# --- writing -----------------------------------------------------------------------------


def dump_plan(
    plan: dict[str, Any],
    *,
    format: Literal["yaml", "json"],
    header: Sequence[str] = (),
    schema: str | None = None,
) -> str:
    """Write a plan as text that `load_plan_file` reads back as the same value.

    Args:
        plan: The plan.
        format: ``yaml`` or ``json``.
        header: Lines about the plan's origin: a comment in YAML, ``$comment`` in JSON.
        schema: The path of the JSON Schema, for editors.

    Raises:
        TypeError: The plan holds something that is not JSON.
        ValueError: It holds NaN or infinity.
    """
    notes = [" ".join(line.split()) for line in header]
    if format == "json":
        about = ({"$schema": schema} if schema else {}) | ({"$comment": notes} if notes else {})
        return json.dumps({**about, **plan}, ensure_ascii=False, allow_nan=False, indent=2) + "\n"
    exact = json.loads(json.dumps(plan, ensure_ascii=False, allow_nan=False))
    written: str = yaml.dump(exact, Dumper=_PlanDumper, sort_keys=False, allow_unicode=True, width=100)
    editor = [f"yaml-language-server: $schema={schema}"] if schema else []
    return "".join(f"# {_printable(line)}".rstrip() + "\n" for line in (*editor, *notes)) + written


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


class _PlanDumper(yaml.SafeDumper):
    """Use block style, ``|`` for multi-line text, and quotes where YAML 1.1 or 1.2 would not read text."""

    def ignore_aliases(self, _: Any) -> bool:
        return True


def _represent_text(dumper: _PlanDumper, text: str) -> yaml.ScalarNode:
    if not FOREIGN_BREAKS.isdisjoint(text):
        # PyYAML 6.0 folds these like line breaks in every other style.
        style: str | None = '"'
    elif "\n" in text:
        style = "|"
    else:
        style = "'" if looks_like_no_text(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_PlanDumper.add_representer(str, _represent_text)


def check_writable(path: Path, *, overwrite: bool) -> None:
    """Refuse a path that `save_plan_file` could not write, before there is anything to write.

    Raises:
        ConfigurationError: If its name or folder is wrong, or it already exists.
    """
    _format_of(path)
    if path.is_dir() or not path.parent.is_dir():
        raise ConfigurationError(
            f"{path} cannot be written: its folder does not exist, or it is a folder itself"
        )
    if path.exists() and not overwrite:
        raise ConfigurationError(f"{path} is there already; --force overwrites it")


def save_plan_file(
    plan: dict[str, Any], path: str | os.PathLike[str], *, header: Sequence[str] = (), overwrite: bool = True
) -> None:
    """Write a plan to a ``.yaml``, ``.yml`` or ``.json`` file, completely or not at all.

    A file with a header also names the JSON Schema, if `SCHEMA_NAME` is found near it. In an existing YAML
    file with steps of these ids, only the differences are written; its comments, order and quotes stay.

    Raises:
        ConfigurationError: The name ends in something else, or the file is there and may not be overwritten.
    """
    target = Path(path).resolve()  # Write the file that a link points to; the link stays.
    schema = _schema_near(target.parent) if header else None
    text = dump_plan(plan, format=_format_of(target), header=header, schema=schema)
    if overwrite and _format_of(target) == "yaml" and target.is_file():
        text = _changed_file(target, plan) or text
    write_whole(target, text, lambda: check_writable(target, overwrite=overwrite))


def _changed_file(path: Path, plan: dict[str, Any]) -> str | None:
    """Write the plan into a person's file; None if the file cannot be read, or is about something else."""
    from .kept_text import with_changes

    try:
        text = _decoded(_content(path))
    except UnreadableError:
        return None
    return with_changes(text, json.loads(json.dumps(plan, allow_nan=False)))


def _schema_near(folder: Path) -> str | None:
    """Find the published schema for files of this folder, in it or above it up to the repository's root."""
    for above in (folder, *folder.parents):
        for found in (above / SCHEMA_NAME, above / "docs" / SCHEMA_NAME):
            if found.is_file():
                return Path(os.path.relpath(found, folder)).as_posix()
        if (above / ".git").exists():
            return None
    return None


def _format_of(path: Path) -> Literal["yaml", "json"]:
    suffix = path.suffix.lower()
    if suffix in (".yaml", ".yml"):
        return "yaml"
    if suffix == ".json":
        return "json"
    raise ConfigurationError(f"a plan file ends in .yaml, .yml or .json: {path}")
