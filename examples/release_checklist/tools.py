"""What can be done to the project: small tools, each with its effect declared."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from langchain_core.tools import BaseTool, StructuredTool

from ..commands import CommandRunner
from .project import make_project
from .wheel import build, read_config

__all__ = ["CheckFailedError", "Checkout", "release_tools"]

_VERSION_FILES = ("pyproject.toml", "wordcount/__init__.py")
_VERSION = re.compile(r'^(version|__version__) = "([^"]+)"$', re.MULTILINE)
_PACKAGES = re.compile(r"^packages = \[.*\]$", re.MULTILINE)

_RUN_FROM_WHEEL = (
    "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); "
    "runpy.run_module('wordcount', run_name='__main__', alter_sys=True)"
)


class CheckFailedError(RuntimeError):
    """Something about the project is not as a release needs it."""


def release_tools(project: Path) -> list[BaseTool]:
    """Make the tools of a release, which work on one checkout and nothing else."""
    checkout = Checkout(project)
    return [
        _tool(checkout.start_project, "idempotent", "repository"),
        _tool(checkout.run_tests, "read"),
        _tool(checkout.check_syntax, "read"),
        _tool(checkout.check_changelog, "read"),
        _tool(checkout.git_log, "read"),
        _tool(checkout.list_packages, "read"),
        _tool(checkout.set_version, "idempotent", "version"),
        _tool(checkout.declare_package, "idempotent", "package list"),
        _tool(checkout.write_release_notes, "idempotent", "release notes"),
        _tool(checkout.commit, "write", "repository"),
        _tool(checkout.build_wheel, "idempotent", "dist"),
        _tool(checkout.smoke_test, "read"),
        _tool(checkout.tag, "write", "repository"),
        _tool(checkout.verify_tag, "read"),
        _tool(checkout.publish, "write", "published"),
    ]


def _tool(method: Callable[..., Any], effect: str, resource: str | None = None) -> BaseTool:
    """Make a tool of a method. The resource keeps two steps that run at the same time off one thing."""
    return StructuredTool.from_function(method, metadata={"effect": effect, "resource": resource})


class Checkout:
    """The checkout of a project, and what a release does with it."""

    def __init__(self, project: Path) -> None:
        self.project = project
        self.published = project.parent / "published"
        self._commands = CommandRunner(project)

    # --- look ----------------------------------------------------------------------------

    def run_tests(self) -> dict[str, Any]:
        """Run the project's unit tests."""
        output = self._python("-m", "unittest", "discover", "-s", "tests", "-t", ".")
        found = re.search(r"Ran (\d+) tests?", output)
        if not found or found[1] == "0":
            raise CheckFailedError("the project has no tests")
        return {"passed": int(found[1])}

    def check_syntax(self) -> dict[str, Any]:
        """Compile every module of the project."""
        with tempfile.TemporaryDirectory() as elsewhere:
            self._python("-X", f"pycache_prefix={elsewhere}", "-m", "compileall", "-q", "wordcount", "tests")
        return {"compiled": len([*self.project.rglob("*.py")])}

    def check_changelog(self, version: str) -> dict[str, Any]:
        """Look for the changes of a version in CHANGELOG.md."""
        text = self._read("CHANGELOG.md")
        section = re.search(rf"^## {re.escape(version)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
        entries = [line[2:] for line in section[1].splitlines() if line.startswith("- ")] if section else []
        if not entries:
            raise CheckFailedError(f"CHANGELOG.md says nothing about {version}")
        return {"version": version, "entries": entries}

    def git_log(self) -> str:
        """List the commits since the last tag, one per line."""
        last = self._git("describe", "--tags", "--abbrev=0")
        return self._git("log", "--reverse", "--format=%h %s", f"{last}..HEAD")

    def list_packages(self) -> dict[str, list[str]]:
        """Compare the packages that exist with those that the project declares."""
        folders = sorted(file.parent for file in self.project.glob("wordcount/**/__init__.py"))
        exist = [".".join(folder.relative_to(self.project).parts) for folder in folders]
        return {"exist": exist, "declared": self._packages()}

    def smoke_test(self, wheel: str) -> dict[str, Any]:
        """Run the program from the wheel alone, in a fresh interpreter that sees no checkout."""
        path = str(self._commands.inside(wheel))
        fresh = ("-I", "-S", "-c", _RUN_FROM_WHEEL, path)
        counted = self._python(*fresh, "to", "be", "or", "not", "to", "be")
        if "2 to" not in counted:
            raise CheckFailedError(f"the program counts wrongly: {counted!r}")
        return {"version": self._python(*fresh, "--version").split()[-1], "counted": counted.split()}

    def verify_tag(self, tag: str, commit: str, version: str) -> dict[str, Any]:
        """Check that a tag points at a commit, and that the files in it have the version."""
        wrong = []
        if tag not in self._git("tag", "--points-at", commit).split():
            wrong.append(f"{tag} does not point at {commit[:10]}")
        for name in _VERSION_FILES:
            tagged = _version_in(self._git("show", f"{tag}:{name}"), name)
            if tagged != version:
                wrong.append(f"{name} in {tag} has version {tagged}, not {version}")
        if wrong:
            raise CheckFailedError("; ".join(wrong))
        return {"tag": tag, "commit": commit, "version": version}

    # --- change --------------------------------------------------------------------------

    def start_project(self) -> dict[str, str]:
        """Make the throwaway project anew."""
        make_project(self.project)
        return {"commit": self._git("rev-parse", "HEAD")}

    def set_version(self, version: str) -> dict[str, Any]:
        """Set the version in every file that has it."""
        for name in _VERSION_FILES:
            text = self._read(name)
            _version_in(text, name)
            self._write(name, _VERSION.sub(rf'\1 = "{version}"', text))
        tomllib.loads(self._read("pyproject.toml"))
        return {"version": version, "files": list(_VERSION_FILES)}

    def declare_package(self, package: str) -> dict[str, list[str]]:
        """Add a package to the project's list of packages."""
        if not self.project.joinpath(*package.split("."), "__init__.py").exists():
            raise CheckFailedError(f"there is no package {package!r}")
        declared = json.dumps(sorted({*self._packages(), package}))
        self._write("pyproject.toml", _PACKAGES.sub(f"packages = {declared}", self._read("pyproject.toml")))
        return {"declared": self._packages()}

    def write_release_notes(self, text: str) -> dict[str, Any]:
        """Write RELEASE_NOTES.md."""
        self._write("RELEASE_NOTES.md", text)
        return {"file": "RELEASE_NOTES.md", "lines": len(text.splitlines())}

    def commit(self, message: str) -> dict[str, str]:
        """Commit every change of the checkout."""
        self._git("add", "--all")
        self._git("commit", "--quiet", "--message", message)
        return {"commit": self._git("rev-parse", "HEAD")}

    def build_wheel(self) -> dict[str, Any]:
        """Build the project's wheel into dist/."""
        wheel = build(self.project)
        name = wheel.path.relative_to(self.project).as_posix()
        digest = _sha256(wheel.path)
        return {"wheel": name, "version": wheel.version, "members": wheel.members, "sha256": digest}

    def tag(self, tag: str) -> dict[str, str]:
        """Tag the current commit."""
        self._git("tag", "--annotate", tag, "--message", f"wordcount {tag}")
        return {"tag": tag, "commit": self._git("rev-parse", "HEAD")}

    def publish(self, wheel: str) -> dict[str, str]:
        """Put the wheel on the shelf that users install from."""
        self.published.mkdir(exist_ok=True)
        target = Path(shutil.copy2(self._commands.inside(wheel), self.published))
        return {"file": target.name, "sha256": _sha256(target)}

    # --- how -----------------------------------------------------------------------------

    def _git(self, *args: str) -> str:
        return self._commands.run(["git", *args]).strip()

    def _python(self, *args: str) -> str:
        return self._commands.run(["python", *args])

    def _packages(self) -> list[str]:
        return list(read_config(self.project)["tool"]["setuptools"]["packages"])

    def _read(self, name: str) -> str:
        return (self.project / name).read_text(encoding="utf-8")

    def _write(self, name: str, text: str) -> None:
        (self.project / name).write_text(text, encoding="utf-8")


def _version_in(text: str, name: str) -> str:
    found = _VERSION.findall(text)
    if len(found) != 1:
        raise CheckFailedError(f"{name} names a version {len(found)} times, it must be once")
    return str(found[0][1])


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
