"""How far a run is, drawn in chat front ends: the ``http.app`` of a ``langgraph.json``.

LangGraph's own way fetches a bundler from npm at each start, and without it the server stops
(langgraph-api 0.16.7). This component is served as it is written.
"""

from __future__ import annotations

from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

__all__ = ["app"]


async def component(request: Request) -> Response:
    """Answer what LangGraph's ``LoadExternalComponent`` asks for."""
    asked = await request.json()
    if not isinstance(asked, dict) or asked.get("name") != "progress":
        return PlainTextResponse(f"no component is served for {asked!r}; known: progress", status_code=404)
    return FileResponse(Path(__file__).with_name("progress.html"), media_type="text/html")


app = Starlette(routes=[Route("/ui/{graph_id}", component, methods=["POST"])])
