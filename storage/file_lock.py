"""Lock a file until the process ends, however it ends."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows.
    fcntl = None

__all__ = ["try_lock"]

_held: set[int] = set()
"""The handles of locked files, and of those that are being locked."""
_forking = threading.Lock()


def try_lock(path: Path) -> Callable[[], None] | None:
    """Lock a file, which is made if it is missing, and return what unlocks it, in whatever thread.

    None if it is locked, also by this process, or was deleted just now.
    """
    if fcntl is None:
        return _locked_by_filelock(path)
    with _forking:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        _held.add(handle)
    locked = False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever finds no file makes another one and locks that.
        locked = os.fstat(handle).st_nlink > 0
    except BlockingIOError:
        return None
    finally:
        if not locked:
            _unlock(handle)
    return partial(_unlock, handle) if locked else None


def _unlock(handle: int) -> None:
    with _forking:
        if handle in _held:  # Else this process was forked, and the handle is another file's.
            _held.remove(handle)
            os.close(handle)


def _locked_by_filelock(path: Path) -> Callable[[], None] | None:
    from filelock import FileLock, Timeout

    lock = FileLock(path, mode=0o600, thread_local=False, is_singleton=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return None
    return lock.release


def _leave_to_parent() -> None:
    # A child that outlives its parent would keep the files locked.
    while _held:
        os.close(_held.pop())
    _forking.release()


if fcntl is not None:
    os.register_at_fork(
        before=_forking.acquire, after_in_parent=_forking.release, after_in_child=_leave_to_parent
    )
