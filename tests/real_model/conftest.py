"""Tests with a real model on a real server; skipped, and said so, where their wheels are not installed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from model_server import MISSING, ModelServer


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "real_model" in item.path.parts:
            item.add_marker(pytest.mark.real_model)
            if MISSING:
                item.add_marker(pytest.mark.skip(reason=f"no real model: {', '.join(MISSING)} not installed"))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    """The server that most tests share."""
    with ModelServer(tmp_path_factory.mktemp("model"), context=2048) as started:
        yield started
