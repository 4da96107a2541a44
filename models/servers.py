"""Find out what a server of your own says about itself: its program, and its model's template.

It is asked until it has answered once per process, for a model with a base URL of its own; OpenAI's server is
never asked.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, replace
from typing import Any, Literal

from langchain_core.language_models import BaseChatModel

from ..errors import ModelUnavailableError
from .chat import model_name, speaks_openai
from .endpoints import OPENAI_HOST, endpoint_of

__all__ = ["UNKNOWN", "Server", "require_tools", "server_of"]

Program = Literal["llama.cpp", "vllm", ""]


@dataclass(frozen=True)
class Server:
    """What is known about a server.

    Attributes:
        program: The program's name; "" for any other program.
        version: Its release, as numbers; empty if unknown.
        takes_tools: Whether its model's template has a place for tools; without one, they are dropped.
        thinks: Whether the template supports thinking before the answer.
    """

    program: Program = ""
    version: tuple[int, ...] = ()
    takes_tools: bool = True
    thinks: bool = False


UNKNOWN = Server()

_ANSWER_S = 3.0
_THINKING = re.compile(r"think|reasoning|<\|channel\|>")
_KNOWN: dict[str, Server] = {}
"""What was found out, by endpoint and model; kept as long as the process runs."""


async def server_of(model: BaseChatModel) -> Server:
    """Find out what serves a model; `UNKNOWN` if it does not tell."""
    endpoint = endpoint_of(model)
    if not endpoint or OPENAI_HOST in endpoint or not speaks_openai(model) or _is_azure(model):
        return UNKNOWN
    key = f"{endpoint}|{model_name(model)}"
    if key not in _KNOWN:
        found = await _within_time(_asked(model, endpoint))
        if found is None:
            return UNKNOWN  # It may say more the next time.
        _KNOWN[key] = found
    return _KNOWN[key]


def require_tools(server: Server, who: str) -> None:
    """Refuse to give tools to a model whose template has no place for them: it would make something up.

    Raises:
        ModelUnavailableError: If it has none.
    """
    if not server.takes_tools:
        raise ModelUnavailableError(
            f"{who} would never see its tools: the chat template that {server.program} has for it "
            "supports no tools. Give the server one with tools (--jinja, --chat-template), or use "
            "bound steps"
        )


def _is_azure(model: BaseChatModel) -> bool:
    return "azure" in type(model).__name__.lower()


async def _within_time(asking: Any) -> Server | None:
    """Return what is found out; None if it cannot be known yet, `UNKNOWN` if the answer tells nothing."""
    try:
        async with asyncio.timeout(_ANSWER_S):
            found: Server = await asking
    except Exception as error:  # Whatever goes wrong here, the call itself will report it better.
        return None if _may_pass(error) else UNKNOWN
    return found


def _may_pass(error: Exception) -> bool:
    """Tell whether the server may answer later: it is not up, slow, busy, or still loads its model."""
    status = getattr(error, "status_code", 0)
    unheard = "APIConnectionError" in {cls.__name__ for cls in type(error).__mro__}
    return unheard or isinstance(error, TimeoutError) or status == 429 or status >= 500


async def _asked(model: BaseChatModel, endpoint: str) -> Server:
    client = model.root_async_client.with_options(timeout=_ANSWER_S, max_retries=0)  # type: ignore[attr-defined]
    listed = await client.get("/models", cast_to=object)
    owners = {str(one.get("owned_by")).lower() for one in listed.get("data") or ()}
    root = endpoint.removesuffix("/v1")
    if owners & {"llamacpp", "llama.cpp"}:
        return _with_template(Server("llama.cpp"), await client.get(f"{root}/props", cast_to=object))
    if "vllm" in owners:
        said = (await client.get(f"{root}/version", cast_to=object)).get("version")
        return Server("vllm", version=tuple(map(int, re.findall(r"\d+", str(said))[:2])))
    return UNKNOWN


def _with_template(server: Server, props: Any) -> Server:
    template = str(props.get("chat_template") or "")
    says = (props.get("chat_template_caps") or {}).get("supports_tools")
    # Older servers do not say what a template can do; all that support tools mention them.
    takes_tools = "tools" in template if says is None else bool(says)
    return replace(server, takes_tools=takes_tools or not template, thinks=bool(_THINKING.search(template)))
