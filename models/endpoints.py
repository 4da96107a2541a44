"""Find the server that a model talks to."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

__all__ = ["OPENAI_HOST", "attributes_among", "endpoint_of"]

OPENAI_HOST = "api.openai.com"


def endpoint_of(model: BaseChatModel) -> str:
    """Return the URL that a model talks to, without credentials; empty if it has none."""
    for attribute in attributes_among(type(model), _SAYING_WHERE):
        found = getattr(model, attribute, None)
        if attribute == "root_async_client":
            found = getattr(found, "base_url", None)
        if found:
            return _without_credentials(str(found))
    return ""


_SAYING_WHERE = ("root_async_client", "base_url", "anthropic_api_url", "endpoint_url")


@lru_cache(maxsize=256)
def attributes_among(kind: type[BaseChatModel], names: tuple[str, ...]) -> list[str]:
    """Select the attributes that models of a class may have: pydantic takes long to miss one."""
    takes_any = kind.model_config.get("extra") == "allow"
    return [name for name in names if takes_any or name in kind.model_fields or hasattr(kind, name)]


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", "")).rstrip("/")
