"""Built-in tools by name: several at once, and for many threads at once, each in its own folder."""

import pytest
from plans import FREE, Thread, agent_with, bound

from plan_execute.context import Environment
from plan_execute.errors import ConfigurationError
from plan_execute.graph.server import make_graph
from plan_execute.tools.toolsets import names_of_toolsets, toolset, toolset_of_each_thread


@pytest.mark.parametrize(
    ("listed", "names"),
    [
        ("files", ["files"]),
        (" files, http ,", ["files", "http"]),
        ("command:git,python", ["command:git,python"]),
        ("files,http,command:git,http", ["files", "http", "command:git,http"]),
        ("files,command", ["files", "command"]),
        ("", []),
    ],
)
def test_names_are_listed_with_commas_and_the_programs_of_commands_come_last(listed, names):
    assert names_of_toolsets(listed) == names


@pytest.mark.parametrize(
    ("name", "words"), [("htpp", "known tool sets: files, http"), ("command", "programs")]
)
def test_a_name_that_is_no_set_is_refused_with_the_known_ones(tmp_path, name, words):
    with pytest.raises(ConfigurationError, match=words):
        toolset(name, root=tmp_path)
    with pytest.raises(ConfigurationError, match=words):
        toolset_of_each_thread(name, lambda thread: tmp_path / thread)


async def test_one_agent_serves_many_threads_each_in_a_folder_of_its_own(tmp_path):
    tools = [
        tool
        for name in ("files", "command:python")
        for tool in toolset_of_each_thread(name, lambda thread: tmp_path / thread)
    ]
    agent, threads = agent_with(tools), []
    for number in range(2):
        threads.append(Thread(agent, FREE))
        text = f"print({number})"
        result = await threads[-1].run(
            bound("w", "write_file", {"path": "a.py", "text": text}),
            bound("r", "run_command", {"command": ["python", "a.py"]}, "w"),
            bound("f", "list_files", {}, "r"),
        )
        assert result["results"]["r"]["output"] == f"{number}\n"
        assert [found["path"] for found in result["results"]["f"]["output"]["files"]] == ["a.py"]
    folders = {folder.name for folder in tmp_path.iterdir()}
    assert folders == {thread.config["configurable"]["thread_id"] for thread in threads}


async def test_without_a_thread_a_file_tool_says_what_it_lacks(tmp_path):
    agent = agent_with(toolset_of_each_thread("files", lambda thread: tmp_path / thread), checkpointer=None)
    step = bound("r", "list_files", {}, on_failure="abort", max_attempts=1)
    result = await agent.ainvoke({"plan": {"goal": "g", "steps": [step]}}, context=FREE)
    assert "works in the folder of a thread" in result["results"]["r"]["error"]["message"]


async def test_the_servers_graph_has_the_tools_that_its_environment_names(tmp_path, monkeypatch):
    for name in ("MODEL", "BASE_URL", "TOOLS", "CACHE", "MCP", "RATE_LIMIT"):
        monkeypatch.delenv(f"PLAN_EXECUTE_{name}", raising=False)
    monkeypatch.setenv("PLAN_EXECUTE_TOOLSETS", "files,http,command:git")
    monkeypatch.setenv("PLAN_EXECUTE_WORKSPACES", str(tmp_path))
    agent = await make_graph()
    assert {"write_file", "run_command"} <= set(agent.toolbox.names)
    monkeypatch.setenv("PLAN_EXECUTE_TOOLSETS", "file")
    with pytest.raises(ConfigurationError, match=r"unknown tool set 'file'; known tool sets: files"):
        await make_graph()


def test_a_rate_that_is_no_number_is_refused_by_its_variable():
    with pytest.raises(ConfigurationError, match=r"PLAN_EXECUTE_RATE_LIMIT .*'often'"):
        _ = Environment.read({"PLAN_EXECUTE_RATE_LIMIT": "often"}).requests_per_second
    assert Environment.read({"PLAN_EXECUTE_RATE_LIMIT": "0.5"}).requests_per_second == 0.5
