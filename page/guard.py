"""Who may use the page: nothing is shown or done for a request that did not come from its own pages."""

from __future__ import annotations

import hashlib
import hmac
import inspect
import secrets
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Access", "Authenticate", "Guard", "RefusedError", "form_token", "person_of", "read_form"]

Authenticate = Callable[[Request], str | Awaitable[str | None] | None]
"""Returns who sends a request; None if they may not use the page."""

_LONGEST_BODY = 4 * 1024 * 1024
_READS = ("GET", "HEAD")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    # With no-referrer browsers would send the origin "null" with forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class RefusedError(Exception):
    """A request that is not carried out; the message says why."""


@dataclass
class Access:
    """Who may use the page, and under which names it is reached.

    Attributes:
        hosts: The values of the Host header that are answered; another name that leads here is not (DNS
            rebinding). None: the server in front of this one checks that.
        authenticate: Tells who sends a request; None: whoever has opened the address with the token.
        read_only: Whether nothing may be changed.
        person: Who opens the address with the token, by name; None: nobody knows.
    """

    hosts: Collection[str] | None
    authenticate: Authenticate | None = None
    read_only: bool = False
    person: str | None = None
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    """The token in the printed address; it works for one browser."""

    def __post_init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._sessions: set[str] = set()

    async def who(self, request: Request) -> str | None:
        """Identify who sends a request: by their session, or by ``authenticate``."""
        if self.authenticate is None:
            session = request.cookies.get(_cookie(request), "")
            return session if session in self._sessions else None
        found = self.authenticate(request)
        return (await found if inspect.isawaitable(found) else found) or None  # an empty name is nobody

    def person_of(self, who: str) -> str | None:
        """Name the person whom `who` has found; a session has no name."""
        return self.person if self.authenticate is None else who

    def exchange(self, token: str) -> str | None:
        """Exchange the token for a session, once."""
        if not self.token or not hmac.compare_digest(token.encode(), self.token.encode()):
            return None
        self.token = ""
        session = secrets.token_urlsafe(32)
        self._sessions.add(session)
        return session

    def form_token(self, who: str) -> str:
        """Return the token that this person's forms must contain."""
        return hmac.new(self._key, who.encode(), hashlib.sha256).hexdigest()


def form_token(request: Request) -> str:
    """Return the token that each form of the page must contain."""
    access: Access = request.scope["page_access"]
    return access.form_token(request.scope["page_who"])


def person_of(request: Request) -> str | None:
    """Name the person who sends a request; None: nobody knows."""
    access: Access = request.scope["page_access"]
    return access.person_of(request.scope["page_who"])


async def read_form(request: Request) -> dict[str, str]:
    """Read a form of the page.

    Raises:
        RefusedError: If it is none of this person's forms, or too large.
    """
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _LONGEST_BODY:
            raise RefusedError(f"the form holds more than {_LONGEST_BODY:,} bytes")
    try:
        pairs = parse_qsl(
            body.decode(), keep_blank_values=True, strict_parsing=bool(body), max_num_fields=500
        )
    except ValueError as error:
        raise RefusedError(f"this is no form: {error}") from error
    # Browsers send the text of a text area with CRLF line ends.
    form = {name: value.replace("\r\n", "\n") for name, value in pairs}
    if not hmac.compare_digest(form.pop("form_token", "").encode(), form_token(request).encode()):
        raise RefusedError(
            "this form is not from this page, or is older than its last start: load the page again"
        )
    return form


class Guard:
    """Stands before the page: an ASGI middleware."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app = app
        self.access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        request = Request(scope)
        refusal = await self._refusal(request)
        await (refusal or self.app)(scope, receive, with_headers)

    async def _refusal(self, request: Request) -> Response | None:
        """Return the refusal of a request; else None, and the request's scope says who sends it."""
        access, host = self.access, request.headers.get("host", "").lower()
        if access.hosts is not None and host not in access.hosts:
            return _refused(400, f"this server is not called {host!r}")
        changes = request.method not in _READS
        if changes and access.read_only:
            return _refused(403, "this page is read-only")
        if changes and _origin(request) != host:
            return _refused(403, "this request comes from another page")
        if (refusal := self._signing_in(request)) is not None:
            return refusal
        who = await access.who(request)
        if who is None:
            return self._unknown()
        request.scope.update(page_access=access, page_who=who)
        return None

    def _signing_in(self, request: Request) -> Response | None:
        token = request.query_params.get("token")
        if token is None or self.access.authenticate is not None or request.method != "GET":
            return None
        session = self.access.exchange(token)
        if session is None:
            return None  # used before, perhaps by this very browser
        answer = RedirectResponse(quote(request.url.path), 303)
        answer.set_cookie(_cookie(request), session, path="/", httponly=True, samesite="strict")
        return answer

    def _unknown(self) -> Response:
        if self.access.authenticate is not None:
            basic = {"WWW-Authenticate": 'Basic realm="plan-execute", charset="UTF-8"'}
            return PlainTextResponse("Sign in to see this page.\n", 401, basic)
        return _refused(
            401,
            "open the address that `plan-execute serve` printed; "
            "it works for one browser, and each start prints a new one",
        )


def _origin(request: Request) -> str:
    """Return the host and port of the page that a request comes from; "" where it says none that is one."""
    try:
        return urlsplit(request.headers.get("origin", "")).netloc.lower()
    except ValueError:
        return ""


def _cookie(request: Request) -> str:
    """Name the cookie; browsers send those of one port to all others of the host."""
    return f"plan_execute_{request.url.port}"


def _refused(code: int, why: str) -> Response:
    return PlainTextResponse(f"Refused: {why}.\n", code)
