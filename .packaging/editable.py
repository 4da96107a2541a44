"""setuptools' build backend, with editable installs that editors can follow.

The checkout is the package, and its folder may have any name. setuptools makes that work by an import hook,
which pyright and Pylance do not run. Here the install names a folder that holds one link to the checkout.
"""

import base64
import hashlib
import tempfile
import zipfile
from pathlib import Path

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403 - all other hooks are setuptools' own

__all__ = ["build_editable"]

PACKAGE = "plan_execute"
WHEEL = "Wheel-Version: 1.0\nGenerator: plan_execute\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    """Build the wheel of an editable install: what is known of the package, and the path to the link."""
    try:
        folder = linked()
    except OSError:  # Windows gives links to few
        return build_meta.build_editable(wheel_directory, config_settings, metadata_directory)
    with tempfile.TemporaryDirectory() as made:
        info = Path(made) / build_meta.prepare_metadata_for_build_editable(made, config_settings)
        files = {
            f"{info.name}/{path.relative_to(info).as_posix()}": path.read_bytes()
            for path in info.rglob("*")
            if path.is_file()
        }
    files |= {f"{info.name}/WHEEL": WHEEL.encode(), f"{PACKAGE}.pth": f"{folder}\n".encode()}
    wheel = f"{info.stem}-py3-none-any.whl"
    record = f"{info.name}/RECORD"
    lines = [f"{name},{digest(data)},{len(data)}\n" for name, data in files.items()]
    files[record] = "".join([*lines, f"{record},,\n"]).encode()
    with zipfile.ZipFile(Path(wheel_directory) / wheel, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return wheel


def linked():
    """Give the folder with the link to this checkout; it is made anew where the checkout was moved."""
    checkout = Path.cwd()
    link = checkout / ".build/editable" / PACKAGE
    link.parent.mkdir(parents=True, exist_ok=True)
    (checkout / ".build/.gitignore").write_text("*\n")
    link.unlink(missing_ok=True)
    link.symlink_to(Path("../.."), target_is_directory=True)
    return link.parent


def digest(data):
    """Hash a file as RECORD has it."""
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
