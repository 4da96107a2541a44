"""Change a plan file that a person wrote, and keep the rest of it: comments, order, quotes."""

from __future__ import annotations

import io
from collections.abc import Mapping
from difflib import SequenceMatcher
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scalarstring import (
    DoubleQuotedScalarString,
    LiteralScalarString,
    SingleQuotedScalarString,
)
from ruamel.yaml.util import load_yaml_guess_indent

from .places import FOREIGN_BREAKS, Marked, UnreadableError
from .yaml_places import looks_like_no_text, read_yaml

__all__ = ["with_changes"]

Json = Any


def with_changes(text: str, plan: Mapping[str, Json]) -> str | None:
    """Write a plan into an earlier text; lines whose content is the same stay unchanged.

    Args:
        text: YAML that a person wrote.
        plan: The plan that the text must hold.

    Returns:
        A text that reads as the plan; None if the two have no step in common, or it cannot be done.
    """
    try:
        found = read_yaml(text)
        if found.problems or not _step_ids(found.value) & _step_ids(plan):
            return None
        moved = _with_steps(text, found, plan)
        changed = _with_values(moved, read_yaml(moved).value, plan)
        return changed if read_yaml(changed).value == plan else None
    except (UnreadableError, YAMLError):
        return None  # The combined text is not YAML: its layout is not known here.


def _step_ids(plan: Any) -> set[str]:
    steps = plan.get("steps") if isinstance(plan, Mapping) else None
    return {_id(step) for step in steps} - {""} if isinstance(steps, list) else set()


def _id(step: Any) -> str:
    return str(step.get("id", "")) if isinstance(step, Mapping) else ""


# --- steps: their lines ------------------------------------------------------------------


def _with_steps(text: str, found: Marked, plan: Mapping[str, Json]) -> str:
    """Put the lines of the steps into the plan's order: remove some and insert new ones."""
    now, wanted = [_id(step) for step in found.value["steps"]], [_id(step) for step in plan["steps"]]
    if now == wanted:
        return text
    lines = text.splitlines(keepends=True)
    starts = [_first_line(lines, found.places["steps", at].line - 1) for at in range(len(now))]
    end = _end_of_steps(lines, starts[-1], found.places["steps", len(now) - 1].line - 1)
    blocks = {
        step_id: _ended("".join(lines[start:stop]))
        for step_id, start, stop in zip(now, starts, [*starts[1:], end], strict=True)
    }
    first = lines[found.places["steps", 0].line - 1]
    indent = first[: len(first) - len(first.lstrip())]
    new = {_id(step): _written(step, indent) for step in plan["steps"] if _id(step) not in blocks}
    steps = "".join((blocks | new)[step_id] for step_id in wanted)
    return "".join(lines[: starts[0]]) + steps + "".join(lines[end:])


def _first_line(lines: list[str], start: int) -> int:
    """Return where a step begins: with the comments right above it."""
    while start and lines[start - 1].lstrip().startswith("#"):
        start -= 1
    return start


def _end_of_steps(lines: list[str], after: int, last: int) -> int:
    """Return the line after the last step: the next one with less indentation than its dash."""
    depth = len(lines[last]) - len(lines[last].lstrip())
    for number in range(last + 1, len(lines)):
        line = lines[number]
        is_nested = len(line) - len(line.lstrip()) > depth
        if line.strip() and not is_nested:
            return _first_line(lines, number) if number > after else number
    return len(lines)


def _ended(block: str) -> str:
    return block if block.endswith("\n") else f"{block}\n"


def _written(step: Mapping[str, Json], indent: str) -> str:
    out = io.StringIO()
    _writer().dump([_as_node(step)], out)
    return "".join(f"{indent}{line}" for line in out.getvalue().splitlines(keepends=True))


# --- values ------------------------------------------------------------------------------


def _with_values(text: str, now: Json, wanted: Mapping[str, Json]) -> str:
    """Change the values that differ, and rewrite only their lines."""
    writer = _writer()
    tree, mapping, dash = load_yaml_guess_indent(text, yaml=writer)
    writer.indent(mapping=mapping or 2, sequence=(dash or 0) + 2, offset=dash or 0)
    before = _dumped(writer, tree)
    _change(tree, now, wanted)
    return _merged(text, before, _dumped(writer, tree))


def _writer() -> YAML:
    writer = YAML(typ="rt")
    writer.preserve_quotes, writer.width, writer.allow_unicode = True, 4096, True
    return writer


def _dumped(writer: YAML, tree: Any) -> str:
    out = io.StringIO()
    writer.dump(tree, out)
    return out.getvalue()


def _merged(text: str, before: str, after: str) -> str:
    """Keep a line of the text if writing it again changes only its look."""
    own, old, new = (one.splitlines(keepends=True) for one in (text, before, after))
    if len(own) != len(old):
        return after
    merged: list[str] = []
    for what, *own_lines, start, stop in SequenceMatcher(None, old, new).get_opcodes():
        merged += own[slice(*own_lines)] if what == "equal" else new[start:stop]
    return "".join(merged)


def _change(node: Any, now: Json, wanted: Json) -> None:
    """Change a mapping or a list in place; ``now`` is our reading of it, which may differ from ruamel's."""
    if isinstance(wanted, Mapping):
        for key in [key for key in now if key not in wanted]:
            del node[_key(node, key)]
        for key, value in wanted.items():
            _put(node, _key(node, key), now.get(key, _NOTHING), value)
        return
    for at in reversed(range(len(wanted), len(now))):
        del node[at]
    for at, value in enumerate(wanted):
        if at < len(now):
            _put(node, at, now[at], value)
        else:
            node.append(_as_node(value))


_NOTHING = object()


def _key(node: Any, key: str) -> Any:
    """Return the form in which ruamel reads a key, such as a number."""
    return next((own for own in node if str(own) == key), key)


def _put(node: Any, key: Any, now: Json, wanted: Json) -> None:
    if now == wanted and type(now) is type(wanted):
        return
    alike = any(isinstance(now, kind) and isinstance(wanted, kind) for kind in (dict, list))
    inner: Any = node[key] if alike else None
    anchor = getattr(getattr(inner, "anchor", None), "value", None)
    if alike and anchor is None:
        _change(inner, now, wanted)
        return
    if anchor is not None:  # An alias uses it in another place too, where it stays.
        inner.yaml_set_anchor(anchor, always_dump=True)
    node[key] = _as_node(wanted, node[key] if now is not _NOTHING else None)


def _as_node(value: Json, before: Any = None) -> Any:
    """Return the value in ruamel's form, with quotes like those of ``before``."""
    if isinstance(value, Mapping):
        return {str(key): _as_node(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_node(item) for item in value]
    if not isinstance(value, str):
        return value
    if not FOREIGN_BREAKS.isdisjoint(value):
        return DoubleQuotedScalarString(value)
    if "\n" in value:
        return LiteralScalarString(value)
    if isinstance(before, SingleQuotedScalarString | DoubleQuotedScalarString):
        return type(before)(value)
    return value if _is_plain(value) else SingleQuotedScalarString(value)


def _is_plain(value: str) -> bool:
    """Tell whether a text needs no quotes in YAML 1.2 and 1.1, where `yes` needs them."""
    resolver: Any = yaml.resolver.Resolver
    resolved: str = resolver().resolve(yaml.ScalarNode, value, (True, False))
    return resolved.endswith(":str") and not looks_like_no_text(value)
