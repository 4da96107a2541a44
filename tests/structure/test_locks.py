"""What ``make`` installs is locked: all that pyproject.toml names, with hashes, and no registry is named."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CHECKOUT = Path(__file__).parents[2]
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
RUNTIME = [*PROJECT["project"]["dependencies"], *PROJECT["build-system"]["requires"]]
WANTED = {
    "requirements.lock": RUNTIME,
    "requirements-dev.lock": [*RUNTIME, *(one for extra in EXTRAS.values() for one in extra)],
}
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def entries(text):
    """Give every entry of a lock with the number of its hashes; refuse what is neither entry nor comment."""
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for entry in lines.replace("\\\n", " ").splitlines():
        requirement, *hashes = entry.split(" --hash=")
        assert HASH.sub("", entry).strip() == requirement.strip()
        yield Requirement(requirement), len(hashes)


def locked(name):
    """Give the locked requirements by the names of their projects."""
    found = {}
    for requirement, _ in entries((CHECKOUT / name).read_text(encoding="utf-8")):
        found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


def version(requirement):
    (pin,) = requirement.specifier
    assert pin.operator == "=="
    return pin.version


def missing(wanted, found):
    """List what no entry satisfies, or not all of the entries of its project."""
    return [
        text
        for text in wanted
        for requirement in [Requirement(text)]
        for pins in [found.get(canonicalize_name(requirement.name), [])]
        if not pins or not all(requirement.specifier.contains(version(pin), prereleases=True) for pin in pins)
    ]


@pytest.mark.parametrize("name", WANTED)
def test_the_lock_has_what_pyproject_names(name):
    assert not missing(WANTED[name], locked(name)), "make lock"


def test_the_search_finds_what_is_not_locked_or_too_old():
    found = {"typer": [Requirement("typer==0.29.1")]}
    assert not missing(["typer>=0.29"], found)
    assert missing(["typer>=0.30", "rich>=14", "Typer"], found) == ["typer>=0.30", "rich>=14"]


def test_both_locks_hold_the_same_releases():
    dev = locked("requirements-dev.lock")
    for name, requirements in locked("requirements.lock").items():
        assert list(map(version, requirements)) == list(map(version, dev[name])), name


@pytest.mark.parametrize("name", WANTED)
def test_every_entry_has_hashes_and_nothing_says_where_it_is_from(name):
    text = (CHECKOUT / name).read_text(encoding="utf-8")
    assert all(hashes for _, hashes in entries(text))
    assert "://" not in text
    assert " @ " not in text
    option = re.compile(r"^\s*--?[a-z]", re.MULTILINE)
    assert not option.search(HASH.sub("", text)), "an option of pip, such as an index"


def unmet(wanted):
    """Walk through what is installed, and list what it asks for and is not there in a fitting release."""
    seen, found = set(), []
    waiting = [(Requirement(text), "asked for") for text in wanted]
    while waiting:
        requirement, by = waiting.pop()
        name = canonicalize_name(requirement.name)
        if not requirement.specifier.contains(metadata.version(name), prereleases=True):
            found.append(f"{requirement} ({by})")
        for extra in requirement.extras or {""}:
            if (name, extra) not in seen:
                seen.add((name, extra))
                waiting += [
                    (needed, name)
                    for needed in map(Requirement, metadata.requires(name) or ())
                    if needed.marker is None or needed.marker.evaluate({"extra": extra})
                ]
    return found


def test_our_extra_for_mcp_and_that_of_langchain_can_be_installed_together():
    # One release of everything satisfies both at once: the one that these tests run with.
    assert not unmet(["plan-execute[mcp]", "langchain[mcp]>=1.5"])


def test_the_walk_finds_a_release_that_does_not_fit():
    assert unmet(["mcp<2"]) == ["mcp<2 (asked for)"]
