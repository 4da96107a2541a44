"""A loopback server that speaks enough of OpenAI's protocol to be used, and to be misused.

Tests drive the real client over real HTTP; the server answers rightly or wrongly on request::

    with OpenAIStub([Reply("hello"), Reply(status=429, headers={"Retry-After": "2"})]) as stub:
        ChatOpenAI(model="m", base_url=stub.base_url, api_key="k", max_retries=0).invoke("hi")
        assert stub.requests[0].body["model"] == "m"
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import Any

__all__ = ["OpenAIStub", "Reply", "Request", "asks_for_plan"]

Body = dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """One answer of the server; the defaults are a well-behaved empty completion."""

    content: str | None = ""
    tool_calls: Sequence[tuple[str, Mapping[str, Any] | str]] = ()
    """``(name, arguments)``; arguments given as text are sent as they are, also when broken."""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    finish_reason: str | None = None
    refusal: str | None = None
    error: Mapping[str, Any] | None = None
    """Fields of OpenAI's ``error`` object: ``message``, ``type``, ``code``."""
    raw_body: str | None = None
    """Sent in place of a completion: a malformed body."""
    drop: bool = False
    """Close the connection without a word (while streaming: after the first chunk)."""
    delay_s: float = 0.0
    usage: tuple[int, int] | None = (11, 7)
    """Prompt and completion tokens; None: the server does not count, and says nothing of it."""
    usage_counts_up: bool = False
    """Say in each part of a stream what it has used so far, as vLLM's ``continuous_usage_stats`` does."""
    call_ids: Sequence[str | None] | None = None
    """Ids of the tool calls; None: ``call_0`` and so on."""
    arguments_as_objects: bool = False
    """Send the arguments of tool calls as JSON objects, not as texts that hold them."""
    hold: Event | None = None
    """A streamed answer ends when this is set, or after twenty seconds; its text comes at once."""
    token_s: float = 0.0
    """Seconds per completion token: a stream comes token by token (of four characters), the rest at once."""

    @classmethod
    def json(cls, data: Any, **rest: Any) -> Reply:
        """Answer with JSON as content."""
        return cls(json.dumps(data), **rest)

    @classmethod
    def failure(cls, status: int, message: str = "stub failure", **rest: Any) -> Reply:
        """Answer with an HTTP error."""
        code = rest.pop("code", None)
        return cls(status=status, error={"message": message, "type": code, "code": code}, **rest)

    @classmethod
    def rejecting(cls, parameter: str) -> Reply:
        """Answer 400 as an endpoint does that does not know a parameter."""
        return cls.failure(400, f"Unknown parameter: '{parameter}'.", code="unknown_parameter")

    @property
    def reason(self) -> str:
        return self.finish_reason or ("tool_calls" if self.tool_calls else "stop")


Router = Callable[[Body], Reply]


def asks_for_plan(body: Body) -> bool:
    """Tell whether a request is a planner's or a replanner's, whatever form it asks for."""
    return str(body["messages"][0]["content"]).startswith(("You plan work", "You revise a plan"))


@dataclass(frozen=True)
class Request:
    """One request as it came in."""

    path: str
    headers: Mapping[str, str]
    body: Body


class OpenAIStub:
    """Serve replies in order, or by a function of the request body, on a free loopback port.

    Attributes:
        requests: The chat completions that were asked for.
        says: What it answers to GET, by path.
        looked_at: The paths that were asked for so.
    """

    def __init__(
        self,
        replies: Sequence[Reply | Router] | Router,
        *,
        latency_s: float = 0.0,
        says: Mapping[str, Any] | None = None,
    ) -> None:
        self.says, self.looked_at = says or {}, list[str]()
        self._router = replies if callable(replies) else None
        self._replies = [] if callable(replies) else list(replies)
        self._latency_s = latency_s
        self._lock = Lock()
        self.requests: list[Request] = []

    def __enter__(self) -> OpenAIStub:
        self._server = _Server(self)
        # A short poll: shutdown waits for one.
        self._thread = Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def answer(self, request: Request) -> Reply:
        """Choose the reply to a request and record the request."""
        with self._lock:
            self.requests.append(request)
            chosen: Reply | Router | None = self._router or (self._replies.pop(0) if self._replies else None)
        reply = chosen(request.body) if callable(chosen) else chosen
        time.sleep(self._latency_s + (reply.delay_s if reply else 0.0))
        # 418 is neither retried nor a rejected mode: a test that asks too often sees it at once.
        return reply or Reply.failure(418, "the stub has no reply left")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Slow answers to clients that gave up must not hold up the end of a test.
    block_on_close = False

    def __init__(self, stub: OpenAIStub) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.stub = stub

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent: clients that give up early are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    # Streams are chunked, as real servers do: only so can a client tell a dropped one from its end.
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent."""

    def do_GET(self) -> None:
        stub = self.server.stub
        stub.looked_at.append(self.path)
        known = self.path in stub.says
        body = json.dumps(stub.says[self.path]) if known else "{}"
        self._send(Reply(status=200 if known else 404, raw_body=body), {})
        self.close_connection = True

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.path, headers, body)
        if self.path != "/v1/chat/completions":
            self._send(Reply.failure(404, f"no such path: {self.path}"), {})
            return
        reply = self.server.stub.answer(request)
        if body.get("stream") and reply.status == 200 and reply.raw_body is None:
            self._stream(reply, body)
        elif not reply.drop:
            time.sleep(reply.token_s * (reply.usage or (0, 0))[1])
            self._send(reply, body)
        self.close_connection = True

    def _send(self, reply: Reply, body: Body) -> None:
        data = {"error": dict(reply.error)} if reply.error else _completion(reply, body)
        text = reply.raw_body if reply.raw_body is not None else json.dumps(data)
        payload = text.encode()
        self._head(reply, {"Content-Type": "application/json", "Content-Length": str(len(payload))})
        self.wfile.write(payload)

    def _stream(self, reply: Reply, body: Body) -> None:
        self._head(reply, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})
        began = time.monotonic()
        for number, chunk in enumerate(_chunks(reply, body)):
            if reply.drop and number:
                return
            if reply.hold and chunk["choices"] and chunk["choices"][0]["finish_reason"]:
                reply.hold.wait(20)
            # The first two are the role and the first token's beginning; the last token ends on time.
            due = began + reply.token_s * min(number, (reply.usage or (0, 0))[1])
            time.sleep(max(0.0, due - time.monotonic()))
            self._event(json.dumps(chunk))
        self._event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def _event(self, data: str) -> None:
        event = f"data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
        self.wfile.flush()

    def _head(self, reply: Reply, headers: Mapping[str, str]) -> None:
        self.send_response(reply.status)
        # Closed after each answer: no pooled connection outlives a test's event loop.
        for name, value in {**headers, "Connection": "close", **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()


def _completion(reply: Reply, body: Body) -> Body:
    message: Body = {"role": "assistant", "content": reply.content, "refusal": reply.refusal}
    if reply.tool_calls:
        message["tool_calls"] = _tool_calls(reply)
    choice = {"index": 0, "message": message, "finish_reason": reply.reason, "logprobs": None}
    return {**_frame(body, "chat.completion"), "choices": [choice], **_usage(reply)}


def _chunks(reply: Reply, body: Body) -> Iterator[Body]:
    frame = _frame(body, "chat.completion.chunk")
    for number, delta in enumerate(_deltas(reply)):
        so_far = {"usage": _counts(reply.usage[0], number)} if reply.usage and reply.usage_counts_up else {}
        yield {**frame, "choices": [{"index": 0, "delta": delta, "finish_reason": None}], **so_far}
    yield {**frame, "choices": [{"index": 0, "delta": {}, "finish_reason": reply.reason}]}
    if reply.usage and (body.get("stream_options") or {}).get("include_usage"):
        yield {**frame, "choices": [], **_usage(reply)}


def _deltas(reply: Reply) -> Iterator[Body]:
    yield {"role": "assistant", "content": ""}
    content = reply.content or ""
    size = 4 if reply.token_s else max(1, -(-len(content) // 3))
    yield from ({"content": content[start : start + size]} for start in range(0, len(content), size))
    if reply.refusal:
        yield {"refusal": reply.refusal}
    for index, call in enumerate(_tool_calls(reply)):
        arguments = call["function"]["arguments"]
        if reply.arguments_as_objects:
            yield {"tool_calls": [{"index": index, **call}]}
            continue
        half = len(arguments) // 2
        head = {**call, "function": {**call["function"], "arguments": arguments[:half]}}
        yield {"tool_calls": [{"index": index, **head}]}
        yield {"tool_calls": [{"index": index, "function": {"arguments": arguments[half:]}}]}


def _tool_calls(reply: Reply) -> list[Body]:
    sent: Callable[[Any], Any] = dict if reply.arguments_as_objects else _text
    ids = reply.call_ids or [f"call_{index}" for index in range(len(reply.tool_calls))]
    return [
        {"id": ids[index], "type": "function", "function": {"name": name, "arguments": sent(arguments)}}
        for index, (name, arguments) in enumerate(reply.tool_calls)
    ]


def _text(arguments: Mapping[str, Any] | str) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(dict(arguments))


def _frame(body: Body, kind: str) -> Body:
    return {"id": "chatcmpl-stub", "object": kind, "created": 0, "model": body.get("model", "stub")}


def _usage(reply: Reply) -> Body:
    if reply.usage is None:
        return {}
    return {"usage": _counts(*reply.usage)}


def _counts(prompt: int, completion: int) -> Body:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
