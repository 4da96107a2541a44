"""Text is fetched from public addresses only, within limits; a server cannot lead elsewhere or hold us."""

import asyncio
import gzip
import ipaddress
import shutil
import socket
import ssl
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plan_execute import Context, ScriptedModel, create_plan_execute_agent
from plan_execute.errors import ToolFailedError
from plan_execute.tools.http import HttpGet, http_tool, is_public
from plan_execute.tools.toolbox import Toolbox

LOOPBACK = "127.0.0.1"


class Server(ThreadingHTTPServer):
    """Serves what a test puts into ``pages``: path → (status, headers, body or function that writes it)."""

    daemon_threads = True

    def __init__(self, host=LOOPBACK):
        super().__init__((host, 0), Handler)
        self.pages, self.requests, self.stopped = {}, [], threading.Event()
        self.url = f"http://{host}:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def page(self, path, body=b"", status=200, **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.pages[path] = (status, {"Content-Type": "text/plain"} | named, body)
        return self.url + path

    def redirect(self, path, to, status=302, body=b""):
        return self.page(path, body, status, Location=to)

    def handle_error(self, request, client_address):
        pass  # clients hang up on purpose


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append((self.path, dict(self.headers)))
        status, headers, body = self.server.pages.get(self.path, (404, {}, b""))
        self.send_response(status)
        for name, value in headers.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        if callable(body):
            body(self)
        else:
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server() as running:
        yield running
        running.stopped.set()
        running.shutdown()


@pytest.fixture
def http():
    return HttpGet(frozenset({LOOPBACK}), time_limit_s=60, max_bytes=50_000)


def endless(handler):
    while not handler.server.stopped.is_set():
        handler.wfile.write(b"x" * 10_000)


def drops(handler):
    while not handler.server.stopped.wait(0.05):
        handler.wfile.write(b".")


# --- the work ------------------------------------------------------------------------------


async def test_a_text_is_fetched_as_it_is(server, http):
    url = server.page("/tea?kind=green", "grün\r\n".encode())
    assert await http.get(url) == {
        "url": url,
        "status": 200,
        "content_type": "text/plain",
        "text": "grün\r\n",
    }
    headers = server.requests[0][1]
    assert headers["Host"] == f"{LOOPBACK}:{server.server_port}"
    assert headers["Accept-Encoding"] == "identity"


async def test_the_charset_that_is_declared_is_used(server, http):
    url = server.page("/", "grün".encode("latin-1"), Content_Type="Text/HTML; charset=ISO-8859-1")
    assert (await http.get(url))["text"] == "grün"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_followed_and_the_last_url_is_told(server, http, status):
    end = server.page("/end", b"here")
    server.redirect("/middle", "end", status)
    assert (await http.get(server.redirect("/start", "/middle", status)))["url"] == end


async def test_an_error_status_is_a_failure_that_names_it(server, http):
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        await http.get(server.url + "/missing")
    with pytest.raises(httpx.HTTPStatusError, match="304"):
        await http.get(server.page("/unchanged", status=304))


# --- where it may go -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "gopher://127.0.0.1/",
        "data:text/plain,x",
        "//127.0.0.1/",
        "127.0.0.1",
        "",
        "http://",
        "http:///x",
        "http://[::1",
        "http://127.0.0.1:99999/",
        "http://a\0b/",
        "http://me:secret@127.0.0.1/",
        "http://127.0.0.1@127.0.0.2/",
        "http://" + "a" * 70 + ".example/",
    ],
)
async def test_what_is_no_plain_http_url_is_refused(http, url):
    with pytest.raises(ToolFailedError) as caught:
        await http.get(url)
    assert "secret@" not in str(caught.value)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "127.0.0.1.",
        "[fe80::1]",
        "①②⑦.0.0.1",
    ],
)
async def test_no_spelling_of_a_private_address_is_reached(server, host):
    with pytest.raises((ToolFailedError, httpx.ConnectError)):
        await HttpGet(time_limit_s=60).get(f"http://{host}:{server.server_port}/")
    assert server.requests == []


def test_only_addresses_of_the_public_internet_are_public():
    private = [0x0A000001, 0xAC100001, 0xC0A80001, 0x7F000001, 0xA9FEA9FE, 0x64400001, 0, 0xE0000001]
    private += [0xF0000001, 0xFFFFFFFF, 0xC0000201, 0xC6120001]
    for number in private:
        address = ipaddress.IPv4Address(number)
        assert not is_public(str(address)), address
        assert not is_public(f"::ffff:{address}"), address
        assert not is_public(str(ipaddress.IPv6Address((0x64FF9B << 96) | number))), address
        assert not is_public(str(ipaddress.IPv6Address((0x2002 << 112) | (number << 80)))), address
    for address in ("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "ff02::1", "fec0::1"):
        assert not is_public(address), address
    for address in ("::127.0.0.1", "2001:db8::1", "100::1", "2001::1"):
        assert not is_public(address), address
    for address in ("1.1.1.1", "8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"):
        assert is_public(address), address


SPECIAL = ["192.0.0.0", "192.0.0.8", "192.0.0.9", "192.0.0.170", "192.0.0.255", "192.88.99.1"]
SPECIAL += [
    "100.127.255.255",
    str(ipaddress.IPv4Address(0xAC1FFFFF)),
    "198.19.0.1",
    "203.0.113.9",
    "255.255.255.255",
]
SPECIAL += ["::ffff:192.0.0.8", "::ffff:0:1.1.1.1", "64:ff9b:1::1", "5f00::1"]
SPECIAL += ["2001:20::1", "2001:1ff::1", "3fff::1"]
ORDINARY = ["192.0.1.0", "191.255.255.255", "192.88.98.255", "100.63.0.1", "100.128.0.1", "172.32.0.1"]
ORDINARY += ["198.20.0.1", "223.255.255.255", "11.0.0.1", "2001:200::1", "2a00:1450::1", "3fff:1000::1"]


def test_the_edges_of_special_ranges_do_not_depend_on_the_version_of_python():
    assert [address for address in SPECIAL if is_public(address)] == []
    assert [address for address in ORDINARY if not is_public(address)] == []


@given(st.ip_addresses(v=4) | st.ip_addresses(v=6, network="2003::/16"))
def test_whatever_this_python_calls_not_global_is_not_public(address):
    assert address.is_global or not is_public(str(address))


@pytest.mark.parametrize("to", ["http://127.0.0.2:{port}/inner", "http://localhost:{port}/inner"])
@pytest.mark.parametrize("hops", [1, 3])
async def test_a_redirect_to_a_private_address_is_refused_on_every_hop(http, to, hops):
    with Server("0.0.0.0") as server:
        server.page("/inner", b"secret")
        allowed = f"http://{LOOPBACK}:{server.server_port}"
        for hop in range(hops - 1):
            server.redirect(f"/{hop}", f"{allowed}/{hop + 1}")
        server.redirect(f"/{hops - 1}", to.format(port=server.server_port))
        with pytest.raises(ToolFailedError, match="not a public one"):
            await http.get(f"{allowed}/0")
        assert len(server.requests) == hops
        server.shutdown()


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://127.0.0.1/", "javascript:alert(1)"])
async def test_a_redirect_to_another_scheme_is_refused(server, http, to):
    with pytest.raises((ToolFailedError, httpx.HTTPError)):
        await http.get(server.redirect("/", to))


async def test_a_redirect_with_a_password_is_refused(server, http):
    with pytest.raises(ToolFailedError, match="contains a user or a password"):
        await http.get(server.redirect("/", f"http://me:mine@{LOOPBACK}:{server.server_port}/"))


async def test_redirects_in_a_circle_end(server, http):
    with pytest.raises(ToolFailedError, match="more than 5 redirects"):
        await http.get(server.redirect("/", "/"))
    assert len(server.requests) == 6


def answers(monkeypatch, *answers):
    """Make the system's resolver give one list of addresses after the other, as a hostile server would."""
    real, asked, left = socket.getaddrinfo, [], list(answers)

    def resolve(host, port, *args, **kwargs):
        if host != "rebind.example":
            return real(host, port, *args, **kwargs)
        asked.append(host)
        addresses = left.pop(0) if len(left) > 1 else left[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return asked


async def test_a_name_is_resolved_once_and_the_checked_address_is_connected_to(server, monkeypatch):
    asked = answers(monkeypatch, [LOOPBACK], ["127.0.0.2"])
    server.page("/", b"here")
    http = HttpGet(frozenset({"rebind.example"}), time_limit_s=60)
    got = await http.get(f"http://rebind.example:{server.server_port}/")
    assert (got["text"], asked) == ("here", ["rebind.example"])
    assert got["url"] == f"http://rebind.example:{server.server_port}/"
    assert server.requests[0][1]["Host"] == f"rebind.example:{server.server_port}"


async def test_a_name_that_turns_private_between_redirects_is_refused(server, http, monkeypatch):
    answers(monkeypatch, [LOOPBACK])
    url = server.redirect("/", f"http://rebind.example:{server.server_port}/inner")
    with pytest.raises(ToolFailedError, match=r"rebind\.example has the address 127\.0\.0\.1"):
        await http.get(url)
    assert [path for path, _ in server.requests] == ["/"]


async def test_one_private_address_among_public_ones_is_enough_to_refuse(server, monkeypatch):
    answers(monkeypatch, ["1.1.1.1", LOOPBACK])
    with pytest.raises(ToolFailedError, match="not a public one"):
        await HttpGet(time_limit_s=60).get(f"http://rebind.example:{server.server_port}/")
    assert server.requests == []


async def test_the_next_address_is_tried_where_one_refuses(server, monkeypatch):
    answers(monkeypatch, ["127.0.0.3", LOOPBACK])
    server.page("/", b"here")
    http = HttpGet(frozenset({"rebind.example"}), time_limit_s=60)
    assert (await http.get(f"http://rebind.example:{server.server_port}/"))["text"] == "here"


async def test_a_proxy_of_the_environment_is_not_used(server, http, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.2:1")
    assert (await http.get(server.page("/", b"here")))["text"] == "here"


# --- TLS -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Make a certificate for localhost."""
    program = shutil.which("openssl")
    if not program:
        pytest.skip("openssl is not installed, so certificates are not tested")
    folder = tmp_path_factory.mktemp("tls")
    new = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    files = ["-keyout", folder / "key.pem", "-out", folder / "cert.pem"]
    subprocess.run([program, *new.split(), *files], check=True, capture_output=True)
    return folder


@pytest.fixture
def tls_server(server, certificate):
    names = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    context.sni_callback = lambda _, name, __: names.append(name)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.names = names
    return server


async def test_the_certificate_is_checked_for_the_name_although_the_address_is_connected_to(
    tls_server, certificate, monkeypatch
):
    tls_server.page("/", b"safe")
    trusted = ssl.create_default_context(cafile=certificate / "cert.pem")
    http = HttpGet(frozenset({"localhost", "rebind.example"}), time_limit_s=60, verify=trusted)
    assert (await http.get(f"https://localhost:{tls_server.server_port}/"))["text"] == "safe"
    assert tls_server.names == ["localhost"]
    answers(monkeypatch, [LOOPBACK])
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        await http.get(f"https://rebind.example:{tls_server.server_port}/")


async def test_a_certificate_that_nobody_vouches_for_is_refused(tls_server):
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        await HttpGet(frozenset({"localhost"})).get(f"https://localhost:{tls_server.server_port}/")


# --- how much and how long -----------------------------------------------------------------


async def test_an_endless_body_is_cut_off_at_the_limit(server, http):
    with pytest.raises(ToolFailedError, match="larger than 50,000 bytes"):
        await http.get(server.page("/", endless))


async def test_the_endless_body_of_a_redirect_is_not_read(server, http):
    server.page("/end", b"here")
    assert (await http.get(server.redirect("/", "/end", body=endless)))["text"] == "here"


async def test_the_endless_body_of_an_error_is_not_read(server, http):
    with pytest.raises(httpx.HTTPStatusError):
        await http.get(server.page("/", endless, status=500))


async def test_a_body_of_exactly_the_limit_is_read(server):
    assert (
        len((await HttpGet(frozenset({LOOPBACK}), max_bytes=10).get(server.page("/", b"x" * 10)))["text"])
        == 10
    )


@pytest.mark.parametrize("status", [200, 302])
async def test_a_server_that_sends_a_drop_at_a_time_is_left_after_the_time_limit(server, status):
    http = HttpGet(frozenset({LOOPBACK}), time_limit_s=1, max_redirects=2)
    with pytest.raises(TimeoutError, match="took longer than 1 s"):
        await http.get(server.page("/", drops))


async def test_a_server_that_never_answers_is_left_after_the_time_limit():
    with socket.create_server((LOOPBACK, 0)) as silent:
        http = HttpGet(frozenset({LOOPBACK}), time_limit_s=1)
        with pytest.raises(TimeoutError):
            await http.get(f"http://{LOOPBACK}:{silent.getsockname()[1]}/")


async def test_many_slow_redirects_share_one_time_limit(server):
    def slow(handler):
        handler.server.stopped.wait(0.6)

    for at in range(5):
        server.redirect(f"/{at}", f"/{at + 1}")
        status, headers, _ = server.pages[f"/{at}"]
        server.pages[f"/{at}"] = (status, SlowHeaders(headers), slow)
    with pytest.raises(TimeoutError):
        await HttpGet(frozenset({LOOPBACK}), time_limit_s=1).get(server.url + "/0")
    assert len(server.requests) < 4


class SlowHeaders(dict):
    """Headers that take their time."""

    def items(self):
        time.sleep(0.5)
        return super().items()


async def test_a_compressed_body_is_refused_before_it_unpacks(server, http):
    bomb = gzip.compress(b"x" * 20_000_000)
    assert len(bomb) < 50_000
    with pytest.raises(ToolFailedError, match="compressed"):
        await http.get(server.page("/", bomb, Content_Encoding="gzip"))


@pytest.mark.parametrize(
    "content_type",
    [
        "image/png",
        "application/octet-stream",
        "application/zip",
        "video/mp4",
        "text",
        "",
        None,
        "a/b; x=text/plain",
    ],
)
async def test_what_is_not_text_is_refused(server, http, content_type):
    with pytest.raises(ToolFailedError, match="is not text but"):
        await http.get(server.page("/", b"x", Content_Type=content_type))


@pytest.mark.parametrize(
    "content_type",
    [
        "text/html",
        "application/json",
        "application/ld+json; charset=utf-8",
        "application/atom+xml",
        "TEXT/CSV",
    ],
)
async def test_what_is_text_is_read(server, http, content_type):
    assert (await http.get(server.page("/", b"x", Content_Type=content_type)))["text"] == "x"


@pytest.mark.parametrize(
    "charset", ["utf-7", "punycode", "idna", "zip", "unicode_escape", "nonsense", "rot13"]
)
async def test_a_charset_that_does_more_than_name_letters_is_refused(server, http, charset):
    with pytest.raises(ToolFailedError, match="known charsets"):
        await http.get(server.page("/", b"x", Content_Type=f"text/plain; charset={charset}"))


async def test_bytes_that_are_not_in_the_charset_are_reported(server, http):
    with pytest.raises(ToolFailedError, match="not valid utf-8 text"):
        await http.get(server.page("/", b"caf\xe9"))


# --- as a tool -----------------------------------------------------------------------------


async def test_a_slow_server_does_not_block_the_event_loop(server):
    """The server answers when the loop has said so."""
    asked, go = threading.Event(), threading.Event()

    def patient(handler):
        asked.set()
        assert go.wait(60)
        handler.wfile.write(b"done")

    http = HttpGet(frozenset({LOOPBACK}), time_limit_s=60)
    call = asyncio.create_task(http.get(server.page("/", patient)))
    while not asked.is_set():
        await asyncio.sleep(0.01)
    go.set()
    assert (await call)["text"] == "done"


def test_bound_steps_and_agent_steps_use_it(server):
    url = server.page("/", b'{"tea": 1}', Content_Type="application/json")
    tool = http_tool(allow_hosts=[LOOPBACK])
    assert Toolbox([tool]).effect("http_get") == "read"
    model = ScriptedModel(
        {
            "executor": [
                ScriptedModel.tool_calls(("http_get", {"url": url.replace(LOOPBACK, "localhost")})),
                ScriptedModel.tool_calls(("http_get", {"url": url})),
                "There is tea.",
            ]
        }
    )
    plan = {
        "goal": "fetch",
        "steps": [
            {"id": "b", "call": {"tool": "http_get", "args": {"url": url}}},
            {"id": "a", "task": "fetch it", "depends_on": ["b"], "tools": ["http_get"]},
        ],
    }
    agent = create_plan_execute_agent(model, [tool])
    result = agent.invoke({"plan": plan}, context=Context(approval="never", on_failure="abort"))
    assert result["results"]["b"]["output"]["text"] == '{"tea": 1}'
    assert [call["ok"] for call in result["results"]["a"]["evidence"]] == [False, True]


def test_a_busy_server_is_asked_again_in_a_step(server):
    def busy_once(handler):
        server.page("/", b"at last")

    url = server.page("/", busy_once, status=503)
    plan = {"goal": "fetch", "steps": [{"id": "b", "call": {"tool": "http_get", "args": {"url": url}}}]}
    agent = create_plan_execute_agent(None, [http_tool(allow_hosts=[LOOPBACK])])
    result = agent.invoke({"plan": plan}, context=Context(approval="never", max_attempts=1))
    assert result["results"]["b"]["output"]["text"] == "at last"
    assert len(server.requests) == 2
