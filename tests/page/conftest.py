"""The page as a process: one for tests that only look, and one for each that starts or ends it."""

import pytest
from served_page import ServedPage


@pytest.fixture
def page(tmp_path):
    """Prepare the page; a test starts it as it needs it."""
    served = ServedPage(tmp_path)
    yield served
    served.stop()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Serve a page that several tests look at."""
    served = ServedPage(tmp_path_factory.mktemp("page")).start().signed_in()
    yield served
    served.stop()
