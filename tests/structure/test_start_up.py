"""Starting is cheap: the heavy libraries are loaded when something needs them, not before."""

import json
import subprocess
import sys
from contextlib import closing
from importlib.metadata import version

import pytest
from langgraph.types import Command
from openai_stub import OpenAIStub, Reply

from plan_execute import create_plan_execute_agent, local_persistence

HEAVY = ("langgraph", "langchain_core", "langchain", "pydantic", "openai", "langchain_openai", "httpx")

IMPORT = "import plan_execute"
HELP = """
import sys
sys.argv = ["plan-execute", "--help"]
from plan_execute.cli import main
try:
    code = main()
except SystemExit as stop:
    code = stop.code
assert not code, code
"""
LISTING = """
import sys
{code}
import json
print(json.dumps(sorted(name for name in sys.modules if "." not in name)), file=sys.stderr)
"""


def modules_after(code):
    """Run code in a fresh interpreter, and give the modules that it loaded."""
    command = [sys.executable, "-c", LISTING.format(code=code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize("code", [IMPORT, HELP], ids=["import", "help"])
def test_starting_loads_no_heavy_library(code):
    modules = modules_after(code)
    assert "plan_execute" in modules
    assert modules.isdisjoint(HEAVY), modules.intersection(HEAVY)


def test_a_shell_is_told_the_names_of_threads_without_langgraph(tmp_path):
    database = tmp_path / "runs.db"
    with local_persistence(database) as (checkpointer, store):
        agent = create_plan_execute_agent(tools=[], checkpointer=checkpointer, store=store)
        plan = {"goal": "g", "steps": [{"id": "a", "ask": {"question": "Well?"}}]}
        agent.invoke({"plan": plan}, {"configurable": {"thread_id": "weekly"}})
    code = f"""
import os
os.environ.update(_PLAN_EXECUTE_COMPLETE="complete_bash", COMP_WORDS="plan-execute show wee", COMP_CWORD="2")
os.environ["PLAN_EXECUTE_DB"] = {str(database)!r}
{HELP}"""
    command = [sys.executable, "-c", LISTING.format(code=code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["weekly"], done.stderr
    modules = set(json.loads(done.stderr.splitlines()[-1]))
    assert modules.isdisjoint({*HEAVY} - {"pydantic"}), modules.intersection(HEAVY)


def test_a_graph_around_ours_can_be_built_of_its_state_first():
    code = """
from langgraph.graph import START, StateGraph
from plan_execute.state import InputState, OutputState, State
for kind in (InputState, OutputState, State):
    builder = StateGraph(kind)
    builder.add_node("said", lambda state: {"messages": [("ai", "yes")]})
    builder.add_edge(START, "said")
    (asked, said) = builder.compile().invoke({"messages": [("human", "no?")]})["messages"]
    assert (asked.text, said.text) == ("no?", "yes")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """Threads that wait, have ended, and stopped; beside them a plan file."""
    path = tmp_path_factory.mktemp("threads") / "runs.db"
    plan = {"plan": {"goal": "g", "steps": [{"id": "a", "ask": {"question": "Well?"}}]}}
    context = {"decision_timeout_s": 3600.0}
    with local_persistence(path) as (checkpointer, store):
        agent = create_plan_execute_agent(tools=[], checkpointer=checkpointer, store=store)
        for name in ("done", "waiting"):
            agent.invoke(plan, {"configurable": {"thread_id": name}}, context=context)
        answer = Command(resume={"type": "response", "args": "yes"})
        agent.invoke(answer, {"configurable": {"thread_id": "done"}})
        with closing(agent.stream(plan, {"configurable": {"thread_id": "stopped"}})) as stream:
            next(stream)
    step = "{id: a, call: {tool: look, args: {place: here}}, when: 'inputs.n > `1`'}"
    text = f"goal: look\ninputs: {{n: {{type: integer, default: 1}}}}\nsteps:\n  - {step}\n"
    path.with_name("plan.yaml").write_text(text)
    return path


def modules_of(database, command):
    """Run a command beside a database in a fresh interpreter; its last line of errors lists the modules."""
    code = f"""
import os
os.environ["PLAN_EXECUTE_DB"] = {str(database)!r}
{HELP.replace('"--help"', ", ".join(map(repr, command)))}"""
    command = [sys.executable, "-c", LISTING.format(code=code)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=database.parent)


def test_a_plan_is_written_and_estimated_without_the_store_that_langgraph_has_for_files(database):
    with OpenAIStub([Reply('a: "Look around"')]) as stub:
        done = modules_of(
            database, ["plan", "Look around", "--model", "openai:m", "--base-url", stub.base_url]
        )
    assert "goal: Look around" in done.stdout, done.stdout + done.stderr
    modules = set(json.loads(done.stderr.splitlines()[-1]))
    # It brings numpy, which takes a tenth of a second.
    assert modules.isdisjoint({"numpy", "sqlite_vec"})


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ([], "Stopped before the end"),
        (["inbox"], "A question to you: Well?"),
        (["list"], "stopped"),
        (["list", "--status", "waiting", "--since", "1d"], "waiting"),
        (["show", "waiting"], "Status: waiting"),
        (["show", "done"], "Status: done"),
        (["show", "stopped"], "stopped"),
        (["show", "done", "--step", "a"], "yes"),
        (["history", "done"], "answered"),
        (["validate", "plan.yaml"], "plan.yaml: valid"),
    ],
)
def test_threads_and_plan_files_are_looked_at_without_langgraph(database, command, said):
    done = modules_of(database, command)
    assert said in done.stdout, done.stdout + done.stderr
    modules = set(json.loads(done.stderr.splitlines()[-1]))
    assert modules.isdisjoint({*HEAVY} - {"pydantic"}), modules.intersection(HEAVY)


def test_every_public_name_can_be_imported_and_a_wrong_one_names_the_known():
    import plan_execute

    assert all(getattr(plan_execute, name) is not None for name in plan_execute.__all__)
    with pytest.raises(AttributeError, match=r"it has: .*create_plan_execute_agent"):
        _ = plan_execute.create_agent


WITHOUT_EXTRAS = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if any(f"{name}.".startswith(f"{hidden}.") for hidden in HIDDEN):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

HIDDEN = ("psycopg", "psycopg_pool", "langgraph.checkpoint.postgres", "langgraph.store.postgres")
HIDDEN += ("procrastinate", "mcp", "fastmcp", "langchain.mcp", "cryptography", "opentelemetry")
HIDDEN += ("starlette", "sse_starlette", "uvicorn", "langgraph_api", "langgraph_cli")
sys.meta_path.insert(0, Hidden())

from plan_execute import *

KEY = "MDEyMzQ1Njc4OTAxMjM0NQ=="
for needs in (
    lambda: postgres_persistence("postgresql://localhost/x"),
    lambda: mcp_tools({"mcpServers": {"x": {"command": "y"}}}),
    lambda: local_persistence("x.db", encryption_key=KEY),
):
    try:
        needs()
    except PlanExecuteError as error:
        print(error)
"""


def test_without_extras_all_names_can_be_imported_and_what_needs_one_says_so():
    done = subprocess.run([sys.executable, "-c", WITHOUT_EXTRAS], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    told = [line.partition("pip install ")[2].partition(" (")[0] for line in done.stdout.splitlines()]
    assert told == [f"'plan-execute[{extra}]'" for extra in ("postgres", "mcp", "encryption")], done.stdout


def test_the_version_is_that_of_the_distribution():
    import plan_execute

    assert plan_execute.__version__ == version("plan-execute")


def test_the_package_runs_as_a_program():
    command = [sys.executable, "-m", "plan_execute", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, f"plan-execute {version('plan-execute')}\n")
