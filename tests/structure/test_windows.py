"""The program works in a Python that lacks what Python on Windows lacks. No real Windows was tried."""

import re
import subprocess
import sys

# First the modules of others, which have ways of their own; then ours once more, without POSIX.
AS_ON_WINDOWS = """
import importlib, os, pkgutil, signal, sys
import plan_execute

names = [m.name for m in pkgutil.walk_packages(plan_execute.__path__, "plan_execute.")]
names = [name for name in names if not name.startswith(("plan_execute.tests", "plan_execute.benchmarks"))]
for name in names:
    importlib.import_module(name)
for name in [name for name in sys.modules if name.partition(".")[0] == "plan_execute"]:
    del sys.modules[name]

for name in ("fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"):
    sys.modules[name] = None
LACKS = {
    os: ["fork", "fwalk", "getuid", "killpg", "mkfifo", "setsid", "uname", "register_at_fork",
         "O_DIRECTORY", "getpgid", "sched_getaffinity", "WNOHANG"],
    signal: ["SIGKILL", "SIGHUP", "SIGUSR1", "SIGALRM", "SIGCHLD", "SIGPIPE", "SIGWINCH", "alarm"],
}
for module, lacking in LACKS.items():
    for name in lacking:
        delattr(module, name)
os.supports_dir_fd = set()
of_others = {name: vars(os).pop(name) for name in ("O_NONBLOCK", "O_NOFOLLOW", "O_CLOEXEC", "geteuid")}
EXTRA

for name in names:
    importlib.import_module(name)
print(len(names), "modules")
"""
RUN = """
vars(os).update(of_others)  # filelock and asyncio took their POSIX side above, which needs these
from plan_execute import Context, create_plan_execute_agent, local_persistence
from plan_execute.tools.toolsets import toolset
from pathlib import Path

step = {"id": "say", "call": {"tool": "run_command", "args": {"command": ["python", "-c", "print('said')"]}}}
given = {"plan": {"goal": "Say it", "steps": [step]}}
thread = {"configurable": {"thread_id": "t"}}
with local_persistence("threads.db") as (checkpointer, store):
    tools = toolset("command:python", root=Path("work"))
    agent = create_plan_execute_agent(None, tools, checkpointer=checkpointer, store=store)
    result = agent.invoke(given, thread, context=Context(approval="never"))
print(result["results"]["say"]["output"])
"""


def as_on_windows(folder, *, lacking="", program=""):
    code = AS_ON_WINDOWS.replace("EXTRA", lacking) + program
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def test_every_module_can_be_imported_and_a_command_runs_and_is_kept(tmp_path):
    done = as_on_windows(tmp_path, program=RUN)
    assert done.returncode == 0, done.stderr
    modules, said = re.fullmatch(r"(\d+) modules\n(.*)\n\n", done.stdout).groups()
    assert int(modules) > 150
    assert said == "said"
    assert (tmp_path / "threads.db").exists()


def test_a_name_that_is_used_and_missing_would_be_found(tmp_path):
    done = as_on_windows(tmp_path, lacking="del os.O_RDONLY")
    assert "has no attribute 'O_RDONLY'" in done.stderr
