"""`plan-execute` in processes that are forked from one that has imported everything: a second less for each.

A run has a process, folder, environment and standard streams of its own, as from a shell. What it does not
have is a fresh interpreter: tests about starting, signals and terminals start the real program.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["Programs", "programs"]

_IMPORTED = (
    "plan_execute.cli.app",
    "plan_execute.graph.agent",
    "plan_execute.graph.build",
    "plan_execute.threads.submission",
    "plan_execute.threads.worker",
    "plan_execute.report.record",
    "plan_execute.storage.sqlite",
    "plan_execute.plan.files.plan_files",
    "langchain_openai",
    "langgraph.checkpoint.sqlite",
    "langgraph.store.sqlite",
)


# --- in the server -----------------------------------------------------------------------


def _serve() -> None:
    """Fork a process for every line of JSON on standard input; print its id, and how it ended."""
    from importlib import import_module

    for name in _IMPORTED:
        import_module(name)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _become(json.loads(line))
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _become(job: Mapping[str, Any]) -> None:
    """Be the program, from its first line to the end of its interpreter."""
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["env"])
    time.tzset()
    streams = ((os.devnull, os.O_RDONLY), (job["out"], os.O_WRONLY), (job["err"], os.O_WRONLY))
    for number, (name, flags) in enumerate(streams):
        os.dup2(os.open(name, flags), number)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    sys.argv = job["argv"]
    # as for a program that stands in a folder of programs
    sys.path[0] = str(Path(job["argv"][0]).parent)
    from plan_execute.cli import main

    main()


# --- in the test -------------------------------------------------------------------------


class Programs:
    """Runs the program in forked processes, one at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        command = [sys.executable, __file__]
        self._server = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    def run(
        self,
        argv: Sequence[str | bytes],
        *,
        cwd: Path,
        env: Mapping[str, str],
        timeout: float,
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end with nothing on standard input, and give what it printed as text."""
        out, err = self._folder / "out", self._folder / "err"
        out.write_bytes(b"")
        err.write_bytes(b"")
        job = {"argv": [os.fsdecode(argument) for argument in argv], "cwd": str(cwd), "env": {**env}}
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps({**job, "out": str(out), "err": str(err)}) + "\n")
        self._server.stdin.flush()
        pid = int(self._line(60))
        try:
            code = int(self._line(timeout))
        except subprocess.TimeoutExpired:
            os.kill(pid, signal.SIGKILL)
            raise
        return subprocess.CompletedProcess(job["argv"], code, out.read_text("utf-8"), err.read_text("utf-8"))

    def _line(self, timeout: float) -> str:
        assert self._server.stdout is not None
        if not select.select([self._server.stdout], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("plan-execute", timeout)
        return self._server.stdout.readline()

    def close(self) -> None:
        """End the server."""
        self._server.kill()
        self._server.communicate()


@contextlib.contextmanager
def programs(folder: Path) -> Iterator[Programs]:
    """Keep a server while tests run."""
    started = Programs(folder)
    try:
        yield started
    finally:
        started.close()


if __name__ == "__main__":
    _serve()
