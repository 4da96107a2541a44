"""Read the common ``mcpServers`` JSON into servers, and refuse errors in it by name."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from ..context import declare_variables, expand_variables
from ..errors import ConfigurationError, known
from ..state import Effect

__all__ = ["McpServer", "read_mcp_servers"]

Source = str | os.PathLike[str] | Mapping[str, Any]
Transport = Literal["stdio", "streamable_http", "sse"]
Protocol = Literal["auto", "legacy"]

START_TIMEOUT_S, CALL_TIMEOUT_S = 60.0, 120.0
"""Default limits; ``npx`` and ``uvx`` may have to download the server."""
_LONGEST_S = 3600.0
"""A larger number was meant in milliseconds, as in some other programs."""

_TRANSPORTS: dict[str, Transport] = {
    "stdio": "stdio",
    "http": "streamable_http",
    "streamable-http": "streamable_http",
    "streamable_http": "streamable_http",
    "streamableHttp": "streamable_http",
    "sse": "sse",
}
"""Values of ``type`` (VS Code, Claude Code) or ``transport`` (others)."""

_HOLDERS = ("mcpServers", "servers")
"""Keys with the servers: the first in nearly every program, the second in VS Code's ``mcp.json``."""

_COMMON = (
    "type",
    "transport",
    "protocol",
    "disabled",
    "disabledTools",
    "effects",
    "prefix",
    "timeout",
    "startTimeout",
)
_STDIO = ("command", "args", "env", "cwd")
_HTTP = ("url", "headers")
_OF_OTHERS = ("alwaysAllow", "autoApprove", "description", "gallery", "name", "version")
"""Other programs' keys without effect here: approving the plan decides what may run."""
_SECRET_HEADERS = ("*AUTHORIZATION*", "*COOKIE*", "*KEY*", "*TOKEN*", "*SECRET*", "*PASSWORD*")


@dataclass(frozen=True)
class McpServer:
    """One server, ready to be started or called.

    Attributes:
        name: Its name in the file.
        origin: The file, for messages.
        transport: How to connect to it.
        command: The program of a ``stdio`` server, with ``args``, ``env`` (on top of a few variables
            that every server gets, such as ``PATH``) and ``cwd`` (None: the current folder).
        url: Where an HTTP server listens, with ``headers``.
        effects: What single tools do, whatever their annotations say; ``*``: all others.
        without: Names or tools that are left out.
        prefix: Whether the server's name stands before the names of its tools.
        protocol: ``legacy`` keeps to MCP before 2026, in which a server may ask during a call.
        start_timeout_s: Until it must have answered the first time and have listed its tools.
        call_timeout_s: How long one call may take.
    """

    name: str
    origin: str
    transport: Transport
    command: str = ""
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: str | None = None
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    effects: Mapping[str, Effect] = field(default_factory=dict)
    without: frozenset[str] = frozenset()
    prefix: bool = False
    protocol: Protocol = "auto"
    start_timeout_s: float = START_TIMEOUT_S
    call_timeout_s: float = CALL_TIMEOUT_S

    def __str__(self) -> str:
        return f"the MCP server {self.name!r} of {self.origin}"


def read_mcp_servers(source: Source) -> list[McpServer]:
    """Read the servers that are not disabled.

    Args:
        source: A JSON file, or the content of one: ``{"mcpServers": {name: {…}}}``.

    Raises:
        ConfigurationError: If it cannot be read, or something in it is wrong; the message names the
            file, the server and the key, and the known ones.
    """
    if isinstance(source, Mapping):
        return [*_servers(source, "the mapping")]
    path = Path(source)
    return [*_servers(_loaded(path), str(path))]


def _loaded(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigurationError(
            f"the MCP file {path} cannot be read: {error.strerror or type(error).__name__}"
        ) from error
    except RecursionError as error:
        raise ConfigurationError(f"the MCP file {path} is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"the MCP file {path} is not UTF-8 text") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ConfigurationError(f"the MCP file {path} is not JSON: {error.msg} ({where})") from error


def _servers(data: Any, origin: str) -> list[McpServer]:
    holders = [name for name in _HOLDERS if isinstance(data, Mapping) and name in data]
    if not holders:
        found = known(map(str, data)) if isinstance(data, Mapping) else type(data).__name__
        raise ConfigurationError(f'{origin}: there is no "mcpServers" at its top level; found: {found}')
    named = data[holders[0]]
    if not isinstance(named, Mapping):
        raise ConfigurationError(f"{origin}: {holders[0]} must map names to servers, not {_kind(named)}")
    made = [_Entry(origin, str(name), entry).server() for name, entry in named.items()]
    return [server for server in made if server is not None]


@dataclass
class _Entry:
    """One server as written in the file; every error names the file, the server and the key."""

    origin: str
    name: str
    data: Any

    def server(self) -> McpServer | None:
        """Read the entry; None if the server is disabled."""
        if not isinstance(self.data, Mapping):
            raise self._error("", f"must be an object with command or url, not {_kind(self.data)}")
        if self._flag("disabled"):
            return None
        transport = self._transport()
        self._refuse_unknown(transport)
        own = self._stdio() if transport == "stdio" else self._http()
        return McpServer(
            name=self.name,
            origin=self.origin,
            transport=transport,
            effects=self._effects(),
            without=frozenset(self._texts("disabledTools")),
            prefix=self._flag("prefix"),
            protocol=self._typed(
                "protocol", "auto", get_args(Protocol).__contains__, known(get_args(Protocol))
            ),
            start_timeout_s=self._seconds("startTimeout", START_TIMEOUT_S),
            call_timeout_s=self._seconds("timeout", CALL_TIMEOUT_S),
            **own,
        )

    def _transport(self) -> Transport:
        said = {self.data[key] for key in ("type", "transport") if isinstance(self.data.get(key), str)}
        for key in ("type", "transport"):
            if key in self.data and self.data[key] not in _TRANSPORTS:
                raise self._error(key, f"{self.data[key]!r} is not known; known: {known(_TRANSPORTS)}")
        if "command" in self.data and "url" in self.data:
            raise self._error("", "has both command and url: a server has one of them")
        if "command" not in self.data and "url" not in self.data:
            raise self._error("", f"needs command (a program) or url; found: {known(map(str, self.data))}")
        by_key: Transport = "stdio" if "command" in self.data else "streamable_http"
        named = {_TRANSPORTS[word] for word in said} or {by_key}
        if len(named) > 1 or ("stdio" in named) != (by_key == "stdio"):
            key = "command" if by_key == "stdio" else "url"
            raise self._error("type" if "type" in self.data else "transport", f"does not fit {key}")
        return named.pop()

    def _refuse_unknown(self, transport: Transport) -> None:
        accepted = (*_COMMON, *(_STDIO if transport == "stdio" else _HTTP))
        for key in self.data:
            if key not in accepted and key not in _OF_OTHERS:
                close = difflib.get_close_matches(str(key), accepted, 1)
                hint = f" (did you mean {close[0]}?)" if close else ""
                raise self._error(str(key), f"is not known{hint}; known: {known(accepted)}")

    def _stdio(self) -> dict[str, Any]:
        command = self._text("command")
        if not command.strip():
            raise self._error("command", "must not be empty")
        cwd = self._text("cwd") if "cwd" in self.data else None
        if cwd is not None and not Path(cwd).expanduser().is_dir():
            raise self._error("cwd", f"{cwd!r} is not a folder")
        env = self._mapping("env")
        declare_variables(self.name, env)
        return {
            "command": command,
            "args": tuple(self._texts("args")),
            "env": env,
            "cwd": None if cwd is None else str(Path(cwd).expanduser()),
        }

    def _http(self) -> dict[str, Any]:
        url = self._text("url")
        if not url.startswith(("http://", "https://")):
            raise self._error("url", f"must begin with http:// or https://, not {url[:40]!r}")
        headers = self._mapping("headers")
        # "Bearer abc": the secret is abc, which may come back without the word before it.
        values = {name: text if ";" in text else text.split(" ")[-1] for name, text in headers.items()}
        declare_variables(self.name, values, secret=_SECRET_HEADERS)
        return {"url": url, "headers": headers}

    def _effects(self) -> dict[str, Effect]:
        given = self.data.get("effects", {})
        if not isinstance(given, Mapping):
            raise self._error("effects", f"must map tools to effects, not {_kind(given)}")
        for tool, effect in given.items():
            if effect not in get_args(Effect):
                accepted = known(get_args(Effect))
                raise self._error(f"effects.{tool}", f"{effect!r} is no effect; known: {accepted}")
        return dict(given)

    def _mapping(self, key: str) -> dict[str, str]:
        given = self.data.get(key) or {}
        if not isinstance(given, Mapping):
            raise self._error(key, f"must map names to texts, not {_kind(given)}")
        return {str(name): self._expanded(f"{key}.{name}", value) for name, value in given.items()}

    def _texts(self, key: str) -> list[str]:
        given = self.data.get(key) or []
        if not isinstance(given, list | tuple):
            raise self._error(key, f"must be a list of texts, not {_kind(given)}")
        return [self._expanded(f"{key}[{at}]", item) for at, item in enumerate(given)]

    def _text(self, key: str) -> str:
        return self._expanded(key, self.data[key])

    def _expanded(self, key: str, value: Any) -> str:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise self._error(key, f"must be text, not {_kind(value)}")
        try:
            return expand_variables(str(value))
        except ConfigurationError as error:
            raise self._error(key, str(error)) from error

    def _flag(self, key: str) -> bool:
        return bool(self._typed(key, False, lambda value: isinstance(value, bool), "true or false"))

    def _seconds(self, key: str, default: float) -> float:
        def fits(value: Any) -> bool:
            number = isinstance(value, int | float) and not isinstance(value, bool)
            return number and 0 < value <= _LONGEST_S

        return float(self._typed(key, default, fits, f"seconds, more than 0 and up to {_LONGEST_S:g}"))

    def _typed(self, key: str, default: Any, fits: Callable[[Any], bool], wanted: str) -> Any:
        value = self.data.get(key, default)
        if not fits(value):
            raise self._error(key, f"must be {wanted}, not {value!r}")
        return value

    def _error(self, key: str, problem: str) -> ConfigurationError:
        return ConfigurationError(
            f"{self.origin}: server {self.name!r}{f', {key}' if key else ''}: {problem}"
        )


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)
