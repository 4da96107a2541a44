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

What this project costs and what it saves. Each figure stands next to a baseline from the same run.
[Why plan and execute?](why.md) has the short version.

The program `benchmarks/page.py` makes this page from the figures of the last complete run
(`benchmarks/results/*.json`), so do not edit it. In a checkout, `make bench` measures everything on your
machine, in some minutes, and writes this page anew. `make bench QUICK=1` measures small cases and keeps
nothing. Each benchmark is also a program of its own: `python benchmarks/scheduling.py --help`.

“CPU ms” is processor time, which other programs on the machine hardly change. All other times are wall time.
Compare ratios: absolute times are those of one machine.
"""

ABOUT = {
    "scheduling": """\
How well steps are scheduled. The plans are random or layered, and their step times are heavy-tailed, from 1 s
to 10 min. The program is the real one, but its clock is virtual: waiting takes no time, so the figures are
exact and the same on any machine. The baseline is a wave schedule on plain LangGraph, with the same number of
slots: all ready steps run as one superstep. “Graham's bound” is W/K + (1 − 1/K) · CP, where W is all work, K
the number of slots and CP the critical path. No schedule that leaves no slot idle takes longer (Graham 1966).
There are no earlier runs to learn from, so all steps are expected to take equally long.""",
    "economy": """\
Model calls, tokens and wall time of three jobs. The baselines are `create_agent` (ReAct) and a loop that
replans after every step. The model is a server on loopback that speaks OpenAI's protocol. Its latency is
fixed per call and token, it answers as a good model would, and it caches nothing. In the row “bound steps”
the planner also writes the answer, with gaps for the outputs. In the row below it, a second call writes the
answer from the results.""",
    "overhead": """\
What a step costs more than the same call in a node of plain LangGraph with the same saver. The model answers
at once. The baseline of a bound step is a node that calls the tool. The baseline of an agent step is a node
that calls a `create_agent` agent. `benchmarks/results/overhead_profile.txt` has a profile of our side.""",
    "growth": """\
How storage, time and memory grow with the number of steps. Each plan has its own process and database, or on
PostgreSQL its own schema. The processor time of the PostgreSQL server is not counted. Outputs of 2 KB stay in
the state, outputs of 100 KB are artifacts in the store. An output is one letter, repeated; PostgreSQL
compresses that, and SQLite does not. Growth is linear if the ratio to the 100-step plan stays at 1.""",
    "throughput": """\
Many threads (conversations) at the same time, on one SQLite file and on one PostgreSQL server whose commits
wait for the disk. Each is a run of five bound steps that return at once, so only the program itself is
measured. “Our nodes” is a graph of plain LangGraph with the same nodes, which only make the calls: the cost
of the graph alone, without approvals, ledger, checks and redaction. The processor time of the PostgreSQL
server is not counted.""",
    "loops": """\
A `for_each` of one step over a long list, and the same loop killed with SIGKILL and resumed.""",
    "start_up": """\
The start of a new interpreter; each figure is the least of several. The model that plans answers at once.""",
}
PEERS = "economy_peers.json"
ABOUT_PEERS = """\
The same jobs, done by other projects too. Everybody was measured in one run, one after the other, with the
same tools and the same server. `make bench` leaves this run out, because it installs all of them; the help of
`benchmarks/economy.py` says how to start it. `benchmarks/economy_peers.py` names the packages, and says why
others have no figures. The original LLMCompiler is not on PyPI. It was measured elsewhere, on another wide
job with the same latency model: 2 calls, about 2,100 prompt and 212 completion tokens, 4.07 s."""
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
