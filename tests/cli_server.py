"""`plan-execute` in processes that are forked from one that has imported everything: a second less for each.

A run has a process, folder, environment and standard streams of its own, as from a shell, and a terminal if
it wants one. What it does not have is a fresh interpreter: tests about starting start the real program.
"""

from __future__ import annotations

import contextlib
import itertools
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
    "plan_execute.page.app",
    "uvicorn",
    "uvicorn.lifespan.on",
    "uvicorn.loops.auto",
    "uvicorn.protocols.http.auto",
)


# --- in the server -----------------------------------------------------------------------


def _serve() -> None:
    """Fork a process for every line of JSON on standard input; print its id, and how it ended."""
    from importlib import import_module

    for name in _IMPORTED:
        import_module(name)
    for line in sys.stdin:
        job = json.loads(line)
        if "code" in job:
            _leave_running(job)
            continue
        pid = os.fork()
        if pid == 0:
            _become(job)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _leave_running(job: Mapping[str, Any]) -> None:
    """Fork a process, and another that waits for it and notes how it ended."""
    if os.fork() != 0:
        return
    pid = os.fork()
    if pid == 0:
        _become(job)
    sys.stdout.write(f"{pid}\n")
    sys.stdout.flush()
    _, status = os.waitpid(pid, 0)
    draft = Path(f"{job['code']}.draft")
    draft.write_text(str(os.waitstatus_to_exitcode(status)))
    draft.replace(job["code"])
    os._exit(0)


def _become(job: Mapping[str, Any]) -> None:
    """Be the program, from its first line to the end of its interpreter."""
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["env"])
    time.tzset()
    if "terminal" in job:
        os.login_tty(os.open(job["terminal"], os.O_RDWR | os.O_NOCTTY))
    else:
        # Both may go to one file.
        writes = os.O_WRONLY | os.O_APPEND
        streams = ((os.devnull, os.O_RDONLY), (job["out"], writes), (job["err"], writes))
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


class Started:
    """A program that goes on; like `subprocess.Popen`, as far as tests need it."""

    def __init__(self, pid: int, code: Path) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._code = code

    def poll(self) -> int | None:
        """Give its exit code once it has ended."""
        if self.returncode is None and self._code.exists():
            self.returncode = int(self._code.read_text())
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            # It may have just ended, with its code not yet written.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def wait(self, timeout: float = 60) -> int:
        """Wait for its end and give its exit code."""
        until = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired("plan-execute", timeout)
            time.sleep(0.005)
        return code


class Programs:
    """Runs the program in forked processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()
        command = [sys.executable, __file__]
        self._server = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    def open(
        self, argv: Sequence[str | bytes], *, cwd: Path, env: Mapping[str, str], terminal: str
    ) -> Started:
        """Start it before the terminal of this name, which it gets for its own."""
        return self._leave_running(argv, cwd, env, {"terminal": terminal})

    def start(self, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], out: Path) -> Started:
        """Start it with nothing on standard input; what it prints, errors too, goes to the file."""
        return self._leave_running(argv, cwd, env, {"out": str(out), "err": str(out)})

    def _leave_running(
        self, argv: Sequence[str | bytes], cwd: Path, env: Mapping[str, str], streams: Mapping[str, str]
    ) -> Started:
        code = self._folder / f"code-{next(self._numbers)}"
        return Started(self._ask(argv, cwd, env, {**streams, "code": str(code)}), code)

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
        pid = self._ask(argv, cwd, env, {"out": str(out), "err": str(err)})
        try:
            code = int(self._line(timeout))
        except subprocess.TimeoutExpired:
            os.kill(pid, signal.SIGKILL)
            raise
        return subprocess.CompletedProcess([*argv], code, out.read_text("utf-8"), err.read_text("utf-8"))

    def _ask(
        self, argv: Sequence[str | bytes], cwd: Path, env: Mapping[str, str], more: Mapping[str, str]
    ) -> int:
        """Have a process made, and give its id."""
        job = {"argv": [os.fsdecode(argument) for argument in argv], "cwd": str(cwd), "env": {**env}, **more}
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(job) + "\n")
        self._server.stdin.flush()
        return int(self._line(60))

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
