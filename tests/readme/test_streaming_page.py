"""What docs/streaming.md shows works; its TypeScript is compiled and run by tests/clients."""

import contextlib
import io
import re
import runpy

import pytest
from pages import CHECKOUT

from plan_execute.events import OpenQuestion, StepUpdate
from plan_execute.graph.streams import PlanTransformer

PAGE = (CHECKOUT / "docs/streaming.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.filterwarnings("ignore:The v3 streaming protocol")
def test_the_python_block_runs_and_prints_what_is_shown(tmp_path):
    (language, shown), (_, printed) = BLOCKS[:2]
    assert language == "python"
    script = tmp_path / "block.py"
    script.write_text(shown, encoding="utf-8")
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        runpy.run_path(str(script))
    assert said.getvalue() == printed


def test_every_channel_and_field_is_named():
    channels = PlanTransformer().init()
    assert all(f"| `{name}` |" in PAGE for name in channels)
    assert set(re.findall(r"`custom:(\w+)`", PAGE)) == set(channels)
    named = set(re.findall(r"`(\w+)`", PAGE))
    assert {*StepUpdate.__annotations__, *OpenQuestion.__annotations__} - {"at"} <= named
