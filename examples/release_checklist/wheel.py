"""Build a wheel of a pure Python project without network, and byte for byte the same every time.

The format is that of the Python Packaging User Guide, "Binary distribution format".
"""

from __future__ import annotations

import hashlib
import tomllib
import zipfile
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Wheel", "build", "read_config"]

_WHEEL = "Wheel-Version: 1.0\nGenerator: plan_execute example\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


class Wheel(NamedTuple):
    """A wheel that was built: where it is, its version, the names of its members."""

    path: Path
    version: str
    members: list[str]


def read_config(project: Path) -> dict[str, Any]:
    """Read a project's ``pyproject.toml``."""
    return tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))


def build(project: Path) -> Wheel:
    """Build the wheel of the packages that the project declares into its folder ``dist``."""
    config = read_config(project)
    name, version = config["project"]["name"], config["project"]["version"]
    info = f"{name}-{version}.dist-info"
    members = _modules(project, config["tool"]["setuptools"]["packages"])
    members[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()
    members[f"{info}/WHEEL"] = _WHEEL.encode()
    members[f"{info}/RECORD"] = _record(members, f"{info}/RECORD")
    path = project / "dist" / f"{name}-{version}-py3-none-any.whl"
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            # A ZipInfo of its own has a fixed date, so equal content gives an equal file.
            archive.writestr(zipfile.ZipInfo(member), content)
    return Wheel(path, version, list(members))


def _modules(project: Path, packages: list[str]) -> dict[str, bytes]:
    folders = [project.joinpath(*package.split(".")) for package in sorted(packages)]
    files = [file for folder in folders for file in sorted(folder.glob("*.py"))]
    return {file.relative_to(project).as_posix(): file.read_bytes() for file in files}


def _record(members: dict[str, bytes], itself: str) -> bytes:
    lines = [f"{name},sha256={_digest(content)},{len(content)}" for name, content in members.items()]
    return "\n".join([*lines, f"{itself},,", ""]).encode()


def _digest(content: bytes) -> str:
    return urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
