"""Kill one run before and after each of its writes to storage and to the world, and count what that breaks.

Run ``python benchmarks/kill_sweep.py [--mode local slow-async] [--every 1]``. Each kill is a ``SIGKILL`` of
a process of its own at an exact point; the run is then resumed in new processes until it ends, and a person's
questions are answered as an append-only log of effects says. It exits with 1 if a promise was broken.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path.insert(0, str(TESTS))  # the runs and the tools are those of the tests

import kill_points  # noqa: E402
from crash_child import Children, serving  # noqa: E402
from kill_points import KINDS, MODES, Trial  # noqa: E402

PROMISES = ("duplicates", "lost", "again", "other")
COLUMNS = ("mode", "kind", "points", "kills", "asked", "duplicates", "lost", "run again", "other")


def sweep(children: Children, folder: Path, mode: str, every: int) -> list[Trial]:
    """Kill a run at every point, or every n-th; each in a folder of its own."""
    (folder / "whole").mkdir(parents=True)
    whole = kill_points.run_whole(children, folder / "whole", mode)
    trials = []
    for number, point in enumerate(whole.points()[::every]):
        place = folder / str(number)
        place.mkdir()
        trials.append(kill_points.kill_at(children, place, mode, point, whole))
    return trials


def row(mode: str, kind: str, trials: list[Trial]) -> list[object]:
    """Sum up the trials of one kind."""
    return [
        mode,
        kind,
        len(trials),
        sum(trial.killed for trial in trials),
        sum(trial.questions for trial in trials),
        *(sum(len(getattr(trial, promise)) for trial in trials) for promise in PROMISES),
    ]


def show(cells: list[object]) -> None:
    """Print a row of the table."""
    print("  ".join(str(cell).ljust(10) for cell in cells), flush=True)


def main() -> int:
    """Sweep, print the table, and name every broken promise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mode", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--every", type=int, default=1, help="kill at every n-th point only")
    chosen = parser.parse_args()
    started, broken = time.monotonic(), 0
    show([*COLUMNS])
    with tempfile.TemporaryDirectory() as scratch, serving(Path(scratch), kill_points.__file__) as children:
        for mode in chosen.mode:
            trials = sweep(children, Path(scratch) / mode, mode, chosen.every)
            for kind in KINDS:
                show(row(mode, kind, [trial for trial in trials if trial.point.kind == kind]))
            for trial in trials:
                if trial.broken:
                    broken += 1
                    print(f"BROKEN {mode} {tuple(trial.point)}: {'; '.join(trial.broken)}")
    print(f"{time.monotonic() - started:.0f} s, {broken} broken")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
