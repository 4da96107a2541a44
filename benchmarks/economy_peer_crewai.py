"""Run a job with CrewAI's planning executor; called by ``economy_peers.py`` with the peer's own Python.

Arguments: base URL, job, ``low`` (what ``Agent(planning=True)`` means) or ``medium`` (``PlanningConfig()``,
which also asks the model about every step that has ended). Runs it twice, the first time without the tools'
delays, for imports and first use; prints the seconds and the answer of the second as JSON in its last line.
"""

import contextlib
import inspect
import io
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

# It sends nothing to its makers, and asks nobody at the terminal.
os.environ |= {"CREWAI_DISABLE_TELEMETRY": "true", "CREWAI_TRACING_ENABLED": "false"}
os.environ["OTEL_SDK_DISABLED"] = "true"

from crewai import LLM, Agent, Crew, Task
from crewai.agent.planning_config import PlanningConfig
from crewai.tools import tool
from economy_jobs import JOBS, Job


def tool_of(job: Job, function: Callable[..., Any], delays: bool) -> Any:
    """Make a tool that takes its time; steps run in threads of their own."""
    took = {repr(job.resolved(call)): call.seconds * delays for call in job.calls}

    def call(**args: Any) -> Any:
        time.sleep(took[repr(list(args.values()))])
        return function(*args.values())

    call.__name__, call.__doc__ = function.__name__, function.__doc__
    call.__annotations__ = function.__annotations__
    vars(call)["__signature__"] = inspect.signature(function)
    return tool(call)


def run(job: Job, base_url: str, effort: Any, *, delays: bool) -> dict[str, Any]:
    """Run the job once, quietly."""
    agent = Agent(
        role="Assistant",
        goal="Do what is asked",
        backstory="You are a careful assistant.",
        llm=LLM(model="openai/stub", base_url=base_url, api_key="none", max_retries=0),
        tools=[tool_of(job, function, delays) for function in job.functions],
        planning_config=PlanningConfig(reasoning_effort=effort, max_attempts=1),
    )
    task = Task(description=job.goal, expected_output="The answer.", agent=agent)
    crew = Crew(agents=[agent], tasks=[task])
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        answer = str(crew.kickoff())
    return {"seconds": time.perf_counter() - started, "answer": answer}


def main() -> None:
    """Run the job twice."""
    base_url, name, effort = sys.argv[1:]
    run(JOBS[name], base_url, effort, delays=False)
    print(json.dumps(run(JOBS[name], base_url, effort, delays=True)))


main()
