"""What the tests of stops and resumes share."""

import crash_child
import pytest


@pytest.fixture(scope="session")
def children(tmp_path_factory):
    """Start runs in processes of their own."""
    with crash_child.serving(tmp_path_factory.mktemp("answers")) as started:
        yield started
