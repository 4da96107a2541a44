"""What docs/plans.md shows works: its blocks are run one after the other, as one program."""

import re
import runpy
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs/plans.md").read_text(encoding="utf-8")


def test_the_python_blocks_run(tmp_path):
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 8
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks), encoding="utf-8")
    runpy.run_path(str(script))
