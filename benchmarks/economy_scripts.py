"""What a good model answers to each contestant of ``economy.py``, in the form that it is asked for."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from economy_jobs import Job, Ref, ToolCall
from economy_model import Body, Said, Script, compact
from sequential_loop import DO, PLAN, REPLAN

__all__ = ["loop", "ours", "react"]


def system_of(body: Body) -> str:
    """Return the system message."""
    return "".join(str(m["content"]) for m in body["messages"] if m["role"] in ("system", "developer"))


def told(body: Body) -> str:
    """Return the first human message."""
    return next(str(m["content"]) for m in body["messages"] if m["role"] == "user")


def tool_results(body: Body) -> int:
    """Count the tool results in the conversation."""
    return sum(message["role"] == "tool" for message in body["messages"])


def as_call(job: Job, call: ToolCall) -> tuple[str, dict[str, Any]]:
    """Write a tool call with the values as they were found."""
    return (call.tool, job.named(call))


def work(job: Job, task: str, results: int) -> Said:
    """Answer as an agent with one task: call its tool, then say what that gave."""
    number = next(n for n, call in enumerate(job.calls) if call.task in task)
    if not results:
        return None, [as_call(job, job.calls[number])]
    output = job.outputs[number]
    return (output if isinstance(output, str) else compact(output)), []


# --- this project ------------------------------------------------------------------------


def ours(job: Job, *, in_words: bool = False, answers: bool = True) -> Script:
    """Script this project's roles.

    Args:
        job: What is to be done.
        in_words: Whether the plan is an agent step per call, not calls.
        answers: Whether the planner writes the answer, too, with the outputs to be put in.
    """
    lines = in_words_of(job) if in_words else in_calls_of(job, answers=answers)
    plan = "\n".join(lines)

    def script(body: Body) -> tuple[str, Said]:
        system = system_of(body)
        if system.startswith("You plan work"):
            assert '1. tool(value, name=value)\n2. "what to do" tools=[a, b] after=[1]' in system
            return "planner", (plan, [])
        if system.startswith("You carry out one step"):
            return "executor", work(job, told(body).partition("Your step:")[2], tool_results(body))
        assert system.startswith("You write the final answer")
        return "synthesizer", (job.answer, [])

    return script


def in_calls_of(job: Job, *, answers: bool) -> list[str]:
    """Write bound steps: calls of one tool whose outputs go into one list are one step, a loop."""
    loops = loops_of(job)
    inside = {number for loop in loops for number in loop[1:]}
    numbers: dict[int, int] = {}
    lines: list[str] = []
    for number, call in enumerate(job.calls, start=1):
        if number in inside:
            continue
        lines.append("")
        loop = next((loop for loop in loops if loop[0] == number), None)
        numbers |= dict.fromkeys(loop or (number,), len(lines))
        args = ", ".join(value(arg, numbers) for arg in call.args)
        if loop is None:
            lines[-1] = f"{len(lines)}. {call.tool}({args})"
        else:
            items = [job.calls[one - 1].args[0] for one in loop]
            lines[-1] = f"{len(lines)}. {call.tool}($item) each={value(items, numbers)}"
    if answers:
        planned = re.sub(r"(?<=\$\{)\d+", lambda found: str(numbers[int(found[0])]), job.planned)
        lines.append(f"return {compact(planned)}")
    return lines


def loops_of(job: Job) -> list[tuple[int, ...]]:
    """Find the calls, by number, that differ in one value and whose outputs are used in one list only."""
    used = Counter(ref.number for call in job.calls for ref in call.refs())
    lists = [arg for call in job.calls for arg in call.args if isinstance(arg, list)]
    found = [tuple(ref.number for ref in items) for items in lists]
    return [
        loop
        for loop in found
        if len({job.calls[one - 1].tool for one in loop}) == 1
        and all(used[one] == 1 and len(job.calls[one - 1].args) == 1 for one in loop)
    ]


def value(arg: Any, numbers: dict[int, int]) -> str:
    """Write an argument; ``numbers`` says which step makes which call."""
    if isinstance(arg, list):
        refs = [item for item in arg if isinstance(item, Ref)]
        if refs and len({numbers[ref.number] for ref in refs}) == 1:  # The outputs of a loop.
            path = f"[*].{refs[0].path}" if refs[0].path else ""
            return f"${numbers[refs[0].number]}{path}"
        return f"[{', '.join(value(item, numbers) for item in arg)}]"
    if isinstance(arg, Ref):
        return f"${numbers[arg.number]}" + (f".{arg.path}" if arg.path else "")
    return compact(arg)


def in_words_of(job: Job) -> list[str]:
    """Write an agent step for each call."""
    return [f"{number}. {step_in_words(call)}" for number, call in enumerate(job.calls, start=1)]


def step_in_words(call: ToolCall) -> str:
    """Write an agent step."""
    needed = [str(ref.number) for ref in call.refs()]
    after = f" after=[{', '.join(needed)}]" if needed else ""
    return f"{compact(call.task)} tools=[{call.tool}]{after}"


# --- the baselines -----------------------------------------------------------------------


def react(job: Job) -> Script:
    """Script ReAct: in each turn all calls that are possible by then, in the end the answer."""
    turns: dict[int, Said] = {}
    done = 0
    for wave in job.waves():
        turns[done] = (None, [as_call(job, call) for call in wave])
        done += len(wave)
    turns[done] = (job.answer, [])
    return lambda body: ("agent", turns[tool_results(body)])


def loop(job: Job) -> Script:
    """Script the sequential loop."""
    tasks = [call.task for call in job.calls]

    def script(body: Body) -> tuple[str, Said]:
        system = system_of(body)
        if system == PLAN:
            return "planner", (compact({"steps": tasks}), [])
        if system == DO:
            return "executor", work(job, told(body).partition("Your task:")[2], tool_results(body))
        assert system == REPLAN
        done = told(body).partition("Done so far:")[2].strip().count("\n") + 1
        left = tasks[done:]
        return "replanner", (compact({"steps": left, "response": None if left else job.answer}), [])

    return script
