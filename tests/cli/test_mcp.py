"""``--mcp FILE``: tools of MCP servers on the command line."""

import json

from mcp_servers import gone, server_ids, stdio

PLAN = """
goal: talk
steps:
  - {id: t, call: {tool: talk_read, args: {}}}
"""


def entry(cli, kind="babbles", **more):
    log = cli.folder / "log.txt"
    (cli.folder / "mcp.json").write_text(json.dumps({"mcpServers": {"odd": stdio(kind, log, **more)}}))
    (cli.folder / "plan.yaml").write_text(PLAN)
    return log


def test_a_plan_runs_with_the_tools_of_a_file_and_leaves_no_server_behind(cli):
    log = entry(cli)
    asked = cli("run", "--plan", "plan.yaml", "--thread", "t", "--approval", "always", "--mcp", "mcp.json")
    assert asked.code == 3
    assert "resume t --mcp mcp.json" in asked.err
    done = cli("resume", "t", "--approve", "--json", PLAN_EXECUTE_MCP="mcp.json")
    assert done.json["results"]["t"]["output"] == "answered all the same"
    assert done.err.count("\n") < 10
    assert len(server_ids(log)) == 2
    assert all(gone(process) for process in server_ids(log))


def test_a_file_or_a_server_that_is_wrong_exits_with_one_clear_message(cli):
    entry(cli, agrs=[])
    wrong = cli("validate", "plan.yaml", "--mcp", "mcp.json")
    assert wrong.code in (1, 2)
    assert "mcp.json: server 'odd', agrs: is not known (did you mean args?)" in wrong.err
    entry(cli, "garbage")
    garbage = cli(
        "validate", "plan.yaml", "--json", PLAN_EXECUTE_MCP="mcp.json", PLAN_EXECUTE_TOOLSETS="files,http"
    )
    assert garbage.code in (1, 2)
    assert "it printed something to stdout that is not MCP" in garbage.json["error"]["message"]
