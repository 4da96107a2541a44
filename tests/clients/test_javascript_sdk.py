"""LangGraph's SDK for JavaScript follows a run: what docs/streaming.md shows compiles, typed, and runs."""

import os
import re
import shutil
import subprocess

import pytest
from dev_server import CHECKOUT, serve

pytestmark = [pytest.mark.clients, pytest.mark.timeout(600)]

PACKAGES = ("@langchain/langgraph-sdk@1.15", "typescript@5", "@types/node@20")
OPTIONS = ("--strict", "--target", "es2022", "--module", "nodenext", "--skipLibCheck", "--types", "node")
MISUSE = """
import { Client } from "@langchain/langgraph-sdk";
import type { RunStreams } from "./plan-execute.js";
const thread = new Client().threads.stream<RunStreams>({ assistantId: "plan_execute" });
for await (const step of thread.extensions.steps) console.log(step.no_such_field);
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with the SDK, the types, and the code of the page."""
    if shutil.which("npm") is None:
        pytest.skip("there is no node")
    folder = tmp_path_factory.mktemp("javascript")
    (folder / "package.json").write_text('{"type": "module", "private": true}')
    subprocess.run(["npm", "install", "--no-audit", "--no-fund", *PACKAGES], cwd=folder, check=True)
    page = (CHECKOUT / "docs/streaming.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```typescript\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (folder / "follow.ts").write_text(block, encoding="utf-8")
    (folder / "misuse.ts").write_text(MISUSE, encoding="utf-8")
    shutil.copy(CHECKOUT / "docs/plan-execute.d.ts", folder)
    return folder


def compiled(project, name):
    """Compile a file, and return what the compiler says of it."""
    command = ["npx", "tsc", *OPTIONS, name]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, check=False).stdout


def test_what_the_page_shows_compiles_and_follows_a_run(project, tmp_path):
    assert compiled(project, "follow.ts") == ""
    with serve(tmp_path / "app", "--no-reload") as server:
        ran = subprocess.run(
            ["node", "follow.js"],
            cwd=project,
            env={**os.environ, "LANGGRAPH_URL": server.url},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert server.calls("Dear Ann") == ["write"]
    assert (ran.stderr, ran.returncode) == ("", 0)
    assert ran.stdout.splitlines() == [
        "plan [ 'letter' ]",
        "question approve_plan",
        *("step letter running", "step letter running", "step letter done"),
    ]


def test_the_compiler_knows_what_the_channels_hold(project):
    assert "Property 'no_such_field' does not exist on type 'StepUpdate'" in compiled(project, "misuse.ts")
