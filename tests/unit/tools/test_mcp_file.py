"""The common mcpServers JSON: every mistake is refused by its file, its server and its key."""

import json

import pytest

from plan_execute.context import expand_variables, run_redactor
from plan_execute.errors import ConfigurationError
from plan_execute.tools.mcp_file import read_mcp_servers


def one(**entry):
    [server] = read_mcp_servers({"mcpServers": {"shop": entry}})
    return server


def test_the_files_of_the_usual_programs_are_read_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setenv("GH", "gh-value-1")
    claude = {"mcpServers": {"files": {"command": "npx", "args": ["-y", "server"], "env": {"A": "1"}}}}
    code = {"inputs": [], "servers": {"web": {"type": "http", "url": "https://h/mcp", "headers": {"X": "y"}}}}
    cursor = {
        "mcpServers": {"gh": {"url": "https://h/sse", "headers": {"Authorization": "Bearer ${env:GH}"}}}
    }
    cline = {"mcpServers": {"a": {"command": "uvx", "autoApprove": ["x"], "disabled": False, "timeout": 30}}}
    read = []
    for number, data in enumerate((claude, code, cursor, cline)):
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps(data))
        read += read_mcp_servers(path)
    assert [(server.name, server.transport) for server in read] == [
        ("files", "stdio"),
        ("web", "streamable_http"),
        ("gh", "streamable_http"),
        ("a", "stdio"),
    ]
    assert read[0].args == ("-y", "server")
    assert read[2].headers == {"Authorization": "Bearer gh-value-1"}
    assert read[3].call_timeout_s == 30
    assert "gh-value-1" not in repr(read)


def test_a_disabled_server_is_left_out_whatever_else_it_says():
    servers = {"mcpServers": {"a": {"disabled": True, "nonsense": 1}, "b": {"command": "x"}}}
    assert [server.name for server in read_mcp_servers(servers)] == ["b"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({}, r"server 'shop': needs command \(a program\) or url; found: \(none\)"),
        ({"commnd": "x"}, r"needs command \(a program\) or url; found: commnd"),
        ({"command": "x", "url": "http://h"}, r"has both command and url"),
        (
            {"command": "x", "arg": []},
            r"server 'shop', arg: is not known \(did you mean args\?\); known: .*args",
        ),
        ({"command": "x", "headers": {}}, r"server 'shop', headers: is not known; known: .*command"),
        ({"command": ""}, r"server 'shop', command: must not be empty"),
        ({"command": ["x"]}, r"server 'shop', command: must be text, not a list"),
        ({"command": "x", "args": "-y"}, r"server 'shop', args: must be a list of texts, not text"),
        ({"command": "x", "args": [None]}, r"server 'shop', args\[0\]: must be text, not null"),
        ({"command": "x", "env": {"A": {}}}, r"server 'shop', env.A: must be text, not an object"),
        (
            {"command": "x", "env": {"A": "${NOT_SET_1}"}},
            r"env.A: the environment variable NOT_SET_1 is not set",
        ),
        ({"command": "x", "env": {"A": "${input:key}"}}, r"env.A: \$\{input:key\} is known to editors only"),
        ({"command": "x", "cwd": "/no/such"}, r"server 'shop', cwd: '/no/such' is not a folder"),
        ({"command": "x", "type": "http"}, r"server 'shop', type: does not fit command"),
        ({"url": "http://h", "type": "stdio"}, r"server 'shop', type: does not fit url"),
        ({"url": "http://h", "transport": "ws"}, r"transport: 'ws' is not known; known: http, sse, stdio"),
        ({"url": "h:80"}, r"server 'shop', url: must begin with http:// or https://"),
        (
            {"command": "x", "timeout": 30000},
            r"timeout: must be seconds, more than 0 and up to 3600, not 30000",
        ),
        ({"command": "x", "disabled": "no"}, r"server 'shop', disabled: must be true or false, not 'no'"),
        (
            {"command": "x", "effects": {"a": "reed"}},
            r"effects.a: 'reed' is no effect; known: idempotent, read",
        ),
        ("npx", r"server 'shop': must be an object with command or url, not text"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, entry, message):
    path = tmp_path / "mcp.json"
    path.write_text(json.dumps({"mcpServers": {"shop": entry}}))
    with pytest.raises(ConfigurationError, match=message) as caught:
        read_mcp_servers(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"is not JSON: .* \(line 1, column 2\)"),
        ("[]", r'there is no "mcpServers" at its top level; found: list'),
        ('{"mcpservers": {}}', r'there is no "mcpServers" at its top level; found: mcpservers'),
        ('{"mcpServers": []}', r"mcpServers must map names to servers, not a list"),
        ("[" * 100_000, r"is nested too deeply|is not JSON"),
    ],
)
def test_a_file_that_holds_no_servers_is_refused(tmp_path, text, message):
    path = tmp_path / "mcp.json"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        read_mcp_servers(path)


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"none.json cannot be read: No such file"):
        read_mcp_servers(tmp_path / "none.json")
    (tmp_path / "odd.json").write_bytes(b"\xff\xfe\x80")
    with pytest.raises(ConfigurationError, match=r"odd.json is not UTF-8 text"):
        read_mcp_servers(tmp_path / "odd.json")


def test_variables_are_expanded_in_each_usual_form():
    env = {"A": "1", "B": ""}
    assert expand_variables("${A} ${env:A} ${C:-x} ${B:-y} $A $$", env) == "1 1 x y $A $$"


def test_what_a_server_is_given_as_a_secret_is_one_for_every_run():
    # Declared for the life of the process: a page's example has a SHOP_TOKEN, too.
    one(command="x", env={"STALL_TOKEN": "tok-12345", "STALL_PLACE": "north-sea"})
    headers = {"Authorization": "Bearer abc-98765", "X-Api-Key": "key-55555", "X-Team": "herbs-and-co"}
    one(url="http://h", headers=headers)
    said = run_redactor().text("tok-12345 north-sea abc-98765 key-55555 herbs-and-co")
    marks = [f"[redacted shop.{name}]" for name in ("STALL_TOKEN", "Authorization", "X-Api-Key")]
    assert said == f"{marks[0]} north-sea {marks[1]} {marks[2]} herbs-and-co"


def test_two_servers_with_one_name_keep_both_secrets():
    one(command="x", env={"SHOP_TOKEN": "first-value"})
    one(command="x", env={"SHOP_TOKEN": "second-value"})
    said = run_redactor().text("first-value second-value")
    assert "value" not in said
