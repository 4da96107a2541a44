"""Model calls, tokens and wall time of three jobs, this project beside two baselines (and peers, if asked).

Run ``python benchmarks/economy.py [--runs 3] [--shapes wide chain skewed] [--parts] [--json FILE] [--peers]
[--tokenizer tiktoken|chars]``. It exits with 1 if a promise was broken: bound steps are ahead of every other
contestant in every column of every job, with one model call (from the cache: none), and within 1.15 of
the critical path; on the wide job they are ahead of what was measured elsewhere, too.

The jobs are the shapes of ``economy_jobs.py``: *wide* (6 independent lookups of 0.2 to 2.0 s, 2 joins, a
comparison), *chain* (6 lookups, each of what the one before found), *skewed* (one slow lookup beside a chain
of four and three quick ones, then a join).

The model is an OpenAI-protocol server on loopback, asked over real HTTP by the real client. It answers what a
good model would, in the form it is asked for; independent tool calls come in one turn. A call takes 0.25 s +
0.00002 s per prompt token + 0.005 s per completion token; where the client asks for a stream, it comes token
by token within that time. Prompt tokens are those of all messages with their tool calls, of the tools
offered and of the schema asked for, all as the request holds them; completion tokens those of the text and
the tool calls. A token is what tiktoken's o200k_base says, which has to be downloaded once (or found in
``TIKTOKEN_CACHE_DIR``), or without it four characters, rounded up per piece (``chars``, which flatters JSON:
its brackets and quotes are tokens of their own). Nothing is cached on the server's side.

The contestants: this project with a plan of bound steps that holds the answer; with one that does not, so
that a model writes it from the results; from the plan cache; with an agent step per call; ``create_agent``
(ReAct); and ``sequential_loop.py``, which replans after every step. This project keeps everything in SQLite
and judges nothing (no success criteria); the baselines keep nothing. One run without delays goes before, for
imports and first use. The critical path is what the dependencies force: planner + longest chain of tool times
+ synthesizer, as if nothing began before the plan was written; for ReAct and the loop all their model calls +
the tools they wait for.

``--peers`` makes virtual environments, installs what ``economy_peers.py`` names from PyPI, and runs the jobs
with it; a peer that cannot be installed, or does not finish, is named with the reason and has no figures. It
takes minutes and a package index, so ``make bench`` leaves it out, and its figures have a file of their own,
with those of all other contestants in the same run: ``--peers --json benchmarks/results/economy_peers.json``,
then ``page.py``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from economy_jobs import JOBS, Job
from economy_model import Call, Model, Script, best_tokenizer, tokenizer
from economy_scripts import loop, ours, react
from langchain.agents import create_agent
from langchain_openai import ChatOpenAI
from measuring import machine
from sequential_loop import make_loop

from plan_execute import Context, create_plan_execute_agent, local_persistence

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path.insert(0, str(TESTS))  # the server is that of the tests

from openai_stub import OpenAIStub  # noqa: E402

MEASURED_ELSEWHERE = {
    "LLMCompiler (original)": {"calls": 2, "prompt": 2100, "completion": 212, "seconds": 4.07},
    "create_agent": {"calls": 4, "prompt": 4700, "seconds": 4.85},
    "CrewAI, planning executor": {"calls": 29, "prompt": 33000, "seconds": 14.1},
    "LangGraph tutorial's loop": {"calls": 28, "prompt": 15000, "seconds": 20.3},
}
"""Published for another wide job under the same latency model; not measured here."""

# --- the contestants ---------------------------------------------------------------------

Run = Callable[[Job, str, bool, Path], Awaitable[str]]
"""Does a job against a base URL, with or without delays, in a folder, and returns the answer."""


def run_ours(cached: bool) -> Run:
    """Run this project; ``cached``: recall the plan of the folder's earlier run."""

    async def run(job: Job, base_url: str, delays: bool, folder: Path) -> str:
        async with local_persistence(folder / "runs.db") as (checkpointer, store):
            agent = create_plan_execute_agent(
                "openai:stub",
                job.tools(delays),
                base_url=base_url,
                checkpointer=checkpointer,
                store=store,
                plan_cache=3600 if cached else None,
            )
            config: Any = {"configurable": {"thread_id": f"{time.time_ns()}"}}
            result = await agent.ainvoke({"goal": job.goal}, config, context=Context(approval="never"))
        assert result["status"] == "done", result["final_answer"]
        return str(result["final_answer"])

    return run


async def run_react(job: Job, base_url: str, delays: bool, _folder: Path) -> str:
    """Run ``create_agent``."""
    agent: Any = create_agent(chat(base_url), job.tools(delays))
    result = await agent.ainvoke({"messages": [("human", job.goal)]})
    return str(result["messages"][-1].text)


async def run_loop(job: Job, base_url: str, delays: bool, _folder: Path) -> str:
    """Run the sequential loop."""
    result = await make_loop(chat(base_url), job.tools(delays)).ainvoke(
        {"objective": job.goal}, {"recursion_limit": 100}
    )
    return str(result["response"])


def chat(base_url: str) -> ChatOpenAI:
    """Make the client that the baselines use."""
    return ChatOpenAI(model="stub", base_url=base_url, api_key="none", max_retries=0)


@dataclass(frozen=True)
class Contestant:
    """Who does a job, how its model answers it, and which tool times follow one another."""

    name: str
    run: Run
    script: Callable[[Job], Script]
    tools_s: Callable[[Job], float] | None
    most_calls: int | None = None


CONTESTANTS = (
    Contestant("bound steps", run_ours(False), ours, Job.longest_s, most_calls=1),
    Contestant(
        "bound steps, then an answer",
        run_ours(False),
        lambda job: ours(job, answers=False),
        Job.longest_s,
        most_calls=2,
    ),
    Contestant("from the cache", run_ours(True), ours, Job.longest_s, most_calls=0),
    Contestant("agent steps", run_ours(False), lambda job: ours(job, in_words=True, answers=False), None),
    Contestant("create_agent (ReAct)", run_react, react, Job.in_waves_s),
    Contestant("sequential loop", run_loop, loop, Job.one_by_one_s),
)
OURS = ("bound steps", "bound steps, then an answer", "from the cache", "agent steps")
MOST_RATIO = 1.15

# --- measuring ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """The runs of one contestant at one job."""

    calls: list[Call]
    seconds: float
    critical_path: float | None

    @property
    def row(self) -> dict[str, float]:
        """The columns that contestants are compared by."""
        prompt, completion = (sum(getattr(c, name) for c in self.calls) for name in ("prompt", "completion"))
        return {
            "calls": len(self.calls),
            "prompt": prompt,
            "completion": completion,
            "seconds": round(self.seconds, 3),
        }


def measure(who: Contestant, job: Job, count: Callable[[str], int], runs: int) -> Measured:
    """Run a job several times; the median of the seconds counts."""
    seconds, model = [], Model(who.script(job), count)
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            seconds.append(once(who, job, model, Path(folder)))
    path = None if who.tools_s is None else sum(call.seconds for call in model.calls) + who.tools_s(job)
    return Measured(list(model.calls), statistics.median(seconds), path)


def once(who: Contestant, job: Job, model: Model, folder: Path) -> float:
    """Run once without delays, then with them, in the same folder; the second is what counts."""
    with OpenAIStub(model) as stub:
        model.delays = False
        asyncio.run(who.run(job, stub.base_url, False, folder))
        model.calls.clear()
        model.delays = True
        started = time.perf_counter()
        answer = asyncio.run(who.run(job, stub.base_url, True, folder))
        seconds = time.perf_counter() - started
    assert job.answer in answer, answer
    return seconds


# --- the report --------------------------------------------------------------------------

COLUMNS = ("calls", "prompt", "completion", "seconds")


def line(name: str, row: dict[str, float], path: float | None = None) -> str:
    """Write a row of the table."""
    cells = [f"{row[column]:g}" if column in row else "" for column in COLUMNS[:3]]
    cells.append(f"{row['seconds']:.2f}")
    cells += [f"{path:.2f}", f"{row['seconds'] / path:.3f}"] if path else []
    return f"{name:<28}" + "".join(f"{cell:>12}" for cell in cells)


def broken_promises(job: Job, measured: dict[str, Measured], rows: dict[str, Any]) -> list[str]:
    """List what this project promises of a job and did not keep."""
    broken, mine = [], measured["bound steps"].row
    for who in CONTESTANTS:
        found = measured[who.name]
        if who.most_calls is not None and len(found.calls) > who.most_calls:
            broken.append(f"{job.name}, {who.name}: {len(found.calls)} calls, at most {who.most_calls}")
        if who.most_calls is not None and found.critical_path:
            ratio = found.seconds / found.critical_path
            broken += [f"{job.name}, {who.name}: {ratio:.3f} of the path"] if ratio > MOST_RATIO else []
    others = {name: row for name, row in rows.items() if name not in OURS and "seconds" in row}
    if job.name == "wide":
        others |= {f"{name} (elsewhere)": row for name, row in MEASURED_ELSEWHERE.items()}
    for name, row in others.items():
        broken += [
            f"{job.name}: {column} {mine[column]:g}, {name} has {row[column]:g}"
            for column in COLUMNS
            if column in row and mine[column] >= row[column]
        ]
    return broken


def show_parts(job: Job, measured: dict[str, Measured]) -> None:
    """Print what each kind of call weighs, part by part (mean tokens)."""
    print(f"\n{'mean tokens per call':<40}{'calls':>6}  prompt by part, and completion")
    for name, found in measured.items():
        by_role: dict[str, list[Call]] = {}
        for call in found.calls:
            by_role.setdefault(call.who, []).append(call)
        for role, calls in by_role.items():
            parts = {part for call in calls for part in call.parts}
            means = {part: statistics.mean(call.parts.get(part, 0) for call in calls) for part in parts}
            weights = ", ".join(f"{part} {mean:.0f}" for part, mean in sorted(means.items()))
            answer = statistics.mean(call.completion for call in calls)
            print(f"{f'{job.name}, {name}: {role}':<40}{len(calls):>6}  {weights}; completion {answer:.0f}")


def measure_job(job: Job, chosen: argparse.Namespace) -> tuple[dict[str, Measured], dict[str, Any]]:
    """Measure every contestant at one job and print its table; also give the rows for the JSON."""
    print(f"\n{job.name:<28}" + "".join(f"{name:>12}" for name in (*COLUMNS, "crit. path", "ratio")))
    measured, rows = {}, {}
    for who in CONTESTANTS:
        found = measured[who.name] = measure(who, job, tokenizer(chosen.tokenizer), chosen.runs)
        rows[who.name] = {**found.row, "critical_path": found.critical_path}
        rows[who.name]["by_call"] = [asdict(call) for call in found.calls]
        print(line(who.name, found.row, found.critical_path), flush=True)
    if chosen.peers:
        from economy_peers import measure_peers

        for name, row in measure_peers(job, tokenizer(chosen.tokenizer)):
            rows[name] = row
            print(line(name, row) if "seconds" in row else f"{name:<28}{row['reason']}", flush=True)
    if job.name == "wide":
        for name, row in MEASURED_ELSEWHERE.items():
            print(line(f"[{name}]", row))
        print("[…]: measured elsewhere, on another wide job under the same latency model; not run here")
    if chosen.parts:
        show_parts(job, measured)
    return measured, rows


def main() -> int:
    """Measure every contestant at every job and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=3, help="median wall time of so many (default: 3)")
    parser.add_argument("--shapes", nargs="+", choices=list(JOBS), default=list(JOBS))
    parser.add_argument("--parts", action="store_true", help="also print what the prompts weigh by part")
    parser.add_argument("--json", type=Path, help="write the figures into this file")
    parser.add_argument("--peers", action="store_true", help="also install and run peers from PyPI")
    parser.add_argument("--tokenizer", choices=("tiktoken", "chars"), help="default: the first there is")
    chosen = parser.parse_args()
    chosen.tokenizer = chosen.tokenizer or best_tokenizer()
    before: dict[str, Any] = machine()
    broken, figures = [], {}
    for name in chosen.shapes:
        measured, figures[name] = measure_job(JOBS[name], chosen)
        broken += broken_promises(JOBS[name], measured, figures[name])
    if chosen.json:
        declared = {"machine": before, "latency": "0.25 s + 0.00002 s × prompt + 0.005 s × completion tokens"}
        written = declared | {"tokenizer": chosen.tokenizer, "runs": chosen.runs, "jobs": figures}
        written["measured_elsewhere"] = MEASURED_ELSEWHERE
        chosen.json.write_text(json.dumps(written, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for promise in broken:
        print(f"BROKEN {promise}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
