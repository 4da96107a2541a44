"""Demos are built by name, live in a folder of their own, and are gone when they are closed."""

import subprocess
import sys
import tempfile

import pytest

from plan_execute import create_plan_execute_agent
from plan_execute.errors import ConfigurationError
from plan_execute.examples import DEMOS, build_demo


@pytest.mark.parametrize("name", DEMOS)
def test_every_demo_runs_to_a_good_end_and_uses_its_whole_script(name):
    with build_demo(name) as demo:
        agent = create_plan_execute_agent(**demo.agent_args)
        result = agent.invoke({"goal": demo.goal}, context=demo.context)
        assert result["status"] == "done"
        assert {r["verdict"] for r in result["results"].values()} == {"met"}
        demo.agent_args["model"].assert_used()


@pytest.mark.parametrize("name", DEMOS)
async def test_every_demo_runs_from_asynchronous_code(name):
    with build_demo(name) as demo:
        agent = create_plan_execute_agent(**demo.agent_args)
        result = await agent.ainvoke({"goal": demo.goal}, context=demo.context)
        assert result["status"] == "done"


def test_closing_a_demo_removes_its_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    demo = build_demo("release")
    assert demo.workspace.parent == tmp_path.resolve()
    demo.close()
    assert [*tmp_path.iterdir()] == []


def test_an_unknown_demo_is_refused_with_the_known_ones():
    with pytest.raises(ConfigurationError, match=r"'releese'; demos: .*release"):
        build_demo("releese")


def test_an_unknown_ending_is_refused_with_the_known_ones():
    with pytest.raises(ConfigurationError, match="'bad'; endings: good, smoke, verify"):
        build_demo("release", ending="bad")


def test_listing_the_demos_loads_no_langgraph():
    code = (
        "import sys; from plan_execute.examples import DEMOS; "
        "print(len(DEMOS), {'langgraph', 'langchain_core', 'pydantic'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "3 set()\n"
