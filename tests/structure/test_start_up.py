"""Starting is cheap: the heavy libraries are loaded when something needs them, not before."""

import json
import subprocess
import sys
from importlib.metadata import version

import pytest

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
VALIDATE = HELP.replace('"--help"', '"validate", {plan!r}')
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


def test_a_plan_file_is_checked_without_langchain_and_langgraph(tmp_path):
    plan = tmp_path / "plan.yaml"
    plan.write_text("goal: look\nsteps:\n  - {id: a, call: {tool: look, args: {place: here}}}\n")
    modules = modules_after(VALIDATE.format(plan=str(plan)))
    assert "jsonschema" in modules, "it was checked"
    assert modules.isdisjoint({*HEAVY} - {"pydantic"}), modules.intersection(HEAVY)


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


RUNS_GRAPHS = ("langgraph.graph", "langgraph.pregel", "langgraph.prebuilt", "langchain", "langsmith.client")


def test_threads_are_listed_without_what_runs_graphs(tmp_path):
    code = HELP.replace('"--help"', f'"list", "--db", {str(tmp_path / "runs.db")!r}')
    loaded = f"import sys\n{code}\nprint([name for name in {RUNS_GRAPHS!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stdout + done.stderr


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
