"""Write a plan in lines as a model would, from the JSON form; the other way round than the product reads."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from plan_execute.plan.references import is_single_reference

__all__ = ["write_lines"]

_PATH = re.compile(r"\w+(\.[A-Za-z_]\w*|\[\d+\])*")


def write_lines(plan: Mapping[str, Any]) -> str:
    """Write a plan in lines, every step under its own id."""
    if plan["outcome"] == "cannot_plan":
        return f"impossible: {plan['rationale']}"
    notes = [f"# {plan['rationale']}"] if plan["rationale"] else []
    end = ["finished"] if plan["outcome"] == "finished" else ["more"] * (not plan["complete"])
    return "\n".join([*notes, *(f"{step['id']} = {_step(step)}" for step in plan["steps"]), *end])


def _step(step: Mapping[str, Any]) -> str:
    parts = [_work(step)]
    parts += [f"tools=[{', '.join(step['tools'])}]"] if step["tools"] else []
    parts += [f"after=[{', '.join(step['depends_on'])}]"] if step["depends_on"] else []
    parts += [f"check={json.dumps(step['success_criterion'])}"] if step["success_criterion"] else []
    parts += [f"each={value(step['for_each'])}"] if step["for_each"] else []
    parts += [f"if={json.dumps(step['when'])}"] if step["when"] else []
    parts += [f"else_of={step['else_of']}"] if step.get("else_of") else []
    parts += [f"if_failed=[{', '.join(step['if_failed'])}]"] if step.get("if_failed") else []
    parts += [f"output={step['output_schema']}"] if step["output_schema"] else []
    return " ".join(parts)


def _work(step: Mapping[str, Any]) -> str:
    if step["call"]:
        arguments = json.loads(step["arguments"])
        return f"{step['call']}({', '.join(f'{name}={value(given)}' for name, given in arguments.items())})"
    if step["goal"]:
        return f"goal {json.dumps(step['goal'])}"
    return f"{step['agent'] or ''} {json.dumps(step['task'], ensure_ascii=False)}".lstrip()


def value(given: Any) -> str:
    """Write a value: references with a ``$``, the rest as JSON."""
    if isinstance(given, list):
        return f"[{', '.join(map(value, given))}]"
    if isinstance(given, dict):
        return "{" + ", ".join(f"{json.dumps(key)}: {value(item)}" for key, item in given.items()) + "}"
    if is_single_reference(given):
        inside = given[2:-1].strip()
        return f"${inside}" if _PATH.fullmatch(inside) else given
    return json.dumps(given, ensure_ascii=False)
