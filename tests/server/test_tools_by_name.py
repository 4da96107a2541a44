"""Tools named as module:attribute, as PLAN_EXECUTE_TOOLS and ``--tools`` take them."""

import sys

import pytest

from plan_execute.errors import ConfigurationError
from plan_execute.graph.server import load_tools

MODULE = '''
def shout(text: str) -> str:
    """Shout."""
    return text.upper()

def whisper(text: str) -> str:
    """Whisper."""
    return text.lower()

BOTH = (shout, whisper)

def make():
    return [whisper]

def breaks():
    raise RuntimeError("no database")

NUMBER = 3
'''


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch):
    (tmp_path / "named_tools.py").write_text(MODULE)
    (tmp_path / "broken_tools.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("named_tools", None)


@pytest.mark.parametrize(
    ("references", "names"),
    [
        ("", []),
        ("named_tools:shout", ["shout"]),
        ("named_tools:BOTH", ["shout", "whisper"]),
        ("named_tools:make", ["whisper"]),
        (" named_tools:shout , named_tools:make,", ["shout", "whisper"]),
    ],
)
def test_a_tool_a_collection_or_a_function_that_makes_one_can_be_named(references, names):
    assert [tool.__name__ for tool in load_tools(references)] == names


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("named_tools", r"named as module:attribute, not 'named_tools'"),
        (":shout", r"named as module:attribute"),
        ("named_tools:", r"named as module:attribute"),
        ("no_such_module:TOOLS", r"'no_such_module:TOOLS' cannot be loaded: ModuleNotFoundError"),
        ("broken_tools:TOOLS", r"'broken_tools:TOOLS' cannot be loaded: ZeroDivisionError"),
        ("named_tools:shuot", r"has no 'shuot'; it has: .*shout"),
        ("named_tools:breaks", r"'named_tools:breaks' cannot be loaded: RuntimeError: no database"),
        ("named_tools:NUMBER", r"'named_tools:NUMBER' cannot be loaded: TypeError"),
    ],
)
def test_what_cannot_be_loaded_is_refused_by_its_name(reference, message):
    with pytest.raises(ConfigurationError, match=message):
        load_tools(reference)
