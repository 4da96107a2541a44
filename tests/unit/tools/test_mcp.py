"""Tools of real MCP servers: what they give, what they do to the world, and how they fail."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import anyio
import pytest
from mcp_servers import CARELESS, gone, http_server, server_ids, stdio

from plan_execute import amcp_tools, mcp_tools
from plan_execute.errors import ConfigurationError, ToolFailedError
from plan_execute.models.prompts.signatures import signature
from plan_execute.tools.mcp_way import _reason
from plan_execute.tools.threads import loop_in_thread
from plan_execute.tools.toolbox import Toolbox


def servers(**named):
    return {"mcpServers": named}


@pytest.fixture(scope="module", params=["good", "fastmcp"])
def shop(tmp_path_factory, request):
    log = tmp_path_factory.mktemp("shop") / "log.txt"
    with mcp_tools(servers(shop=stdio(request.param, log, env={"PLACE": "north"}))) as tools:
        yield {tool.name: tool for tool in tools}
    assert all(gone(process) for process in server_ids(log))


@pytest.fixture(scope="module", params=["http", "fastmcp-http"])
def web(tmp_path_factory, request):
    with http_server(tmp_path_factory.mktemp("web") / "log.txt", request.param) as (url, _):
        yield url


@pytest.fixture(autouse=True)
def short_patience(monkeypatch):
    """Tests wait less for servers that are to be killed; what happens then is the same."""
    monkeypatch.setattr("plan_execute.tools.mcp_session._PATIENCE_S", 0.3)
    monkeypatch.setattr("mcp.client.stdio.PROCESS_TERMINATION_TIMEOUT", 0.3)


# --- what calls give ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tool", "args", "output"),
    [
        ("count", {"item": "tea"}, 3),
        ("count", {"item": "salt"}, 0),
        ("all_items", {"above": 99}, {}),
        ("find", {"text": "zz"}, []),
        ("find", {"text": "te"}, ["tea"]),
        ("secret_of", {"name": "PLACE"}, "north"),
        ("secret_of", {"name": "PLAN_EXECUTE_MODEL"}, ""),
    ],
)
def test_a_call_gives_the_exact_value_as_plain_json(shop, tool, args, output):
    assert shop[tool].invoke(args) == output


def test_images_come_as_blocks_that_models_can_see_with_nothing_random_in_them(shop):
    block = {"type": "image", "base64": "iVBORw==", "mime_type": "image/png"}
    assert shop["picture"].invoke({}) == [{"type": "text", "text": "a leaf"}, block]


def test_links_come_as_blocks_that_name_where_they_lead(shop):
    assert shop["leaflet"].invoke({}) == [
        {"type": "file", "url": "https://shop.example/leaflet.pdf", "mime_type": "application/pdf"},
        {"type": "image", "url": "https://shop.example/leaf.png", "mime_type": "image/png"},
    ]


def test_an_argument_may_have_any_name(shop):
    assert shop["take"].invoke({"item": "tea", "config": "!"}).endswith("left!")


def test_a_result_that_is_an_error_is_a_failed_call(shop):
    with pytest.raises(ToolFailedError, match=r"take: .*there is no salt"):
        shop["take"].invoke({"item": "salt"})
    with pytest.raises(ToolFailedError, match=r"(?si)count: .*(field|missing) required"):
        shop["count"].invoke({})


def test_one_session_serves_sync_callers_and_many_event_loops(shop):
    async def both():
        return await asyncio.gather(*(shop["count"].ainvoke({"item": "salt"}) for _ in range(5)))

    assert asyncio.run(both()) == asyncio.run(both()) == [0] * 5
    assert shop["count"].invoke({"item": "salt"}) == 0


async def test_an_http_server_gives_the_same_and_is_called_from_async_code(web):
    tools = {tool.name: tool for tool in await amcp_tools(servers(web={"url": web}))}
    assert await tools["all_items"].ainvoke({}) == {"tea": 3}
    assert tools["find"].invoke({"text": "te"}) == ["tea"]


# --- effects and names -------------------------------------------------------------------


def test_effects_come_from_annotations_unless_somebody_who_is_trusted_says_another(shop, web):
    box = Toolbox(shop.values())
    assert [box.effect(name) for name in ("count", "put", "take")] == ["read", "idempotent", "write"]
    entry = {"url": web, "effects": {"count": "write", "take": "idempotent"}}
    by_file = Toolbox(mcp_tools(servers(web=entry)))
    assert [by_file.effect(name) for name in ("count", "put", "take")] == [
        "write",
        "idempotent",
        "idempotent",
    ]
    distrusted = Toolbox(mcp_tools(servers(web=entry), effects={"*": "write", "find": "read"}))
    assert {name for name in distrusted.names if distrusted.effect(name) != "write"} == {"find"}


def test_an_effect_or_a_tool_that_is_not_there_is_named_with_the_known_ones(web):
    with pytest.raises(ConfigurationError, match=r"'web' .*: effects: there is no tool 'cuont'; .*count"):
        mcp_tools(servers(web={"url": web, "effects": {"cuont": "read"}}))
    with pytest.raises(ConfigurationError, match=r"disabledTools: there is no tool 'x'; there are: .*count"):
        mcp_tools(servers(web={"url": web, "disabledTools": ["x"]}))
    with pytest.raises(ConfigurationError, match=r"effects=: 'reed' is no effect for 'count'; known: read"):
        mcp_tools(servers(web={"url": web}), effects={"count": "reed"})
    left = mcp_tools(servers(web={"url": web, "disabledTools": ["take", "put"]}))
    assert not {"take", "put"} & {tool.name for tool in left}


def test_two_servers_with_one_tool_are_named_and_a_prefix_parts_them(web):
    two = servers(one={"url": web}, other={"url": web})
    with pytest.raises(
        ConfigurationError, match=r"'count', one of .*'one' .* and one of .*'other'.*\"prefix\""
    ):
        mcp_tools(two)
    names = {tool.name for tool in mcp_tools(two, prefix=True)}
    assert {"one_count", "other_count"} <= names
    odd = {tool.name for tool in mcp_tools({"mcpServers": {"my server!": {"url": web, "prefix": True}}})}
    assert "my_server__count" in odd


NAMED = """
import asyncio, sys
import mcp.types as types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
async def tools(context, params):
    schema = {"type": "object"}
    return types.ListToolsResult(tools=[types.Tool(name=name, input_schema=schema) for name in sys.argv[1:]])
async def call(context, params):
    return types.CallToolResult(content=[types.TextContent(type="text", text=params.name)])
server = Server("api", on_list_tools=tools, on_call_tool=call)
async def main():
    async with stdio_server() as (reading, writing):
        await server.run(reading, writing, server.create_initialization_options())
asyncio.run(main())
"""
"""A server that has the tools that it is told, which give their own names."""


@pytest.mark.parametrize("prefix", [False, True])
@pytest.mark.parametrize(
    ("names", "kept"),
    [(["b" * 70 + "_create", "b" * 70 + "_delete"], 0), (["get.weather", "get_weather"], 1)],
)
def test_names_that_are_the_same_once_made_safe_are_parted_and_call_the_right_tool(names, kept, prefix):
    command = {"command": sys.executable, "args": ["-c", NAMED, *names], "prefix": prefix}
    with mcp_tools(servers(api=command)) as tools:
        made = [tool.name for tool in tools]
        assert len(set(made)) == 2
        assert max(map(len, made)) <= 64
        assert [tool.invoke({}) for tool in tools] == names
    whole = {f"api_{name}" if prefix else name for name in names}
    assert len(whole & set(made)) == kept, "a name that fits is not changed"
    with mcp_tools(servers(api=command)) as again:
        assert [tool.name for tool in again] == made


def test_a_server_that_lists_a_name_twice_is_named():
    command = {"command": sys.executable, "args": ["-c", NAMED, "get", "get"]}
    with pytest.raises(ConfigurationError, match=r"'api'.* lists 2 tools named 'get'"):
        mcp_tools(servers(api=command))


# --- servers that misbehave --------------------------------------------------------------


def test_a_server_that_ends_during_a_call_is_a_failure_and_the_next_call_starts_it_again(tmp_path):
    log = tmp_path / "log.txt"
    [dying] = mcp_tools(servers(odd=stdio("dies_once", log)))
    args = {"mark": str(tmp_path / "mark")}
    with pytest.raises(ConnectionError, match=r"'odd' .* ended during the call: .*last words: out of memory"):
        dying.invoke(args)
    assert dying.invoke(args) == "alive"
    assert len(server_ids(log)) == 2


async def _rounds(count):
    """Let an event loop look at all its pipes as often."""
    for _ in range(count):
        await asyncio.sleep(0.01)


def test_a_server_that_has_ended_between_two_calls_is_started_again_unseen(tmp_path):
    log = tmp_path / "log.txt"
    [tool] = mcp_tools(servers(odd=stdio("babbles", log)))
    [process] = server_ids(log)
    os.kill(process, signal.SIGKILL)
    assert gone(process)
    noticed = asyncio.run_coroutine_threadsafe(_rounds(20), loop_in_thread("plan-execute-mcp"))
    noticed.result(30)
    assert tool.invoke({}) == "answered all the same"


def test_a_server_that_hangs_is_a_failed_call_and_is_replaced(tmp_path):
    log = tmp_path / "log.txt"
    tools = mcp_tools(servers(odd=stdio("hangs", log, timeout=1)))
    hang, quick = tools
    with pytest.raises(ToolFailedError, match=r"'odd' .* did not answer a call of hang within 1 s"):
        hang.invoke({})
    assert quick.invoke({}) == "quick"
    assert gone(server_ids(log)[0])
    with pytest.raises(ToolFailedError):
        hang.invoke({})
    assert quick.invoke({}) == "quick"
    tools.close()
    assert all(gone(process, 0) for process in server_ids(log)), "closing waits for the one that was replaced"


async def test_where_a_program_does_not_say_which_call_it_asks_about_none_is_made_again(tmp_path):
    log = tmp_path / "log.txt"
    with mcp_tools(servers(odd=stdio("asks_twice", log))) as tools:
        calls = [tool.ainvoke({}) for tool in sorted(tools, key=lambda tool: tool.name, reverse=True)]
        errors = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 30)
    assert [type(error) for error in errors] == [ConnectionError] * 2
    assert "did not say which of them it is about" in str(errors[0])
    assert sorted(log.read_text().splitlines()[1:]) == ["ask", "write"]


def test_a_careless_listing_costs_neither_its_tool_nor_the_others():
    with mcp_tools(servers(odd=stdio("careless"))) as tools:
        assert {tool.name: tool.invoke({}) for tool in tools} == {name: name for name in CARELESS}
        assert all(entry["arguments"]["type"] == "object" for entry in Toolbox(tools).inventory())


def test_garbage_on_stdout_is_passed_over_and_nothing_is_printed_about_it(capfd):
    [tool] = mcp_tools(servers(odd=stdio("babbles")))
    assert tool.invoke({}) == "answered all the same"
    assert capfd.readouterr() == ("", "")


def test_a_server_that_needs_long_to_start_is_waited_for_up_to_its_limit():
    [tool] = mcp_tools(servers(odd=stdio("slow")))
    assert tool.invoke({}) == "late"
    with pytest.raises(ConfigurationError, match=r"'odd' .*: it was not ready within 0.2 s"):
        mcp_tools(servers(odd=stdio("slow")), start_timeout_s=0.2)


def test_every_server_that_cannot_be_used_is_named_with_the_reason(tmp_path):
    log = tmp_path / "log.txt"
    with pytest.raises(ConfigurationError) as caught:
        mcp_tools(
            servers(
                talk=stdio("garbage", log),
                silent=stdio("silent", log, startTimeout=0.5),
                ends=stdio("ends"),
                none={"command": "no-such-program"},
                far={"url": "http://127.0.0.1:9/mcp?key=hidden"},
                fine=stdio("babbles", log),
            )
        )
    said = str(caught.value)
    assert "'silent' of the mapping cannot be used: it was not ready within 0.5 s" in said
    assert "'talk' of the mapping cannot be used: it ended before it was ready; it printed" in said
    assert "not MCP: 'Hello! I am a web server.'" in said
    assert (
        "'ends' of the mapping cannot be used: it ended before it was ready; its last words: cannot" in said
    )
    assert "the program 'no-such-program' was not found" in said
    assert "cannot be reached at http://127.0.0.1:9/mcp (" in said
    assert "'fine'" not in said
    assert all(gone(process) for process in server_ids(log))


@pytest.mark.parametrize("kind", ["guarded", "fastmcp-guarded"])
def test_a_server_that_wants_a_login_is_refused_and_the_message_says_what_to_give(tmp_path, kind):
    with http_server(tmp_path / "log.txt", kind) as (url, _):
        with pytest.raises(ConfigurationError, match=r"HTTP 401: it wants a login with OAuth.*Bearer"):
            mcp_tools(servers(web={"url": url}))
        with pytest.raises(ConfigurationError, match=r"'web' .*HTTP 401: check its headers"):
            mcp_tools(servers(web={"url": url, "headers": {"Authorization": "Bearer wrong"}}))
        token = {"Authorization": "Bearer the-right-one"}
        with mcp_tools(servers(web={"url": url, "headers": token})) as tools:
            found = {tool.name: tool for tool in tools}
            assert found["count"].invoke({"item": "tea"}) == 3


def test_a_server_that_is_gone_before_it_is_asked_anything_ended_too():
    # which of the two errors it is depends on who is faster
    gone_at_once = ExceptionGroup("", [anyio.BrokenResourceError()])
    assert _reason(gone_at_once) == "it ended before it was ready"


@pytest.mark.parametrize("kind", ["http", "fastmcp-http"])
def test_an_http_server_that_dies_during_a_call_is_a_failure_long_before_the_time_limit(tmp_path, kind):
    with http_server(tmp_path / "log.txt", kind) as (url, process):
        wait = next(tool for tool in mcp_tools(servers(web={"url": url})) if tool.name == "wait")
        mark = tmp_path / "mark"

        async def call():
            pending = asyncio.create_task(wait.ainvoke({"seconds": 60, "mark": str(mark)}))
            while not mark.exists():
                await asyncio.sleep(0.02)
            process.kill()
            await pending

        with pytest.raises(ConnectionError, match=r"'web' .* ended during the call: it closed"):
            asyncio.run(call())


@pytest.mark.parametrize("protocol", ["auto", "legacy"])
@pytest.mark.parametrize("kind", ["http", "fastmcp-http"])
def test_an_http_server_that_was_started_again_between_two_calls_is_called_unseen(tmp_path, kind, protocol):
    with http_server(tmp_path / "log.txt", kind) as (url, _):
        tools = mcp_tools(servers(web={"url": url, "protocol": protocol}))
        count = next(tool for tool in tools if tool.name == "count")
        assert count.invoke({"item": "tea"}) == 3
    with http_server(tmp_path / "log.txt", kind, int(url.split(":")[2].split("/")[0])), tools:
        assert count.invoke({"item": "tea"}) == 3


@pytest.fixture
def forgetful(tmp_path):
    """A tool of an HTTP server that forgets its sessions, and how to read the writes that it made."""
    log = tmp_path / "log.txt"
    with (
        http_server(log, "forgetful") as (url, _),
        mcp_tools(servers(web={"url": url, "protocol": "legacy"})) as (buy,),
    ):
        yield buy, lambda: log.read_text().splitlines()[1:]


def test_a_write_whose_answer_is_lost_with_its_session_is_not_made_again(forgetful):
    buy, made = forgetful
    with pytest.raises(ConnectionError, match=r"'web' .* ended during the call"):
        buy.invoke({"then": "break"})
    assert made() == ["made break"]


async def test_calls_that_a_server_refuses_with_their_session_are_each_made_once(forgetful):
    buy, made = forgetful
    assert await buy.ainvoke({"then": "forget"}) == "bought"
    assert await asyncio.gather(*(buy.ainvoke({}) for _ in range(5))) == ["bought"] * 5
    assert made() == ["made forget", *["made "] * 5]


async def test_a_call_under_way_is_not_made_again_where_another_is_refused_with_it(forgetful):
    buy, made = forgetful
    under_way = asyncio.create_task(buy.ainvoke({"then": "wait"}))
    while not made():
        await asyncio.sleep(0.01)
    assert await buy.ainvoke({}) == "bought"
    assert await under_way == "bought"
    assert made() == ["made wait", "made "]


@pytest.mark.parametrize("times", [1, 3])
def test_a_server_that_forgets_its_session_when_it_is_asked_for_its_tools_is_asked_again(tmp_path, times):
    with http_server(tmp_path / "log.txt", f"forgetful{times}") as (url, _):
        config = servers(web={"url": url, "protocol": "legacy"})
        with mcp_tools(config) as tools:
            assert [tool.name for tool in tools] == ["buy"]


def test_a_server_that_never_keeps_its_session_is_refused(tmp_path):
    with http_server(tmp_path / "log.txt", "forgetful99") as (url, _):
        config = servers(web={"url": url, "protocol": "legacy"})
        with (
            pytest.raises(ConfigurationError, match=r"'web'.* loses its session again and again"),
            mcp_tools(config),
        ):
            pass


def test_a_call_that_is_cancelled_is_called_off_at_the_server(shop, tmp_path):
    mark = tmp_path / "mark"

    async def call():
        pending = asyncio.create_task(shop["wait"].ainvoke({"seconds": 60, "mark": str(mark)}))
        while not mark.exists():
            await asyncio.sleep(0.02)
        pending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pending

    asyncio.run(call())
    deadline = time.monotonic() + 60
    while mark.read_text() != "called off" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert mark.read_text() == "called off"
    assert shop["count"].invoke({"item": "salt"}) == 0


# --- processes ---------------------------------------------------------------------------

CHILD = """
import sys
sys.path.insert(0, {tests!r})
from mcp_servers import stdio
from pathlib import Path
from plan_execute import mcp_tools
hang, quick = mcp_tools({{"mcpServers": {{"odd": stdio("hangs", Path(sys.argv[1]))}}}})
print(quick.invoke({{}}), flush=True)
if sys.argv[2] == "hang":
    print("hanging", flush=True)
    hang.invoke({{}})
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("what", "number"),
    [
        ("hang" if sys.platform == "linux" else "wait", signal.SIGKILL),  # elsewhere its input ends, no more
        ("hang", signal.SIGINT),
    ],
)
def test_no_server_outlives_its_program(tmp_path, what, number):
    log, script = tmp_path / "log.txt", tmp_path / "child.py"
    script.write_text(CHILD.format(tests=str(Path(__file__).parents[2])))
    command = [sys.executable, str(script), str(log), what]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as child:
        assert child.stdout.readline() == b"quick\n"
        if what == "hang":
            child.stdout.readline()
        child.send_signal(number)
        child.wait(30)
        [server] = server_ids(log)
        assert gone(server)


def test_closing_ends_the_servers_and_so_does_forgetting_the_tools(tmp_path):
    log = tmp_path / "log.txt"
    with mcp_tools(servers(odd=stdio("babbles", log))):
        [first] = server_ids(log)
    assert gone(first)
    [tool] = mcp_tools(servers(odd=stdio("babbles", log)))
    del tool
    assert gone(server_ids(log)[1])


def test_without_the_extra_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "langchain.mcp", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'plan-execute\[mcp\]'"):
        mcp_tools(servers(odd={"command": "x"}))


def test_who_debugs_sees_the_words_of_the_mcp_client(caplog):
    with caplog.at_level(logging.DEBUG, logger="mcp.client.stdio"):
        [tool] = mcp_tools(servers(odd=stdio("babbles")))
        tool.invoke({})
    assert "Failed to parse" in caplog.text


def test_the_form_of_an_output_is_what_the_server_declares_without_its_wrapping(web: str) -> None:
    described = {tool["name"]: tool for tool in Toolbox(mcp_tools(servers(web={"url": web}))).inventory()}
    assert signature(described["count"]) == "count(item: string) -> integer: Count an item."
    assert signature(described["find"]) == "find(text: string) -> string[]: Find items."
    assert described["picture"]["output"] is None
