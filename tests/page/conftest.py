"""A page for tests that only look, and one for each test that needs runs or a start of its own."""

import pytest
from served_page import ServedPage


@pytest.fixture
def page(tmp_path, forked):
    """Prepare the page; a test starts it as it needs it."""
    served = ServedPage(tmp_path, forked)
    yield served
    served.stop()


@pytest.fixture
def program(tmp_path):
    """Prepare the page of the real program, in an interpreter of its own."""
    served = ServedPage(tmp_path)
    yield served
    served.stop()


@pytest.fixture(scope="module")
def shared(tmp_path_factory, forked):
    """Serve a page that several tests look at."""
    served = ServedPage(tmp_path_factory.mktemp("page"), forked).start().signed_in()
    yield served
    served.stop()
