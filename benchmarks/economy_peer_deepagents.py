"""Run a job with deepagents; called by ``economy_peers.py`` with the peer's own Python.

Arguments: base URL, job. Runs it twice, the first time without the tools' delays, for imports and first use;
prints the seconds and the answer of the second as JSON in its last line.

The agent is what ``create_deep_agent`` makes of a model and tools: it also offers its tools for files and
its subagent, which no job needs.
"""

import asyncio
import json
import sys
import time
from typing import Any

from deepagents import create_deep_agent
from economy_jobs import JOBS, Job
from langchain_openai import ChatOpenAI


async def run(job: Job, base_url: str, *, delays: bool) -> dict[str, Any]:
    """Run the job once."""
    model = ChatOpenAI(model="stub", base_url=base_url, api_key="none", max_retries=0)
    agent = create_deep_agent(model, job.tools(delays))
    started = time.perf_counter()
    result = await agent.ainvoke({"messages": [("human", job.goal)]})
    return {"seconds": time.perf_counter() - started, "answer": result["messages"][-1].text}


def main() -> None:
    """Run the job twice."""
    base_url, name = sys.argv[1:]
    asyncio.run(run(JOBS[name], base_url, delays=False))
    print(json.dumps(asyncio.run(run(JOBS[name], base_url, delays=True))))


main()
