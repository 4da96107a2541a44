"""The pictures on the pages show what the present program does and draws."""

import re
import runpy
import threading
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from plan_execute import create_plan_execute_agent
from plan_execute.cli.live_plan import LivePlan
from plan_execute.cli.live_screen import PlanView
from plan_execute.examples import build_demo

PICTURE = Path(__file__).parents[2] / "docs" / "demo.svg"
SVG = "{http://www.w3.org/2000/svg}"
COLUMNS, ROWS = 88, 27


def last_frame() -> list[str]:
    """Read the texts of the lines that the recording ends with."""
    picture = ElementTree.fromstring(PICTURE.read_text(encoding="utf-8"))
    lines = {
        "#" + line.get("id"): " ".join(text.text for text in line) for line in picture.find(f"{SVG}defs")
    }
    frames = [group for group in picture.iter(f"{SVG}g") if (group.get("id") or "").startswith("f")]
    return [lines[use.get("href")] for use in frames[-1]]


def without_numbers(line: str) -> str:
    """Leave out what differs from run to run: times, tokens, and the space before them."""
    return " ".join(re.sub(r"\d[\d.,]*(?:s|m\d\ds| tokens| model calls)", "#", line).split())


def test_the_recording_ends_with_what_the_present_code_draws_at_the_end_of_that_run():
    model = LivePlan()
    with build_demo("release", ending="smoke") as demo:
        agent = create_plan_execute_agent(**demo.agent_args)
        for event in agent.stream({"goal": demo.goal}, context=demo.context, stream_mode="custom"):
            model.apply(event)
    drawn = [line.plain for line in PlanView(model, threading.Lock()).lines(COLUMNS, ROWS)]
    recorded = [without_numbers(line) for line in last_frame()]
    missing = [line for line in map(without_numbers, drawn) if line not in recorded]
    assert not missing, f"record it again (make recording); it lacks {missing}"


def test_the_recording_loads_nothing_from_anywhere():
    text = PICTURE.read_text(encoding="utf-8")
    assert set(re.findall(r"https?://[^\s\"<]+", text)) == {"http://www.w3.org/2000/svg"}
    assert "@import" not in text
    assert "url(" not in text
    assert PICTURE.stat().st_size < 100_000


def test_the_picture_of_a_run_is_what_its_run_gives_today():
    recording = Path(__file__).parents[2] / "docs/recording/picture.py"
    drawn = runpy.run_path(str(recording))["picture"]()
    assert (PICTURE.with_name("run.svg")).read_text(encoding="utf-8") == drawn, "run `make recording`"
