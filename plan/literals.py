"""Turn literals of a plan into inputs, so that one plan serves many cases."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidInputError, known
from .references import BadReferenceError, escaped, map_strings, references_in, render, resolve

__all__ = ["ArgumentSchema", "InputMaker", "NewInput", "declared_inputs", "holds_references", "stands_for"]

Json = Any
Path = tuple[str | int, ...]
ArgumentSchema = Callable[[str], Mapping[str, Any]]
"""Returns the JSON Schema of a tool's arguments."""

# --- inputs ------------------------------------------------------------------------------

_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}


def declared_inputs(declared: Mapping[str, Any], values: Mapping[str, Json]) -> dict[str, dict[str, Any]]:
    """Declare inputs so that a run without values repeats the run with these values."""
    found = {name: dict(spec) for name, spec in declared.items()}
    for name, value in values.items():
        spec = found.get(name) or _declaration(value)
        found[name] = {**spec, "default": value}
    return found


def _declaration(value: Json) -> dict[str, Any]:
    kind = _TYPES.get(type(value))
    return {"type": kind} if kind else {}


# --- literals that become inputs ---------------------------------------------------------


@dataclass(frozen=True)
class NewInput:
    """A request to turn a literal of the plan into an input.

    Attributes:
        path: The literal's path: ``weather.city`` (an argument) or ``steps.weather.call.args.city``.
        name: The input's name.
    """

    path: str
    name: str

    @classmethod
    def read(cls, text: str) -> NewInput:
        """Read ``PATH=NAME``.

        Raises:
            InvalidInputError: If it has another form.
        """
        path, sign, name = text.rpartition("=")
        if not sign or not path.strip() or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name.strip()):
            raise InvalidInputError(
                f"a literal is lifted with STEP.ARGUMENT=NAME, such as weather.city=city, not {text!r}"
            )
        return cls(path.strip(), name.strip())


def _literal(value: Json) -> Json:
    """Return the value of a part of a plan that contains no reference."""
    return resolve(value, {})


def holds_references(value: Json) -> bool:
    """Tell whether any text of a value contains a reference."""
    found: list[bool] = []
    map_strings(value, lambda text: found.append(bool(_references(text))))
    return any(found)


def _references(text: str) -> Sequence[Any]:
    try:
        return references_in(text)
    except BadReferenceError:
        return [text]


class InputMaker:
    """Replaces literals of steps with references to inputs, and declares the inputs."""

    def __init__(
        self,
        steps: list[dict[str, Any]],
        declared: dict[str, dict[str, Any]],
        renamed: Mapping[str, str],
        everywhere: bool,
        argument_schema: ArgumentSchema | None,
    ) -> None:
        self.steps = steps
        self._declared = declared
        self._renamed = renamed
        self._everywhere = everywhere
        self._argument_schema = argument_schema

    def make(self, wanted: NewInput) -> None:
        """Turn one literal into an input.

        Raises:
            InvalidInputError: If there is no literal at the path, or the input has another value.
        """
        at, path = self._locate(wanted)
        value = _value_at(self.steps[at], path)
        if wanted.name not in self._declared:
            if holds_references(value):
                raise InvalidInputError(
                    f"{wanted.path} is not a literal: {json.dumps(value, ensure_ascii=False)[:80]} contains "
                    "a reference. Lift a literal. If an input's value is a part of this text, lift it by "
                    "that input's name"
                )
            self._declared[wanted.name] = self._declare(at, path, _literal(value))
            changed: Json = _reference(wanted.name)
        else:
            changed = self._with_known_input(wanted, value)
        self.steps[at] = _replaced(self.steps[at], path, changed)
        if self._everywhere:
            literal = self._declared[wanted.name]["default"]
            self.steps = [_lifted_throughout(step, literal, wanted.name) for step in self.steps]

    def _with_known_input(self, wanted: NewInput, value: Json) -> Json:
        """Use an input that is already declared in place of its default, alone or inside a text."""
        spec = self._declared[wanted.name]
        if "default" not in spec:
            raise InvalidInputError(
                f"the plan has an input {wanted.name!r} without a value; lift {wanted.path} by another name"
            )
        known_value = spec["default"]
        if not holds_references(value) and stands_for(value, known_value):
            return _reference(wanted.name)
        inside = _inside(value, render(known_value), wanted) if isinstance(value, str) else value
        if inside == value:
            shown, other = (json.dumps(v, ensure_ascii=False)[:80] for v in (known_value, value))
            raise InvalidInputError(
                f"the input {wanted.name!r} already has the value {shown}, but {wanted.path} is {other}, "
                "which neither equals nor contains it; lift it by another name"
            )
        return inside

    def _locate(self, wanted: NewInput) -> tuple[int, Path]:
        names = re.sub(r"\[(\d+)\]", r".\1", wanted.path).split(".")
        ids = [step["id"] for step in self.steps]
        if names[0] == "steps" and "steps" not in ids:
            del names[0]
        step_id = self._renamed.get(names[0], names[0]) if names else ""
        if step_id not in ids:
            raise InvalidInputError(
                f"{wanted.path}: there is no step {step_id!r}; known steps: {known(ids, given=step_id)}"
            )
        at, rest = ids.index(step_id), names[1:]
        step = self.steps[at]
        path = _path_to(step, rest) or (_path_to(step, ["call", "args", *rest]) if rest else None)
        liftable = list(_liftable(step))
        if path is None or not any(path == one[: len(path)] for one in liftable) or not _may_be_lifted(path):
            literals = known(_shown(step_id, one) for one in liftable)
            raise InvalidInputError(
                f"{wanted.path}: there is nothing to lift; literals of {step_id!r}: {literals}"
            )
        return at, path

    def _declare(self, at: int, path: Path, value: Json) -> dict[str, Any]:
        spec = _declaration(value)
        if self._argument_schema and path[:2] == ("call", "args") and len(path) == 3:
            schema = self._argument_schema(self.steps[at]["call"]["tool"])
            of_the_tool = schema.get("properties", {}).get(path[2], {})
            if of_the_tool.get("type") in (spec.get("type"), "number") and spec.get("type") != "boolean":
                taken = ("type", "description", "enum", "format", "minimum", "maximum")
                spec = {key: of_the_tool[key] for key in taken if key in of_the_tool}
        return {**spec, "default": value}


def _reference(name: str) -> str:
    return f"${{inputs.{name}}}"


def stands_for(literal: Json, value: Json) -> bool:
    """Tell whether a part of a plan without references equals this value; 1, 1.0 and true differ."""
    return json.dumps(_literal(literal), sort_keys=True) == json.dumps(value, sort_keys=True)


def _may_be_lifted(path: Path) -> bool:
    if path[0] == "call":
        return len(path) > 2
    return path[0] != "success_criteria" or (len(path) > 2 and path[-1] != "type")


def _liftable(step: Mapping[str, Any]) -> Iterable[Path]:
    """List the places of a step whose literal values could be references instead."""
    for root in (("call", "args"), ("task",), ("success_criteria",), ("plan", "goal")):
        if (path := _path_to(step, list(root))) is not None:
            yield from (leaf for leaf in _leaves(_value_at(step, path), path) if _may_be_lifted(leaf))


def _leaves(value: Json, path: Path) -> Iterable[Path]:
    if isinstance(value, dict | list) and value:
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(item, (*path, key))
    else:
        yield path


def _shown(step_id: str, path: Path) -> str:
    rest = path[2:] if path[:2] == ("call", "args") else path
    return ".".join(map(str, (step_id, *rest)))


def _path_to(value: Json, names: Sequence[str]) -> Path | None:
    """Follow names through a JSON value, including names with dots; None if they lead nowhere."""
    if not names:
        return ()
    for length in range(len(names), 0, -1):
        name = ".".join(names[:length])
        key: str | int = int(name) if isinstance(value, list) and name.isdigit() else name
        has = key in value if isinstance(value, dict) else isinstance(key, int) and key < len(value)
        if has and (rest := _path_to(value[key], names[length:])) is not None:
            return (key, *rest)
    return None


def _value_at(value: Json, path: Path) -> Json:
    for key in path:
        value = value[key]
    return value


def left_literals(plan: Mapping[str, Any], names: Iterable[str]) -> list[tuple[str, str, str]]:
    """Find where a plan still contains an input's default as a literal, also within a text.

    Returns:
        For each: the path for lifting it, the input's name, and the value.
    """
    defaults = {name: plan["inputs"][name].get("default") for name in names}
    texts = {name: value for name, value in defaults.items() if isinstance(value, str) and value.strip()}
    return [
        (_shown(step["id"], path), name, value)
        for step in plan["steps"]
        for path in _liftable(step)
        for name, value in texts.items()
        if isinstance(held := _value_at(step, path), str) and _holds(held, value)
    ]


def _holds(text: str, value: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text) is not None


def _replaced(value: Json, path: Path, new: Json) -> Json:
    if not path:
        return new
    if isinstance(value, list):
        return [_replaced(item, path[1:], new) if at == path[0] else item for at, item in enumerate(value)]
    return {key: _replaced(item, path[1:], new) if key == path[0] else item for key, item in value.items()}


def _inside(text: str, literal: str, wanted: NewInput) -> str:
    """Replace a value with its input where it appears as whole words in a text's literal parts."""
    words = re.compile(rf"(?<!\w){re.escape(escaped(literal))}(?!\w)") if literal else re.compile(r"(?!)")
    parts, at = [], 0
    for _, start, end in _references(text):
        parts += [(text[at:start], True), (text[start:end], False)]
        at = end
    parts.append((text[at:], True))
    if any(is_literal and re.search(rf"\$(?={words.pattern})", part) for part, is_literal in parts):
        raise InvalidInputError(f"{wanted.path}: {literal!r} follows a $, and $${{ would be a literal")
    return "".join(
        words.sub(lambda _: _reference(wanted.name), part) if is_literal else part
        for part, is_literal in parts
    )


def _lifted_throughout(step: dict[str, Any], literal: Json, name: str) -> dict[str, Any]:
    for path in list(_liftable(step)):
        value = _value_at(step, path)
        if not holds_references(value) and stands_for(value, literal):
            step = _replaced(step, path, _reference(name))
    return step
