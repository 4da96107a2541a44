"""Prune in a process of its own, which dies at the n-th statement that changes the database or the disk."""

import os
import shutil
import signal

from crash_child import serve

from plan_execute import prune_threads
from plan_execute.storage.persistence import LocalPersistence
from plan_execute.threads import deletion

CHANGING = ("BEGIN IMMEDIATE", "DELETE", "INSERT", "COMMIT", "PRAGMA INCREMENTAL", "PRAGMA WAL", "VACUUM")


class Doomed(LocalPersistence):
    """A database that counts what is changed in it."""

    def __init__(self, path, last):
        super().__init__(path)
        self.last = last
        self.counted = 0

    def __enter__(self):
        opened = super().__enter__()
        opened.checkpointer.shared.connection.set_trace_callback(self.count)
        return opened

    def count(self, sql):
        if not sql.upper().startswith(CHANGING):
            return
        self.counted += 1
        if self.counted == self.last:
            os.kill(os.getpid(), signal.SIGKILL)


def act(job):
    doomed = Doomed(job["db"], job["last"])
    remove = shutil.rmtree

    def counted(path, **_):
        doomed.count("DELETE half of the folder")
        next(file for file in path.rglob("*") if file.is_file()).unlink()
        doomed.count("DELETE the rest of it")
        remove(path)

    deletion.shutil.rmtree = counted
    report = prune_threads(doomed, job["threads"])
    return report.as_json() | {"statements": doomed.counted}


if __name__ == "__main__":
    serve(act)
