"""Lengths of time are written and read as people do."""

from __future__ import annotations

import pytest

from plan_execute.errors import ConfigurationError
from plan_execute.storage.durations import read_duration, say_duration


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("1.5h", 5400), ("7d", 604800), (" 2 m ", 120), ("0.5s", 0.5)]
)
def test_a_length_of_time_is_read(text: str, seconds: float) -> None:
    assert read_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "7", "d", "7w", "-1d", "0s", "1e3s", "7d7h", "٧d", "nan s", "9" * 400 + "d"]
)
def test_what_is_none_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a length of time"):
        read_duration(text)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-5, "0 seconds"),
        (0.9, "0 seconds"),
        (1, "1 second"),
        (59.9, "59 seconds"),
        (60, "1 minute"),
        (7199, "1 hour"),
        (7200, "2 hours"),
        (86400 * 9, "9 days"),
    ],
)
def test_a_length_of_time_is_said_in_its_largest_unit(seconds: float, said: str) -> None:
    assert say_duration(seconds) == said
