"""What a run was and did, as one HTML file, Markdown or JSON."""

from __future__ import annotations

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
