"""Run a job with LlamaIndex's LLMCompiler pack; called by ``economy_peers.py`` with the peers' own Python.

Arguments: base URL, job. Runs it twice, the first time without the tools' delays, for imports and first use;
prints the seconds and the answer of the second as JSON in its last line.

The pack puts outputs into arguments as text and reads that as Python literals, so its tools take what comes
of that: a list as single arguments, and of a record the field that is needed.
"""

import asyncio
import contextlib
import io
import json
import sys
import time
from typing import Any

from economy_jobs import JOBS, Job, Ref
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from llama_index.packs.agents_llm_compiler import LLMCompilerAgentPack


def tool_of(job: Job, name: str, delays: bool) -> FunctionTool:
    """Make a tool that takes arguments as the pack passes them."""
    calls = [call for call in job.calls if call.tool == name]
    function = next(function for function in job.functions if function.__name__ == name)

    async def call(*args: Any) -> Any:
        """Do the call that these arguments are meant for."""
        given = [_field(job, arg) for item in args for arg in (item if isinstance(item, list) else [item])]
        for known in calls:
            wanted = job.resolved(known)
            flat = [arg for item in wanted for arg in (item if isinstance(item, list) else [item])]
            if list(map(str, flat)) == list(map(str, given)):
                await asyncio.sleep(known.seconds * delays)
                return function(*wanted)
        raise ValueError(f"{name} is called with {args}")

    named = FunctionTool.from_defaults(fn=function)
    return FunctionTool.from_defaults(
        async_fn=call, name=name, description=named.metadata.description, fn_schema=named.metadata.fn_schema
    )


def _field(job: Job, arg: Any) -> Any:
    paths = {ref.path for call in job.calls for ref in call.refs() if isinstance(ref, Ref) and ref.path}
    return next((arg[path] for path in paths if isinstance(arg, dict) and path in arg), arg)


def main() -> None:
    """Run the job twice."""
    base_url, name = sys.argv[1:]
    run(JOBS[name], base_url, delays=False)
    print(json.dumps(run(JOBS[name], base_url, delays=True)))


def run(job: Job, base_url: str, *, delays: bool) -> dict[str, Any]:
    """Run the job once, quietly."""
    settings: Any = {"is_chat_model": True, "context_window": 100_000, "max_retries": 0}
    llm = OpenAILike(model="stub", api_base=base_url, api_key="none", **settings)
    tools = [tool_of(job, function.__name__, delays) for function in job.functions]
    pack = LLMCompilerAgentPack(tools, llm=llm)
    said = io.StringIO()
    started = time.perf_counter()
    with contextlib.redirect_stdout(said):
        answer = str(pack.run(job.goal))
    return {"seconds": time.perf_counter() - started, "answer": answer}


main()
