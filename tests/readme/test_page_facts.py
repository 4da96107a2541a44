"""What the pages say in prose is true where a program can tell: names, options, files, links, made pages."""

import builtins
import re
import runpy
from functools import cache

import postgres_server
import pytest
import typer.main
from langgraph_cli.cli import cli as langgraph_cli
from pages import CHECKOUT, blocks_of, commands_in, page_names, text_of

from plan_execute import errors
from plan_execute.cli.app import app
from plan_execute.context import SECRET_NAMES, Context

FOR_CONTRIBUTORS = ["CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md"]
PAGES = [page for page in page_names() if page != "docs/cli.md"]
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
OF_OTHERS = {"--enable-auto-tool-choice", "--env-file", "--jinja", "--tool-call-parser", "--workers"}
"""Options of programs that are neither ours nor LangGraph's."""


def prose(page):
    """Give a page without its blocks."""
    return FENCED.sub("", text_of(page))


def code_in(page):
    """Give what stands in backticks in a page's prose."""
    return re.findall(r"`([^`\n]+)`", prose(page))


@cache
def commands():
    return typer.main.get_command(app).commands


def options_of(command):
    found = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return found.union(*(options_of(one) for one in getattr(command, "commands", {}).values()))


@cache
def known_options():
    return options_of(typer.main.get_command(app)) | options_of(langgraph_cli) | OF_OTHERS | {"--help"}


def anchor(heading):
    """Give the anchor of a heading, as GitHub makes it."""
    plain = re.sub(r"[`*]", "", heading.strip().lower())
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


@pytest.mark.parametrize("page", [*page_names(), *FOR_CONTRIBUTORS])
def test_every_link_leads_somewhere(page):
    folder = (CHECKOUT / page).parent
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"https?:", target):
            continue
        path, _, part = target.partition("#")
        file = folder / path if path else CHECKOUT / page
        assert file.exists(), target
        if part:
            headings = re.findall(
                r"^#+ (.*)$", FENCED.sub("", file.read_text(encoding="utf-8")), re.MULTILINE
            )
            assert part in map(anchor, headings), target


@pytest.mark.parametrize("page", PAGES)
def test_every_command_and_option_that_is_named_exists(page):
    for code in code_in(page):
        if found := re.match(r"plan-execute ([a-z]+)", code):
            assert found[1] in commands(), code
        assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", code)) <= known_options(), code


@pytest.mark.parametrize("page", PAGES)
def test_every_setting_error_and_variable_that_is_named_exists(page):
    text = prose(page)
    settings = set(re.findall(r"`Context\.(\w+)", text))
    assert settings <= {*Context.model_fields}, settings - {*Context.model_fields}
    raised = set(re.findall(r"`([A-Z]\w+Error)`", text))
    assert {name for name in raised if not (hasattr(errors, name) or hasattr(builtins, name))} == set()
    variables = set(re.findall(r"PLAN_EXECUTE_[A-Z_]+[A-Z]", text_of(page)))
    source = "".join(
        text_of(file) for file in ("context.py", "tests/front_ends.py", "tests/server/test_aegra.py")
    )
    assert {name for name in variables if f'"{name}"' not in source} == set()


@pytest.mark.parametrize("page", PAGES)
def test_every_file_and_make_target_that_is_named_exists(page):
    shown = text_of(page)
    of_the_page = [block.file_name for block in blocks_of(page)] + [block.text for block in blocks_of(page)]
    for code in code_in(page):
        if (
            not code.startswith("/")
            and "/" in code
            and (CHECKOUT / code.split("/")[0]).is_dir()
            and " " not in code
        ):
            assert list(CHECKOUT.glob(code.rstrip("/"))), code
        elif re.fullmatch(r"[\w-]+\.(?:py|md|toml|json)", code):
            ours = (CHECKOUT / code).exists() or any(CHECKOUT.glob(f"*/{code}"))
            assert ours or any(code in (text or "") for text in of_the_page), code
    makefile = (CHECKOUT / "Makefile").read_text(encoding="utf-8")
    assert [t for t in re.findall(r"`make (\w+)`", shown) if not re.search(rf"^{t}:", makefile, re.M)] == []


def test_every_page_is_in_the_index():
    listed = re.findall(r"^- \[[^\]]+\]\(([\w-]+\.md)\): \S", text_of("docs/index.md"), re.MULTILINE)
    pages = {page.removeprefix("docs/") for page in page_names() if page.startswith("docs/")}
    assert sorted(listed) == sorted(pages - {"index.md"}), "list it in docs/index.md, and run `make docs`"


@pytest.mark.parametrize("page", ["docs/cli.md", "llms.txt"])
def test_generated_pages_are_what_make_docs_writes(page):
    made = runpy.run_path(str(CHECKOUT / "docs/generate.py"))["PAGES"]
    assert text_of(page) == made[page](), "run `make docs`"


def test_every_file_that_llms_txt_names_exists():
    listed = re.findall(r"\]\(([^)]+)\)", text_of("llms.txt"))
    assert "docs/quick-start.md" in listed
    assert [path for path in listed if not (CHECKOUT / path).exists()] == []


# --- single pages ------------------------------------------------------------------------


def test_the_first_screen_of_the_readme_is_a_picture_of_a_run_and_two_commands_that_ci_runs():
    first_screen = text_of("README.md").split("\n## ")[0]
    assert "](docs/run.svg)" in first_screen
    shown = [command for block in blocks_of("README.md")[:1] for command, _, _ in commands_in(block)]
    assert [re.sub(r" +#.*", "", command) for command in shown] == ["make demo", "make test"]
    script = (CHECKOUT / ".ci/run").read_text(encoding="utf-8")
    assert all(f"\n{command}\n" in script for command in ("make demo", "make test"))


def test_the_readme_is_read_in_three_minutes():
    assert len(text_of("README.md").splitlines()) <= 160


def test_only_the_page_that_says_when_it_works_installs_an_extra_by_name_alone():
    """The program is on no index: by name pip finds it only where it is installed."""
    named = re.compile(r"pip install[^\n`]*'plan-execute\[")
    by_name = [page for page in page_names() if named.search(text_of(page))]
    assert by_name == ["docs/install.md"]


def test_the_page_about_secrets_names_them_all():
    page = text_of("docs/secrets.md")
    assert [name for name in SECRET_NAMES if f"`{name}`" not in page] == []
    assert all(f"`{error.code}`" in page for error in (errors.EncryptionKeyError, errors.StorageDamagedError))


def test_the_options_of_addresses_that_are_named_are_understood_by_the_server():
    options = re.findall(r"`\?options=([^`]*)`", text_of("docs/postgresql.md"))
    assert len(options) == 2
    for option in options:
        address = f"{postgres_server.server().url()}?options={option}"
        assert postgres_server.psycopg.connect(address).close() is None


def test_the_page_about_commands_names_every_exit_code():
    from plan_execute.cli.exits import DONE, EXIT_CODES, FAILED, INTERRUPTED, USAGE

    page = text_of("docs/cli.md")
    for code in (DONE, FAILED, USAGE, INTERRUPTED, *EXIT_CODES.values()):
        assert re.search(rf"^\| {code} \| \w", page, re.MULTILINE), code


@pytest.mark.parametrize("page", [*page_names(), *FOR_CONTRIBUTORS])
def test_every_target_of_make_that_is_named_exists(page):
    targets = set(re.findall(r"^([a-z-]+)(?: [a-z-]+)*:", text_of("Makefile"), re.MULTILINE)) | {"lowest"}
    named = set(re.findall(r"`make ([a-z-]+)", prose(page)))
    assert named <= targets
