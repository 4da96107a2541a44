"""What the README and the pages of docs show works: every block is run or checked, page by page.

A new page in docs is covered as it is. What it needs beside its own text (a model, a database, a checkout)
stands in PREPARED, what cannot be run here in ELSEWHERE, with the place where it is. A page that this does
not suit (``docs/x.md``) may have a test of its own instead: ``test_x_page.py``, in this folder.
"""

import os
import sys
from contextlib import contextmanager, nullcontext
from pathlib import Path

import postgres_server
import pytest
from openai_stub import OpenAIStub, Reply, asks_for_plan
from pages import CHECKOUT, LANGUAGES, PROGRAMS, PageRun, blocks_of, commands_in, page_names
from plans import draft, draft_step

ELSEWHERE = {
    "make demo": ".ci/run",
    "make test": ".ci/run",
    "pip install -e .": "what `make demo` does in .venv",
    "pip wheel --no-deps --wheel-dir dist .": "tests/structure/test_packaging.py builds the wheel",
    "pip install -e '.[server]'": "part of the dev extra that `make test` installs",
    "pip install -e '.[postgres]'": "part of the dev extra that `make test` installs",
    "langgraph build -t shop-agent": "a Docker engine; tests/structure/test_server_image.py has the rest",
    "plan-execute serve --tools mytools:ALL": "tests/page",
    "plan-execute serve --host 0.0.0.0 --auth team:who --name plans.example.org": "tests/page/test_access.py",
    "docker run -p 8123:8000 --env-file .env shop-agent": "a Docker engine",
}
"""Commands that are shown and run in another place, and in which."""

FOREIGN = ("PLAN_EXECUTE_", "OPENAI_", "ANTHROPIC_", "LANGSMITH_", "LANGCHAIN_", "LANG", "LC_", "XDG_")
SETTINGS = {
    "COLUMNS": "80",
    "LINES": "40",
    "LANG": "C.UTF-8",
    "LANGGRAPH_CLI_NO_ANALYTICS": "1",
    "NO_COLOR": "1",
    "TERM": "dumb",
}


# --- what pages need ---------------------------------------------------------------------


def a_model(*steps, answer="Done."):
    """Serve a model that plans these steps, and answers anything else with a sentence."""

    @contextmanager
    def serving(_folder):
        planned = draft(*steps)
        with OpenAIStub(lambda body: Reply.json(planned) if asks_for_plan(body) else Reply(answer)) as stub:
            os.environ["PLAN_EXECUTE_BASE_URL"] = stub.base_url
            yield

    return serving


@contextmanager
def a_database(_folder):
    """Have an empty PostgreSQL database."""
    os.environ["DATABASE_URL"] = postgres_server.server().new_schema()
    yield


@contextmanager
def a_shared_database(_folder):
    """Keep the threads in an empty PostgreSQL database."""
    os.environ["PLAN_EXECUTE_DB"] = postgres_server.server().new_schema()
    yield


@contextmanager
def a_plan_to_note(folder):
    """Have a plan file and its tool, which the page takes for granted."""
    os.environ["SHOP_API_KEY"] = "to be set by the page"
    (folder / "quiet_tools.py").write_text('def note(text: str) -> str:\n    """Note."""\n    return text\n')
    (folder / "note.yaml").write_text(
        "goal: note it\nsteps:\n  - id: a\n    call: {tool: note, args: {text: hush}}\n"
    )
    yield
    assert b"hush" not in (folder / "threads.db").read_bytes()


@contextmanager
def a_checkout(folder):
    """Have a checkout of this repository in the folder."""
    (folder / "plan_execute").symlink_to(CHECKOUT)
    yield


PREPARED = {
    "docs/plan-files.md": a_model(
        draft_step("weather", "get_weather", {"city": "Oslo"}),
        draft_step("report", "save_report", {"path": "oslo.txt", "text": "${weather.temp_c}"}),
    ),
    "docs/postgresql.md": a_database,
    "docs/quick-start.md": a_model(
        draft_step("weather", "get_weather", {"city": "Rome"}, task="Look up the weather of Rome"),
        draft_step("note", "save_note", {"path": "rome.txt", "text": "${weather.temp_c} °C in Rome"}),
        answer="It is 21 °C in Rome; rome.txt says so.",
    ),
    "docs/secrets.md": a_plan_to_note,
    "docs/deploy.md": a_checkout,
    "docs/schedules.md": a_shared_database,
    "docs/workers.md": a_shared_database,
}
"""What stands around a page: context managers that get its folder."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder that is the current one and a user's own, in an environment without anybody's settings."""
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith(FOREIGN)]:
        del os.environ[name]
    os.environ |= {**SETTINGS, "PLAN_EXECUTE_DB": str(tmp_path / "threads.db"), "HOME": str(tmp_path)}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        where = getattr(sys.modules[name], "__file__", None)
        if name == "page" or (where and Path(where).is_relative_to(tmp_path)):
            del sys.modules[name]
    os.environ.clear()
    os.environ.update(before)


def runs_itself(page):
    """Tell whether a page has a test of its own."""
    return (Path(__file__).parent / f"test_{Path(page).stem.replace('-', '_')}_page.py").exists()


PAGES = [page for page in page_names() if not runs_itself(page)]


@pytest.mark.parametrize("page", PAGES)
def test_what_the_page_shows_works(page, folder, forked):
    with PREPARED.get(page, nullcontext)(folder):
        PageRun(page, folder, forked, elsewhere=ELSEWHERE).run()


@pytest.mark.parametrize("page", PAGES)
def test_no_block_or_command_of_the_page_is_run_by_nothing(page):
    for block in blocks_of(page):
        assert block.language in LANGUAGES, f"line {block.line}"
        for command, _, _ in commands_in(block):
            assert command in ELSEWHERE or command.split()[0] in PROGRAMS, f"line {block.line}: {command}"


def test_nothing_is_said_to_be_run_elsewhere_that_no_page_shows():
    shown = {command for page in PAGES for block in blocks_of(page) for command, _, _ in commands_in(block)}
    assert set(ELSEWHERE) <= shown
    assert set(PREPARED) <= set(page_names())
