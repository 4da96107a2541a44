"""What an editor knows of the package after the documented install: names, signatures, wrong names."""

import json
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
PROGRAM = """
from plan_execute import Context, Plan, create_plan_execute_agent

def shout(text: str) -> str:
    return text.upper()

agent = create_plan_execute_agent(None, tools=[shout])
plan: Plan = {"steps": [{"id": "a", "call": {"tool": "shout", "args": {"text": "x"}}}]}
result = agent.invoke({"plan": plan}, context=Context(approval="never"))
reveal_type(result["final_answer"])
reveal_type(result["results"]["a"]["status"])
reveal_type(create_plan_execute_agent)
Context(aproval="never")
result["final_anser"]

for update in agent.stream({"goal": "x"}):
    reveal_type(update)
for values in agent.stream({"goal": "x"}, stream_mode="values"):
    reveal_type(values.get("results"))
for event in agent.stream({"goal": "x"}, stream_mode="custom", durability="sync"):
    reveal_type(event["type"])

async def watch() -> None:
    async for event in agent.astream({"goal": "x"}, stream_mode="custom", context=Context()):
        if event["type"] == "step_finished":
            reveal_type(event["verdict"])
            event["verdikt"]
    async for part in agent.astream({"goal": "x"}, stream_mode="values", version="v2"):
        if part["type"] == "values":
            reveal_type(part["data"])
    async for mixed in agent.astream({"goal": "x"}, stream_mode=["custom", "values"]):
        reveal_type(mixed)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder of installed packages with this one installed as editable, from a copy of any name."""
    folder = tmp_path_factory.mktemp("editor")
    source = folder / "any-name 1"
    ignored = shutil.ignore_patterns(
        ".git", ".venv", ".build", ".*_cache", "__pycache__", "tests", "benchmarks"
    )
    shutil.copytree(CHECKOUT, source, ignore=ignored)
    build = (
        "import sys; sys.path.insert(0, '.packaging'); import editable; "
        f"print(editable.build_editable({str(folder)!r}))"
    )
    run = {"cwd": source, "capture_output": True, "text": True, "timeout": 100}
    built = subprocess.run([sys.executable, "-c", build], **run)
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_an_editable_install_is_a_path_that_holds_the_package_and_nothing_else(site):
    (pth,) = site.glob("*.pth")
    folder = Path(pth.read_text().strip())
    assert [entry.name for entry in folder.iterdir()] == ["plan_execute"]
    assert (folder / "plan_execute").resolve() == site.parent / "any-name 1"


def pyright(folder, site):
    """Run pyright on a user's program, and give its messages."""
    (folder / "program.py").write_text(PROGRAM)
    (pth,) = site.glob("*.pth")
    packages = [pth.read_text().strip(), sysconfig.get_path("purelib")]
    # "standard" is what pyright checks unless it is told otherwise; basedpyright would check more
    settings = {"extraPaths": packages, "typeCheckingMode": "standard"}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "basedpyright", "--outputjson"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=110)
    return [found["message"] for found in json.loads(done.stdout)["generalDiagnostics"]]


def test_pyright_resolves_the_package_and_finds_wrong_names(site, tmp_path):
    messages = pyright(tmp_path, site)
    assert [text for text in messages if "aproval" in text]
    assert [text for text in messages if "final_anser" in text]
    told = "\n".join(messages)
    assert 'Type of "result["final_answer"]" is "str"' in told
    assert "Literal['done', 'failed', 'skipped', 'blocked']" in told
    assert "model: str | BaseChatModel | None = None" in told
    assert 'Type of "update" is "dict[str, Any]"' in told
    assert 'Type of "values.get("results")" is "dict[str, StepResult] | None"' in told
    assert "step_started" in told
    assert "Literal['met', 'met_empty', 'failed', 'unverified'] | None" in told
    assert [text for text in messages if "verdikt" in text]
    assert 'Type of "part["data"]" is "State"' in told
    assert 'Type of "mixed" is "Any"' in told
    assert len(messages) == 12, messages
