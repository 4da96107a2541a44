"""Input values from the command line: text that becomes what the plan declares."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .exits import BadUsageError

__all__ = ["GivenInputs"]


@dataclass(frozen=True)
class GivenInputs:
    """What a person gave: texts by name, which still have to be understood, and exact values of a file."""

    texts: Mapping[str, str]
    exact: Mapping[str, Any]

    @classmethod
    def read(cls, pairs: Sequence[str] | None, file: Path | None) -> GivenInputs:
        """Read ``--input NAME=VALUE`` and ``--inputs FILE``; a single value wins over the file's.

        Raises:
            BadUsageError: If a pair is none, or a name is given twice.
            InvalidPlanError: If the file is no YAML or JSON mapping.
        """
        texts: dict[str, str] = {}
        for pair in pairs or ():
            name, sign, text = pair.partition("=")
            name = name.strip()
            if not (sign and name):
                raise BadUsageError(f"--input takes NAME=VALUE, not {pair!r}")
            if name in texts:
                raise BadUsageError(f"--input {name} is given twice")
            texts[name] = text
        if file is None:
            return cls(texts, {})
        from ..plan.files.plan_files import load_mapping

        return cls(texts, load_mapping(file, "a file of input values"))

    def values(self, declared: Any = None) -> dict[str, Any]:
        """Understand the texts as what a plan declares; without a declaration as JSON if they are, else text.

        Args:
            declared: The plan's ``inputs``, of whatever form.
        """
        specs = declared if isinstance(declared, Mapping) else {}
        return {
            **self.exact,
            **{name: _understood(text, specs.get(name)) for name, text in self.texts.items()},
        }


def _understood(text: str, spec: Any) -> Any:
    """Read a text; what fits no declaration stays text, for the validator to refuse in the plan's words."""
    if _is_for_text(spec):
        return text
    try:
        # NaN and Infinity are not JSON, though Python reads them.
        value = json.loads(text, parse_constant=_refuse_constant)
    except ValueError:
        return text
    # 1e3 and 2.0 are integers in JSON Schema, and a tool wants an int
    whole = isinstance(value, float) and value.is_integer() and _wants_integer(spec)
    return int(value) if whole else value


def _is_for_text(spec: Any) -> bool:
    """Tell whether only text is declared: then `12`, `true` and `"x"` are texts of these characters."""
    if not isinstance(spec, Mapping):
        return False
    choices = spec.get("enum")
    of_texts = isinstance(choices, list) and bool(choices) and all(isinstance(item, str) for item in choices)
    return spec.get("type") in ("string", ["string"]) or ("type" not in spec and of_texts)


def _wants_integer(spec: Any) -> bool:
    return isinstance(spec, Mapping) and spec.get("type") == "integer"


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)
