"""Run all benchmarks one after the other, write their figures into ``results/``, and make the page of them.

``make bench`` runs it, ``make bench QUICK=1`` with ``--quick`` and without keeping what it found: the page
shows figures of whole runs. PostgreSQL is measured where a server can be had as the tests have it; peers from
PyPI are not (see ``economy.py``). It exits with 1 if a benchmark failed or found a promise broken, after all
ran.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import page

HERE = Path(__file__).resolve().parent
PROFILE = "overhead_profile.txt"


def commands(results: Path, quick: bool, postgres: bool) -> dict[str, list[str]]:
    """List the benchmarks with their options."""
    server = ["--postgres"] if postgres else []
    short = ["--quick"] if quick else []
    return {
        "scheduling": short,
        "economy": ["--runs", "1", *(["--shapes", "wide"] if quick else [])],
        "overhead": [*short, *server, "--profile", str(results / PROFILE)],
        "growth": [*short, *server],
        "throughput": [*short, *server],
        "loops": short,
        "start_up": short,
    }


def run_all(results: Path, quick: bool, postgres: bool) -> list[str]:
    """Run every benchmark, and name those that failed or found a promise broken."""
    broken = []
    for name, arguments in commands(results, quick, postgres).items():
        started = time.perf_counter()
        command = [
            sys.executable,
            str(HERE / f"{name}.py"),
            *arguments,
            "--json",
            str(results / f"{name}.json"),
        ]
        if subprocess.run(command, check=False).returncode:
            broken.append(name)
        print(
            f"-- {name}: {time.perf_counter() - started:.0f} s, load {os.getloadavg()[0]:.1f}\n", flush=True
        )
    return broken


def main() -> int:
    """Run, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small cases only; nothing is kept")
    parser.add_argument("--no-postgres", action="store_true", help="with SQLite only")
    chosen = parser.parse_args()
    started = time.perf_counter()
    if chosen.quick:
        with tempfile.TemporaryDirectory() as folder:
            broken = run_all(Path(folder), quick=True, postgres=False)
    else:
        broken = run_all(page.RESULTS, quick=False, postgres=not chosen.no_postgres)
        page.write()
    print(
        f"all benchmarks: {time.perf_counter() - started:.0f} s"
        + (f"; look at {', '.join(broken)}" if broken else "")
    )
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
