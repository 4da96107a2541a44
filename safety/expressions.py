"""JMESPath expressions of others: read and evaluated with bounded work, and without surprises.

The library parses and evaluates recursively, and what it makes can double with each part of an expression
(``|[@,@]``). Here an expression has a bounded length and depth, each visited node and each made value counts,
and what comes out is plain JSON of a bounded size.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from jmespath import functions
from jmespath.lexer import Lexer
from jmespath.parser import Parser
from jmespath.visitor import Options, TreeInterpreter

from ..errors import known
from .added_functions import ADDED, call_added, clock_at
from .depth import is_too_deep, too_deep_message
from .plain_json import can_be_kept
from .work import Work, current_work

__all__ = ["FUNCTIONS", "ExpressionError", "UnknownFunctionError", "clock_at", "evaluate", "parse", "tokens"]

Json = Any
Node = Any
"""``{type, children, value}``"""

_LONGEST = 10_000
_DEEPEST = 64
"""Brackets and signs within each other, before parsing; nodes within each other, after it."""
_CHARACTERS_A_STEP = 64


class ExpressionError(ValueError):
    """An expression that cannot be read, or not be evaluated on these values."""


class UnknownFunctionError(ExpressionError):
    """An expression that calls a function that there is not."""


# --- functions ---------------------------------------------------------------------------


class _Functions(functions.Functions):
    """The functions that an expression may call; a method ``_func_name`` with a signature adds one."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def call_function(self, function_name: str, resolved_args: Iterable[Json]) -> Json:
        resolved_args = list(resolved_args)
        whole = function_name in ("to_string", "contains")  # these look into what their arguments hold
        for value in resolved_args:
            _spend_on(value, self._work, whole=whole)
        if function_name == "join" and isinstance(resolved_args[-1], list):
            _spend_on(resolved_args[-1], self._work, whole=True)
            _spend_on(resolved_args[0] * len(resolved_args[-1]), self._work)
        if function_name in ADDED:
            found = call_added(function_name, resolved_args)
            _spend_on(found, self._work, whole=True)
            return found
        return super().call_function(function_name, resolved_args)


FUNCTIONS: Mapping[str, Mapping[str, Any]] = {
    **_Functions.FUNCTION_TABLE,
    **{name: {"signature": added.signature} for name, added in ADDED.items()},
}
"""Every function by its name, with the signature of its arguments."""


# --- reading -----------------------------------------------------------------------------


def tokens(expression: str) -> list[Mapping[str, Any]]:
    """Split an expression into its tokens.

    Raises:
        ExpressionError: If that cannot be done.
    """
    _check_size(expression)
    try:
        return list(Lexer().tokenize(expression))
    except (ValueError, RecursionError) as error:
        raise ExpressionError(_first_line(error)) from error


def parse(expression: str) -> Node:
    """Read an expression into its tree of nodes.

    Raises:
        ExpressionError: If it is not JMESPath, too long or too deep, or calls a function in a way that
            cannot work.
    """
    _check_size(expression)
    return _parsed(expression)


@lru_cache(maxsize=4096)
def _parsed(expression: str) -> Node:
    try:
        tree: Node = Parser().parse(expression).parsed
    except (ValueError, RecursionError) as error:
        raise ExpressionError(_first_line(error)) from error
    level: list[Node] = [{"type": "root", "children": [tree]}]
    for _ in range(_DEEPEST + 1):
        for node in level:
            _check_call(node)
        level = [child for node in level for child in _children(node)]
        if not level:
            return tree
    raise ExpressionError(f"more than {_DEEPEST} parts of it stand within each other")


def _first_line(error: BaseException) -> str:
    return "it is nested too deep" if isinstance(error, RecursionError) else str(error).split("\n", 1)[0]


# An escape is skipped whole: else each quote of a text that is not closed would be searched to its end.
_NESTING = re.compile(
    r"""'(?:[^'\\]|\\.)*'|`(?:[^`\\]|\\.)*`|"(?:[^"\\]|\\.)*"|\\.|[(\[{]|[)\]}]|!(?!=)|&+""", re.DOTALL
)


def _check_size(expression: Any) -> None:
    if not isinstance(expression, str):
        raise ExpressionError(f"an expression is text, not {type(expression).__name__}")
    if len(expression) > _LONGEST:
        raise ExpressionError(f"it has {len(expression):,} characters; at most {_LONGEST:,} are read")
    depth = signs = 0
    for found in _NESTING.finditer(expression):
        mark = found[0]
        if len(mark) > 1:  # A value or a name in quotes, an escape, or &&.
            continue
        if mark in "!&":
            signs += 1
        else:
            depth += 1 if mark in "([{" else -1
            signs = signs if mark == "(" else 0
        if depth + signs > _DEEPEST:
            raise ExpressionError(f"more than {_DEEPEST} brackets or signs stand within each other")


def _children(node: Node) -> Iterator[Node]:
    return (child for child in node.get("children", ()) if isinstance(child, Mapping))


def _check_call(node: Node) -> None:
    """Refuse a call that cannot work whatever the values, and ``&`` where no function takes it."""
    taken: set[int] = set()
    if node["type"] == "function_expression":
        name, given = node["value"], node["children"]
        if name not in FUNCTIONS:
            names = known(FUNCTIONS, limit=len(FUNCTIONS))
            raise UnknownFunctionError(f"there is no function {name!r}; known functions: {names}")
        signature = FUNCTIONS[name]["signature"]
        variadic = bool(signature) and signature[-1].get("variadic", False)
        if len(given) < len(signature) or (len(given) > len(signature) and not variadic):
            wanted = f"{'at least ' if variadic else ''}{len(signature)}"
            raise ExpressionError(f"{name}() takes {wanted} argument(s), not {len(given)}")
        taken = {at for at, one in enumerate(signature) if "expref" in one["types"]}
    for at, child in enumerate(_children(node)):
        if child["type"] == "expref" and at not in taken:
            raise ExpressionError("& stands where no function takes an expression")


# --- evaluating --------------------------------------------------------------------------


class _Interpreter(TreeInterpreter):
    """Evaluates a tree and counts what it does."""

    def __init__(self, work: Work) -> None:
        super().__init__(Options(custom_functions=_Functions(work)))
        self._work = work

    def visit(self, node: Node, *args: Any, **kwargs: Any) -> Json:
        self._work.spend(1)
        return getattr(self, "visit_" + node["type"])(node, *args, **kwargs)

    def visit_flatten(self, node: Node, value: Json) -> Json:
        return self._paid(super().visit_flatten(node, value))

    def visit_slice(self, node: Node, value: Json) -> Json:
        return self._paid(super().visit_slice(node, value))

    def _paid(self, made: Json) -> Json:
        _spend_on(made, self._work)
        return made

    def visit_comparator(self, node: Node, value: Json) -> Json:
        left, right = (self.visit(child, value) for child in node["children"])
        if node["value"] in ("eq", "ne"):
            _spend_on(left, self._work, whole=True)
        elif (_is_text(left) and _is_number(right)) or (_is_number(left) and _is_text(right)):
            text, number = (left, right) if _is_text(left) else (right, left)
            raise ExpressionError(
                f"it compares the text {text[:80]!r} with the number {number}; "
                "write to_number(…) around the text"
            )
        sides = [{"type": "literal", "value": side} for side in (left, right)]
        known_sides: Node = {**node, "children": sides}
        return super().visit_comparator(known_sides, None)


def _is_text(value: Json) -> bool:
    return isinstance(value, str)


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def evaluate(expression: str, value: Json) -> Json:
    """Evaluate an expression on a value.

    Raises:
        ExpressionError: If it cannot be read, or fails on this value.
        WorkLimitError: If it takes too much work.
    """
    return evaluate_part(parse(expression), value)


def evaluate_part(tree: Node, value: Json) -> Json:
    """Evaluate a parsed expression, or a part of one; see :func:`evaluate`."""
    work = current_work()
    try:
        found = _Interpreter(work).visit(tree, value)
    except (ValueError, TypeError, ArithmeticError, AttributeError, RecursionError) as error:
        raise ExpressionError(_first_line(error)) from error
    if _is_path(tree) and work.is_new(found):
        return found  # it is there already, and is as deep as it was let in
    _spend_on(found, work, whole=True)
    if is_too_deep(found):
        raise ExpressionError(too_deep_message("what it gives"))
    return found


_PATH = {"field", "index", "subexpression", "index_expression", "identity", "current"}


def _is_path(tree: Node) -> bool:
    return tree["type"] in _PATH and all(map(_is_path, _children(tree)))


def _spend_on(value: Json, work: Work, *, whole: bool = False) -> None:
    """Count what it takes to go through a value: its parts, or all that it holds at any depth."""
    held = [value]
    while held:
        one = held.pop()
        if isinstance(one, str):
            work.spend(len(one) // _CHARACTERS_A_STEP)
            continue
        if isinstance(one, int | float):
            if not can_be_kept(one):
                raise ExpressionError("it makes NaN, an infinity, or an integer over 64 bits")
            continue
        parts = one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
        work.spend(len(parts))
        if whole:
            held += parts
