"""What a run was and did, as one HTML file, Markdown or JSON.

Names are imported on first use: whoever needs only the words of a report does not load the rest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .making import FORMATS, ReportFormat, aread_run, is_report, make_report, read_run, write_report
    from .record import RunRecord, run_record

__all__ = [
    "FORMATS",
    "ReportFormat",
    "RunRecord",
    "aread_run",
    "is_report",
    "make_report",
    "read_run",
    "run_record",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has: {', '.join(__all__)}")
    home = ".record" if name in ("RunRecord", "run_record") else ".making"
    return getattr(import_module(home, __name__), name)
