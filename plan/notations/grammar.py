"""Build a grammar (GBNF) of the plans in lines that one inventory allows, for servers that enforce one.

It is narrower than what ``lines.py`` reads. Names of tools, arguments and enums come from the inventory, a
reference names an earlier step, arguments are named, options have one order, and texts, lists and steps are
bounded. Everything that it produces can be read. A text contains no ``$1`` and no other notation for a
reference.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .draft import Occasion

__all__ = ["Bounds", "line_grammar"]

Schema = Mapping[str, Any]


@dataclass(frozen=True)
class Bounds:
    """How much a plan may hold.

    Attributes:
        steps: Steps of a plan.
        text: Characters of a text, and as many again after each reference in it.
        items: Items of a list, and members of an object.
    """

    steps: int = 12
    text: int = 1000
    items: int = 12


@dataclass(frozen=True)
class _Place:
    """The context of a value: its step, and whether the step runs once per item of a list."""

    step: int
    has_item: bool = False

    def __str__(self) -> str:
        return f"{self.step}{'-each' if self.has_item else ''}"


def line_grammar(
    tools: Mapping[str, Schema],
    *,
    agents: Collection[str] = (),
    model_classes: Collection[str] = (),
    sub_plans: bool = False,
    earlier: Collection[str] = (),
    inputs: Collection[str] = (),
    occasion: Occasion = "goal",
    bounds: Bounds = Bounds(),
) -> str:
    """Write the grammar.

    Args:
        tools: The JSON Schema of the arguments of each tool.
        agents: Names of the agents.
        model_classes: Model classes that a step may name.
        sub_plans: Whether a step may be a goal of its own.
        earlier: Ids of existing steps.
        inputs: Names of the inputs.
        occasion: What the plan is written for.
        bounds: The size limits.
    """
    grammar = _Grammar(tools, agents, model_classes, sub_plans, earlier, inputs, bounds)
    ends = ['"impossible: " words "\\n"', *(['"finished\\n"'] if occasion == "next_steps" else [])]
    grammar.rules["root"] = _any_of(['("# " note "\\n")? plan-1', *ends])
    for number in range(1, bounds.steps + 1):
        grammar.add_step(number, may_go_on=occasion != "revision")
    return "\n".join(f"{name} ::= {body}" for name, body in grammar.rules.items()) + "\n"


_NAME = re.compile(r"[A-Za-z_][\w-]*", re.ASCII)
_TOOL = re.compile(r"[A-Za-z_][\w.-]*", re.ASCII)
_DEEPEST = 3
_SIGNS = '("==" | "!=" | "<=" | ">=" | "<" | ">")'

_FIXED = {
    "name": "[A-Za-z_] [A-Za-z0-9_]{0,30}",
    "path": '("." name | "[" [0-9]{1,3} "]"){0,4}',
    "number": '"-"? ("0" | [1-9] [0-9]{0,11}) ("." [0-9]{1,6})?',
    "integer": '"-"? ("0" | [1-9] [0-9]{0,11})',
    "boolean": '"true" | "false"',
    "plain": r'[^"\\$#<{\[\x00-\x1F\x7F]',
    # Each of these could begin a reference in another notation, so only harmless continuations may follow.
    "special": r'"\\" ["\\nt] | "\\u0024" | money | "# " | "{" open-brace | "[" open-bracket | tag',
    "money": '"$" ([1-9] [0-9]{2,8} | [0-9]{1,8} [.,] [0-9]{2})',
    "open-brace": r'"\\\"" | [}.,;:!?*/+=|&()\]-]',
    "open-bracket": r'"\\\"" | "\\n" | [A-Za-z0-9 \]().,;:!?*/+=|&-]',
    "tag": '"<" ("/"? [A-Za-z] [A-Za-z0-9]{0,9} [ >/] | [=-] | " " [a-z])',
    "character": "plain | special",
    "letter": "[A-Za-zÀ-῿ぁ-ヿ一-鿿가-힣]",
    "literal": '''number | boolean | "'" [A-Za-z0-9 _.-]{0,40} "'"''',
    "schema-type": r'"{\"type\": \"" ("string" | "number" | "integer" | "boolean") "\"}"',
    "schema-list": r'"{\"type\": \"array\", \"items\": " schema-type "}"',
}


class _Grammar:
    """Collects the rules."""

    def __init__(
        self,
        tools: Mapping[str, Schema],
        agents: Collection[str],
        model_classes: Collection[str],
        sub_plans: bool,
        earlier: Collection[str],
        inputs: Collection[str],
        bounds: Bounds,
    ) -> None:
        self._tools, self._agents, self._sub_plans = tools, agents, sub_plans
        self._models = f' (" model=" ({_any_of(map(_literal, model_classes))}))?' if model_classes else ""
        self._earlier, self._inputs, self._bounds = earlier, inputs, bounds
        self._values: dict[tuple[str, _Place, int], str] = {}
        self._more = f"{{0,{bounds.items - 1}}}"
        self.rules: dict[str, str] = {"root": ""}
        self.rules |= _FIXED | {
            "chunk": f"character{{0,{bounds.text}}}",
            "words": f"letter plain{{1,{bounds.text}}}",
        }
        self.rules["note"] = rf"letter [^()\"'“„«「‘\x00-\x1F\x7F]{{1,{bounds.text}}}"
        # Numbers could be taken for those of steps.
        self.rules["written-item"] = rf'"\"" plain{{1,{bounds.text}}} "\""'
        self.rules["written-list"] = f'"[" written-item (", " written-item){self._more} "]"'
        members = r'"\"" name "\": " (schema-type | schema-list)'
        self.rules["schema"] = (
            rf'"{{\"type\": \"object\", \"properties\": {{" {members} (", " {members}){self._more} "}}}}"'
        )

    # --- steps ---------------------------------------------------------------------------

    def add_step(self, number: int, *, may_go_on: bool) -> None:
        """Add the rules of a step, and of what may follow it."""
        once, each = _Place(number), _Place(number, has_item=True)
        bodies = [f"work-{once} options-{once}"]
        self._add_work(once)
        self._add_work(each)
        lists = ["written-list"]
        if self._has_reference(once):
            lists += [f"reference-{once}", f'"[" reference-{once} ", " reference-{once} "]"']
        bodies.append(f'work-{each} " each=" ({_any_of(lists)}) options-{once}')
        self._add_options(once)
        self.rules[f"step-{once}"] = f'"{number}. " ({_any_of(bodies)}) "\\n"'
        behind = _Place(number + 1)
        self._add_reference(behind)
        self._add_text(behind)
        ends = [
            f'"return " (text-{behind} | reference-{behind}) "\\n"',
            *(['"more\\n"'] if may_go_on else []),
        ]
        further = [f"plan-{number + 1}"] if number < self._bounds.steps else []
        self.rules[f"plan-{number}"] = f"step-{number} ({_any_of([*further, *ends])})?"

    def _add_work(self, place: _Place) -> None:
        self._add_reference(place)
        self._add_text(place)
        kinds = [self._call(tool, schema, place) for tool, schema in self._tools.items()]
        kinds = [call for call in kinds if call]
        thought = f"text-{place}{self._tool_list()}"
        kinds += [f'{thought}{self._models} (" output=" schema)?']
        if not place.has_item:
            kinds.append(self._question(place))
        kinds += [f'{_literal(agent + " ")} text-{place} (" output=" schema)?' for agent in self._agents]
        kinds += [f'"goal " text-{place}'] if self._sub_plans else []
        self.rules[f"work-{place}"] = _any_of(kinds)

    def _call(self, tool: str, schema: Schema, place: _Place) -> str:
        """Write a tool's call; nothing if its names cannot be written in a line."""
        names, required = schema.get("properties") or {}, set(schema.get("required") or ())
        sayable = [name for name in names if _NAME.fullmatch(name)]
        if not _TOOL.fullmatch(tool) or not required <= set(sayable):
            return ""
        given = [
            (
                f"{_literal(name + '=')} {self._value(names[name], place, schema.get('$defs') or {})}",
                name in required,
            )
            for name in sayable
        ]
        # Two arguments without fixed names could get the same name.
        free = f'(name "=" {self._value({}, place, {})})?' if schema.get("additionalProperties") else '""'
        inside = _listed(given) if names else free
        return f'{_literal(tool + "(")} ({inside}) ")" (" confirm=true")?'

    def _question(self, place: _Place) -> str:
        choices = f'(", choices=[" text-{place} (", " text-{place}){self._more} "]")?'
        return f'"ask(" text-{place} {choices} ")"'

    def _tool_list(self) -> str:
        names = [name for name in self._tools if _TOOL.fullmatch(name)]
        if not names:
            return ""
        self.rules["tool"] = _any_of(map(_literal, names))
        return f' (" tools=[" tool (", " tool){{0,{len(names) - 1}}} "]")?'

    def _add_options(self, place: _Place) -> None:
        options = ['(" check=\\"" words "\\"")?']
        if roots := self._roots(place.step):
            self.rules[f"earlier-{place}"] = roots
            earlier, subject = f"earlier-{place}", f"subject-{place}"
            self.rules[subject] = f'reference-{place} | "length(" reference-{place} ")"'
            self.rules[f"condition-{place}"] = f'{subject} " " {_SIGNS} " " literal | "!"? reference-{place}'
            condition = f"condition-{place}"
            options = [
                f'(" after=[" {earlier} (", " {earlier}){{0,4}} "]")?',
                f'(" else_of=" {earlier} | " if_failed=[" {earlier} "]")?',
                f'(" if=\\"" {condition} ((" && " | " || ") {condition}){{0,2}} "\\"")?',
                *options,
            ]
        self.rules[f"options-{place}"] = " ".join(options)

    # --- values --------------------------------------------------------------------------

    def _roots(self, step: int) -> str:
        """List the steps that this one may refer to."""
        return _any_of(map(_literal, [*map(str, range(1, step)), *self._earlier]))

    def _add_reference(self, place: _Place) -> None:
        roots = [f"({roots})"] if (roots := self._roots(place.step)) else []
        roots += [f'"inputs." ({_any_of(map(_literal, self._inputs))})'] if self._inputs else []
        roots += ['"item"'] if place.has_item else []
        if roots:
            self.rules[f"root-{place}"] = f"({_any_of(roots)}) path"
            self.rules[f"reference-{place}"] = f'"$" root-{place}'

    def _has_reference(self, place: _Place) -> bool:
        return f"reference-{place}" in self.rules

    def _add_text(self, place: _Place) -> None:
        inner = f' ("${{" root-{place} "}}" chunk){{0,3}}' if self._has_reference(place) else ""
        self.rules[f"text-{place}"] = f'"\\"" chunk{inner} "\\""'

    def _value(self, schema: Any, place: _Place, known: Schema, depth: int = _DEEPEST) -> str:
        """Return the rule for a value of this schema."""
        key = (json.dumps([schema, known], sort_keys=True, default=str), place, depth)
        if key not in self._values:
            kinds = [*self._kinds(schema if isinstance(schema, Mapping) else {}, place, known, depth)]
            kinds += [f"reference-{place}"] if self._has_reference(place) else []
            self._values[key] = f"value-{place}-{len(self._values)}"
            self.rules[self._values[key]] = _any_of(dict.fromkeys(kinds))
        return self._values[key]

    def _kinds(self, schema: Schema, place: _Place, known: Schema, depth: int) -> Iterator[str]:
        """List the forms of a value; if the schema does not restrict it, any JSON up to a depth."""
        if "$ref" in schema and depth:
            named = known.get(str(schema["$ref"]).rpartition("/")[2])
            yield self._value(named, place, known, depth - 1)
        elif "enum" in schema or "const" in schema:
            yield from map(_literal, map(_json, schema.get("enum", [schema.get("const")])))
        elif (choices := schema.get("anyOf") or schema.get("oneOf")) and depth:
            yield from (self._value(choice, place, known, depth - 1) for choice in choices)
        else:
            named = schema.get("type") or ["string", "number", "boolean", "null", "array", "object"]
            for one in [named] if isinstance(named, str) else named:
                yield from self._of_type(one, schema, place, known, depth)

    def _of_type(self, kind: str, schema: Schema, place: _Place, known: Schema, depth: int) -> Iterator[str]:
        if kind == "string":
            yield f"text-{place}"
            if schema.get("format") in ("date", "date-time"):
                yield from ('"now()"', '"add_days(now(), " integer ")"')
        elif kind in ("number", "integer"):
            yield kind
            if self._has_reference(place):
                operand = f"(reference-{place} | number)"
                yield f'("add(" | "subtract(" | "multiply(" | "divide(") {operand} ", " {operand} ")"'
        elif kind in ("boolean", "null"):
            yield kind if kind == "boolean" else '"null"'
        elif not depth:
            yield '"[]"' if kind == "array" else '"{}"'
        elif kind == "array":
            item = self._value(schema.get("items"), place, known, depth - 1)
            yield f'"[" ({item} (", " {item}){self._more})? "]"'
        elif kind == "object":
            yield f'"{{" ({self._members(schema, place, known, depth)}) "}}"'

    def _members(self, schema: Schema, place: _Place, known: Schema, depth: int) -> str:
        names, required = schema.get("properties") or {}, set(schema.get("required") or ())
        if names:
            return _listed(
                (
                    f"{_literal(_json(name) + ': ')} {self._value(part, place, known, depth - 1)}",
                    name in required,
                )
                for name, part in names.items()
            )
        member = (
            rf'"\"" name "\": " {self._value(schema.get("additionalProperties"), place, known, depth - 1)}'
        )
        return f'({member} (", " {member}){self._more})?'


def _listed(parts: Iterable[tuple[str, bool]]) -> str:
    """Write parts in order, some of them optional, with commas between."""
    rest = list(parts)
    ways = []
    for at, (first, needed) in enumerate(rest):
        others = [f'", " {part}' if must else f'(", " {part})?' for part, must in rest[at + 1 :]]
        ways.append(" ".join([first, *others]))
        if needed:
            return _any_of(ways)
    return _any_of([*ways, '""'])


def _any_of(alternatives: Iterable[str]) -> str:
    return " | ".join(alternatives)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _literal(text: str) -> str:
    """Quote literal characters."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'
