"""Find the server that a model talks to."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

__all__ = ["OPENAI_HOST", "endpoint_of"]

OPENAI_HOST = "api.openai.com"


def endpoint_of(model: BaseChatModel) -> str:
    """Return the URL that a model talks to, without credentials; empty if it has none."""
    client = getattr(model, "root_async_client", None)
    places = [
        (client, "base_url"),
        (model, "base_url"),
        (model, "anthropic_api_url"),
        (model, "endpoint_url"),
    ]
    for owner, attribute in places:
        if url := getattr(owner, attribute, None):
            return _without_credentials(str(url))
    return ""


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", "")).rstrip("/")
