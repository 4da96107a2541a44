"""Allow one runner per thread on PostgreSQL: the server holds the lock, and releases a dead holder's.

Two things together say who runs a thread. An *advisory lock* belongs to a session of the server, which ends
with the process that opened it. So a dead worker's threads are free at once. A *row* in
``plan_execute_runners`` names the holder by a token. Every write of a run checks both in its own transaction
(`Hold.confirm`): a runner that lost its session, or whose thread was taken over, cannot write any more,
whatever it believes.

A process that hangs keeps its session, because the kernel answers for it. So the row is also a *lease*, which
a thread of the holder renews. After the lease, a process that wants the thread ends the holder's session.

The same thread of the holder waits for the server's messages on the session: that it has ended, or, by
``NOTIFY``, that somebody asks a run to stop.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg.errors import InsufficientPrivilege, LockNotAvailable

from ..errors import PlanExecuteError, StorageError, ThreadBusyError

__all__ = ["RUNNERS", "Hold", "ThreadLocks"]

RUNNERS = "plan_execute_runners"
"""The table of threads that are being run."""

Connection = psycopg.Connection[Any]

_TAKE = "SELECT pg_try_advisory_lock(%s), pg_backend_pid()"
_FREE = "SELECT pg_advisory_unlock(%s)"
# Both parts see the row as it was before.
_SIGN = (
    "WITH former AS (SELECT token, runner, since, extract(epoch FROM until - now())::float8"
    " FROM plan_execute_runners WHERE thread_id = %(thread)s),"
    " signed AS (INSERT INTO plan_execute_runners (thread_id, token, runner, until)"
    " VALUES (%(thread)s, %(token)s, %(runner)s, now() + make_interval(secs => %(lease)s))"
    " ON CONFLICT (thread_id) DO UPDATE SET token = excluded.token, runner = excluded.runner, since = now(),"
    " until = excluded.until) SELECT * FROM former"
)
_RENEW = (
    "UPDATE plan_execute_runners SET until = now() + make_interval(secs => %s)"
    " WHERE thread_id = %s AND token = %s RETURNING pg_backend_pid()"
)
# One half of a lock's number says which thread and schema it is for.
_STOPS = "plan_execute_stops"
_SIGNAL_STOP = "SELECT pg_notify(%s, %s)"
_LAPSED = "FROM plan_execute_runners WHERE thread_id = %s AND until < now()"
# pg_locks shows the two halves of an advisory lock's number as OIDs.
_HOLDER = (
    "FROM pg_locks WHERE granted AND locktype = 'advisory' AND objsubid = 1 AND mode = 'ExclusiveLock'"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND (classid::bigint << 32) | objid::bigint = %s"
)
_END_LAPSED = f"SELECT pg_terminate_backend(pid) {_HOLDER} AND EXISTS (SELECT {_LAPSED})"
_IS_HELD = f"SELECT EXISTS (SELECT {_HOLDER}) AND NOT EXISTS (SELECT {_LAPSED})"
_SIGN_OFF = "DELETE FROM plan_execute_runners WHERE thread_id = %s AND token = %s"
_WHO = "SELECT runner, since FROM plan_execute_runners WHERE thread_id = %s"
# A shared lock is granted at once unless somebody holds the exclusive one. FOR SHARE makes a new holder wait
# for this transaction, so that it reads everything written before.
# A text that is no number makes the cast fail.
_CONFIRM = (
    "SELECT (coalesce((SELECT CASE WHEN token <> %s THEN 'thread taken over' WHEN"
    " pg_try_advisory_xact_lock_shared(%s) THEN 'thread lost' ELSE '' END FROM plan_execute_runners"
    " WHERE thread_id = %s FOR SHARE), 'thread taken over') || ' ' || %s::bigint)::bigint"
)
_LOSS = re.compile(r"thread (taken over|lost) (-?[0-9]+)")
"""What is in the message of the error that `_CONFIRM` makes, whatever its language and quotation marks."""

_SESSION_SETTINGS = {
    # A machine without power sends no goodbye: the server drops its sessions after 10 + 3 * 5 seconds.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    # A new holder waits for the last transaction of the old one.
    "lock_timeout": "5s",
}

_ENDS_WITHIN_S = 2.0
"""How long the server may take to end a session."""

_log = logging.getLogger(__name__)


@dataclass
class Hold:
    """A thread that this process runs, or ran until it lost the thread."""

    thread_id: str
    key: int
    token: UUID
    session: Connection
    backend: int = 0
    """Process id of the server's session; a pooler in between may switch to another session."""
    former: dict[str, Any] | None = None
    """Who ran the thread before, went without a word and may still be alive: ``{"runner", "last_seen",
    "lease_ends"}``, the times in seconds since the epoch by this machine's clock."""
    loss: PlanExecuteError | None = None
    """Why it is not held any more, after that was noticed."""
    must_stop: threading.Event = field(default_factory=threading.Event)
    """Set if somebody has asked for it, or the thread is lost."""
    stop: Callable[[], None] | None = None
    """The functions given to `watch`."""

    def watch(self, stop: Callable[[], None]) -> None:
        """Call ``stop``, from any thread, once somebody asks the holder to stop or the lock is lost."""
        self.stop = stop
        if self.must_stop.is_set():
            stop()

    def end(self) -> None:
        """Tell the holder to stop."""
        self.must_stop.set()
        if self.stop is not None:
            self.stop()

    def confirm(self, cursor: psycopg.Cursor[Any]) -> None:
        """Let the cursor's transaction continue only while the thread is held.

        If not, the server refuses what follows, and `ThreadLocks.loss_in` reads its error. Nobody waits for
        an answer.
        """
        cursor.execute(_CONFIRM, (self.token, self.key, self.thread_id, self.key))

    def refuse_if_lost(self) -> None:
        """Raise again, without asking the server, the error of the loss."""
        if self.loss is not None:
            raise type(self.loss)(str(self.loss))

    def taken_over(self) -> PlanExecuteError:
        """Note that another runner has the thread, and return the error for that."""
        return self._lose(
            ThreadBusyError(
                f"thread {self.thread_id!r} was taken over by another runner, after the connection that held "
                "it for this one was lost; this run has stopped"
            )
        )

    def lost(self) -> PlanExecuteError:
        """Note that the session has ended, and return the error for that."""
        return self._lose(
            StorageError(
                f"the connection that held thread {self.thread_id!r} was lost, and with it the thread; this "
                "run has stopped. Resume it. (A connection pooler must be in session mode, or be left out.)"
            )
        )

    def _lose(self, loss: PlanExecuteError) -> PlanExecuteError:
        if self.loss is None:
            _log.error("the run is stopped: %s", loss)
        self.loss = self.loss or loss
        self.end()
        return loss


class ThreadLocks:
    """The threads that one process runs, held by one session of the server.

    Args:
        connect: Opens a session.
        suspect: Called if a session has ended, because other connections may have ended too.
        place: The database's name in messages.
        lease_s: How long a thread is held without a sign of life from this process.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        suspect: Callable[[], None],
        place: str,
        lease_s: float,
    ) -> None:
        self.held: dict[str, Hold] = {}
        self._lease_s = lease_s
        self._keeping: threading.Thread | None = None
        self._connect = connect
        self._suspect = suspect
        self._place = place
        self._session: Connection | None = None
        self._coming: Hold | None = None
        self._closed = False
        self._guard = threading.RLock()
        # Holds that have ended, but whose session could not release them.
        self._ended: set[UUID] = set()

    @contextmanager
    def hold(self, thread_id: str) -> Iterator[Hold]:
        """Hold a thread for one runner.

        Raises:
            ThreadBusyError: At once, if another runner holds it.
        """
        hold = self._take(thread_id)
        try:
            yield hold
        finally:
            self._free(hold)

    def close(self) -> None:
        """End the session; the server releases what it holds."""
        with self._guard:
            self._closed = True
            if self._session is not None:
                self._session.close()
                self._session = None
        if self._keeping is not None:
            self._tell.send(b"-")
            self._keeping.join()
            self._tell.close()
            self._told.close()

    def loss_in(self, error: psycopg.Error) -> PlanExecuteError | None:
        """Return the loss of a thread that an error of a transaction tells (see `Hold.confirm`).

        That another runner has taken it over is a `ThreadBusyError`; that the session that held it has ended
        is a `StorageError`.
        """
        told = _LOSS.search(error.diag.message_primary or "")
        if told is None:
            return None
        for hold in [*self.held.values()]:
            if str(hold.key) == told[2]:
                return hold.lost() if told[1] == "lost" else hold.taken_over()
        return StorageError(f"a thread of {self._place} is not held any more; its run has stopped")

    def is_held(self, connection: Connection, thread_id: str) -> bool:
        """Tell, over any connection to the database, whether a runner that shows signs of life has it."""
        return bool(_row(connection, _IS_HELD, _key(connection, thread_id), thread_id)[0])

    def signal_stop(self, connection: Connection, thread_id: str) -> None:
        """Tell a thread's holder to stop, over any connection to the database."""
        connection.execute(_SIGNAL_STOP, (_STOPS, str(_key(connection, thread_id))))

    def _take(self, thread_id: str) -> Hold:
        with self._guard:
            if self._closed:
                raise StorageError(f"{self._place} is closed: use it inside its `with` block")
            if thread_id in self.held:
                raise ThreadBusyError(f"thread {thread_id!r} of {self._place} is being run by this process")
            session, key = self._live_session(thread_id)
            # A holder that the lock shows can be told to stop at once.
            hold = self._coming = Hold(thread_id, key, uuid4(), session)
            taken, hold.backend = _row(session, _TAKE, key)
            if not taken and not self._take_over(session, thread_id, key):
                raise self._busy(session, thread_id)
            try:
                hold.former = self._sign(hold)
            except BaseException as error:
                self._unlock(hold)
                if isinstance(error, LockNotAvailable):
                    raise self._busy(session, thread_id) from error
                raise
            self.held[thread_id] = hold
            self._start_keeping()
            return hold

    def _sign(self, hold: Hold) -> dict[str, Any] | None:
        """Sign as the runner; return the former one of a leftover row, unless it is known to have ended."""
        named = {"thread": hold.thread_id, "token": hold.token, "runner": _runner(), "lease": self._lease_s}
        row = hold.session.execute(_SIGN, named).fetchone()
        if row is None or row[0] in self._ended or _is_gone(row[1]):
            return None
        _, runner, since, lease_left_s = row
        lease_ends = time.time() + (lease_left_s or 0.0)
        # It renews its lease three times per lease, so it was alive when the lease had this long to run.
        last_seen = max(since.timestamp(), lease_ends - self._lease_s)
        return {"runner": runner, "last_seen": last_seen, "lease_ends": lease_ends}

    def _take_over(self, session: Connection, thread_id: str, key: int) -> bool:
        """Take a thread whose holder gives no sign of life; tell whether that worked."""
        try:
            if not session.execute(_END_LAPSED, (key, thread_id)).fetchall():
                return False
        except InsufficientPrivilege:
            _log.warning("cannot end the session that holds thread %r: it is another user's", thread_id)
            return False
        _log.warning("took over thread %r: its runner gave no sign of life for its lease", thread_id)
        deadline = time.monotonic() + _ENDS_WITHIN_S
        while not _row(session, _TAKE, key)[0]:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def _start_keeping(self) -> None:
        # Not in the event loop: a tool that blocks it works, and is not dead.
        if self._keeping is None:
            # Wakes the thread, to end or to wait for another session.
            self._told, self._tell = socket.socketpair()
            self._keeping = threading.Thread(target=self._keep, name="plan-execute-lease", daemon=True)
            self._keeping.start()

    def _keep(self) -> None:
        """Renew the leases in time, and receive the server's messages at once."""
        due = time.monotonic()
        while not self._closed:
            if time.monotonic() >= due:
                due = time.monotonic() + self._lease_s / 3
                # One by one: a transaction over many rows could deadlock.
                for hold in [*self.held.values()]:
                    self._renew(hold)
            self._wait_for_word(max(0.0, due - time.monotonic()))

    def _renew(self, hold: Hold) -> None:
        try:
            row = hold.session.execute(_RENEW, (self._lease_s, hold.thread_id, hold.token)).fetchone()
        except psycopg.Error:
            self._notice_end_of(hold.session)
            return
        with self._guard:  # It may have been released meanwhile.
            if self.held.get(hold.thread_id) is not hold:
                return
            if row is None:
                hold.taken_over()
            elif row[0] != hold.backend:
                hold.lost()

    def _wait_for_word(self, timeout_s: float) -> None:
        """Wait until the server sends something on the session, and read it."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._told, selectors.EVENT_READ)
            with self._guard:
                session = self._session
                if session is not None and not session.closed:
                    self._listen_to(session, selector)
            for key, _ in selector.select(timeout_s):
                if key.fileobj is self._told:
                    self._told.recv(1024)
                elif session is not None:
                    self._read(session)

    def _listen_to(self, session: Connection, selector: selectors.BaseSelector) -> None:
        try:
            selector.register(session.fileno(), selectors.EVENT_READ)
        except psycopg.Error:  # It has just ended.
            self._notice_end_of(session)

    def _read(self, session: Connection) -> None:
        try:
            session.execute("")
        except psycopg.Error:
            self._notice_end_of(session)

    def _notice_end_of(self, session: Connection) -> None:
        with self._guard:
            if session.closed and not self._closed:
                for hold in [*self.held.values()]:
                    if hold.session is session:
                        hold.lost()

    def _hear(self, notice: psycopg.Notify) -> None:
        for hold in [*self.held.values(), *filter(None, [self._coming])]:
            if notice.payload == str(hold.key):
                hold.end()

    def _free(self, hold: Hold) -> None:
        with self._guard:
            try:
                hold.session.execute(_SIGN_OFF, (hold.thread_id, hold.token))
            except psycopg.Error:
                self._ended.add(hold.token)
                _log.debug("cannot release thread %r", hold.thread_id, exc_info=True)
            finally:
                self._unlock(hold)
                del self.held[hold.thread_id]

    def _unlock(self, hold: Hold) -> None:
        try:
            hold.session.execute(_FREE, (hold.key,))
        except (psycopg.OperationalError, psycopg.InterfaceError):
            # The session has ended, and the lock with it.
            _log.debug("the session that held thread %r has ended", hold.thread_id, exc_info=True)

    def _live_session(self, thread_id: str) -> tuple[Connection, int]:
        """Return the session, and a thread's key: asking for that tells whether the session is alive."""
        if self._session is not None:
            try:
                return self._session, _key(self._session, thread_id)
            except (psycopg.OperationalError, psycopg.InterfaceError):
                self._session.close()
                self._notice_end_of(self._session)
                self._session = None
                self._suspect()
        session = self._session = self._connect()
        for name, value in _SESSION_SETTINGS.items():
            session.execute("SELECT set_config(%s, %s, false)", (name, value))
        session.add_notify_handler(self._hear)
        session.execute(f"LISTEN {_STOPS}")
        if self._keeping is not None:
            self._tell.send(b"+")
        return session, _key(session, thread_id)

    def _busy(self, session: Connection, thread_id: str) -> ThreadBusyError:
        row = session.execute(_WHO, (thread_id,)).fetchone()
        whom = f"by {row[0]} since {row[1]:%Y-%m-%d %H:%M:%S %Z}" if row else "by someone else"
        return ThreadBusyError(f"thread {thread_id!r} of {self._place} is being run {whom}")


def _row(session: Connection, statement: str, *parameters: Any) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = session.execute(statement, parameters).fetchone()
    assert row is not None
    return row


def _key(session: Connection, thread_id: str) -> int:
    # Advisory locks belong to the whole database, and its other schemas have threads of their own.
    (schema,) = _row(session, "SELECT current_schema()")
    seed = f"plan_execute\0{schema}\0{thread_id}".encode()
    return int.from_bytes(hashlib.sha256(seed).digest()[:8], signed=True)


def _runner() -> str:
    return f"process {os.getpid()} on {_machine()}"


@cache
def _machine() -> str:
    """Identify this machine with its boot and container, if known: each numbers its processes separately."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        place = boot + str(Path("/proc/self/ns/pid").readlink())
    except OSError:  # Not Linux.
        return socket.gethostname()
    return f"{socket.gethostname()}/{hashlib.sha256(place.encode()).hexdigest()[:12]}"


def _is_gone(runner: str) -> bool:
    """Tell whether a runner was a process of this place that has ended; False for others."""
    found = re.fullmatch(rf"process (\d+) on {re.escape(_machine())}", runner)
    if found is None or "/" not in _machine():
        return False
    return not Path("/proc", found[1]).exists()
