"""Read references between steps, such as ``${weather.temp_c}``, and compute their values.

A reference is a JMESPath expression between ``${`` and ``}`` over the outputs of earlier steps by step id,
over ``inputs``, and inside ``for_each`` also over ``item`` and ``index``. A string that consists of one
reference stands for the exact value; inside longer text the value is rendered. ``$${`` writes a literal
``${``. ``$${}`` is replaced by nothing, and separates characters that would otherwise look like a reference
in another notation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache, reduce
from typing import Any, NamedTuple

from ..errors import UnresolvedReferenceError, WorkLimitError
from ..safety.expressions import ExpressionError, UnknownFunctionError, evaluate, evaluate_part, parse, tokens
from ..safety.work import Work, current_work, within
from ..state import Step

__all__ = [
    "BadReferenceError",
    "Reference",
    "escaped",
    "expression_roots",
    "field_with",
    "fill",
    "holds",
    "is_rooted",
    "is_single_reference",
    "looked_up",
    "looks_at_everything",
    "map_strings",
    "paths_in",
    "reference_fields",
    "references_in",
    "render",
    "resolve",
    "roots_in",
    "search",
    "step_references",
    "strings_in",
    "unreadable_field",
]

Json = Any
_CHARACTERS_A_STEP = 64


class BadReferenceError(ValueError):
    """A reference that cannot be parsed: not closed, empty, or not JMESPath.

    Attributes:
        code: The code of the plan's issue.
    """

    def __init__(self, message: str, code: str = "bad_expression") -> None:
        super().__init__(message)
        self.code = code


class Reference(NamedTuple):
    """One reference in a text: its expression and position (start, end)."""

    expression: str
    start: int
    end: int


# --- finding -----------------------------------------------------------------------------


def references_in(text: str) -> tuple[Reference, ...]:
    """Find the references of one string, in order.

    Raises:
        BadReferenceError: If one is empty or not closed.
    """
    return tuple(part for part in _split(text) if isinstance(part, Reference))


def is_single_reference(text: Json) -> bool:
    """Tell whether a value is a string that is exactly one reference."""
    if not isinstance(text, str):
        return False
    parts = _split(text)
    return len(parts) == 1 and isinstance(parts[0], Reference)


def _split(text: str) -> tuple[str | Reference, ...]:
    """Split a string into literal text (escapes undone) and references."""
    if "${" in text:
        return _divided(text)
    return (text,) if text else ()  # Most are so, and need not be remembered.


@lru_cache(maxsize=4096)
def _divided(text: str) -> tuple[str | Reference, ...]:
    parts: list[str | Reference] = []
    literal, at = "", 0
    while (found := text.find("${", at)) >= 0:
        if found > 0 and text[found - 1] == "$":
            stands_for_nothing = text.startswith("}", found + 2)
            literal += text[at : found - 1] + ("" if stands_for_nothing else "${")
            at = found + (3 if stands_for_nothing else 2)
            continue
        literal += text[at:found]
        end = _closing_brace(text, found + 2)
        expression = text[found + 2 : end].strip()
        if not expression:
            raise BadReferenceError(f"empty reference at position {found} of {_shorten(text)}")
        if literal:
            parts.append(literal)
        parts.append(Reference(expression, found, end + 1))
        literal, at = "", end + 1
    literal += text[at:]
    if literal:
        parts.append(literal)
    return tuple(parts)


def escaped(text: str) -> str:
    """Escape a text so that a plan takes it literally."""
    return text.replace("${", "$${").replace("$${}", "$${$${}}")


def _closing_brace(text: str, start: int) -> int:
    """Find the brace that closes a reference, past nested ``{}`` and quoted strings."""
    depth, quote, at = 1, "", start
    while at < len(text):
        char = text[at]
        if quote:
            if char == "\\":
                at += 1
            elif char == quote:
                quote = ""
        elif char in "'\"`":
            quote = char
        elif char in "{}":
            depth += 1 if char == "{" else -1
            if depth == 0:
                return at
        at += 1
    raise BadReferenceError(f"reference is not closed: {_shorten(text[start - 2 :])}")


def _shorten(text: str, limit: int = 80) -> str:
    return text if len(text) <= limit else text[:limit] + "…"


# --- what an expression uses -------------------------------------------------------------

_LEFT_ONLY = {
    "subexpression",
    "index_expression",
    "pipe",
    "projection",
    "value_projection",
    "filter_projection",
    "flatten",
}
_ROOTLESS = {"literal", "identity", "index", "slice", "expref"}


@lru_cache(maxsize=4096)
def expression_roots(expression: str) -> frozenset[str]:
    """Collect the names that an expression looks up at its top level: step ids, ``inputs``, ``item``.

    Raises:
        BadReferenceError: If the expression is not JMESPath.
    """
    return frozenset(_roots(_parsed(expression)))


def _roots(node: Mapping[str, Any]) -> Iterator[str]:
    kind, children = node["type"], node.get("children", ())
    if kind == "field":
        yield node["value"]
    elif kind in _LEFT_ONLY:
        # The right side of these is looked up in the value of the left side.
        yield from _roots(children[0]) if children else ()
    elif kind not in _ROOTLESS:
        for child in children:
            if isinstance(child, Mapping):
                yield from _roots(child)


def is_rooted(expression: str) -> bool:
    """Tell whether an expression begins with names, and not with a literal or everything (``@``, ``*``).

    Raises:
        BadReferenceError: If the expression is not JMESPath.
    """
    rooted = bool(expression_roots(expression)) or _calls_now(_parsed(expression))
    return rooted and not looks_at_everything(expression)


def _calls_now(node: Mapping[str, Any]) -> bool:
    """Tell whether an expression uses the run's clock, which counts as a name."""
    if node["type"] == "function_expression" and node["value"] == "now":
        return True
    return any(isinstance(child, Mapping) and _calls_now(child) for child in node.get("children", ()))


def looks_at_everything(expression: str) -> bool:
    """Tell whether an expression begins with everything there is, and not with a name.

    Raises:
        BadReferenceError: If the expression is not JMESPath.
    """
    return _looks_at_everything(_parsed(expression))


def _looks_at_everything(node: Mapping[str, Any]) -> bool:
    kind, children = node["type"], node.get("children", ())
    if kind in ("current", "identity"):
        return True
    looked_into = children[:1] if kind in _LEFT_ONLY else () if kind in _ROOTLESS else children
    return any(isinstance(child, Mapping) and _looks_at_everything(child) for child in looked_into)


def looked_up(expression: str) -> list[tuple[int, int, str]]:
    """Find the positions (start, end, name) where an expression looks up a top-level name.

    Names after a dot, in filters, after a pipe or ``&``, and keys of ``{…}`` are fields of values. In text
    that is not JMESPath nothing is found.
    """
    try:
        parts = tokens(expression)
    except ExpressionError:
        return []
    kinds = ["", *(token["type"] for token in parts)]  # Now kinds[at] is the token before parts[at].
    found: list[tuple[int, int, str]] = []
    opened = [False]  # For each open bracket: whether names in it belong to a value.
    here = [False]  # The same until the next comma: after a pipe or & they do.
    for at, token in enumerate(parts):
        kind = token["type"]
        if kind in _OPENING:
            opened.append(here[-1] or _opens_a_value(kinds[: at + 1], kind))
            here.append(opened[-1])
        elif kind in _CLOSING and len(here) > 1:
            opened.pop()
            here.pop()
        elif kind in ("pipe", "expref"):
            here[-1] = True
        elif kind == "comma":
            here[-1] = opened[-1]
        elif kind in _NAMES and not here[-1] and kinds[at] != "dot" and kinds[at + 2] not in _NOT_A_LOOKUP:
            found.append((token["start"], _end(token, expression), token["value"]))
    return found


def _end(token: Mapping[str, Any], expression: str) -> int:
    """Find the end of a name; in quotes, jmespath 1.1.0 gives the length instead, at the end one less."""
    in_quotes = _IN_QUOTES.match(expression, token["start"])
    return in_quotes.end() if in_quotes else int(token["end"])


_IN_QUOTES = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)


def _opens_a_value(before: list[str], kind: str) -> bool:
    """Tell whether the names in a bracket are fields of the value before it."""
    if kind == "lparen":  # A function's bracket; a dot may precede the function.
        return before[-2:] == ["dot", "unquoted_identifier"]
    return kind == "filter" or before[-1] in _VALUE_ENDS or before[-1] == "dot"


_OPENING = {"lparen", "lbracket", "lbrace", "filter"}
_CLOSING = {"rparen", "rbracket", "rbrace"}
_NOT_A_LOOKUP = {"colon", "lparen"}
"""The tokens after the key of a ``{…}`` and after the name of a function."""
_NAMES = {"unquoted_identifier", "quoted_identifier"}
_VALUE_ENDS = {*_NAMES, "rbracket", "rbrace", "rparen", "flatten", "star"}


def _parsed(expression: str) -> Any:
    try:
        return parse(expression)
    except UnknownFunctionError as error:
        raise BadReferenceError(f"{_shorten(expression)}: {error}", "bad_reference") from error
    except ExpressionError as error:
        raise BadReferenceError(f"not a JMESPath expression: {_shorten(expression)} ({error})") from error


def plain_path(expression: str) -> list[str] | None:
    """Return ``["weather", "temp_c"]`` for a plain dotted path, None for any other expression."""
    return _field_path(_parsed(expression))


def paths_in(expression: str) -> Iterator[tuple[list[str], bool]]:
    """Yield the dotted paths that an expression uses as values, each with whether it is the whole."""
    nodes = [parsed := _parsed(expression)]
    while nodes:
        node = nodes.pop()
        if (path := _field_path(node)) is not None:
            yield path, node is parsed
        elif node["type"] in _OVER_THE_ROOT:
            nodes += node["children"]


_OVER_THE_ROOT = {"comparator", "and_expression", "or_expression", "not_expression", "function_expression"}
"""Expressions whose parts are evaluated on the same value as the whole."""


def _field_path(node: Mapping[str, Any]) -> list[str] | None:
    if node["type"] == "field":
        return [node["value"]]
    if node["type"] != "subexpression":
        return None
    parts = [_field_path(child) for child in node["children"]]
    return None if None in parts else [name for part in parts for name in part or ()]


# --- values ------------------------------------------------------------------------------


def search(expression: str, scope: Mapping[str, Json]) -> Json:
    """Evaluate a JMESPath expression.

    Raises:
        UnresolvedReferenceError: If it fails on these values (a function on a wrong type), or takes too
            much work.
    """
    try:
        return evaluate(expression, scope)
    except ExpressionError as error:
        raise UnresolvedReferenceError(f"{_shorten(expression)}: {error}") from error
    except WorkLimitError as error:
        raise WorkLimitError(f"{_shorten(expression)}: {error}") from error


def holds(expression: str, scope: Mapping[str, Json]) -> bool:
    """Tell whether a condition holds: for JMESPath, false, null and empty values are false.

    Raises:
        UnresolvedReferenceError: If it fails on these values.
    """
    value = search(expression, scope)
    return not (value is None or value is False or value in ("", [], {}))


def resolve(value: Json, scope: Mapping[str, Json]) -> Json:
    """Replace the references in a JSON value, at any depth, with their values.

    Args:
        value: Strings, lists and dicts are searched; dict keys are not.
        scope: Outputs by step id, and ``inputs``.

    Raises:
        UnresolvedReferenceError: If a reference has no value.
    """
    return within(Work(), map_strings, value, lambda text: _resolve_text(text, scope))


def map_strings(value: Json, change: Callable[[str], Json]) -> Json:
    """Apply ``change`` to every string of a JSON value (not to dict keys)."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: map_strings(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [map_strings(item, change) for item in value]
    return value


def _resolve_text(text: str, scope: Mapping[str, Json]) -> Json:
    parts = _split(text)
    if len(parts) == 1 and isinstance(parts[0], Reference):
        return _lookup(parts[0].expression, scope)
    return _joined(
        part if isinstance(part, str) else render(_lookup(part.expression, scope)) for part in parts
    )


def _joined(parts: Iterable[str]) -> str:
    """Join the parts of a text; their total length counts."""
    work, held = current_work(), []
    for part in parts:
        work.spend(len(part) // _CHARACTERS_A_STEP)
        held.append(part)
    return "".join(held)


def fill(text: str, scope: Mapping[str, Json], show: Callable[[Reference, Json], str]) -> str:
    """Write a text with its references filled in; ``show`` writes each value, even if it is the whole text.

    Raises:
        UnresolvedReferenceError: If a reference has no value.
    """
    return within(
        Work(),
        _joined,
        (
            part if isinstance(part, str) else show(part, _lookup(part.expression, scope))
            for part in _split(text)
        ),
    )


def _lookup(expression: str, scope: Mapping[str, Json]) -> Json:
    value, tree = search(expression, scope), _parsed(expression)
    # A value was found, unless a function or an object used one that was not.
    is_found = value is not None and tree["type"] not in _COMBINED and "(" not in expression
    if not is_found and (missing := _unfound(tree, scope)):
        raise UnresolvedReferenceError(f"${{{expression}}} has no value: {missing}")
    return value


_MAY_FIND_NOTHING = {"not_null", "type"}
"""Functions that ask whether a value exists."""
_COMBINED = {"function_expression", "multi_select_list", "multi_select_dict", "key_val_pair"}
_PROJECTIONS = {"projection", "value_projection", "filter_projection", "flatten"}
_CHAINS = {"pipe", "subexpression", "index_expression"}


def _unfound(node: Mapping[str, Any], scope: Mapping[str, Json]) -> str | None:
    """Return which part of an expression finds nothing: the whole, or an argument of a function."""
    if node["type"] in _COMBINED:
        parts = () if node.get("value") in _MAY_FIND_NOTHING else node["children"]
    elif node["type"] in _CHAINS:
        parts = node["children"][:1]
    else:
        parts = ()
    found = (_unfound(part, scope) for part in parts)
    return next((missing for missing in found if missing), None) or _why_null(node, scope)


def _why_null(node: Mapping[str, Any], value: Json, before: str = "") -> str | None:
    """Return what an expression did not find; None if it found a value, even null."""
    kind, children = node["type"], node.get("children", ())
    if value is None:  # A null that really exists, or stands for a skipped step.
        return None
    if kind in ("field", "index"):
        return _lacks(value, node["value"], before or "the plan")
    if kind == "or_expression":
        reasons = [_why_null(child, value, before) for child in children]
        return "; ".join(filter(None, reasons)) if _visit(node, value) is None else None
    if kind in _CHAINS:
        for child in children:
            if missing := _why_null(child, value, before):
                return missing
            value, before = _visit(child, value), _written(child, before)
    if kind not in _PROJECTIONS:
        return None
    looked_through = _visit(children[0], value)
    if looked_through is None:
        return _why_null(children[0], value, before)
    wanted, name = (Mapping, "an object") if kind == "value_projection" else (list, "a list")
    if isinstance(looked_through, wanted):
        return None
    return f"{_written(children[0], before)} is {type(looked_through).__name__}, not {name}"


def _visit(node: Any, value: Json) -> Json:
    """Evaluate a part of an expression after the whole was evaluated."""
    return evaluate_part(node, value)


def _lacks(value: Json, key: str | int, named: str) -> str | None:
    if isinstance(key, int):
        if not isinstance(value, list):
            return f"{named} is {type(value).__name__}, it has no [{key}]"
        there = -len(value) <= key < len(value)
        return None if there else f"{named} has no [{key}]; its length is {len(value)}"
    if not isinstance(value, Mapping):
        return f"{named} is {type(value).__name__}, it has no member {key!r}"
    if key in value:
        return None
    return f"{named} has no {key!r}; it has: {', '.join(sorted(map(str, value))[:20]) or '(nothing)'}"


def _written(node: Mapping[str, Any], before: str) -> str:
    """Write a path as in the plan; name a richer expression by its beginning."""
    kind, children = node["type"], node.get("children", ())
    if kind == "field":
        return f"{before}.{node['value']}" if before else str(node["value"])
    if kind == "index":
        return f"{before}[{node['value']}]"
    if kind in _CHAINS:
        return reduce(lambda written, child: _written(child, written), children, before)
    return f"{_written(children[0], before)}[…]" if kind in _PROJECTIONS else before or "the value"


def render(value: Json) -> str:
    """Write a value inside text: strings unchanged, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# --- the references of a step ------------------------------------------------------------


def reference_fields(step: Mapping[str, Any]) -> list[tuple[str, Json]]:
    """List the parts of a step in which references are resolved, with their names."""
    fields: list[tuple[str, Json]] = []
    if "call" in step and isinstance(step["call"], dict):
        fields.append(("call.args", step["call"].get("args")))
    fields += [(name, step[name]) for name in ("task", "for_each", "success_criteria") if name in step]
    if "ask" in step and isinstance(step["ask"], dict):
        fields.append(("ask", step["ask"]))
    if "plan" in step and isinstance(step["plan"], dict):
        fields.append(("plan.goal", step["plan"].get("goal")))
    return fields


def strings_in(value: Json) -> list[str]:
    """List every string of a JSON value (not dict keys), in order."""
    found, waiting = [], [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            found.append(item)
        elif isinstance(item, dict):
            waiting += reversed(item.values())
        elif isinstance(item, list | tuple):
            waiting += reversed(item)
    return found


def field_with(step: Mapping[str, Any], where: str, expression: str) -> tuple[str | int, ...]:
    """Find the position of a reference in a step, given the part that `step_references` names."""
    field: tuple[str | int, ...] = tuple(where.split("."))
    value: Json = step
    for name in field:
        value = value[name]
    return next(_places(value, expression, field), field)


def unreadable_field(step: Mapping[str, Any]) -> tuple[str | int, ...]:
    """Find the position of the first reference in a step that cannot be parsed; ``()`` if there is none."""
    for where, value in reference_fields(step):
        for text in strings_in(value):
            try:
                references_in(text)
            except BadReferenceError:
                return field_with(step, where, text)
    return ()


def _places(value: Json, expression: str, field: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    if isinstance(value, str) and expression in value:
        yield field
    elif isinstance(value, Mapping | list):
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _places(item, expression, (*field, key))


def roots_in(text: str) -> set[str]:
    """Collect the steps that the references in a text use, and ``inputs`` if they use them.

    Raises:
        BadReferenceError: If one cannot be parsed.
    """
    return {root for reference in references_in(text) for root in expression_roots(reference.expression)}


def step_references(step: Step | Mapping[str, Any]) -> list[tuple[str, str]]:
    """List the references of a step as (where, expression), including its ``when``.

    Raises:
        BadReferenceError: If one cannot be parsed.
    """
    found = [
        (where, reference.expression)
        for where, value in reference_fields(step)
        for text in strings_in(value)
        for reference in references_in(text)
    ]
    if isinstance(step.get("when"), str):
        found.append(("when", step["when"]))
    return found
