"""What `langgraph build` would put into an image, as far as it can be told without a Docker engine."""

import json
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from fnmatch import fnmatch
from importlib import import_module
from importlib.metadata import requires, version
from pathlib import Path

import pytest
from click.testing import CliRunner
from langgraph_cli.cli import cli
from packaging.requirements import Requirement

CHECKOUT = Path(__file__).parents[2]
CONFIG = json.loads((CHECKOUT / "langgraph.json").read_text(encoding="utf-8"))
FEW_BYTES = 3_000_000


@pytest.fixture(autouse=True)
def _no_analytics(monkeypatch):
    monkeypatch.setenv("LANGGRAPH_CLI_NO_ANALYTICS", "1")


def langgraph(*words):
    """Run a command of langgraph's in this process, and return what it printed."""
    done = CliRunner().invoke(cli, [*words, "--config", str(CHECKOUT / "langgraph.json")])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def dockerfile(tmp_path_factory):
    """The Dockerfile that langgraph writes, as lines."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LANGGRAPH_CLI_NO_ANALYTICS", "1")
        path = tmp_path_factory.mktemp("image") / "Dockerfile"
        langgraph("dockerfile", str(path))
    return path.read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    """What Docker is sent: a copy of the checkout without what .dockerignore names."""
    rules = [
        line for line in (CHECKOUT / ".dockerignore").read_text().splitlines() if line[:1] not in ("", "#")
    ]

    def ignored(folder, names):
        inside = Path(folder).relative_to(CHECKOUT)
        return {name for name in names if any(_matches(rule, (inside / name).as_posix()) for rule in rules)}

    target = tmp_path_factory.mktemp("deps") / "any-name"
    shutil.copytree(CHECKOUT, target, ignore=ignored)
    return target


def _matches(rule, path):
    return fnmatch(path, rule) or (rule.startswith("**/") and fnmatch(path.rpartition("/")[2], rule[3:]))


def env_of(dockerfile, name):
    (value,) = [found[1] for line in dockerfile if (found := re.fullmatch(rf"ENV {name}='(.*)'", line))]
    return json.loads(value)


def test_the_configuration_is_valid_and_names_two_graphs():
    assert "is valid. (2 graphs found)" in langgraph("validate")


def test_the_image_adds_the_checkout_and_nothing_else_and_installs_it(dockerfile):
    (added,) = [line for line in dockerfile if line.startswith(("ADD ", "COPY "))]
    assert added == f"ADD . /deps/{CHECKOUT.name}"
    (install,) = [line for line in dockerfile if "/deps/*" in line]
    assert "pip install" in install
    assert "-c /api/constraints.txt -e ." in install
    assert dockerfile[-1] == f"WORKDIR /deps/{CHECKOUT.name}"


def test_the_image_serves_the_graphs_and_keeps_its_store_closed(dockerfile):
    assert env_of(dockerfile, "LANGSERVE_GRAPHS") == CONFIG["graphs"]
    http = env_of(dockerfile, "LANGGRAPH_HTTP")
    assert http == CONFIG["http"]
    assert http["disable_store"] is True
    for path in (http["app"], *(graph["path"] for graph in CONFIG["graphs"].values())):
        module, _, attribute = path.partition(":")
        assert callable(getattr(import_module(module), attribute))


def test_what_is_sent_to_docker_is_small_and_holds_no_tests_caches_or_secrets(context):
    files = [path for path in context.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < FEW_BYTES
    tops = {path.relative_to(context).parts[0] for path in files}
    assert tops.isdisjoint({".git", ".venv", ".env", "tests", "benchmarks", "docs", "build", "dist"})
    assert {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "langgraph.json",
        "graph",
        "models",
        "examples",
    } <= tops
    assert [path for path in files if "__pycache__" in path.parts or path.suffix == ".db"] == []


LOAD = """
import json, sys, site
sys.path += [{site!r}, {packages!r}]
site.addsitedir({site!r})  # reads the .pth of the editable install, as Python does at its start
from importlib import import_module
graphs = json.load(open("langgraph.json"))["graphs"]
for graph in graphs.values():
    module, _, attribute = graph["path"].partition(":")
    getattr(import_module(module), attribute)
import plan_execute
print(plan_execute.__file__)
"""


def test_the_graphs_load_from_what_is_sent_once_it_is_installed_as_the_image_does(context, tmp_path):
    """As editable, from a folder of any name; without this environment's own editable install (-S)."""
    backend = "import sys; sys.path.insert(0, '.packaging'); import editable"
    build = f"{backend}; print(editable.build_editable({str(tmp_path)!r}))"
    run = {"cwd": context, "capture_output": True, "text": True, "timeout": 100}
    built = subprocess.run([sys.executable, "-c", build], **run)
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = LOAD.format(packages=sysconfig.get_path("purelib"), site=str(tmp_path / "site"))
    loaded = subprocess.run([sys.executable, "-S", "-c", code], **run)
    assert loaded.returncode == 0, loaded.stderr
    assert Path(loaded.stdout.strip()).resolve() == context / "__init__.py"


def test_the_server_and_this_package_agree_on_the_versions_they_need():
    """The image installs under the server's constraints; here both are installed."""
    for package in ("langgraph-api", "plan-execute"):
        for text in requires(package) or ():
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                assert needed.specifier.contains(version(needed.name), prereleases=True), f"{package}: {text}"
