"""What the terminal says of an error: its end is kept, and a traceback stands once."""

from __future__ import annotations

from plan_execute.cli.following import line_of

TRACE = "Traceback (most recent call last):\n" + "  File stats.py\n" * 300 + "ValueError: odd at the end"
EVENT = {"step_id": "a", "within": [], "spent": {}}


def test_a_failed_call_is_shown_with_the_end_of_its_error() -> None:
    line = line_of(EVENT | {"type": "tool_finished", "tool": "t", "ok": False, "output_preview": TRACE})
    assert line is not None
    assert line[2].endswith("ValueError: odd at the end")
    assert len(line[2]) < 700


def test_the_end_of_the_step_says_only_what_the_error_says_at_last() -> None:
    error = {"code": "tool_failed", "message": TRACE}
    line = line_of(EVENT | {"type": "step_finished", "status": "failed", "error": error, "verdict": "failed"})
    assert line is not None
    assert line[2] == "a: failed: … ValueError: odd at the end"
