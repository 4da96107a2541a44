"""The success criteria that a plan may name: type, parameter, rule, check and wording of each.

A new criterion is one more `Kind` here, at the position in `KINDS` that fits its cost. The validator, the
checks, the published schema, both notations and the prompts all read it from there.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Required, cast

from pydantic import Field, TypeAdapter, with_config
from typing_extensions import TypedDict

from ..errors import known
from ..safety.depth import read_json
from ..safety.expressions import ExpressionError, evaluate
from ..safety.patterns import PatternError, compile_pattern, is_found
from ..state import Criterion, Evidence, Step, granted_tools
from ..tools.texts import as_text
from .references import BadReferenceError, expression_roots, looks_at_everything
from .schemas import schema_problem

__all__ = [
    "KINDS",
    "Kind",
    "Problem",
    "criteria_format",
    "examples",
    "is_empty",
    "is_judged",
    "kind_of",
    "located",
    "read_criteria",
    "written_criteria",
]

Json = Any
Problem = tuple[str, str]
"""Why a criterion cannot be used: the code of the issue, and a sentence."""


class Kind(ABC):
    """One type of criterion.

    Attributes:
        type: Its name in a plan.
        parameter: Its only field besides ``type``; empty if it has none.
        form: The Python type of the parameter.
        meaning: The meaning of the parameter, for people who write plan files.
        told: Its wording for a step's agent; the parameter's value follows.
        example: An example value of the parameter, for people who write plans.
        on_disk: Whether the check reads a disk.
        by_model: Whether a model is asked; then ``gap`` is not called.
    """

    type: ClassVar[str]
    parameter: ClassVar[str] = ""
    form: ClassVar[Any] = str
    meaning: ClassVar[str] = ""
    told: ClassVar[str]
    example: ClassVar[Json] = "…"
    on_disk: ClassVar[bool] = False
    by_model: ClassVar[bool] = False

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of its parameters: one, or none."""
        return (self.parameter,) if self.parameter else ()

    def value_of(self, criterion: Criterion) -> Json:
        """Return the parameter's value; an empty text if the type has none."""
        return criterion.get(self.parameter, "")

    def criterion(self, value: Json) -> Criterion:
        """Make a criterion of this type."""
        return {"type": self.type, **dict.fromkeys(self.parameters, value)}

    def problem(self, criterion: Criterion, step: Step) -> Problem | None:
        """Return why the criterion could not be checked, before anything runs."""
        given = set(criterion) - {"type"}
        if given != {*self.parameters}:
            needs = f"needs the parameter {self.parameter!r}" if self.parameter else "takes no parameter"
            return "bad_criterion", f"it {needs}, but has {known(given)}"
        value = self.value_of(criterion)
        if self.parameter and isinstance(value, str) and not value.strip():
            return "bad_criterion", f"its {self.parameter} is empty, so there is nothing to check"
        return self._value_problem(value, step)

    def _value_problem(self, _value: Json, _step: Step) -> Problem | None:
        return None

    @abstractmethod
    def gap(self, value: Json, output: Json, evidence: Sequence[Evidence]) -> str | None:
        """Return what is missing, or None if the criterion is met; references in the value are resolved."""


class _NotEmpty(Kind):
    type, told = "not_empty", "it is not empty"

    def gap(self, _value: Json, output: Json, _evidence: Sequence[Evidence]) -> str | None:
        blank = is_empty(output) or (isinstance(output, str) and not output.strip())
        return "the output is empty" if blank else None


class _MaxLength(Kind):
    type, parameter, form = "max_length", "max", Annotated[int, Field(ge=0)]
    told = "its length is at most "
    meaning = "the maximum number of characters of a text, or of items of a list"
    example: ClassVar[Json] = 300

    def gap(self, value: Json, output: Json, _evidence: Sequence[Evidence]) -> str | None:
        if not isinstance(output, str | list):
            return f"only a text or a list has a length, but the output is {as_text(output)[:100]}"
        unit = "characters" if isinstance(output, str) else "items"
        return None if len(output) <= value else f"the output has {len(output)} {unit}, more than {value}"


class _Matches(Kind):
    type, parameter, told = "matches", "pattern", "it matches the regular expression "
    meaning = "a regular expression that must be found in the output's text, or in its JSON"

    def _value_problem(self, value: Json, _step: Step) -> Problem | None:
        if "${" in value:
            return None
        try:
            compile_pattern(value)
        except PatternError as error:
            return "bad_criterion", f"{value[:200]!r} is not a regular expression: {error}"
        return None

    def gap(self, value: Json, output: Json, _evidence: Sequence[Evidence]) -> str | None:
        try:
            found = is_found(compile_pattern(value), as_text(output))
        except PatternError as error:  # A reference in it is resolved only at run time.
            return f"{value!r} is not a regular expression: {error}"
        return None if found else f"the output does not match the pattern {value!r}"


class _JsonSchema(Kind):
    type, parameter, form = "json_schema", "schema", dict[str, Any]
    told, meaning = "it is JSON that fits this schema: ", "the schema that the output must fit"
    example: ClassVar[Json] = {"type": "array"}

    def _value_problem(self, value: Json, _step: Step) -> Problem | None:
        problem = schema_problem(value)
        return ("bad_schema", problem) if problem else None

    def gap(self, value: Json, output: Json, _evidence: Sequence[Evidence]) -> str | None:
        from ..safety.schemas import BadSchemaError, read_schema

        try:
            problems = read_schema(value).problems(output)
        except BadSchemaError as error:  # A reference in it is resolved only at run time.
            return f"the schema itself is not valid: {error}"
        if not problems:
            return None
        return f"the output does not fit its schema: {problems[0].json_path}: {problems[0].message[:300]}"


class _Expression(Kind):
    type, parameter, told = "expression", "expression", "this JMESPath expression over it is true: "
    meaning, example = "a JMESPath expression over the output that must give a true value", "total > `0`"

    def _value_problem(self, value: Json, _step: Step) -> Problem | None:
        try:
            looks_at_output = expression_roots(value) or looks_at_everything(value)
        except BadReferenceError as error:
            return error.code, str(error)
        if looks_at_output:
            return None
        return "bad_criterion", f"{value[:80]!r} does not use the output, so it checks nothing"

    def gap(self, value: Json, output: Json, _evidence: Sequence[Evidence]) -> str | None:
        try:
            found = evaluate(value, output)
        except ExpressionError as error:
            return f"the expression {value!r} cannot be evaluated: {error}"
        return None if found else f"the expression {value!r} gives {as_text(found)[:100]}"


class _ToolSucceeded(Kind):
    type, parameter, told = "tool_succeeded", "tool", "a call of this tool succeeded: "
    meaning = "a tool of the step whose last call must have succeeded"

    def _value_problem(self, value: Json, step: Step) -> Problem | None:
        tools = granted_tools(step)
        if value in tools:
            return None
        return "bad_criterion", f"the step does not use the tool {value!r}; its tools: {known(tools)}"

    def gap(self, value: Json, _output: Json, evidence: Sequence[Evidence]) -> str | None:
        calls = [call for call in evidence if call["tool"] == value]
        if not calls:
            return f"the tool {value!r} was not called"
        last = calls[-1]
        return None if last["ok"] else f"the last call of {value!r} failed: {last['output_preview']}"


class _FileExists(Kind):
    type, parameter, told = "file_exists", "path", "this file exists: "
    meaning, on_disk = "a file that must exist", True

    def gap(self, value: Json, _output: Json, _evidence: Sequence[Evidence]) -> str | None:
        try:
            exists = Path(value).exists()
        except (OSError, ValueError) as error:
            return f"the path {value!r} cannot be checked: {error}"
        return None if exists else f"there is no file {value!r}"


def located(criterion: Criterion, folders: Sequence[Path]) -> Criterion:
    """Return a criterion about a file with the path of the file in one of the folders, if it exists there."""
    path = criterion.get("path")
    if criterion["type"] != "file_exists" or not isinstance(path, str) or Path(path).is_absolute():
        return criterion
    found = (str(folder / path) for folder in folders if _is_there(folder / path))
    there: Criterion = {**criterion, "path": next(found, path)}
    return there


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


class _Judge(Kind):
    type, parameter, told = "judge", "criterion", ""
    meaning, by_model = "a sentence that a model checks against the evidence", True

    def gap(self, _value: Json, _output: Json, _evidence: Sequence[Evidence]) -> str | None:
        raise AssertionError("a model is asked")


KINDS: dict[str, Kind] = {
    kind.type: kind
    for kind in (
        _NotEmpty(),
        _MaxLength(),
        _Matches(),
        _JsonSchema(),
        _Expression(),
        _ToolSucceeded(),
        _FileExists(),
        _Judge(),
    )
}
"""All types by name, in the order in which they are checked: cheapest first, models last."""


def kind_of(criterion: Criterion) -> Kind:
    """Return the type of a criterion of a valid plan."""
    return KINDS[criterion["type"]]


def is_judged(criteria: Sequence[Criterion]) -> bool:
    """Tell whether a model is asked for any of the criteria."""
    by_model = {kind.type for kind in KINDS.values() if kind.by_model}
    return any(criterion["type"] in by_model for criterion in criteria)


@cache
def criteria_format() -> TypeAdapter[list[Criterion]]:
    """Build the type that reads a list of criteria: their types, and the parameters of all types."""
    fields: dict[str, Any] = {"type": Required[Literal[*KINDS]]}
    fields |= {name: kind.form for kind in KINDS.values() for name in kind.parameters}
    described = cast(Any, TypedDict)("Criterion", fields, total=False)
    described.__doc__ = "How success is recognised; the parameter's name depends on the type."
    one: Any = with_config(extra="forbid")(described)
    return TypeAdapter(list[one])


# --- in the notations that models write --------------------------------------------------


def read_criteria(written: str) -> list[Criterion]:
    """Read a step's criteria in either notation.

    They are a criterion as a JSON object, a list of criteria, or one sentence for a judge. The validator
    checks whether they are valid.
    """
    try:
        value = read_json(written)
    except ValueError:
        value = written
    parts = value if isinstance(value, list) else [value]
    if not all(isinstance(part, dict | str) for part in parts):
        parts = [written]
    return [_read(part) for part in parts if not isinstance(part, str) or part.strip()]


def _read(part: dict[str, Json] | str) -> Criterion:
    return part if isinstance(part, dict) else KINDS["judge"].criterion(part.strip())


def examples() -> str:
    """List an example of each criterion that code can check, in the notation of plans."""
    return ", ".join(
        json.dumps(kind.criterion(kind.example), ensure_ascii=False)
        for kind in KINDS.values()
        if not kind.by_model
    )


def written_criteria(criteria: Sequence[Criterion]) -> str | list[Criterion | str]:
    """Write a step's criteria for `read_criteria`; a judge's sentence alone stays a sentence."""
    parts = [one["criterion"] if one["type"] == "judge" else one for one in criteria]
    return parts[0] if len(parts) == 1 and isinstance(parts[0], str) else parts


# --- outputs -----------------------------------------------------------------------------


def is_empty(output: Json) -> bool:
    """Tell whether an output is valid but empty: null, "", [] or {}."""
    return output is None or output == "" or output == [] or output == {}
