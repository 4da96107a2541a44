"""Seconds that `import plan_execute`, `--help` and `validate` take beyond Python's own start.

Run it with `python benchmarks/start_up.py`; each figure is the least of ten fresh interpreters,
beside an interpreter that does nothing, in the same run.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 10
PLAN = "goal: look\nsteps:\n  - {id: a, task: think, tools: []}\n"


def seconds(*arguments: str) -> float:
    """Take the least time of several runs of a fresh interpreter."""

    def once() -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, *arguments], capture_output=True, check=False)
        return time.perf_counter() - started

    return min(once() for _ in range(RUNS))


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        plan = Path(folder) / "plan.yaml"
        plan.write_text(PLAN)
        program = "from plan_execute.cli import main; raise SystemExit(main())"
        bare = seconds("-c", "pass")
        print(f"bare Python                {bare * 1000:7.0f} ms")
        for name, arguments in {
            "import plan_execute": ("-c", "import plan_execute"),
            "plan-execute --help": ("-c", program, "--help"),
            "plan-execute validate FILE": ("-c", program, "validate", str(plan)),
        }.items():
            print(f"{name:<26} {(seconds(*arguments) - bare) * 1000:+7.0f} ms")


if __name__ == "__main__":
    main()
