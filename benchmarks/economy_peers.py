"""Peers of ``economy.py`` from PyPI, each run in a virtual environment of its own with its own Python.

- ``LLMCompiler (LlamaIndex)`` is llama-index-packs-agents-llm-compiler. It carries the original's prompts
  and plans without streaming. It has no paths into outputs: the plan that is scripted for it refers to whole
  ones.
- ``CrewAI`` is an agent with ``planning=True``; ``CrewAI, observing`` one with ``PlanningConfig()``, its
  default form, which asks the model about every step that has ended (with one attempt at planning).
- ``LangChain PlanAndExecute`` is the chain of langchain-experimental.
- ``deepagents`` is what its ``create_deep_agent`` makes of a model and tools.

Without figures: ``llmcompiler`` (2.0.1, LLMCompiler as a graph of LangGraph, with the prompts of a finance
assistant that answers in Chinese) and ``planneragent`` (0.1.1, the LangGraph tutorial's plan-and-execute with
drivers for MongoDB) install, but no script was written for their prompts. The original LLMCompiler and the
tutorial itself are not on PyPI. What was measured of them elsewhere is quoted by ``economy.py``.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from economy_jobs import Job
from economy_model import Model, Script
from economy_peer_scripts import crewai, deepagents, langchain, llm_compiler, without_brackets
from openai_stub import OpenAIStub

__all__ = ["measure_peers"]

INSTALL_S, RUN_S = 900, 120


@dataclass(frozen=True)
class Peer:
    """Who does a job: its packages, the program beside this one that runs it, and how its model answers."""

    name: str
    packages: tuple[str, ...]
    program: str
    script: Callable[[Job], Script]
    arguments: tuple[str, ...] = ()


LLAMA_INDEX = ("llama-index-packs-agents-llm-compiler==0.3.1", "llama-index-llms-openai-like==0.4.0")
CREWAI = ("crewai==1.15.30",)
LANGCHAIN = ("langchain-experimental==0.4.2", "langchain-classic==1.0.8", "langchain-openai==1.7.3")
DEEPAGENTS = ("deepagents==0.7.32", "langchain-openai==1.7.3")

PEERS = (
    Peer("LLMCompiler (LlamaIndex)", LLAMA_INDEX, "economy_peer_llm_compiler.py", llm_compiler),
    Peer("CrewAI", CREWAI, "economy_peer_crewai.py", crewai, ("low",)),
    Peer("CrewAI, observing", CREWAI, "economy_peer_crewai.py", crewai, ("medium",)),
    Peer("LangChain PlanAndExecute", LANGCHAIN, "economy_peer_langchain.py", langchain),
    Peer("deepagents", DEEPAGENTS, "economy_peer_deepagents.py", deepagents),
)


def measure_peers(job: Job, count: Callable[[str], int]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Measure each peer at a job: its row, or the ``reason`` why it has none."""
    for peer in PEERS:
        try:
            yield peer.name, _measure(peer, job, count)
        except (subprocess.SubprocessError, OSError, AssertionError) as error:
            yield peer.name, {"reason": f"did not run: {str(error)[:200]}"}


def _measure(peer: Peer, job: Job, count: Callable[[str], int]) -> dict[str, Any]:
    model, python = Model(peer.script(job), count, delays=True), _python(peer.packages)
    program = Path(__file__).with_name(peer.program)
    with OpenAIStub(model) as stub, tempfile.TemporaryDirectory() as home:
        ran = subprocess.run(
            [python, str(program), stub.base_url, job.name, *peer.arguments],
            capture_output=True,
            text=True,
            timeout=RUN_S,
            check=False,
            cwd=home,  # what a peer keeps is no part of the next run
            env={**os.environ, "HOME": home, "PYTHONWARNINGS": "ignore"},
        )
    assert ran.returncode == 0, ran.stderr.strip().splitlines()[-1:]
    told = json.loads(ran.stdout.strip().splitlines()[-1])
    assert told["answer"], "it gave no answer"
    assert without_brackets(told["answer"]) in without_brackets(job.answer), told
    calls = model.calls[len(model.calls) // 2 :]  # those of the second run
    prompt, completion = (sum(getattr(call, part) for call in calls) for part in ("prompt", "completion"))
    return {"calls": len(calls), "prompt": prompt, "completion": completion, "seconds": told["seconds"]}


@cache
def _python(packages: tuple[str, ...]) -> str:
    """Make the environment of some packages once, and return its Python."""
    folder = Path(tempfile.mkdtemp(prefix="economy-peers-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    python = str(folder / ("Scripts" if sys.platform == "win32" else "bin") / "python")
    subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True, timeout=INSTALL_S)
    return python
