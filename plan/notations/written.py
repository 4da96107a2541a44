"""Write the steps of a plan in the planner's notation, so that a planner reads what it should write."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Literal

from ...state import Step
from ..criteria import written_criteria
from ..references import is_single_reference

__all__ = ["written_step"]

Json = Any
_SAME = (
    *("id", "task", "depends_on", "tools", "agent", "for_each", "when"),
    *("else_of", "if_failed", "confirm", "model"),
)
"""Fields that a plan's step and a model's step have in common."""
_PATH = re.compile(r"\w+(\.[A-Za-z_]\w*|\[\d+\])*")


def written_step(step: Step, form: Literal["lines", "fields"]) -> str:
    """Write a step under its own id, as a line or as the fields of a JSON object."""
    return f"{step['id']} = {' '.join(_parts(step))}" if form == "lines" else _text(_fields(step))


def _parts(step: Step) -> Iterator[str]:
    yield _work(step)
    if tools := step.get("tools"):
        yield f"tools=[{', '.join(tools)}]"
    if after := step.get("depends_on"):
        yield f"after=[{', '.join(after)}]"
    if check := written_criteria(step.get("success_criteria", ())):
        yield f"check={_text(check)}"
    if "for_each" in step:
        yield f"each={_value(step['for_each'])}"
    if "when" in step:
        yield f"if={_text(step['when'])}"
    if "else_of" in step:
        yield f"else_of={step['else_of']}"
    if failed := step.get("if_failed"):
        yield f"if_failed=[{', '.join(failed)}]"
    if "output_schema" in step:
        yield f"output={_text(step['output_schema'])}"
    if step.get("confirm"):
        yield "confirm=true"
    if "model" in step:
        yield f"model={step['model']}"


def _work(step: Step) -> str:
    if "call" in step:
        given = (f"{name}={_value(value)}" for name, value in step["call"]["args"].items())
        return f"{step['call']['tool']}({', '.join(given)})"
    if "ask" in step:
        choices = step["ask"].get("choices")
        further = f", choices={_text(choices)}" if choices else ""
        return f"ask({_text(step['ask']['question'])}{further})"
    if "plan" in step:
        return f"goal {_text(step['plan']['goal'])}"
    return f"{step.get('agent', '')} {_text(step.get('task', ''))}".lstrip()


def _value(value: Json) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(key)}: {_value(item)}" for key, item in value.items()) + "}"
    if is_single_reference(value):
        inside = value[2:-1].strip()
        return f"${inside}" if _PATH.fullmatch(inside) else str(value)
    return _text(value)


def _fields(step: Step) -> dict[str, Json]:
    fields: dict[str, Json] = {key: step[key] for key in _SAME if step.get(key)}  # type: ignore[literal-required]
    if "call" in step:
        fields |= {"call": step["call"]["tool"], "arguments": _text(step["call"]["args"])}
    if "ask" in step:
        fields |= {"ask": step["ask"]["question"], "choices": step["ask"].get("choices", [])}
    if "plan" in step:
        fields["goal"] = step["plan"]["goal"]
    if check := written_criteria(step.get("success_criteria", ())):
        fields["success_criterion"] = check if isinstance(check, str) else _text(check)
    if "output_schema" in step:
        fields["output_schema"] = _text(step["output_schema"])
    return fields


def _text(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False)
