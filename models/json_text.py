"""Find the JSON in a model's text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from ..safety.depth import is_too_deep

__all__ = ["BrokenJsonError", "extract_json", "without_thinking"]

_THINKING = re.compile(
    r"\A(?:\s*(?:<(think|thinking|thought|reasoning)>.*?(?:</\1>|\Z)|\[THINK\].*?(?:\[/THINK\]|\Z)))+",
    re.DOTALL | re.IGNORECASE,
)
# Some chat templates put the opening tag into the prompt, so only the closing one is seen.
_THINKING_TAIL = re.compile(r"\A(?:(?!<think).)*?</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_FENCE = re.compile(r"```[\w+-]*[ \t]*\r?\n(.*?)```", re.DOTALL)
_OPENING = re.compile(r"[{\[]")
_EMBEDDED_STARTS = 500


def extract_json(text: str) -> Any:
    """Find the JSON value in a model's text: fenced, within prose, after thinking, or bare.

    Raises:
        ValueError: There is no complete JSON value. Within prose only an object or a list counts.
    """
    said = without_thinking(text)
    problem: Exception | None = None
    for loads, candidate in ((_loads, text), (_loads, said), (_loads_fenced, said), (_loads_embedded, said)):
        try:
            value = loads(candidate)
            if not is_too_deep(value):
                return _without_lone_surrogates(value)
        except (ValueError, RecursionError) as error:
            problem = error
    if isinstance(problem, BrokenJsonError):
        raise problem
    msg = "there is no complete JSON value in this text"
    raise ValueError(msg)


def _refuse_constant(name: str) -> Any:
    msg = f"{name} is not JSON"
    raise ValueError(msg)


# strict=False, because models write raw line breaks into strings.
_DECODER = json.JSONDecoder(strict=False, parse_constant=_refuse_constant)


class BrokenJsonError(ValueError):
    """A text that should be JSON but is broken or cut off; it says where."""


def _loads(text: str) -> Any:
    text = text.strip().lstrip("\ufeff")
    try:
        return _DECODER.decode(text)
    except ValueError:
        return _DECODER.decode(_without_slips(text))


_COMMENT = re.compile(r'"(?:[^"\\]|\\.)*"|//[^\n]*|/\*.*?\*/', re.DOTALL)
_LAST_COMMA = re.compile(r'"(?:[^"\\]|\\.)*"|,(?=\s*[}\]])', re.DOTALL)


def _without_slips(text: str) -> str:
    """Remove comments, and commas before a closing bracket; add nothing, so what was cut off stays so."""
    for slip in (_COMMENT, _LAST_COMMA):
        text = slip.sub(lambda found: found[0] if found[0].startswith('"') else "", text)
    return text


def _loads_fenced(text: str) -> Any:
    blocks = _FENCE.findall(text)
    if not blocks:
        msg = "no fenced block"
        raise ValueError(msg)
    return _loads(max(blocks, key=len))


def _loads_embedded(text: str) -> Any:
    """Decode the longest object or list that starts somewhere in the text."""
    try:
        found = list(_embedded(text))
    except BrokenJsonError:
        mended = _without_slips(text)
        found = list(_embedded(mended))
    if not found:
        msg = "no object or list"
        raise ValueError(msg)
    return max(found, key=lambda hit: hit[0])[1]


def _embedded(text: str) -> Iterator[tuple[int, Any]]:
    position = 0
    for _ in range(_EMBEDDED_STARTS):  # Bounded, because hostile text could make this quadratic.
        start = _OPENING.search(text, position)
        if start is None:
            return
        try:
            value, position = _DECODER.raw_decode(text, start.start())
            yield position - start.start(), value
        except json.JSONDecodeError as error:
            if _OBJECT.match(text, start.start()):
                # Otherwise a part of it would be taken for the whole.
                raise BrokenJsonError(_where_broken(text, error)) from error
            position = start.start() + 1
        except (ValueError, RecursionError):
            position = start.start() + 1


_OBJECT = re.compile(r'\{\s*"[^"\n]*"\s*:|\[\s*\{\s*"')
"""How JSON begins, and hardly any other text."""


def _where_broken(text: str, error: json.JSONDecodeError) -> str:
    if error.pos >= len(text.rstrip()):
        at = f"at line {error.lineno} column {error.colno}"
        return f"there is no complete JSON: it ends before its brackets are closed, {at}"
    line = text.splitlines()[error.lineno - 1] if text else ""
    near = line[max(0, error.colno - 30) : error.colno + 10].strip()
    return f"not JSON: {error.msg} at line {error.lineno} column {error.colno}, near {near!r}"


def _without_lone_surrogates(value: Any) -> Any:
    """Replace lone surrogates (from a cut emoji escape), because they cannot be stored or sent."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        text = json.dumps(value, ensure_ascii=False)
        return json.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    return value


def without_thinking(text: str) -> str:
    """Remove the thinking that some models write before their answer."""
    return _THINKING_TAIL.sub("", _THINKING.sub("", text), count=1)
