"""What servers of one's own say of themselves, for a stub that stands in for one."""

from __future__ import annotations

from typing import Any

__all__ = ["LLAMA", "VLLM", "llama"]

_TEMPLATE = (
    "{% if tools %}{{ tools | tojson }}{% endif %}{% for message in messages %}{{ message }}{% endfor %}"
)


def _models(owner: str) -> dict[str, Any]:
    return {"object": "list", "data": [{"id": "m", "object": "model", "owned_by": owner}]}


def llama(**props: Any) -> dict[str, Any]:
    """Say what llama.cpp does, with these properties."""
    return {"/v1/models": _models("llamacpp"), "/props": {"chat_template": _TEMPLATE, **props}}


LLAMA = llama()
VLLM = {"/v1/models": _models("vllm"), "/version": {"version": "0.12.1"}}
