"""Milliseconds of CPU to ``--help``, to looks at a file and at threads, and to a plan, beyond Python's start.

Run ``python benchmarks/start_up.py [--runs 10] [--json FILE] [--quick]``. Each figure is the least of several
fresh interpreters; the baselines, in the same run, are an interpreter that does nothing, and one that imports
LangGraph and langchain's ``create_agent``. The first plan is that of a model which answers at once: a server
on loopback, asked by the real client.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from measuring import Promise, Report, Table, measure, options
from openai_stub import OpenAIStub, Reply

PLAN = "goal: look\nsteps:\n  - {id: a, task: think, tools: []}\n"
ASKING = "goal: look\nsteps:\n  - {id: a, ask: {question: Well?}}\n"
PLANNED = 'a: "Look around"'
"""What the model answers: a plan of one step."""
WAITING = 3
"""The exit code of a run that waits for a person."""
PROGRAM = "from plan_execute.cli import main; raise SystemExit(main())"
LOOKS = ("", "list", "inbox", "show t", "history t")
"""The commands that look at threads."""
MOST_PLAN_RATIO = 1.02
MOST_MS = 300.0
"""What a look at a plan file, or at threads, may take beyond Python's own start."""


def used() -> float:
    """Return the CPU of all processes that this one has waited for."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def seconds(runs: int, *arguments: str) -> float:
    """Take the least CPU of several runs of a fresh interpreter: other load changes it little."""

    def once() -> float:
        before = used()
        done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return used() - before

    return min(once() for _ in range(runs))


def work(chosen: argparse.Namespace) -> Report:
    """Measure every command."""
    runs = 3 if chosen.quick else chosen.runs
    with tempfile.TemporaryDirectory() as folder, OpenAIStub([Reply(PLANNED)] * (runs + 1)) as stub:
        plan = Path(folder) / "plan.yaml"
        plan.write_text(PLAN)
        asking, database = Path(folder) / "asking.yaml", Path(folder) / "runs.db"
        asking.write_text(ASKING)
        os.environ["PLAN_EXECUTE_DB"] = str(database)
        # What is installed has its bytecode, but a checkout has none where nothing may write it.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        run = [sys.executable, "-c", PROGRAM, "run", str(asking), "--thread", "t", "--yes"]
        asked = subprocess.run(run, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        assert asked.returncode == WAITING, asked.stderr
        model = ("--model", "openai:stub", "--base-url", stub.base_url)
        imports = "import langgraph.graph, langchain.agents, langchain_openai"
        commands = {
            "Python that does nothing": ("-c", "pass"),
            "import langgraph, langchain.agents, langchain_openai": ("-c", imports),
            "import plan_execute": ("-c", "import plan_execute"),
            "plan-execute --help": ("-c", PROGRAM, "--help"),
            "plan-execute validate FILE": ("-c", PROGRAM, "validate", str(plan)),
            **{f"plan-execute {look}".rstrip(): ("-c", PROGRAM, *look.split()) for look in LOOKS},
            "plan-execute plan GOAL": ("-c", PROGRAM, "plan", "Look around", *model),
        }
        took = {name: seconds(runs, *arguments) * 1000 for name, arguments in commands.items()}
    bare = took["Python that does nothing"]
    rows = [[name, ms, ms - bare] for name, ms in took.items()]
    looks = [
        Promise(f"{name}: at most {MOST_MS:g} ms beyond Python", f"{ms - bare:.0f} ms", ms - bare <= MOST_MS)
        for name, ms in took.items()
        if name.startswith("plan-execute") and not name.endswith(("--help", "plan GOAL"))
    ]
    ratio = took["plan-execute plan GOAL"] / took["import langgraph, langchain.agents, langchain_openai"]
    return Report(
        "Start-up",
        [Table("Processor time from the process's start to its end", ["", "ms", "beyond Python, ms"], rows)],
        [
            Promise(
                f"a first plan within {MOST_PLAN_RATIO:g} × the import of LangGraph and the model's client",
                f"{ratio:.2f}",
                ratio <= MOST_PLAN_RATIO,
            ),
            *looks,
        ],
    )


if __name__ == "__main__":
    parser = options(__doc__)
    parser.add_argument("--runs", type=int, default=10, help="fresh interpreters per figure (default: 10)")
    raise SystemExit(measure(parser, work))
