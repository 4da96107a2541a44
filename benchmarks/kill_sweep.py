"""Kill runs before and after their writes to storage and to the world, and count what that breaks.

Run ``python benchmarks/kill_sweep.py [--scenario mended asked] [--mode local slow-async] [--kills 1]
[--count 0]``, or with ``--operations [bound agent]`` instead of scenarios. Each kill is a ``SIGKILL`` of a
process of its own at an exact point; the run is then resumed in new processes until it ends, and a person's
questions are answered as an append-only log of effects says. With one kill every point is played (or
``--count`` of them), with more a sample of the combinations, drawn with ``--seed``. With ``--operations``
each kill is followed by a retry, an edit, a fork, ``update_state``, a cancel or a new goal, ``--count`` times
over every kind of step. It exits with 1 if a promise was broken.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path.insert(0, str(TESTS))  # the runs and the tools are those of the tests

import kill_points  # noqa: E402
import operations  # noqa: E402
from counted import MODES  # noqa: E402
from crash_child import Children, serving  # noqa: E402
from kill_points import Trial, Whole, draw  # noqa: E402
from scenarios import SCENARIOS  # noqa: E402

PROMISES = ("duplicates", "lost", "again", "other")
COLUMNS = ("scenario", "mode", "trials", "kills", "asked", "duplicates", "lost", "run again", "other")
OPERATED = ("duplicates", "unasked", "lost", "other")
OPERATED_COLUMNS = (*COLUMNS[:4], "operations", "asked", *OPERATED)
SAMPLE = 100
"""Combinations of several kills that are played when no count is given."""


def choose(whole: Whole, kills: int, count: int, dice: random.Random) -> list[dict[int, kill_points.Point]]:
    """Choose where to kill: at every point, or a sample."""
    if kills > 1:
        return [draw(whole, kills, dice) for _ in range(count or SAMPLE)]
    points = whole.points()
    return [dict([point]) for point in (dice.sample(points, min(count, len(points))) if count else points)]


def sweep(children: Children, folder: Path, name: str, mode: str, chosen: argparse.Namespace) -> list[Trial]:
    """Play one scenario in one mode, each trial in a folder of its own."""
    (folder / "whole").mkdir(parents=True)
    whole = kill_points.run_whole(children, folder / "whole", mode, SCENARIOS[name])
    dice, trials = random.Random(f"{chosen.seed} {name} {mode}"), []
    for number, faults in enumerate(choose(whole, chosen.kills, chosen.count, dice)):
        place = folder / str(number)
        place.mkdir()
        trials.append(kill_points.carry_out(children, place, whole, faults))
    return trials


def sweep_operations(
    children: Children, folder: Path, kind: str, mode: str, chosen: argparse.Namespace
) -> list[operations.Operated]:
    """Play every operation after kills of one kind of run, each trial in a folder of its own."""
    (folder / "whole").mkdir(parents=True)
    whole = kill_points.run_whole(children, folder / "whole", mode, SCENARIOS[f"operated_{kind}"])
    dice, trials = random.Random(f"{chosen.seed} {kind} {mode}"), []
    for number, first in enumerate([*operations.OPERATIONS] * (chosen.count or 1)):
        place = folder / str(number)
        place.mkdir()
        faults, following = operations.draw_operations(whole, first, dice.choice([1, 1, 2, 3]), dice)
        seed = f"{chosen.seed} {number}"
        trials.append(operations.operate(children, place, whole, faults, following, seed))
    return trials


def row(
    name: str, mode: str, trials: Sequence[Trial] | Sequence[operations.Operated], promises: Sequence[str]
) -> list[object]:
    """Sum up the trials of one scenario, or of one kind of run."""
    done = [len(trial.operations) for trial in trials if isinstance(trial, operations.Operated)]
    return [
        name,
        mode,
        len(trials),
        sum(trial.killed for trial in trials),
        *([sum(done)] if done else []),
        sum(trial.questions for trial in trials),
        *(sum(len(getattr(trial, promise)) for trial in trials) for promise in promises),
    ]


def show(cells: list[object]) -> None:
    """Print a row of the table."""
    print("  ".join(str(cell).ljust(12) for cell in cells), flush=True)


def main() -> int:
    """Sweep, print the table, and name every broken promise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenario", nargs="+", choices=SCENARIOS, default=["mended"])
    parser.add_argument("--mode", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--kills", type=int, default=1, help="kills per run")
    parser.add_argument("--count", type=int, default=0, help="how many trials; 0: all points, or 100 samples")
    parser.add_argument("--seed", default="1")
    parser.add_argument(
        "--operations", nargs="*", choices=operations.UNITS, help="kinds of runs to operate on; none: all"
    )
    chosen = parser.parse_args()
    started, broken, promises = time.monotonic(), 0, PROMISES
    play: Callable[..., Sequence[Trial] | Sequence[operations.Operated]] = sweep
    names, columns = chosen.scenario, COLUMNS
    if chosen.operations is not None:
        promises, play, columns = OPERATED, sweep_operations, OPERATED_COLUMNS
        names = chosen.operations or list(operations.UNITS)
    show([*columns])
    with tempfile.TemporaryDirectory() as scratch, serving(Path(scratch), operations.__file__) as children:
        for name in names:
            for mode in chosen.mode:
                trials = play(children, Path(scratch) / name / mode, name, mode, chosen)
                show(row(name, mode, trials, promises))
                for trial in (trial for trial in trials if trial.broken):
                    broken += 1
                    print(f"BROKEN {name} {mode} {trial.faults}: {'; '.join(trial.broken)}")
    print(f"{time.monotonic() - started:.0f} s, {broken} broken")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
