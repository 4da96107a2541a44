"""The command that shows what waits and what runs in a browser: serve."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .exits import DONE, BadUsageError
from .options import Prices, SourceOptions
from .terminal import Screen

if TYPE_CHECKING:
    from ..page.board import Board, PlanReader
    from ..page.guard import Access, Authenticate
    from ..tools.toolbox import Toolbox
    from .sources import Sources

__all__ = ["serve"]

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def serve(
    *,
    host: Annotated[
        str,
        typer.Option(
            "--host",
            metavar="ADDRESS",
            help="The address to listen on; one that others can reach needs --auth.",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            "--port", metavar="N", min=0, max=65535, help="The port to listen on; 0 takes any free port."
        ),
    ] = 8420,
    auth: Annotated[
        str | None,
        typer.Option(
            "--auth",
            metavar="MODULE:FUNCTION",
            help="A function that tells who sends a request. "
            "It gets Starlette's Request, and returns a name or None.",
        ),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(
            "--name",
            metavar="HOST[:PORT]",
            help="A name under which browsers reach the page, for example behind a proxy. May be repeated.",
        ),
    ] = None,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Show everything, and change nothing.")
    ] = False,
    source_options: SourceOptions,
    prices: Prices = None,
) -> int:
    """Show what waits and what runs in a browser, and run it.

    It prints an address that works for one browser. Runs that you start there run in this process. If it
    ends, they can be continued later.
    """
    from .sources import Sources, open_agent, who_is_there

    check_page_extra()
    if auth is None and host not in _LOOPBACK:
        raise BadUsageError(
            f"--host {host} can be reached by others, so it needs --auth MODULE:FUNCTION, which tells "
            "who they are"
        )
    screen, sources = Screen(json=False), Sources.read(source_options, prices=prices)
    who = _authenticate(auth) if auth is not None else None
    toolbox = sources.toolbox()
    with _listening(host, port) as listening, open_agent(sources, toolbox) as agent:
        from ..page.board import Board
        from ..page.guard import Access

        at = listening.getsockname()[1]
        access = Access(_names(host, at, name or ()), who, read_only, person=who_is_there(None))
        board = Board(agent, _agents(sources, agent), plan_reader(sources, toolbox))
        shown = f"[{host}]" if ":" in host else host
        query = "" if who is not None else f"?token={access.token}"
        screen.note(f"Threads of {sources.database.shown}. Ctrl-C ends the page; no run is lost.")
        _serve(board, access, listening, lambda: screen.data(f"http://{shown}:{at}/{query}"))
    return DONE


def check_page_extra() -> None:
    """Refuse to go on without the packages of the extra.

    Raises:
        ConfigurationError: If one is missing.
    """
    from importlib.util import find_spec

    from ..errors import ConfigurationError

    needed = ("starlette", "uvicorn", "sse_starlette")
    if missing := [module for module in needed if find_spec(module) is None]:
        raise ConfigurationError(
            f"the page needs {', '.join(missing)}: install them with pip install 'plan-execute[page]'"
        )


def _authenticate(reference: str) -> Authenticate:
    from pkgutil import resolve_name

    from .sources import look_in_this_folder

    look_in_this_folder()
    try:
        found: Any = resolve_name(reference)
    except Exception as error:  # whatever a module raises while it is imported
        raise BadUsageError(
            f"--auth {reference} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    if not callable(found):
        raise BadUsageError(f"--auth {reference} is no function that takes a request, but {found!r}")
    who: Authenticate = found
    return who


def _names(host: str, port: int, others: list[str] | tuple[str, ...]) -> set[str]:
    """List the values of the Host header that mean this server."""
    own = _LOOPBACK if host in _LOOPBACK else (host,)
    written = {f"[{one}]:{port}" if ":" in one else f"{one}:{port}" for one in own}
    return written | {one.lower() for one in others}


def _listening(host: str, port: int) -> socket.socket:
    from ..errors import ConfigurationError

    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigurationError(f"the page cannot listen on {host} port {port}: {error.strerror}") from error


def _agents(sources: Sources, shared: Any) -> Callable[[str], Any]:
    """Give each thread an agent whose tools have the thread's own workspace, if any tool has one."""
    from .sources import make_agent

    if not sources.toolsets or sources.workspace is not None:
        return lambda _: shared
    return lambda thread: make_agent(sources, sources.toolbox(thread), shared.checkpointer, shared.store)


def plan_reader(sources: Sources, toolbox: Toolbox) -> PlanReader:
    """Make the function that reads a typed plan in the way that a plan file is read."""
    from ..plan.files.plan_files import read_plan_text
    from .plan_files import GivenInputs, check_plan, refusal

    def read(
        text: str, texts: Mapping[str, str], exact: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        given, plan_file = GivenInputs(texts, exact), read_plan_text(text, "the plan")
        checked = check_plan(plan_file, toolbox, given, has_model=sources.model is not None)
        if checked.issues:
            raise refusal(plan_file.name, checked.issues)
        return plan_file.plan, checked.inputs

    return read


def _serve(board: Board, access: Access, listening: socket.socket, ready: Callable[[], None]) -> None:
    import uvicorn

    from ..page.app import create_app

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready()

    settings = uvicorn.Config(
        create_app(board, access),
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=3,
    )
    Server(settings).run(sockets=[listening])
