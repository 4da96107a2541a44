"""The page of benchmarks says what the figures say that were measured."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("benchmark_page", BENCHMARKS / "page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules.pop("measuring", None)
    return module


def test_the_page_is_made_of_the_figures_that_are_kept(page: Any) -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.page(), "run python benchmarks/page.py"


def test_a_promise_that_was_not_kept_says_so_on_the_page(page: Any, tmp_path: Path) -> None:
    found = json.loads((page.RESULTS / "scheduling.json").read_text(encoding="utf-8"))
    found["promises"] = [{"what": "fast", "measured": "slow", "kept": False}]
    (tmp_path / "scheduling.json").write_text(json.dumps(found), encoding="utf-8")
    assert "- fast: slow (**not kept**)" in page.page(tmp_path)


def test_jobs_of_the_economy_benchmark_are_shown_beside_each_other(page: Any, tmp_path: Path) -> None:
    row = {"calls": 2, "prompt": 1200, "completion": 90, "seconds": 3.0, "critical_path": 2.5, "by_call": []}
    jobs = {"wide": {"bound steps": row, "a peer": {"reason": "not installed"}}}
    found = {"latency": "0.25 s", "tokenizer": "chars", "runs": 1, "jobs": jobs}
    (tmp_path / "economy.json").write_text(json.dumps(found), encoding="utf-8")
    assert "| bound steps | 2 | 1,200 | 90 | 3.000 | 1.200 |" in page.page(tmp_path)


def test_peers_are_shown_beside_the_baselines_of_their_own_run_or_with_the_reason_why_not(
    page: Any, tmp_path: Path
) -> None:
    row = {"calls": 2, "prompt": 1200, "completion": 90, "seconds": 3.0, "critical_path": 2.5, "by_call": []}
    peer = {"calls": 29, "prompt": 33000, "completion": 832, "seconds": 11.4}
    other = {"reason": "did not run: no network"}
    machine = {"python": "3.11", "langgraph": "1.2", "system": "Linux", "cores": 2, "load": 0.1}
    found = {"latency": "0.25 s", "tokenizer": "chars", "runs": 1, "jobs": {"wide": {"bound steps": row}}}
    (tmp_path / "economy.json").write_text(json.dumps(found), encoding="utf-8")
    found |= {"machine": machine, "jobs": {"wide": {"bound steps": row, "CrewAI": peer, "other": other}}}
    (tmp_path / "economy_peers.json").write_text(json.dumps(found), encoding="utf-8")
    beside = page.page(tmp_path).partition("### Beside peers")[2]
    assert "| bound steps | 2 | 1,200 | 90 | 3.000 | 1.200 |" in beside
    assert "| CrewAI | 29 | 33,000 | 832 | 11.4 | – |" in beside
    assert "- other: did not run: no network" in beside


ON_THE_PAGE = {
    "plan_execute, bound steps": "bound steps",
    "plan_execute, plan from the cache": "from the cache",
    "plan_execute, an agent for each step": "agent steps",
    "ReAct: `create_agent`": "create_agent (ReAct)",
    "deepagents": "deepagents",
    "LLMCompiler, in LlamaIndex": "LLMCompiler (LlamaIndex)",
    "CrewAI, with planning": "CrewAI",
}
"""Rows of the table in docs/why.md, and what they are called among the figures."""


def test_the_table_that_compares_methods_holds_the_measured_figures(page: Any) -> None:
    jobs = json.loads((page.RESULTS / "economy_peers.json").read_text(encoding="utf-8"))["jobs"]
    shown = (BENCHMARKS.parent / "docs/why.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in shown.splitlines() if " / " in line and line[0] == "|"]
    assert [name for name, *_ in rows] == [*ON_THE_PAGE]
    assert f"| | {' | '.join(jobs)} |" in shown
    for name, *cells in rows:
        found = [job[ON_THE_PAGE[name]] for job in jobs.values()]
        assert cells == [
            f"{row['calls']} / {row['prompt'] + row['completion']:,} / {row['seconds']:.1f}" for row in found
        ]
