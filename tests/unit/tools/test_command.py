"""Commands run as argument lists, from an allow-list, in one folder, within limits; none is left running."""

import asyncio
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from plan_execute import Context, ScriptedModel, create_plan_execute_agent
from plan_execute.errors import ConfigurationError, ToolFailedError
from plan_execute.tools.command import Commands, command_tool
from plan_execute.tools.toolbox import Toolbox

# Starts a child, says both process ids, and waits.
TWO_PROCESSES = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open("pids", "w").write(f"{os.getpid()} {child.pid}")
time.sleep(60)
"""
LEAVES_A_CHILD = TWO_PROCESSES.replace("time.sleep(60)\n", "print('done')\n")
LEAVES_A_DAEMON = """
import subprocess, sys
daemon = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
open("pids", "w").write(str(daemon.pid))
print("done")
"""


@pytest.fixture
def commands(tmp_path):
    return Commands(tmp_path, ("python",), time_limit_s=60)


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


async def pids_in(folder):
    """Wait until a command has said which processes it is."""
    until = time.monotonic() + 60
    while not (text := (folder / "pids").read_text() if (folder / "pids").exists() else ""):
        assert time.monotonic() < until
        await asyncio.sleep(0.02)
    return [int(pid) for pid in text.split()]


async def assert_gone(pids):
    until = time.monotonic() + 60
    while left := [pid for pid in pids if is_running(pid)]:
        assert time.monotonic() < until, f"still running: {left}"
        await asyncio.sleep(0.02)


async def test_what_a_command_prints_is_returned_with_its_errors(commands):
    code = "import sys; print('out', flush=True); print('err', file=sys.stderr)"
    assert await commands.run(["python", "-c", code]) == "out\nerr\n"


@pytest.mark.parametrize("name", ["sh", "/bin/sh", "./python", "../python", "python ", "PYTHON", ""])
async def test_a_program_that_is_not_on_the_list_is_refused(commands, name):
    with pytest.raises(ToolFailedError, match="is not allowed; allowed programs: python"):
        await commands.run([name, "-c", "true"])


async def test_an_empty_command_is_refused(commands):
    with pytest.raises(ToolFailedError, match="an empty command is not allowed"):
        await commands.run([])


async def test_a_program_that_is_not_installed_is_named(tmp_path):
    with pytest.raises(ToolFailedError, match="'no-such-program' is not installed"):
        await Commands(tmp_path, ("no-such-program",)).run(["no-such-program"])


@pytest.mark.parametrize("allowed", [(), ("",), ("/bin/sh",), ("git", "./x"), ("a\0b",)])
def test_an_allow_list_holds_plain_names_and_at_least_one(tmp_path, allowed):
    with pytest.raises(ConfigurationError, match="plain names"):
        command_tool(tmp_path, allowed)


async def test_no_shell_reads_the_arguments(commands, tmp_path):
    text = "$HOME `id`; touch here > there * "
    assert await commands.run(["python", "-c", "import sys; print(sys.argv[1])", text]) == f"{text}\n"
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("word", ["a\0b", "\ud800"])
async def test_an_argument_that_cannot_be_passed_is_refused(commands, word):
    with pytest.raises(ToolFailedError, match="cannot be an argument"):
        await commands.run(["python", "-c", "pass", word])


async def test_a_command_starts_in_its_folder(commands, tmp_path):
    (tmp_path / "inner").mkdir()
    code = "import os; print(os.getcwd())"
    assert (await commands.run(["python", "-c", code])).strip() == str(tmp_path.resolve())
    assert (await commands.run(["python", "-c", code], "inner")).strip() == str(
        (tmp_path / "inner").resolve()
    )


@pytest.mark.parametrize("folder", ["..", "inner/../..", "link", "/", "missing", "file", "a\0b"])
async def test_a_folder_outside_the_root_or_missing_is_refused(tmp_path, folder):
    root = tmp_path / "root"
    (root / "inner").mkdir(parents=True)
    (root / "link").symlink_to(tmp_path)
    (root / "file").touch()
    with pytest.raises(ToolFailedError):
        await Commands(root, ("python",)).run(["python", "-c", "open('started', 'w')"], folder)
    assert [*tmp_path.rglob("started")] == []


async def test_a_program_planted_in_the_folder_is_never_run_for_the_real_one(tmp_path, monkeypatch):
    planted = tmp_path / "bin" / "git"
    planted.parent.mkdir()
    planted.write_text("#!/bin/sh\necho planted\n")
    planted.chmod(0o755)
    monkeypatch.setenv("PATH", f"{planted.parent}:.:bin::{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    assert "git version" in await Commands(tmp_path, ("git",)).run(["git", "--version"])


async def test_variables_of_the_parent_are_not_handed_on(commands, monkeypatch):
    for name in ("SOME_API_KEY", "OPENAI_API_KEY", "GIT_DIR", "PYTHONPATH", "LD_PRELOAD"):
        monkeypatch.setenv(name, "")
    seen = await commands.run(["python", "-c", "import os; print(*sorted(os.environ))"])
    known = {"PATH", "HOME", "LANG", "TMPDIR", "PYTHONDONTWRITEBYTECODE", "GIT_TERMINAL_PROMPT", "LC_CTYPE"}
    assert set(seen.split()) <= known


async def test_a_command_has_no_input_and_no_open_file_of_ours(commands, tmp_path):
    with (
        (tmp_path / "ours").open() if (tmp_path / "ours").exists() else (tmp_path / "ours").open("w") as ours
    ):
        os.set_inheritable(ours.fileno(), True)
        code = "import os, sys; print(repr(sys.stdin.read()), *sorted(map(int, os.listdir('/proc/self/fd'))))"
        seen = (await commands.run(["python", "-c", code])).split()
    assert seen[:4] == ["''", "0", "1", "2"]
    assert len(seen) == 5  # and the descriptor of the listing itself


async def test_a_failing_command_says_its_code_and_its_last_words(commands):
    code = "import sys; print('x' * 5000); print('the reason'); sys.exit(3)"
    with pytest.raises(ToolFailedError, match=r"ended with 3: the reason$"):
        await commands.run(["python", "-c", code])


async def test_of_a_long_output_the_end_is_kept_and_said(tmp_path):
    commands = Commands(tmp_path, ("python",), output_limit=100)
    said = await commands.run(["python", "-c", "print('x' * 10_000_000, 'the end')"])
    assert said.startswith("… (9,999,909 bytes left out)\n")
    assert said.endswith("the end\n")
    assert len(said) < 200


async def test_endless_output_is_not_kept_and_ends_with_the_time_limit(tmp_path):
    commands = Commands(tmp_path, ("python",), time_limit_s=1.5, output_limit=1000)
    with pytest.raises(ToolFailedError, match=r"took longer than 1\.5 s"):
        await commands.run(["python", "-c", "while True: print('x' * 100_000)"])


async def test_a_command_that_takes_too_long_is_killed_with_what_it_started(tmp_path):
    commands = Commands(tmp_path, ("python",), time_limit_s=6)
    with pytest.raises(ToolFailedError, match="took longer than 6 s"):
        await commands.run(["python", "-c", TWO_PROCESSES])
    await assert_gone(await pids_in(tmp_path))


async def test_a_command_that_ignores_signals_is_killed_too(tmp_path):
    commands = Commands(tmp_path, ("python",), time_limit_s=6)
    ignore = "import signal\nfor s in (15, 2, 1): signal.signal(s, signal.SIG_IGN)\n"
    with pytest.raises(ToolFailedError, match="took longer"):
        await commands.run(["python", "-c", ignore + TWO_PROCESSES])
    await assert_gone(await pids_in(tmp_path))


async def test_a_cancelled_command_is_killed_with_what_it_started(commands, tmp_path):
    call = asyncio.create_task(commands.run(["python", "-c", TWO_PROCESSES]))
    pids = await pids_in(tmp_path)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await assert_gone(pids)


async def test_cancelling_at_any_moment_leaves_no_process_and_no_open_file(commands, tmp_path):
    await commands.run(["python", "-c", "pass"])
    before = len(os.listdir("/proc/self/fd"))
    for delay in (0, *(0.0005 * 1.2**n for n in range(30))):
        call = asyncio.create_task(commands.run(["python", "-c", TWO_PROCESSES]))
        await asyncio.sleep(delay)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    marker = str(TWO_PROCESSES).encode()
    started = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and marker in (entry / "cmdline").read_bytes():
                started.append(entry.name)
    await assert_gone(started)
    until = time.monotonic() + 60
    while len(os.listdir("/proc/self/fd")) != before:  # whoever reads the output sees its end a little later
        assert time.monotonic() < until
        await asyncio.sleep(0.02)


async def test_what_a_command_leaves_in_the_background_ends_with_it(commands, tmp_path):
    assert await commands.run(["python", "-c", LEAVES_A_CHILD]) == "done\n"
    await assert_gone(await pids_in(tmp_path))


async def test_a_daemon_that_holds_the_output_does_not_hold_the_call(commands, tmp_path):
    assert await commands.run(["python", "-c", LEAVES_A_DAEMON]) == "done\n"
    (daemon,) = await pids_in(tmp_path)
    assert is_running(daemon)
    os.kill(daemon, 9)


TASKKILL = """\
#!/bin/sh
'''exec' "{python}" -S "$0" "$@"
' '''
import os, pathlib, signal, sys
assert sys.argv[1:4] == ["/F", "/T", "/PID"], sys.argv
parents = {{}}
for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
    try:
        parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    except OSError:
        pass
tree = [int(sys.argv[4])]
for pid in tree:
    tree += [child for child, parent in parents.items() if parent == pid]
for pid in tree:
    os.kill(pid, signal.SIGKILL)
"""


@pytest.fixture
def like_windows(tmp_path_factory, monkeypatch):
    """Take away what Windows lacks, and put a program in the place of its taskkill."""
    system = tmp_path_factory.mktemp("Windows")
    (system / "System32").mkdir()
    (system / "System32/taskkill.exe").write_text(TASKKILL.format(python=sys.executable))
    (system / "System32/taskkill.exe").chmod(0o755)
    monkeypatch.setenv("SYSTEMROOT", str(system))
    monkeypatch.delattr(os, "killpg")
    monkeypatch.delattr(os, "O_NOFOLLOW")
    monkeypatch.setattr(os, "supports_dir_fd", set())


@pytest.mark.usefixtures("like_windows")
async def test_without_killpg_a_command_is_killed_with_what_it_started(commands, tmp_path):
    assert await commands.run(["python", "-c", "print('done')"]) == "done\n"
    call = asyncio.create_task(commands.run(["python", "-c", TWO_PROCESSES]))
    pids = await pids_in(tmp_path)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await assert_gone(pids)


async def test_a_batch_file_is_refused(tmp_path, monkeypatch):
    """Windows starts one by a shell, whatever its arguments are."""
    (batch := tmp_path / "bin" / "npm.cmd").parent.mkdir()
    batch.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(batch.parent))
    with pytest.raises(ToolFailedError, match=r"'npm\.cmd' is a batch file"):
        await Commands(tmp_path / "root", ("npm.cmd",)).run(["npm.cmd"])


async def test_a_command_does_not_block_the_event_loop(tmp_path):
    """The command ends when the loop has said so."""
    commands = Commands(tmp_path, ("python",), time_limit_s=60)
    waits = "import os, time\nopen('begun', 'w')\nwhile not os.path.exists('go'): time.sleep(0.01)\n"
    call = asyncio.create_task(commands.run(["python", "-c", waits]))
    while not (tmp_path / "begun").exists() and not call.done():
        await asyncio.sleep(0.01)
    (tmp_path / "go").touch()
    assert await call == ""


def test_the_tool_counts_as_a_write_and_names_its_programs(tmp_path):
    box = Toolbox([command_tool(tmp_path, ["python", "git"])])
    assert box.effect("run_command") == "write"
    assert "allowed programs: git, python" in box.get("run_command").description


def test_bound_steps_and_agent_steps_use_it(tmp_path):
    version = {"command": ["python", "-c", "import sys; print(sys.version_info.major)"]}
    model = ScriptedModel(
        {
            "executor": [
                ScriptedModel.tool_calls(("run_command", {"command": ["sh", "-c", "true"]})),
                ScriptedModel.tool_calls(("run_command", version)),
                "It is 3.",
            ]
        }
    )
    plan = {
        "goal": "ask twice",
        "steps": [
            {"id": "b", "call": {"tool": "run_command", "args": version}},
            {"id": "a", "task": "ask", "depends_on": ["b"], "tools": ["run_command"]},
            {
                "id": "bad",
                "depends_on": ["a"],
                "max_attempts": 1,
                "call": {"tool": "run_command", "args": {"command": ["python", "-c", "1/0"]}},
            },
        ],
    }
    agent = create_plan_execute_agent(model, [command_tool(tmp_path, ["python"])])
    result = agent.invoke({"plan": plan}, context=Context(approval="never", on_failure="abort"))
    assert result["results"]["b"]["output"] == f"{sys.version_info.major}\n"
    assert [call["ok"] for call in result["results"]["a"]["evidence"]] == [False, True]
    assert result["results"]["bad"]["status"] == "failed"
    assert "ZeroDivisionError" in result["results"]["bad"]["error"]["message"]


def test_a_step_that_takes_too_long_leaves_nothing_running(tmp_path):
    args = {"command": ["python", "-c", TWO_PROCESSES]}
    step = {"id": "s", "timeout_s": 2, "max_attempts": 1, "call": {"tool": "run_command", "args": args}}
    agent = create_plan_execute_agent(None, [command_tool(tmp_path, ["python"])])
    result = agent.invoke({"plan": {"goal": "g", "steps": [step]}}, context=Context(approval="never"))
    assert result["results"]["s"]["error"]["code"] == "timeout"
    asyncio.run(assert_gone(asyncio.run(pids_in(tmp_path))))
