"""Make the golden database of this version: ``python tests/persistence/golden/make.py v1.db``.

Do it once per format, and keep the file: every later version must go on with its threads.
"""

from __future__ import annotations

import itertools
import shutil
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from langgraph.checkpoint.base import id as ids

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from golden_threads import FAILING, FINISHED, FOLDER, make_agent

from plan_execute import Context, local_persistence

START_NS = 1767225600 * 10**9
"""2026-01-01: a checkpoint from the future would be refused where the maker's clock was ahead."""


def thread(name: str) -> Any:
    """Name a thread in a config."""
    return {"configurable": {"thread_id": name}}


def make(path: Path) -> None:
    """Run three threads: one to its end, one to its approval, one to its failed step."""
    moments = itertools.count(START_NS, 10**6)
    ids.time = SimpleNamespace(time_ns=lambda: next(moments))  # type: ignore[assignment]
    with local_persistence(path) as storage:
        agent = make_agent(storage, [], broken=True)
        agent.invoke({"plan": FINISHED}, thread("finished"), context=Context(approval="never"))
        agent.invoke({"goal": "greet them"}, thread("approval"))
        asking = Context(approval="never", on_failure="ask", max_attempts=1)
        agent.invoke({"plan": FAILING}, thread("failed"), context=asking)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / "runs.db"
        make(made)
        assert not made.with_name("runs.db-wal").exists(), "the log holds what the file lacks"
        shutil.copyfile(made, FOLDER / sys.argv[1])
