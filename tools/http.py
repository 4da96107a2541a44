"""A tool that fetches text over HTTP, from public addresses only."""

from __future__ import annotations

import asyncio
import codecs
import ipaddress
import re
import socket
import ssl
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import httpx
from langchain_core.tools import BaseTool, StructuredTool

from ..errors import ToolFailedError, known
from .threads import run_in_thread, run_to_end

__all__ = ["HttpGet", "http_tool"]

_SCHEMES = ("http", "https")
_TEXT_TYPES = re.compile(
    r"text/[\w.+-]+|application/(?:[\w.-]+\+(?:json|xml|yaml)"
    r"|json|xml|yaml|x-yaml|javascript|ecmascript|x-ndjson|jsonl|toml)"
)
_CHARSETS = frozenset({"utf-8", "utf-8-sig", "ascii", "iso8859-1", "iso8859-15", "cp1252", "utf-16"})
# A server that ignores the second header could send a few bytes that unpack to gigabytes.
_HEADERS = {"User-Agent": "plan-execute", "Accept-Encoding": "identity"}
_LAST_PORT = 65_535
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# IANA's registries of special addresses. Python's own is_global depends on its version: before 3.11.10 it
# considers most of 192.0.0.0/24 public.
_GLOBAL_V6 = ipaddress.ip_network("2000::/3")
_SPECIAL = (
    *(
        ipaddress.IPv4Network((first << 16, bits))
        for first, bits in (
            (0x0000, 8),  # this network
            (0x0A00, 8),  # private
            (0x6440, 10),  # shared by a carrier's customers
            (0x7F00, 8),  # loopback
            (0xA9FE, 16),  # link-local
            (0xAC10, 12),  # private
            (0xC000, 24),  # protocol assignments
            (0xC0A8, 16),  # private
            (0xC612, 15),  # benchmarks
            (0xE000, 3),  # multicast, reserved, broadcast
        )
    ),
    *map(ipaddress.ip_network, ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "192.88.99.0/24")),
    *map(ipaddress.ip_network, ("2001::/23", "2001:db8::/32", "3fff::/20")),
)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def http_tool(*, allow_hosts: Collection[str] = ()) -> BaseTool:
    """Make the tool ``http_get`` with the usual limits.

    Args:
        allow_hosts: Hosts that may have private addresses, as written in URLs.
    """
    return HttpGet(allow_hosts=frozenset(allow_hosts)).tool()


@dataclass(frozen=True)
class HttpGet:
    """Fetches text.

    Every redirect is checked again: the host is resolved, all its addresses must be public, and the
    connection is made to an address that was checked. It is a read, so it needs no approval, but a URL can
    carry data out: do not give it to steps that see secrets.

    Attributes:
        allow_hosts: Hosts that may have private addresses, as written in URLs.
        max_bytes: The largest body.
        max_redirects: How many redirects are followed.
        time_limit_s: Seconds for everything together.
        verify: Which certificates are trusted; None for those of certifi.
    """

    allow_hosts: frozenset[str] = frozenset()
    max_bytes: int = 1_000_000
    max_redirects: int = 5
    time_limit_s: float = 30.0
    verify: ssl.SSLContext | None = field(default=None, repr=False)

    def tool(self) -> BaseTool:
        """Make the tool ``http_get``."""

        async def http_get(url: str) -> dict[str, Any]:
            """Fetch a text, such as a web page or JSON, from a public http or https URL."""
            return await self.get(url)

        tool = StructuredTool.from_function(coroutine=http_get, metadata={"effect": "read"})
        # LangChain tools can also be called without a loop.
        tool.func = lambda url: run_to_end(self.get(url))
        return tool

    async def get(self, url: str) -> dict[str, Any]:
        """Fetch a URL and return ``{url, status, content_type, text}``, the URL after redirects.

        Raises:
            ToolFailedError: If it may not be fetched, is too large, or is not text.
            TimeoutError: If it takes too long.
            httpx.HTTPError: If the server cannot be reached or answers with an error status.
        """
        try:
            async with asyncio.timeout(self.time_limit_s):
                return await self._follow(httpx.Request("GET", url, headers=_HEADERS))
        except httpx.InvalidURL as error:
            raise ToolFailedError(
                f"{url!r} is not a URL, or redirects to something that is not one: {error}"
            ) from error
        except TimeoutError as error:
            raise TimeoutError(f"{url} took longer than {self.time_limit_s:g} s") from error

    async def _follow(self, request: httpx.Request) -> dict[str, Any]:
        verify = await run_in_thread(_trusted) if self.verify is None else self.verify
        transport = CheckedTransport(self.allow_hosts, verify)
        # Without the environment: a proxy would connect elsewhere than checked, and .netrc contains
        # passwords.
        client = httpx.AsyncClient(transport=transport, trust_env=False, timeout=self.time_limit_s)
        async with client:
            for _ in range(self.max_redirects + 1):
                response = await client.send(request, stream=True)
                try:
                    # Redirects are followed here, because httpx would read their bodies to the end.
                    if response.next_request is None:
                        return await self._read(response)
                    request = response.next_request
                finally:
                    await response.aclose()
        raise ToolFailedError(f"more than {self.max_redirects} redirects; the last one to {request.url}")

    async def _read(self, response: httpx.Response) -> dict[str, Any]:
        if response.status_code != 200:
            response.raise_for_status()
        content_type, charset = _kind_of(response)
        content = bytearray()
        async for chunk in response.aiter_raw():
            content += chunk
            if len(content) > self.max_bytes:
                raise ToolFailedError(f"{response.url} is larger than {self.max_bytes:,} bytes")
        try:
            text = content.decode(charset)
        except UnicodeDecodeError as error:
            raise ToolFailedError(f"{response.url} is not valid {charset} text: {error.reason}") from error
        url, status = str(response.url), response.status_code
        return {"url": url, "status": status, "content_type": content_type, "text": text}


class CheckedTransport(httpx.AsyncBaseTransport):
    """Connects only to public addresses, and to exactly the address that was checked.

    Args:
        allow_hosts: Hosts that may have any address.
        verify: Which certificates are trusted.
    """

    def __init__(self, allow_hosts: Collection[str], verify: ssl.SSLContext) -> None:
        self._allow_hosts = allow_hosts
        self._inner = httpx.AsyncHTTPTransport(verify=verify, trust_env=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Check where a request goes, and send it there."""
        _check_url(request.url)
        addresses = await self._addresses(request.url)
        for left, address in enumerate(addresses, 1 - len(addresses)):
            try:
                return await self._inner.handle_async_request(_pinned(request, address))
            except httpx.ConnectError:
                if left == 0:
                    raise
        raise httpx.ConnectError(f"{request.url.host} has no address", request=request)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()

    async def _addresses(self, url: httpx.URL) -> list[str]:
        try:
            found = await run_in_thread(socket.getaddrinfo, url.host, None, type=socket.SOCK_STREAM)
        except OSError as error:
            raise httpx.ConnectError(f"{url.host} cannot be resolved: {error.strerror}") from error
        except UnicodeError as error:
            raise ToolFailedError(f"{url.host!r} is not the name of a host") from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        refused = [address for address in addresses if not is_public(address)]
        if refused and url.host not in self._allow_hosts:
            raise ToolFailedError(f"{url.host} has the address {refused[0]}, which is not a public one")
        return addresses


def is_public(address: str) -> bool:
    """Tell whether an address is on the public internet, also if it wraps an IPv4 address."""
    found: Address = ipaddress.ip_address(address.partition("%")[0])
    wrapped = _wrapped(found) if isinstance(found, ipaddress.IPv6Address) else None
    if wrapped is not None:
        return is_public(str(wrapped))
    if found.version == 6 and found not in _GLOBAL_V6:
        return False
    return not any(found in network for network in _SPECIAL)


def _wrapped(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that an IPv6 address leads to: mapped, 6to4, Teredo, NAT64."""
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None)


def _check_url(url: httpx.URL) -> None:
    if url.scheme not in _SCHEMES or not url.host or (url.port or 0) > _LAST_PORT:
        raise ToolFailedError(f"{str(url)!r} is not a URL of {' or '.join(_SCHEMES)}")
    if url.userinfo:
        raise ToolFailedError(f"the URL of {url.host} contains a user or a password, which would be recorded")


def _pinned(request: httpx.Request, address: str) -> httpx.Request:
    """Send a request to an address; the Host header and the certificate's name stay the host's."""
    return httpx.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        extensions={**request.extensions, "sni_hostname": request.url.raw_host.decode()},
    )


def _kind_of(response: httpx.Response) -> tuple[str, str]:
    """Return content type and charset of a text that is not compressed."""
    declared = response.headers.get("content-type", "")
    content_type = declared.partition(";")[0].strip().lower()
    if not _TEXT_TYPES.fullmatch(content_type):
        raise ToolFailedError(f"{response.url} is not text but {content_type or 'of no declared type'}")
    if (encoding := response.headers.get("content-encoding", "identity").lower()) != "identity":
        raise ToolFailedError(f"{response.url} is compressed ({encoding}), which was not asked for")
    charset = response.charset_encoding or "utf-8"
    try:
        name = codecs.lookup(charset).name
    except (LookupError, ValueError):
        name = ""
    if name not in _CHARSETS:
        raise ToolFailedError(f"{response.url} is text in {charset!r}; known charsets: {known(_CHARSETS)}")
    return content_type, name


@cache
def _trusted() -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=False)
