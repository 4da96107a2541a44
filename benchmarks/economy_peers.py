"""Peers of ``economy.py`` from PyPI, run in a virtual environment of their own with their own Python.

``LLMCompiler (LlamaIndex)`` is llama-index-packs-agents-llm-compiler. It carries the original's prompts and
plans without streaming. It has no paths into outputs: the plan that is scripted for it refers to whole ones.

Without figures, since no script answers their prompts: ``llmcompiler`` (2.0.1, another implementation, which
installs) and ``crewai`` (1.15). What was measured elsewhere is quoted by ``economy.py``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from economy_jobs import Job, Ref
from economy_model import Body, Model, Said, Script, compact
from openai_stub import OpenAIStub

__all__ = ["measure_peers"]

PACKAGES = ("llama-index-packs-agents-llm-compiler==0.3.1", "llama-index-llms-openai-like==0.4.0")
INSTALL_S, RUN_S = 900, 120


def measure_peers(job: Job, count: Callable[[str], int]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Measure each peer at a job: its row, or the ``reason`` why it has none."""
    for name in ("llmcompiler (PyPI)", "CrewAI"):
        yield name, {"reason": "not run: no script answers its prompts (see economy_peers.py)"}
    try:
        yield "LLMCompiler (LlamaIndex)", _measure(job, count)
    except (subprocess.SubprocessError, OSError, AssertionError) as error:
        yield "LLMCompiler (LlamaIndex)", {"reason": f"did not run: {str(error)[:200]}"}


def _measure(job: Job, count: Callable[[str], int]) -> dict[str, Any]:
    model, python = Model(llm_compiler(job), count, delays=True), _python()
    with OpenAIStub(model) as stub:
        script = Path(__file__).with_name("economy_peer_llm_compiler.py")
        ran = subprocess.run(
            [python, str(script), stub.base_url, job.name],
            capture_output=True,
            text=True,
            timeout=RUN_S,
            check=False,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )
    assert ran.returncode == 0, ran.stderr.strip().splitlines()[-1:]
    told = json.loads(ran.stdout.strip().splitlines()[-1])
    # Its parser ends an answer at the first closing bracket.
    assert told["answer"] in job.answer.replace("(", "").replace(")", ""), told
    calls = model.calls[len(model.calls) // 2 :]  # those of the second run
    prompt, completion = (sum(getattr(call, part) for call in calls) for part in ("prompt", "completion"))
    return {"calls": len(calls), "prompt": prompt, "completion": completion, "seconds": told["seconds"]}


@lru_cache
def _python() -> str:
    """Make the peers' environment once, and return its Python."""
    folder = Path(tempfile.mkdtemp(prefix="economy-peers-"))
    venv.create(folder, with_pip=True)
    python = str(folder / ("Scripts" if sys.platform == "win32" else "bin") / "python")
    subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES], check=True, timeout=INSTALL_S)
    return python


# --- what a good model says to LLMCompiler -----------------------------------------------


def llm_compiler(job: Job) -> Script:
    """Script its planner and its joiner, in the forms of its examples."""
    lines = [
        f"{n}. {call.tool}({', '.join(map(_value(job), call.args))})" for n, call in enumerate(job.calls, 1)
    ]
    thought = "Thought: I can answer the question now."
    plan = "\n".join([*lines, thought, f"{len(lines) + 1}. join()<END_OF_PLAN>"])
    answer = job.answer.replace("(", "").replace(")", "")

    def script(body: Body) -> tuple[str, Said]:
        if "create a plan to solve it" in str(body["messages"][0]["content"]):
            return "planner", (plan, [])
        return "joiner", (f"Thought: {answer}\nAction: finish({answer})", [])

    return script


def _value(job: Job) -> Callable[[Any], str]:
    def value(arg: Any) -> str:
        if isinstance(arg, list):
            return f"[{', '.join(map(value, arg))}]"
        if isinstance(arg, Ref):
            text = isinstance(job.outputs[arg.number - 1], str)
            return f'"${arg.number}"' if text else f"${arg.number}"
        return compact(arg)

    return value
