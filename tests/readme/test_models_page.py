"""What docs/models.md shows works: its Python blocks run, its names are the real ones."""

import re
import runpy
from pathlib import Path

from plan_execute.context import Context, Environment

CHECKOUT = Path(__file__).parents[2]
PAGE = (CHECKOUT / "docs/models.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_python_blocks_run(tmp_path):
    shown = [text for language, text in BLOCKS if language == "python"]
    assert len(shown) == 4
    for number, block in enumerate(shown):
        script = tmp_path / f"block_{number}.py"
        script.write_text(block, encoding="utf-8")
        runpy.run_path(str(script))


def test_the_variables_and_options_that_are_named_exist():
    named = dict.fromkeys(re.findall(r"PLAN_EXECUTE_\w+", PAGE), "1")
    read = Environment.read(named)
    assert None not in (read.model, read.base_url, read.rate_limit)
    golden = (CHECKOUT / "tests/golden/help/run.txt").read_text(encoding="utf-8")
    options = set(re.findall(r"`(--[a-z-]+)`", PAGE)) - {"--jinja"}
    assert options
    assert all(option in golden for option in options)
    settings = set(re.findall(r"`(max_\w+|step_timeout_s|neutralise_links)`", PAGE))
    assert settings <= set(Context.model_fields)
