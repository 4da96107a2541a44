"""What a good model answers to the peers of ``economy.py``, in the forms that their prompts ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from economy_jobs import Job, Ref
from economy_model import Body, Said, Script, compact
from economy_scripts import react, system_of, told, tool_results, work

__all__ = ["crewai", "deepagents", "langchain", "llm_compiler", "without_brackets"]


# --- LLMCompiler of LlamaIndex -----------------------------------------------------------


def llm_compiler(job: Job) -> Script:
    """Script its planner and its joiner, in the forms of its examples."""
    lines = [
        f"{n}. {call.tool}({', '.join(map(_value(job), call.args))})" for n, call in enumerate(job.calls, 1)
    ]
    thought = "Thought: I can answer the question now."
    plan = "\n".join([*lines, thought, f"{len(lines) + 1}. join()<END_OF_PLAN>"])
    answer = without_brackets(job.answer)

    def script(body: Body) -> tuple[str, Said]:
        if "create a plan to solve it" in str(body["messages"][0]["content"]):
            return "planner", (plan, [])
        return "joiner", (f"Thought: {answer}\nAction: finish({answer})", [])

    return script


def without_brackets(answer: str) -> str:
    """Write an answer as its parser takes it, which ends one at the first closing bracket."""
    return answer.replace("(", "").replace(")", "")


def _value(job: Job) -> Callable[[Any], str]:
    def value(arg: Any) -> str:
        if isinstance(arg, list):
            return f"[{', '.join(map(value, arg))}]"
        if isinstance(arg, Ref):
            text = isinstance(job.outputs[arg.number - 1], str)
            return f'"${arg.number}"' if text else f"${arg.number}"
        return compact(arg)

    return value


# --- CrewAI ------------------------------------------------------------------------------


def crewai(job: Job) -> Script:
    """Script its planner, its step executor, its observer (where it has one) and its last word."""
    steps = [
        {
            "step_number": number,
            "description": call.task,
            "tool_to_use": call.tool,
            "depends_on": sorted({ref.number for ref in call.refs()}),
        }
        for number, call in enumerate(job.calls, 1)
    ]
    plan = {"plan": "Look everything up.", "steps": steps, "ready": True}

    def script(body: Body) -> tuple[str, Said]:
        system = system_of(body)
        if system.startswith("You are a strategic planning assistant"):
            return "planner", (None, [("create_reasoning_plan", plan)])
        if "You are executing ONE specific step" in system:
            task = told(body).partition("## Current Step\n")[2].partition("\n")[0]
            return "executor", work(job, task, tool_results(body))
        if system.startswith("You are a Planning Agent observing"):
            return "observer", (compact(_OBSERVED), [])
        assert "Synthesize the results from all steps" in system, system
        return "synthesizer", (job.answer, [])

    return script


_OBSERVED = {
    "step_completed_successfully": True,
    "key_information_learned": "",
    "remaining_plan_still_valid": True,
    "suggested_refinements": None,
    "needs_full_replan": False,
    "replan_reason": None,
    "goal_already_achieved": False,
}


# --- LangChain's PlanAndExecute ----------------------------------------------------------

RESPOND = "Given the above steps taken, please respond to the users original question"


def langchain(job: Job) -> Script:
    """Script its planner, and its agent that acts by blocks of JSON in text."""
    tasks = [*(call.task for call in job.calls), RESPOND]
    plan = "\n".join(["Plan:", *(f"{number}. {task}" for number, task in enumerate(tasks, 1))])

    def script(body: Body) -> tuple[str, Said]:
        if system_of(body).startswith("Let's first understand the problem"):
            return "planner", (f"{plan}\n<END_OF_PLAN>", [])
        objective = told(body).partition("Current objective: ")[2]
        if RESPOND in objective:
            return "executor", (_action("Final Answer", job.answer), [])
        text, called = work(job, objective.partition("\n")[0], objective.count("Observation: "))
        for name, arguments in called:
            return "executor", (_action(name, arguments), [])
        return "executor", (_action("Final Answer", text), [])

    return script


def _action(name: str, what: Any) -> str:
    return f"Action:\n```\n{compact({'action': name, 'action_input': what})}\n```"


# --- deepagents --------------------------------------------------------------------------


def deepagents(job: Job) -> Script:
    """Script its agent as ReAct: in each turn all calls that are possible by then, in the end the answer.

    It writes no to-do list: since 0.7 only OpenAI's Codex models are offered ``write_todos``, and the system
    prompt is empty. It starts no subagent: that is for "complex, context-heavy" work and adds two calls.
    So this is the least that its agent can cost.
    """
    answer = react(job)

    def script(body: Body) -> tuple[str, Said]:
        offered = [tool["function"]["name"] for tool in body["tools"]]
        assert "write_todos" not in offered, "it has a to-do list: script when it is written"
        return answer(body)

    return script
