"""Nothing of the machine it was written on is in the sources: no paths, no registries, no keys."""

import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
ARTEFACTS = {"build", "dist", "__pycache__"}
THIS = Path(__file__).resolve()

FORBIDDEN = {
    "a path of a machine": (
        r"(?<![\w.])/(?:home|Users|root|work|mnt|private|opt)/[\w.-]+"
        r"|(?<![\w.])/tmp/\w+/\w+"
        r"|[A-Z]:\\Users\\"
    ),
    "a package registry's or mirror's host": (
        r"(?:--(?:extra-)?index-url|--find-links|--trusted-host)"
        r"|https?://[\w.:-]+/(?:simple|pypi|artifactory|nexus)\b"
    ),
    "a private address": r"\b(?:10\.\d+|192\.168|172\.(?:1[6-9]|2\d|3[01]))\.\d+\.\d+\b",
    "a key or token": (
        r"\b(?:sk-(?:ant-|proj-)?[A-Za-z0-9_-]{20,}|lsv2_[a-z]{2}_[0-9a-f]{8,}"
        r"|gh[pousr]_[A-Za-z0-9]{20,}|AKIA[0-9A-Z]{16})\b"
        r"|-----BEGIN [A-Z ]*PRIVATE KEY"
    ),
    "credentials in a URL": r"https?://[^\s/:@\"'{}]+:[^\s/@\"'{}]{8,}@",
}


def sources():
    for path in sorted(CHECKOUT.rglob("*")):
        parts = path.relative_to(CHECKOUT).parts
        hidden = any(part.startswith(".") and part not in (".ci", ".gitignore") for part in parts)
        ours = not hidden and not any(part in ARTEFACTS or part.endswith(".egg-info") for part in parts)
        if ours and path.is_file() and path.resolve() != THIS:
            yield path


def found_in(text, pattern):
    return [match.group() for match in re.finditer(pattern, text)]


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_source_holds(what):
    found = {}
    for path in sources():
        if hits := found_in(path.read_text(encoding="utf-8", errors="replace"), FORBIDDEN[what]):
            found[str(path.relative_to(CHECKOUT))] = hits
    assert not found


@pytest.mark.parametrize(
    ("what", "example"),
    [
        ("a path of a machine", "open('/home/someone/x')"),
        ("a path of a machine", "/tmp/venv/bin/python"),
        ("a package registry's or mirror's host", "pip install --extra-index-url x"),
        ("a package registry's or mirror's host", "https://mirror.example/simple"),
        ("a private address", "http://10.1.2.3"),
        ("a key or token", "sk-" + "a1" * 12),
        ("credentials in a URL", "https://me:longpassword@host"),
    ],
)
def test_the_search_would_find(what, example):
    assert found_in(example, FORBIDDEN[what])
