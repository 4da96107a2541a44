"""What a good model answers to each contestant of ``economy.py``, in the form that it is asked for."""

from __future__ import annotations

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
    write = step_in_words if in_words else step_as_call
    lines = [f"{number}. {write(call)}" for number, call in enumerate(job.calls, start=1)]
    lines += [f"return {compact(job.planned)}"] if answers else []
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


def step_as_call(call: ToolCall) -> str:
    """Write a bound step."""
    return f"{call.tool}({', '.join(map(value, call.args))})"


def value(arg: Any) -> str:
    """Write an argument."""
    if isinstance(arg, list):
        return f"[{', '.join(map(value, arg))}]"
    if isinstance(arg, Ref):
        return f"${arg.number}.{arg.path}" if arg.path else f"${arg.number}"
    return compact(arg)


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
