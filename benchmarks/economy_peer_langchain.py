"""Run a job with LangChain's ``PlanAndExecute``; called by ``economy_peers.py`` with the peer's own Python.

Arguments: base URL, job. Runs it twice, the first time without the tools' delays, for imports and first use;
prints the seconds and the answer of the second as JSON in its last line.
"""

import asyncio
import json
import sys
import time
from typing import Any

from economy_jobs import JOBS, Job
from langchain_experimental.plan_and_execute import PlanAndExecute, load_agent_executor, load_chat_planner
from langchain_openai import ChatOpenAI


async def run(job: Job, base_url: str, *, delays: bool) -> dict[str, Any]:
    """Run the job once."""
    model = ChatOpenAI(model="stub", base_url=base_url, api_key="none", max_retries=0, temperature=0)
    tools = job.tools(delays)
    agent = PlanAndExecute(planner=load_chat_planner(model), executor=load_agent_executor(model, tools))
    started = time.perf_counter()
    result = await agent.ainvoke({"input": job.goal})
    return {"seconds": time.perf_counter() - started, "answer": result["output"]}


def main() -> None:
    """Run the job twice."""
    base_url, name = sys.argv[1:]
    asyncio.run(run(JOBS[name], base_url, delays=False))
    print(json.dumps(asyncio.run(run(JOBS[name], base_url, delays=True))))


main()
