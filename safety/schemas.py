"""JSON Schemas of others: found to be usable before they are used, and applied with bounded work.

They come from plans, tools, MCP servers and embedders. References are resolved within the schema only, so
nothing is fetched. What could not be evaluated is said when a schema is read, with its place; patterns run
under a time limit; every keyword that is looked at counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from functools import cached_property, lru_cache
from graphlib import CycleError, TopologicalSorter
from itertools import islice
from typing import Any, NamedTuple

from jsonschema import (
    Draft4Validator,
    Draft6Validator,
    Draft7Validator,
    Draft201909Validator,
    Draft202012Validator,
    FormatChecker,
    ValidationError,
    validators,
)
from jsonschema.exceptions import best_match
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import specification_with

from ..errors import known
from .depth import read_json, too_deep_message
from .patterns import PatternError, compile_pattern, compile_schema_pattern, is_found
from .work import Work, current_work, within

__all__ = ["BadSchemaError", "Problem", "Schema", "read_schema"]

Json = Any
Problem = ValidationError
"""How a value differs from its schema: ``message``, ``json_path``, ``validator`` and so on."""
Keyword = Any

_TYPES = "array, boolean, integer, null, number, object, string"
_MOST_PROBLEMS = 100
_STEPS_A_KEYWORD = 8
_LONGEST_CHAIN = 50
"""Schemas that one value may be handed to in a chain of references."""


class BadSchemaError(ValueError):
    """A schema that cannot be used; the message names the place in it."""


# --- keywords ----------------------------------------------------------------------------


def _pattern(validator: Any, pattern: str, text: Json, _: Json) -> Iterator[Problem]:
    if not validator.is_type(text, "string"):
        return
    readable = _readable([pattern])
    if readable and not is_found(readable[0][1], text):
        yield ValidationError(f"{text!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, schemas: Json, instance: Json, _: Json) -> Iterator[Problem]:
    if not validator.is_type(instance, "object"):
        return
    for pattern, compiled in _readable(schemas):
        for name in instance:
            if is_found(compiled, name):
                value, schema = instance[name], schemas[pattern]
                yield from validator.descend(value, schema, path=name, schema_path=pattern)


def _additional_properties(validator: Any, allowed: Json, instance: Json, schema: Json) -> Iterator[Problem]:
    patterns = schema.get("patternProperties", {})
    readable = _readable(patterns)
    if not validator.is_type(instance, "object") or len(readable) < len(patterns):
        return  # what a pattern that is not understood allows, nobody knows
    named = schema.get("properties", {})
    rest = {
        name: value
        for name, value in instance.items()
        if name not in named and not any(is_found(compiled, name) for _, compiled in readable)
    }
    yield from Draft202012Validator.VALIDATORS["additionalProperties"](validator, allowed, rest, {})


def _readable(patterns: Any) -> list[tuple[str, Any]]:
    found = []
    for pattern in patterns:
        try:
            found.append((pattern, compile_schema_pattern(pattern)))
        except PatternError:
            continue  # `notes` says that it is left unchecked
    return found


def _unique_items(validator: Any, wanted: bool, instance: Json, _: Json) -> Iterator[Problem]:
    # the library compares objects pair by pair
    is_list = wanted and validator.is_type(instance, "array")
    if is_list and len({_key(one) for one in instance}) < len(instance):
        yield ValidationError("some items are there twice")


def _key(value: Json) -> Any:
    if isinstance(value, dict):
        return "object", frozenset((name, _key(item)) for name, item in value.items())
    if isinstance(value, list):
        return "array", tuple(map(_key, value))
    return (bool, value) if isinstance(value, bool) else value


def _counted(check: Keyword) -> Keyword:
    """Have a keyword count what it goes through."""

    def keyword(validator: Any, value: Json, instance: Json, schema: Json) -> Any:
        size = len(value) if isinstance(value, _SIZED) else 0
        size += len(instance) if isinstance(instance, _SIZED) else 0
        current_work().spend(_STEPS_A_KEYWORD + size)
        return check(validator, value, instance, schema)

    return keyword


_SIZED = (dict, list)


def _same_dialect(self: Any, **changes: Any) -> Any:
    """Go on with this class whatever ``$schema`` a part names: the library's own classes have no bounds."""
    kept = {"schema": self.schema, "format_checker": self.format_checker, "_resolver": self._resolver}
    return type(self)(**{**kept, **changes})


def _bounded(base: Any, **more: Keyword) -> Any:
    own = {
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional_properties,
        "uniqueItems": _unique_items,
        **more,
    }
    keywords = {name: _counted(check) for name, check in {**base.VALIDATORS, **own}.items()}
    made: Any = validators.extend(base, keywords)  # type: ignore[no-untyped-call]
    made.evolve = _same_dialect
    return made


def _unchecked(*_: Any) -> tuple[()]:
    return ()


_BASES = (Draft202012Validator, Draft7Validator, Draft4Validator, Draft201909Validator, Draft6Validator)
_DIALECTS = {_id.rstrip("#"): _bounded(base) for base in _BASES if (_id := base.ID_OF(base.META_SCHEMA))}
_GUESSES = [*_DIALECTS.values()][:3]
"""What a schema that does not name its dialect may be, the usual one first."""
_FORMATS = FormatChecker()


@_FORMATS.checks("date-time", raises=ValueError)
def _is_date_time(value: object) -> bool:
    # jsonschema 4 checks this format only with a further package installed
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


@_FORMATS.checks("regex", raises=PatternError)
def _is_pattern(value: object) -> bool:
    return not isinstance(value, str) or compile_pattern(value) is not None


# --- reading -----------------------------------------------------------------------------


class Schema:
    """A schema that can be used.

    Attributes:
        notes: What of it is left unchecked, and why.
    """

    def __init__(self, dialect: Any, document: Json) -> None:
        found = _Walk(dialect, document)
        self.notes = found.notes
        if found.has_patterns and found.unevaluated:
            dialect = _bounded(dialect, unevaluatedProperties=_unchecked)
            self.notes.append(f"{found.unevaluated}: left unchecked beside patternProperties")
        self._validator = dialect(document, registry=Registry())

    @cached_property
    def _with_formats(self) -> Any:
        return self._validator.evolve(format_checker=_FORMATS)

    def problems(self, value: Json, *, formats: bool = False) -> list[Problem]:
        """List how a value differs, as far as that is bounded.

        Raises:
            WorkLimitError: If finding out takes too much work.
        """
        validator = self._with_formats if formats else self._validator
        try:
            return within(Work(), lambda: list(islice(validator.iter_errors(value), _MOST_PROBLEMS)))
        except RecursionError:
            return [ValidationError("it is nested too deep to be checked")]
        except (ArithmeticError, TypeError, ValueError, Unresolvable) as error:  # such as a multiple of NaN
            return [ValidationError(f"it cannot be checked: {error}")]

    def best_problem(self, value: Json) -> Problem | None:
        """Return the difference that says most, formats included; None: there is none.

        Raises:
            WorkLimitError: If finding out takes too much work.
        """
        best: Problem | None = best_match(self.problems(value, formats=True))
        return best


def read_schema(schema: Json) -> Schema:
    """Read a schema; one that was read before is not read again.

    Raises:
        BadSchemaError: If it is none, or cannot be evaluated.
        WorkLimitError: If finding out takes too much work.
    """
    try:
        text = _as_text(schema)
    except (RecursionError, ValueError) as error:
        raise BadSchemaError(too_deep_message("it")) from error
    return _read(text)


_as_text = json.JSONEncoder(default=str).encode


@lru_cache(maxsize=512)
def _read(text: str) -> Schema:
    try:
        document = read_json(text)
    except ValueError as error:
        raise BadSchemaError(str(error)) from error
    named = document.get("$schema") if isinstance(document, dict) else None
    dialect = _DIALECTS.get(named.rstrip("#")) if isinstance(named, str) else None
    problems = []
    for candidate in [dialect] if dialect else _GUESSES:
        if (problem := _form_problem(candidate, document)) is None:
            return Schema(candidate, document)
        problems.append(problem)
    raise BadSchemaError(problems[0])


def _form_problem(dialect: Any, schema: Json) -> str | None:
    """Say which keyword has a value of the wrong form."""
    form = dialect(dialect.META_SCHEMA, registry=Registry())
    try:
        error = within(Work(), lambda: best_match(form.iter_errors(schema)))
    except RecursionError:
        return "it is nested too deep"
    if error is None:
        return None
    if error.absolute_path and error.absolute_path[-1] == "type":
        return f"{error.json_path}: {error.instance!r} is no type; known: {_TYPES}"
    return f"{error.json_path}: {error.message[:200]}"


# --- what a schema holds -----------------------------------------------------------------

_SAME_VALUE = {"not", "if", "then", "else", "allOf", "anyOf", "oneOf", "dependentSchemas", "dependencies"}
"""Keywords whose schemas are for the same value, not for a part of it."""
_OF_PARTS = {
    "items", "prefixItems", "additionalItems", "contains", "unevaluatedItems", "properties",
    "patternProperties", "additionalProperties", "propertyNames", "unevaluatedProperties", "contentSchema",
    "$defs", "definitions",
}  # fmt: skip
_BY_NAME = {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"}
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")


class _Part(NamedTuple):
    schema: Any
    place: str
    resolver: Any


class _Walk:
    """Goes through a schema and what it refers to, once."""

    def __init__(self, dialect: Any, document: Json) -> None:
        self.notes: list[str] = []
        self.has_patterns, self.unevaluated = False, ""
        self._dialect, self._document = dialect, document
        self._specification = specification_with(dialect.ID_OF(dialect.META_SCHEMA))
        self._handed_to: dict[int, set[int]] = {}
        self._places: dict[int, str] = {}
        self._targets: list[_Part] = []
        root = self._specification.create_resource(document)
        self._go_through([_Part(document, "$", Registry().resolver_with_root(root))])
        while hidden := [part for part in self._targets if id(part.schema) not in self._places]:
            # Only a reference leads there: nothing has told yet that they are schemas.
            for part in hidden:
                if problem := _form_problem(dialect, part.schema):
                    raise BadSchemaError(f"{part.place}: refers to what is no schema: {problem}")
            self._go_through(hidden)
        self._check_chains()

    def _go_through(self, todo: list[_Part]) -> None:
        while todo:
            part = todo.pop()
            if isinstance(part.schema, dict) and id(part.schema) not in self._places:
                self._look_at(part)
                todo += self._parts_of(part)

    def _look_at(self, part: _Part) -> None:
        schema, place, _ = part
        self._places[id(schema)] = place
        self._look_at_patterns("pattern", [schema.get("pattern")], place)
        listed = schema.get("patternProperties")
        if isinstance(listed, dict):
            self.has_patterns = self.has_patterns or bool(listed)
            self._look_at_patterns("patternProperties", [*listed], place)
        if "unevaluatedProperties" in schema:
            self.unevaluated = f"{place}.unevaluatedProperties"
        targets = [
            self._target(part, keyword)
            for keyword in _REFERENCES
            if keyword in self._dialect.VALIDATORS and isinstance(schema.get(keyword), str)
        ]
        self._targets += targets
        self._handed_to[id(schema)] = {id(target.schema) for target in targets}

    def _parts_of(self, part: _Part) -> Iterator[_Part]:
        for keyword in (_SAME_VALUE | _OF_PARTS) & part.schema.keys():
            held = part.schema[keyword]
            is_named = keyword in _BY_NAME or isinstance(held, list)
            if is_named:
                named = held.items() if isinstance(held, dict) else enumerate(held)
            for name, schema in named if is_named else [(None, held)]:
                if isinstance(schema, dict):
                    if keyword in _SAME_VALUE:
                        self._handed_to[id(part.schema)].add(id(schema))
                    place = f"{part.place}.{keyword}" + ("" if name is None else f".{name}")
                    resource = self._specification.create_resource(schema)
                    yield _Part(schema, place, part.resolver.in_subresource(resource))

    def _look_at_patterns(self, keyword: str, patterns: list[Json], place: str) -> None:
        for pattern in patterns:
            try:
                if isinstance(pattern, str):
                    compile_schema_pattern(pattern)
            except PatternError as error:
                self.notes.append(f"{place}.{keyword}: {pattern[:200]!r} is not understood: {error}")

    def _target(self, part: _Part, keyword: str) -> _Part:
        reference, place = part.schema[keyword], f"{part.place}.{keyword}"
        try:
            found = part.resolver.lookup(reference)
        # a pointer into what is neither an object nor a list (referencing 0.37)
        except (Unresolvable, ValueError, TypeError, AttributeError) as error:
            raise BadSchemaError(
                f"{place}: {reference[:200]!r} is not in the schema itself, and nothing is fetched; "
                f"what it defines: {known(self._defined())}"
            ) from error
        if not isinstance(found.contents, dict | bool):
            what = type(found.contents).__name__
            raise BadSchemaError(f"{place}: {reference[:200]!r} is no schema, but a value of type {what}")
        return _Part(found.contents, place, found.resolver)

    def _defined(self) -> Iterator[str]:
        for section in ("$defs", "definitions"):
            held = self._document.get(section)
            yield from (f"#/{section}/{name}" for name in (held if isinstance(held, dict) else ()))

    def _check_chains(self) -> None:
        """Refuse schemas that hand the same value on without end, or too often."""
        try:
            order = list(TopologicalSorter(self._handed_to).static_order())
        except CycleError as error:
            places = [self._places[one] for one in error.args[1]]
            way = " -> ".join(places[:10])
            raise BadSchemaError(f"{places[0]}: refers to itself without end ({way})") from error
        lengths: dict[int, int] = {}
        for one in order:
            lengths[one] = 1 + max((lengths[after] for after in self._handed_to.get(one, ())), default=0)
            if lengths[one] > _LONGEST_CHAIN:
                raise BadSchemaError(f"{self._places[one]}: more than {_LONGEST_CHAIN} schemas in a chain")
