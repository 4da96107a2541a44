"""What docs/tracing.md shows works: its Python blocks are run, and the names it gives are those in use."""

import re
import runpy
from pathlib import Path

from plan_execute.context import Environment
from plan_execute.tracing import marks

PAGE = (Path(__file__).parents[2] / "docs/tracing.md").read_text(encoding="utf-8")


def test_the_python_blocks_run(tmp_path):
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    for number, block in enumerate(blocks):
        script = tmp_path / f"block_{number}.py"
        script.write_text(block, encoding="utf-8")
        runpy.run_path(str(script))


def test_every_mark_of_a_config_is_named():
    names = [marks.PLAN, marks.REVISION, marks.STEP, marks.ATTEMPT, marks.ITEM, marks.ROLE, marks.AGENT]
    assert all(f"`{name}`" in PAGE for name in [*names, marks.CALL, marks.ENTRY, marks.TAG])


def test_the_variables_of_the_shell_blocks_are_read():
    shown = dict(re.findall(r"^export (PLAN_EXECUTE_\w+)=(\w+)$", PAGE, re.MULTILINE))
    capture = re.search(r"`(OTEL_INSTRUMENTATION\w+)=(\w+)`", PAGE)
    read = Environment.read({**shown, capture[1]: capture[2]})
    assert (read.tracing, read.captures_content) == ("otel", True)
