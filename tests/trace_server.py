"""A loopback server that takes traces: LangSmith's run batches, and spans over OTLP.

Tests drive the real clients over real HTTP::

    with TraceServer() as server:
        client = Client(api_url=server.url, api_key="…")
        …
        assert server.runs["planner"]["tags"]
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

__all__ = ["TraceServer"]


class TraceServer:
    """Keep what clients send: ``bodies`` as text, ``by_id`` the runs, ``spans`` the names of spans."""

    def __init__(self) -> None:
        self.bodies: list[str] = []
        self.by_id: dict[str, dict[str, Any]] = {}
        self.spans: list[str] = []
        self._lock = Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_for(self))
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def __enter__(self) -> TraceServer:
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def runs(self) -> dict[str, dict[str, Any]]:
        """The runs by name; of several with one name, the last."""
        return {run["name"]: run for run in self.by_id.values()}

    def path_of(self, name: str) -> list[str]:
        """The names from the root of its trace down to a run."""
        run, path = self.runs[name], [name]
        while (parent := run.get("parent_run_id")) is not None:
            run = self.by_id[parent]
            path.insert(0, run["name"])
        return path

    def take_runs(self, batch: Mapping[str, Any], body: str) -> None:
        with self._lock:
            self.bodies.append(body)
            for told in [*(batch.get("post") or ()), *(batch.get("patch") or ())]:
                known = self.by_id.setdefault(told["id"], {})
                known.update({key: value for key, value in told.items() if value is not None})

    def take_spans(self, raw: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(raw)
        with self._lock:
            self.bodies.append(str(request))
            scopes = [scope for resource in request.resource_spans for scope in resource.scope_spans]
            self.spans += [span.name for scope in scopes for span in scope.spans]


def _handler_for(server: TraceServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            # LangSmith's client asks how it may send: plain JSON can be read here.
            limits = {"size_limit": 100, "size_limit_bytes": 20_000_000, "scale_up_nthreads_limit": 1}
            limits |= {"scale_up_qsize_trigger": 1000, "scale_down_nempty_trigger": 4}
            self._answer({"batch_ingest_config": {**limits, "use_multipart_endpoint": False}})

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            raw = gzip.decompress(raw) if self.headers.get("Content-Encoding") == "gzip" else raw
            if self.path.endswith("/runs/batch"):
                server.take_runs(json.loads(raw), raw.decode())
            elif self.path.endswith("/v1/traces"):
                server.take_spans(raw)
            else:
                raise AssertionError(f"no client was expected to post to {self.path}")
            self._answer({})

        def _answer(self, body: Mapping[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    return Handler
