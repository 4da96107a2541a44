"""One real ``langgraph dev`` for the tests of a module."""

import pytest
from dev_server import serve


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Serve without hot reload; afterwards its log must hold nothing that no user should see."""
    with serve(tmp_path_factory.mktemp("server") / "app", "--no-reload", jobs=50) as started:
        yield started
        assert started.complaints() == []
