"""What docs/postgresql.md shows works: its Python blocks are run one after the other, on a real server."""

import re
import runpy
from pathlib import Path

import postgres_server

PAGE = (Path(__file__).parents[2] / "docs/postgresql.md").read_text(encoding="utf-8")


def test_the_python_blocks_run_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", postgres_server.server().new_schema())
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 3
    script = tmp_path / "blocks.py"
    script.write_text("\n".join(blocks), encoding="utf-8")
    after = runpy.run_path(str(script))
    assert after["result"]["__interrupt__"]


def test_the_options_it_names_are_understood_by_the_server():
    for option in re.findall(r"`\?options=([^`]*)`", PAGE):
        address = f"{postgres_server.server().url()}?options={option}"
        assert postgres_server.psycopg.connect(address).close() is None
