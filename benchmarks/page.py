"""Write ``docs/benchmarks.md`` from the figures in ``benchmarks/results``.

``make bench`` does it, and a test holds that the page says what the figures say. Run
``python benchmarks/page.py`` after figures were changed by a single benchmark.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from measuring import text

CHECKOUT = Path(__file__).resolve().parents[1]
RESULTS = CHECKOUT / "benchmarks" / "results"
PAGE = CHECKOUT / "docs" / "benchmarks.md"

INTRODUCTION = """\
# Benchmarks

What this project costs and gains, measured beside a baseline in the same run. The page is made of the
figures of the last whole run (`benchmarks/results/*.json`) by `benchmarks/page.py`; do not edit it. To
measure on your machine, in a checkout: `make bench` measures everything in some minutes and writes this page
anew, `make bench QUICK=1` measures small cases only and keeps nothing.

Figures in CPU milliseconds are the processor's time, which other programs on the machine change little;
seconds and milliseconds without that word are wall time. Ratios are the point: absolute times are those of
one machine. Each benchmark is a program of its own: `python benchmarks/scheduling.py --help`.
"""

ABOUT = {
    "scheduling": """\
Random and layered plans with heavy-tailed step times (1 s to 10 min), under a virtual clock: the program is
the real one, only its sleeps take no time, so the figures are exact and the same on any machine. The
baseline is a wave schedule on plain LangGraph: all ready steps go out as one superstep, with the same slots.
No schedule that leaves no slot idle takes longer than W/K + (1 − 1/K) · CP (Graham 1966; W: all work, K:
slots, CP: critical path). With no earlier runs to learn from, steps are taken to be equally long.""",
    "economy": """\
Model calls, tokens and wall time of a job, beside `create_agent` (ReAct) and the loop that replans after
every step. The model is an OpenAI-protocol server on loopback with a declared latency; it answers what a good
model would. Nothing is cached on its side. With “bound steps” the planner writes the answer, too, into which
outputs are put; in the row below a second call writes it from the results.""",
    "overhead": """\
What a step costs beyond the same calls in nodes of plain LangGraph, with the same saver; the model answers at
once. The baseline of a bound step is a node that calls the tool, of an agent step a node that calls a
`create_agent` agent. What a profiler says of our side is in `benchmarks/results/overhead_profile.txt`.""",
    "growth": """\
One plan per process and database, on PostgreSQL per schema; the server's own processor time is not counted.
Outputs of 2 KB stay in the state, outputs of 100 KB are artifacts in the store. They are one letter many
times, which PostgreSQL compresses and SQLite does not. Growth is linear where the ratio to the 100-step plan
stays at 1.""",
    "throughput": """\
Many threads (conversations) at the same time on one SQLite file, and on one PostgreSQL server whose commits
wait for the disk; each is a run of five bound steps that return at once, so that nothing is measured but the
machinery. "Our nodes" is a graph of plain LangGraph with the same nodes, which do nothing but make the calls:
the wiring alone, without approvals, ledger, checks and redaction. The server's own processor time is not
counted.""",
    "loops": """\
A `for_each` of one step over a long list, and the same loop killed with SIGKILL and resumed.""",
    "start_up": """\
Fresh interpreters; the least of several. The plan is that of a model that answers at once.""",
}
PEERS = "economy_peers.json"
ABOUT_PEERS = """\
A run of its own, which `make bench` leaves out, as it installs them all (the help of `benchmarks/economy.py`
says how): everybody was measured in it, one after the other, with the same tools and the same server;
`economy_peers.py` says which packages they are, and why others have no figures. Of what was measured
elsewhere on another wide job under the same latency model, the original LLMCompiler, which is not on PyPI, is
the nearest: 2 calls, about 2,100 prompt and 212 completion tokens, 4.07 s."""
TITLES = {"economy": "Economy", "start_up": "Start-up"}


def page(results: Path = RESULTS) -> str:
    """Write the page of what was measured."""
    parts = [INTRODUCTION]
    for name, about in ABOUT.items():
        file = results / f"{name}.json"
        if not file.exists():
            continue
        found = json.loads(file.read_text(encoding="utf-8"))
        parts += [f"## {TITLES.get(name, name.capitalize())}\n", f"{about}\n"]
        parts += economy(found) if name == "economy" else section(found)
        if name == "economy" and (peers := results / PEERS).exists():
            parts += ["### Beside peers from PyPI\n", f"{ABOUT_PEERS}\n"]
            parts += economy(json.loads(peers.read_text(encoding="utf-8")))
    return "\n".join(parts)


def section(found: Mapping[str, Any]) -> Iterator[str]:
    """Show the report of a benchmark."""
    for one in found["tables"]:
        yield f"**{one['title']}.** {one['notes']}".rstrip() + "\n"
        yield table(one["columns"], one["rows"])
    for promise in found["promises"]:
        yield f"- {promise['what']}: {promise['measured']}{'' if promise['kept'] else ' (**not kept**)'}"
    yield f"\n*{ran_on(found['machine'])}, {found['seconds']:g} s in all.*\n"


def ran_on(machine: Mapping[str, Any]) -> str:
    """Say where figures were made."""
    return (
        f"Python {machine['python']}, langgraph {machine['langgraph']}, {machine['system']}, "
        f"{machine['cores']} cores, load {machine['load']} at the start"
    )


ECONOMY = {"calls": "model calls", "prompt": "prompt tokens", "completion": "completion tokens"}


def economy(found: Mapping[str, Any]) -> Iterator[str]:
    """Show what ``economy.py`` wrote."""
    yield f"Latency of a model call: {found['latency']}; tokens by `{found['tokenizer']}`.\n"
    for job, contestants in found["jobs"].items():
        yield f"**The job “{job}”.**\n"
        measured = {name: one for name, one in contestants.items() if "seconds" in one}
        rows = [
            [
                name,
                *(one.get(key) for key in ECONOMY),
                one["seconds"],
                one["seconds"] / one["critical_path"] if one.get("critical_path") else None,
            ]
            for name, one in measured.items()
        ]
        yield table(["", *ECONOMY.values(), "seconds", "seconds / critical path"], rows)
        for name, one in contestants.items():
            if "seconds" not in one:
                yield f"- {name}: {one['reason']}\n"
    if "machine" in found:
        yield f"*{ran_on(found['machine'])}.*\n"


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Write a table in Markdown: texts to the left, figures to the right."""
    first = rows[0] if rows else columns
    rule = ["---" if isinstance(cell, str) and place == 0 else "--:" for place, cell in enumerate(first)]
    lines = [list(columns), rule, *([text(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def write() -> None:
    """Write the page into the documentation."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    write()
