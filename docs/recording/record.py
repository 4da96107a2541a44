"""Record a real run of `plan-execute demo` in a terminal as an animated SVG, for docs/terminal.md.

    python docs/recording/record.py docs/demo.svg      (or: make recording)

The program runs before a pseudo-terminal of a fixed size. What it draws is read by pyte, a terminal
emulator, and each picture that differs from the one before becomes a frame. A viewer that does not
animate, or is asked not to, shows the frame in which most steps run.
"""

from __future__ import annotations

import os
import pty
import select
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from xml.sax.saxutils import escape

import pyte

COMMAND = ("demo", "release", "--ending", "smoke")
ROWS, COLUMNS = 27, 88
SHORTEST_S, LONGEST_S, LAST_S = 0.35, 1.2, 6.0
"""How long a frame is shown at least and at most, and the last one: the run itself takes two seconds."""

CELL, LINE, MARGIN, BAR = 8.4, 18, 14, 30
COLOURS = {
    "default": "#d4d8e0",
    "brightblack": "#7d8799",
    "red": "#f07178",
    "green": "#a5d66f",
    "brown": "#ffcb6b",
    "blue": "#82aaff",
    "magenta": "#d49cf5",
    "cyan": "#7fdbe8",
}
Line = tuple[tuple[str, str, bool, int], ...]
"""Runs of a line: text, colour, whether it is bold, and the column it starts in."""
Frame = tuple[Line, ...]


# --- the run -----------------------------------------------------------------------------


def pieces() -> Iterator[tuple[float, bytes]]:
    """Run the program and yield what it writes, each piece with the time in seconds."""
    program = shutil.which("plan-execute", path=str(Path(sys.executable).parent))
    if program is None:
        raise SystemExit("plan-execute is not installed next to this Python: pip install -e .")
    master, slave = pty.openpty()
    env = {name: value for name, value in os.environ.items() if not name.startswith("PLAN_EXECUTE_")}
    env |= {"TERM": "xterm-256color", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}
    for name in ("NO_COLOR", "COLUMNS", "LINES"):
        env.pop(name, None)
    set_size(slave)
    started = time.monotonic()
    process = subprocess.Popen([program, *COMMAND], stdin=slave, stdout=slave, stderr=slave, env=env)
    os.close(slave)
    while process.poll() is None or select.select([master], [], [], 0)[0]:
        if not select.select([master], [], [], 0.05)[0]:
            continue
        try:
            piece = os.read(master, 65536)
        except OSError:  # Linux says so when the other side is closed
            break
        yield time.monotonic() - started, piece
    os.close(master)
    if process.wait() != 0:
        raise SystemExit(f"plan-execute {' '.join(COMMAND)} ended with {process.returncode}")


def set_size(terminal: int) -> None:
    """Give the terminal its size."""
    import fcntl
    import termios

    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))


def frames() -> list[tuple[float, Frame]]:
    """Return the pictures that differ from the one before, each with when it was shown first."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    seen: list[tuple[float, Frame]] = []
    for at, piece in pieces():
        # pyte 0.8 does not know faint text.
        stream.feed(piece.replace(b"\x1b[2m", b"\x1b[90m"))
        picture = read(screen)
        if any(picture) and (not seen or seen[-1][1] != picture):
            seen.append((at, picture))
    return seen


def read(screen: pyte.Screen) -> Frame:
    """Read the lines of a screen as runs of one style."""
    lines = []
    for row in range(ROWS):
        cells = [screen.buffer[row][column] for column in range(COLUMNS)]
        while cells and cells[-1].data == " ":
            cells.pop()
        runs, column = [], 0
        for (colour, bold), group in groupby(cells, key=lambda cell: (cell.fg, cell.bold)):
            text = "".join(cell.data for cell in group)
            runs.append((text, colour, bold, column))
            column += len(text)
        lines.append(tuple(run for run in runs if run[0].strip()))
    return tuple(lines)


# --- the picture -------------------------------------------------------------------------


def durations(times: Sequence[float]) -> list[float]:
    """Say how long each frame is shown, so that a person can follow."""
    gaps = [later - at for at, later in pairwise(times)]
    return [*(min(max(gap, SHORTEST_S), LONGEST_S) for gap in gaps), LAST_S]


def draw(seen: Sequence[tuple[float, Frame]]) -> str:
    """Draw the frames as an animated SVG; a line that several frames show is written once."""
    shown, at = durations([at for at, _ in seen]), 0.0
    total = sum(shown)
    width, height = MARGIN * 2 + COLUMNS * CELL, MARGIN * 2 + BAR + ROWS * LINE
    still = max(range(len(seen)), key=lambda number: (count(seen[number][1], "▶"), number))
    ids: dict[Line, str] = {}
    style, body = [], []
    for number, (_, frame) in enumerate(seen):
        begin, end = 100 * at / total, 100 * (at + shown[number]) / total
        at += shown[number]
        edges = f"0%{{visibility:hidden}}{begin:.2f}%{{visibility:visible}}{end:.2f}%{{visibility:hidden}}"
        if number == 0:
            edges = f"0%{{visibility:visible}}{end:.2f}%{{visibility:hidden}}"
        if number == len(seen) - 1:
            edges = f"0%{{visibility:hidden}}{begin:.2f}%,100%{{visibility:visible}}"
        style.append(f"@keyframes k{number}{{{edges}}}#f{number}{{animation-name:k{number}}}")
        uses = "".join(
            f'<use href="#{ids.setdefault(line, f"l{len(ids)}")}" y="{row * LINE}"/>'
            for row, line in enumerate(frame)
            if line
        )
        body.append(f'<g id="f{number}" class="f{" s" if number == still else ""}">{uses}</g>')
    lines = "".join(f'<g id="{name}">{text_of(line)}</g>' for line, name in ids.items())
    return TEMPLATE.format(
        width=f"{width:g}",
        height=height,
        total=f"{total:.2f}",
        style="\n".join(style),
        colours="".join(f".{name}{{fill:{value}}}" for name, value in COLOURS.items()),
        lines=lines,
        frames="\n".join(body),
        left=MARGIN,
        top=MARGIN + BAR,
        inner=f"{width - 2:g}",
        low=height - 2,
        command=escape(f"plan-execute {' '.join(COMMAND)}"),
    )


def count(frame: Frame, mark: str) -> int:
    """Count the lines that hold a mark."""
    return sum(any(mark in run[0] for run in line) for line in frame)


def text_of(line: Line) -> str:
    """Write a line's runs, each as wide as its cells in whatever font there is."""
    parts = []
    for text, colour, bold, column in line:
        lead = len(text) - len(text.lstrip())
        text = text.strip()
        style = f"{colour if colour in COLOURS else 'default'}{' b' if bold else ''}"
        parts.append(
            f'<text class="{style}" x="{(column + lead) * CELL:.1f}" textLength="{len(text) * CELL:.1f}">'
            f"{escape(text)}</text>"
        )
    return "".join(parts)


TEMPLATE = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">
<title>{command}</title>
<desc>Made by docs/recording/record.py from a real run of: {command}</desc>
<style>
text{{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}}
text{{white-space:pre}}
.b{{font-weight:bold}}{colours}
.f{{animation-duration:{total}s;animation-iteration-count:infinite;animation-timing-function:step-end}}
.f{{visibility:hidden}}.s{{visibility:visible}}
@media (prefers-reduced-motion:reduce){{.f{{animation:none!important}}}}
{style}
</style>
<defs>{lines}</defs>
<rect x="1" y="1" width="{inner}" height="{low}" rx="9" fill="#1b1f27" stroke="#39404d"/>
<circle cx="20" cy="20" r="6" fill="#f07178"/><circle cx="40" cy="20" r="6" fill="#ffcb6b"/>
<circle cx="60" cy="20" r="6" fill="#a5d66f"/>
<text class="brightblack" x="84" y="25">$ {command}</text>
<g transform="translate({left} {top})"><g transform="translate(0 12)">
{frames}
</g></g>
</svg>
"""


def main() -> None:
    """Record the run into the file that is named."""
    if len(sys.argv) != 2:
        raise SystemExit(f"usage: {sys.argv[0]} FILE.svg")
    seen = frames()
    Path(sys.argv[1]).write_text(draw(seen), encoding="utf-8")
    print(f"{sys.argv[1]}: {len(seen)} frames, {Path(sys.argv[1]).stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
