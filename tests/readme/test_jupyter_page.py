"""What docs/jupyter.md shows works in a real Jupyter kernel, which has a running event loop."""

import sqlite3
import time
from pathlib import Path

import pytest
from jupyter_client.manager import KernelManager
from pages import blocks_of, matches

PAGE = "docs/jupyter.md"
WAITS = """
import time
from pathlib import Path
from langchain_core.tools import StructuredTool
from plan_execute import Context, create_plan_execute_agent, local_persistence


def wait() -> str:
    \"\"\"Wait until the file ``go`` is there.\"\"\"
    Path("begun").touch()
    while not Path("go").exists():
        time.sleep(0.05)
    return "waited"


tools = [StructuredTool.from_function(wait, metadata={"effect": "read"})]
thread = {"configurable": {"thread_id": "t"}}
given = {"plan": {"steps": [{"id": "w", "call": {"tool": "wait", "args": {}}}]}}
keep = local_persistence("threads.db")
checkpointer, store = keep.__enter__()
agent = create_plan_execute_agent(None, tools, checkpointer=checkpointer, store=store)
"""


class Kernel:
    """A kernel in a folder; a cell's error fails the test."""

    def __init__(self, folder: Path) -> None:
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(cwd=str(folder))
        self._client = self.manager.blocking_client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=120)

    def start(self, code: str) -> str:
        return self._client.execute(code)

    def end_of(self, cell: str) -> tuple[str, str | None]:
        """Wait for the end of a cell; give what it printed, and the name of its error."""
        printed, error = "", None
        while True:
            message = self._client.get_iopub_msg(timeout=120)
            if message["parent_header"].get("msg_id") != cell:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                printed += content["text"]
            elif kind == "error":
                error = content["ename"]
                printed += "\n".join(content["traceback"])
            elif kind == "status" and content["execution_state"] == "idle":
                return printed, error

    def run(self, code: str) -> str:
        printed, error = self.end_of(self.start(code))
        assert error is None, printed
        return printed

    def end(self) -> None:
        self._client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture
def kernel(tmp_path):
    kernel = Kernel(tmp_path)
    yield kernel
    kernel.end()


def test_every_block_runs_as_a_cell_and_prints_what_is_shown(kernel):
    printed = ""
    for block in blocks_of(PAGE):
        assert block.language in ("python", "text"), f"line {block.line}"
        if block.language == "python":
            printed = kernel.run(block.text)
        else:
            assert matches(block.text, printed), f"line {block.line}: printed {printed}"


def test_an_event_loop_runs_where_the_cells_run(kernel):
    assert kernel.run("import asyncio; print(asyncio.get_running_loop().is_running())") == "True\n"


def test_a_run_that_was_interrupted_goes_on_with_the_thread(kernel, tmp_path):
    kernel.run(WAITS)
    cell = kernel.start('agent.invoke(given, thread, context=Context(approval="never"))')
    until = time.monotonic() + 60
    while not (tmp_path / "begun").exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    kernel.manager.interrupt_kernel()
    assert kernel.end_of(cell)[1] == "KeyboardInterrupt"
    (tmp_path / "go").touch()
    assert kernel.run('print(agent.invoke(None, thread)["results"]["w"]["output"])') == "waited\n"
    assert sqlite3.connect(tmp_path / "threads.db").execute("PRAGMA integrity_check").fetchone() == ("ok",)
