"""The pages become a site that needs no network: `make site`."""

import json
import re
import subprocess
import sys
import tomllib

import pytest
from pages import CHECKOUT, page_names

LOADED = re.compile(r"<(?:script|img|link|iframe)\b[^>]*\b(?:src|href)=\"?(https?:[^\"\s>]+)")
BUILD = CHECKOUT / "docs/site/build.py"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("built") / "site"
    command = [sys.executable, str(BUILD), "--out", str(out), "--no-diagrams"]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return out


def test_every_page_is_on_the_site_and_can_be_searched(site):
    items = json.loads((site / "search.json").read_text())["items"]
    found = {entry["location"].partition("#")[0] for entry in items}
    names = {page.replace("README.md", "index.md").removesuffix(".md") + ".html" for page in page_names()}
    assert names <= found


def test_nothing_on_a_page_is_fetched_from_elsewhere(site):
    for page in site.rglob("*.html"):
        assert LOADED.findall(page.read_text()) == [], page.name


def test_every_page_stands_in_the_list_of_contents():
    nav = tomllib.loads((CHECKOUT / "docs/site/zensical.toml").read_text())["project"]["nav"]
    parts = [value for part in nav for value in part.values()]
    listed = {page for part in parts for page in ([part] if isinstance(part, str) else part)}
    assert set(page_names()) <= listed
