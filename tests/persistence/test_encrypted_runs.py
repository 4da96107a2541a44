"""An encrypted database gives away nothing of a run, which is killed and goes on as with a plain one."""

import base64
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import crash_child
import pytest
import secret_child
from crash_child import Workplace
from secret_child import finish

from plan_execute.storage.persistence import local_persistence
from plan_execute.storage.thread_names import list_threads

PROGRAM = str(shutil.which("plan-execute", path=str(Path(sys.executable).parent)))
KEY = base64.b64encode(bytes(range(32))).decode()
PLAIN = [b"do it with", b"the key is", b"they said", b"redacted", b"rationale", b"by hand", b"step_started"]
"""Words of the goal, outputs, answers, plans and the ledger; all are in a plain database."""


@pytest.fixture(scope="module")
def children(tmp_path_factory):
    with crash_child.serving(tmp_path_factory.mktemp("answers"), secret_child.__file__) as started:
        yield started


def stored(folder):
    return b"".join(path.read_bytes() for path in folder.glob("runs.db*") if path.is_file())


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "encrypted"])
def test_a_killed_run_ends_as_ever_and_only_a_plain_file_tells_of_it(children, tmp_path, key):
    workplace, events = Workplace(tmp_path, "local"), tmp_path / "events.txt"
    end = finish(
        children,
        workplace,
        events,
        kills=3,
        dice=random.Random(7),
        options={"encryption_key": key} if key else {},
    )
    assert end["status"] == "done"
    content = stored(tmp_path)
    told = [word for word in PLAIN if word in content]
    assert told == [] if key else len(told) >= 5
    assert secret_child.found_in(*(path for path in tmp_path.glob("runs.db*") if path.is_file())) == []


def test_the_command_line_takes_the_key_from_the_environment(tmp_path):
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        "goal: keep it quiet\nsteps:\n  - id: note\n    call: {tool: note, args: {text: whispered words}}\n"
    )
    (tmp_path / "quiet_tools.py").write_text(
        'def note(text: str) -> str:\n    """Note something."""\n    return f"noted: {text}"\n'
    )
    env = {"PATH": "/usr/bin:/bin", "PLAN_EXECUTE_DB": str(tmp_path / "runs.db"), "HOME": str(tmp_path)}

    def command(*words, key=KEY):
        return subprocess.run(
            [PROGRAM, *words],
            cwd=tmp_path,
            env=env | ({"PLAN_EXECUTE_ENCRYPTION_KEY": key} if key else {}),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
        )

    done = command("run", "--plan", str(plan), "--tools", "quiet_tools:note", "--yes")
    assert done.returncode == 0, done.stderr
    assert b"whisper" not in stored(tmp_path)
    [thread] = [row["thread"] for row in json.loads(command("list", "--json").stdout)["threads"]]
    assert "whispered words" in command("show", thread).stdout
    for wrong, reason in (
        (None, "is encrypted: give its key"),
        (base64.b64encode(bytes(16)).decode(), "another"),
    ):
        refused = command("list", key=wrong)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert reason in refused.stderr
        assert "Traceback" not in refused.stderr
    with local_persistence(tmp_path / "runs.db", encryption_key=KEY) as (saver, _):
        assert [name for name, _ in list_threads(saver)] == [thread]
