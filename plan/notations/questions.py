"""A question that a planner asks instead of writing a plan."""

from __future__ import annotations

import re

__all__ = ["marked_question", "question_in"]

_MARKED = re.compile(
    r"[\s>*`_-]*(?:question|ask)\s*[*`]*\s*[:=]\s*[*`]*\s*(?P<question>[^\n]+)", re.IGNORECASE | re.DOTALL
)
_ENDS_AS_QUESTION = re.compile(r"[?？؟][\s\"'”’*`)_]*\Z")
_QUOTES = "\"'“”‘’«»*`_ \t\r\n"
_LONGEST = 2_000


def question_in(answer: str) -> str | None:
    """Find the question in an answer; None if it is not a question.

    The answer must contain no step. Then ``question: …``, or text that ends with a question mark, asks the
    person something.
    """
    said = answer.strip()
    if not said or said[0] in "{[" or len(said) > _LONGEST:
        return None
    return marked_question(said) or (said if _ENDS_AS_QUESTION.search(said) else None)


def marked_question(answer: str) -> str | None:
    """Find the question in an answer that is only ``question: …``, which could also be a step's label."""
    marked = _MARKED.fullmatch(answer.strip())
    return (marked["question"].strip(_QUOTES) or None) if marked else None
