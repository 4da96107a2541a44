"""Model calls, tokens and wall time of one job of nine tool calls, this project beside two baselines.

Run ``python benchmarks/economy.py [--runs 3] [--parts] [--tokenizer chars|tiktoken]``. It exits with 1 if a
promise was broken: bound steps at most 2 model calls, from the cache at most 1, both within 1.15 of the
critical path.

The job: the prices of six things are looked up (independent of each other, 0.2 to 2.0 s), each half of them
is added up (2 joins of 0.3 s), and the totals are compared (0.05 s).

The model is an OpenAI-protocol server on loopback, asked over real HTTP by the real client. It answers what a
good model would: each contestant's script stands below, the plans in compact JSON as strict modes write it
(every field that the schema requires, null where it says nothing), and independent tool calls in one turn.
A call takes 0.25 s + 0.00002 s per prompt token + 0.005 s per completion token. Prompt tokens are those of
all messages with their tool calls, of the tools offered and of the schema asked for, all as the request
holds them; completion tokens those of the text and the tool calls.
A token is four characters, rounded up per piece (``chars``, the same on every machine), or what
tiktoken's o200k_base says, which has to be downloaded once. Nothing is cached on the server's side.

The contestants: this project with a plan of bound steps; the same from the plan cache; with three agent steps
(a half each, and the comparison) and with nine; ``create_agent`` (ReAct); and ``sequential_loop.py``, which
replans after every step. This project keeps everything in SQLite and judges nothing (no success
criteria); the baselines keep nothing. One run without delays goes before, for imports and first use. The
critical path is what the dependencies force: planner + longest chain of tool times + synthesizer; for ReAct
and the loop all their model calls + the tools they wait for.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_core.tools import StructuredTool
from langchain_openai import ChatOpenAI
from sequential_loop import DO, PLAN, REPLAN, make_loop

from plan_execute import Context, create_plan_execute_agent, local_persistence

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path.insert(0, str(TESTS))  # the server is that of the tests

from openai_stub import OpenAIStub, Reply  # noqa: E402

Body = dict[str, Any]
Said = tuple[str | None, list[tuple[str, dict[str, Any]]]]
"""Text and tool calls of an answer."""

# --- the job -----------------------------------------------------------------------------

GOAL = (
    "Look up the prices of bread, milk and eggs and of rice, beans and oil, add up each of the two baskets, "
    "and tell me which basket is cheaper and by how much."
)
BASKETS = {"first": ["bread", "milk", "eggs"], "second": ["rice", "beans", "oil"]}
PRICES = {"bread": 2.5, "milk": 1.2, "eggs": 3.1, "rice": 1.9, "beans": 1.4, "oil": 5.3}
SECONDS = {"bread": 0.2, "milk": 0.5, "eggs": 2.0, "rice": 0.3, "beans": 0.8, "oil": 1.2}
JOIN_S, COMPARE_S = 0.3, 0.05
TOTALS = {name: round(sum(PRICES[item] for item in items), 2) for name, items in BASKETS.items()}
ANSWER = "The first basket (bread, milk, eggs) costs 6.80, the second 8.60: the first is cheaper by 1.80."


def tools(delays: bool) -> list[StructuredTool]:
    """Make the three tools; without delays they answer at once."""

    async def price_of(item: str) -> dict[str, Any]:
        """Look up the price of an item in the shop."""
        await asyncio.sleep(SECONDS[item] * delays)
        return {"item": item, "price": PRICES[item]}

    async def add_up(prices: list[float]) -> float:
        """Add up prices."""
        await asyncio.sleep(JOIN_S * delays)
        return round(sum(prices), 2)

    async def compare(first: float, second: float) -> dict[str, Any]:
        """Compare two totals: which is smaller, and by how much."""
        await asyncio.sleep(COMPARE_S * delays)
        return {"smaller": "first" if first < second else "second", "by": round(abs(first - second), 2)}

    made = [StructuredTool.from_function(coroutine=tool) for tool in (price_of, add_up, compare)]
    return [tool.model_copy(update={"metadata": {"effect": "read"}}) for tool in made]


def price_call(item: str) -> tuple[str, dict[str, Any]]:
    """Call the lookup."""
    return ("price_of", {"item": item})


def join_call(basket: str) -> tuple[str, dict[str, Any]]:
    """Call the join with the prices as they were found."""
    return ("add_up", {"prices": [PRICES[item] for item in BASKETS[basket]]})


COMPARE_CALL = ("compare", {"first": TOTALS["first"], "second": TOTALS["second"]})

# --- the model ---------------------------------------------------------------------------


def tokenizer(name: str) -> Callable[[str], int]:
    """Return what counts tokens."""
    if name == "chars":
        return lambda text: math.ceil(len(text) / 4)
    import tiktoken

    encoding = tiktoken.get_encoding("o200k_base")
    return lambda text: len(encoding.encode(text))


@dataclass
class Call:
    """One model call, as the server saw it."""

    who: str
    prompt: int
    completion: int
    parts: dict[str, int]

    @property
    def seconds(self) -> float:
        """The declared latency."""
        return 0.25 + 0.00002 * self.prompt + 0.005 * self.completion


@dataclass
class Model:
    """Answers as a script says, and counts."""

    script: Callable[[Body], tuple[str, Said]]
    count: Callable[[str], int]
    delays: bool = False
    calls: list[Call] = field(default_factory=list)

    def __call__(self, body: Body) -> Reply:
        """Answer a request of the client's."""
        who, (text, called) = self.script(body)
        parts = self._parts(body)
        pieces = [text or "", *(name + compact(arguments) for name, arguments in called)]
        call = Call(who, sum(parts.values()), sum(map(self.count, pieces)), parts)
        self.calls.append(call)
        return Reply(
            text,
            tool_calls=called,
            usage=(call.prompt, call.completion),
            delay_s=call.seconds * self.delays,
        )

    def _parts(self, body: Body) -> dict[str, int]:
        parts: dict[str, int] = {}
        for message in body["messages"]:
            told = str(message.get("content") or "")
            called = message.get("tool_calls")
            role = message["role"]
            parts[role] = parts.get(role, 0) + self.count(told + (compact(called) if called else ""))
        if body.get("tools"):
            parts["tools"] = self.count(compact(body["tools"]))
        if body.get("response_format"):
            parts["schema"] = self.count(compact(body["response_format"]))
        return parts


def compact(value: Any) -> str:
    """Write JSON as models do in strict modes."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def system_of(body: Body) -> str:
    """Return the system message."""
    return "".join(str(m["content"]) for m in body["messages"] if m["role"] in ("system", "developer"))


def told(body: Body) -> str:
    """Return the first human message."""
    return next(str(m["content"]) for m in body["messages"] if m["role"] == "user")


def tool_results(body: Body) -> int:
    """Count the tool results in the conversation."""
    return sum(message["role"] == "tool" for message in body["messages"])


# --- the scripts: this project -----------------------------------------------------------


def draft_step(step_id: str, task: str, after: list[str], **kind: Any) -> dict[str, Any]:
    """Write what a step of our planner's answer says; the rest is null."""
    return {"id": step_id, "task": task, "depends_on": after, "tools": [], **kind}


def wire_step(step: dict[str, Any], body: Body) -> dict[str, Any]:
    """Write a step as the request's schema wants it."""
    schema = body["response_format"]["json_schema"]["schema"]
    required = schema["properties"]["steps"]["items"]["required"]
    return {name: step.get(name) for name in required}


def bound(step_id: str, task: str, after: list[str], tool: str, args: dict[str, Any]) -> dict[str, Any]:
    """Write a bound step."""
    return draft_step(step_id, task, after, call=tool, arguments=compact(args))


def bound_steps() -> list[dict[str, Any]]:
    """Write the job as nine bound steps."""
    steps = [bound(item, f"Price of {item}", [], *price_call(item)) for item in PRICES]
    for name, items in BASKETS.items():
        prices = [f"${{{item}.price}}" for item in items]
        steps.append(bound(f"{name}_total", f"Add up the {name} basket", items, "add_up", {"prices": prices}))
    totals = {"first": "${first_total}", "second": "${second_total}"}
    after = ["first_total", "second_total"]
    return [*steps, bound("cheaper", "Compare the totals", after, "compare", totals)]


def nine_agent_steps() -> list[dict[str, Any]]:
    """Write the job as nine agent steps."""
    steps = bound_steps()
    return [{**step, "tools": [step["call"]], "call": None, "arguments": None} for step in steps]


def three_agent_steps() -> list[dict[str, Any]]:
    """Write the job as an agent step per basket, and one for the comparison."""
    used = ["price_of", "add_up"]
    steps = [
        draft_step(
            f"{name}_total", f"Look up {', '.join(items)} and add up the {name} basket", [], tools=used
        )
        for name, items in BASKETS.items()
    ]
    after = [step["id"] for step in steps]
    return [*steps, draft_step("cheaper", "Compare the totals", after, tools=["compare"])]


def ours(steps: list[dict[str, Any]]) -> Callable[[Body], tuple[str, Said]]:
    """Script this project's roles around a plan."""
    plan = {"outcome": "plan", "rationale": "Prices are independent; totals and comparison follow."}

    def script(body: Body) -> tuple[str, Said]:
        if body.get("response_format"):
            return "planner", (compact({**plan, "steps": [wire_step(step, body) for step in steps]}), [])
        if system_of(body).startswith("You carry out one step"):
            return "executor", work(told(body).partition("Your step:")[2], tool_results(body))
        return "synthesizer", (ANSWER, [])

    return script


def work(task: str, results: int) -> Said:
    """Answer as a step's agent: call what the task needs, then say the result."""
    if "Compare" in task:
        return ("The first is cheaper by 1.80.", []) if results else (None, [COMPARE_CALL])
    if "Look up" in task:
        name = "first" if "first" in task else "second"
        turns = {0: [price_call(item) for item in BASKETS[name]], 3: [join_call(name)]}
        return (None, turns[results]) if results in turns else (f"{TOTALS[name]:.2f}", [])
    if "Add up" in task:
        name = "first" if "the first" in task else "second"
        return (f"{TOTALS[name]:.2f}", []) if results else (None, [join_call(name)])
    item = next(item for item in PRICES if f"Price of {item}" in task)
    return (f"{PRICES[item]:.2f}", []) if results else (None, [price_call(item)])


# --- the scripts: the baselines ----------------------------------------------------------


def react(body: Body) -> tuple[str, Said]:
    """Script ReAct: all lookups in one turn, both joins in one, the comparison, the answer."""
    turns = {
        0: [price_call(item) for item in PRICES],
        6: [join_call(name) for name in BASKETS],
        8: [COMPARE_CALL],
    }
    called = turns.get(tool_results(body))
    return "agent", ((None, called) if called else (ANSWER, []))


def loop(body: Body) -> tuple[str, Said]:
    """Script the sequential loop."""
    system, tasks = system_of(body), [step["task"] for step in bound_steps()]
    if system == PLAN:
        return "planner", (compact({"steps": tasks}), [])
    if system == DO:
        return "executor", work(told(body).partition("Your task:")[2], tool_results(body))
    assert system == REPLAN
    done = told(body).partition("Done so far:")[2].strip().count("\n") + 1
    left = tasks[done:]
    return "replanner", (compact({"steps": left, "response": None if left else ANSWER}), [])


# --- the contestants ---------------------------------------------------------------------

Run = Callable[[str, bool, Path], Awaitable[str]]
"""Does the job against a base URL, with or without delays, in a folder, and returns the answer."""


def run_ours(cached: bool) -> Run:
    """Run this project; ``cached``: recall the plan of the folder's earlier run."""

    async def run(base_url: str, delays: bool, folder: Path) -> str:
        async with local_persistence(folder / "runs.db") as (checkpointer, store):
            agent = create_plan_execute_agent(
                "openai:stub",
                tools(delays),
                base_url=base_url,
                checkpointer=checkpointer,
                store=store,
                plan_cache=3600 if cached else None,
            )
            config: Any = {"configurable": {"thread_id": f"{time.time_ns()}"}}
            result = await agent.ainvoke({"goal": GOAL}, config, context=Context(approval="never"))
        assert result["status"] == "done", result["final_answer"]
        return str(result["final_answer"])

    return run


async def run_react(base_url: str, delays: bool, _folder: Path) -> str:
    """Run ``create_agent``."""
    agent: Any = create_agent(chat(base_url), tools(delays))
    result = await agent.ainvoke({"messages": [("human", GOAL)]})
    return str(result["messages"][-1].text)


async def run_loop(base_url: str, delays: bool, _folder: Path) -> str:
    """Run the sequential loop."""
    result = await make_loop(chat(base_url), tools(delays)).ainvoke(
        {"objective": GOAL}, {"recursion_limit": 100}
    )
    return str(result["response"])


def chat(base_url: str) -> ChatOpenAI:
    """Make the client that the baselines use."""
    return ChatOpenAI(model="stub", base_url=base_url, api_key="none", max_retries=0)


CHAIN_S = max(SECONDS.values()) + JOIN_S + COMPARE_S
ALL_TOOLS_S = sum(SECONDS.values()) + 2 * JOIN_S + COMPARE_S


@dataclass(frozen=True)
class Contestant:
    """Who does the job, how its model answers, and what its dependencies force it to wait for."""

    name: str
    run: Run
    script: Callable[[Body], tuple[str, Said]]
    tools_s: float | None
    most_calls: int | None = None


CONTESTANTS = (
    Contestant("bound steps", run_ours(False), ours(bound_steps()), CHAIN_S, most_calls=2),
    Contestant("from the cache", run_ours(True), ours(bound_steps()), CHAIN_S, most_calls=1),
    Contestant("3 agent steps", run_ours(False), ours(three_agent_steps()), None),
    Contestant("9 agent steps", run_ours(False), ours(nine_agent_steps()), None),
    Contestant("create_agent (ReAct)", run_react, react, CHAIN_S),
    Contestant("sequential loop", run_loop, loop, ALL_TOOLS_S),
)
MOST_RATIO = 1.15


@dataclass(frozen=True)
class Measured:
    """One run."""

    calls: list[Call]
    seconds: float

    def critical_path(self, tools_s: float) -> float:
        """Sum what had to follow one another."""
        return sum(call.seconds for call in self.calls) + tools_s


def measure(who: Contestant, count: Callable[[str], int], folder: Path) -> Measured:
    """Run once without delays, then with them; the second is what counts, in the same folder."""
    model = Model(who.script, count)
    with OpenAIStub(model) as stub:
        asyncio.run(who.run(stub.base_url, False, folder))
        model.calls.clear()
        model.delays = True
        started = time.perf_counter()
        answer = asyncio.run(who.run(stub.base_url, True, folder))
        seconds = time.perf_counter() - started
    assert ANSWER in answer, answer
    return Measured(model.calls, seconds)


def report(who: Contestant, runs: list[Measured]) -> list[str]:
    """Print a contestant's line and return the promises that it broke."""
    calls = runs[0].calls
    seconds = statistics.median(run.seconds for run in runs)
    path = runs[0].critical_path(who.tools_s) if who.tools_s is not None else None
    ratio = seconds / path if path else None
    shown = (f"{path:.2f}", f"{ratio:.3f}") if path and ratio else ("", "")
    prompt, completion = (sum(getattr(call, name) for call in calls) for name in ("prompt", "completion"))
    cells = (len(calls), prompt, completion, f"{seconds:.2f}", *shown)
    print(f"{who.name:<22}" + "".join(f"{cell:>12}" for cell in cells), flush=True)
    broken = []
    if who.most_calls is not None and len(calls) > who.most_calls:
        broken.append(f"{who.name}: {len(calls)} model calls, at most {who.most_calls} are promised")
    if who.most_calls is not None and ratio and ratio > MOST_RATIO:
        broken.append(f"{who.name}: {ratio:.3f} of the critical path, at most {MOST_RATIO} is promised")
    return broken


def show_parts(runs: dict[str, list[Measured]]) -> None:
    """Print what each kind of call weighs, part by part (mean tokens)."""
    print(f"\n{'mean tokens per call':<36}{'calls':>6}  prompt by part, and completion")
    for name, measured in runs.items():
        by_role: dict[str, list[Call]] = {}
        for call in measured[0].calls:
            by_role.setdefault(call.who, []).append(call)
        for role, calls in by_role.items():
            parts = {part for call in calls for part in call.parts}
            means = {part: statistics.mean(call.parts.get(part, 0) for call in calls) for part in parts}
            weights = ", ".join(f"{part} {mean:.0f}" for part, mean in sorted(means.items()))
            answer = statistics.mean(call.completion for call in calls)
            print(f"{name + ': ' + role:<36}{len(calls):>6}  {weights}; completion {answer:.0f}")


def main() -> int:
    """Measure every contestant and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=3, help="median wall time of so many (default: 3)")
    parser.add_argument("--parts", action="store_true", help="also print what the prompts weigh by part")
    parser.add_argument("--tokenizer", choices=("chars", "tiktoken"), default="chars")
    chosen = parser.parse_args()
    count = tokenizer(chosen.tokenizer)
    header = ("calls", "prompt", "completion", "seconds", "crit. path", "ratio")
    print(f"{'':<22}" + "".join(f"{name:>12}" for name in header))
    broken, runs = [], {}
    for who in CONTESTANTS:
        runs[who.name] = []
        for _ in range(chosen.runs):
            with tempfile.TemporaryDirectory() as folder:
                runs[who.name].append(measure(who, count, Path(folder)))
        broken += report(who, runs[who.name])
    if chosen.parts:
        show_parts(runs)
    for promise in broken:
        print(f"BROKEN {promise}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
