import inspect

import pytest

from plan_execute.cli.options import CacheOptions, SourceOptions, ToolOptions, with_single_options


def test_a_group_becomes_its_single_options_in_its_place_and_comes_back_as_one_object():
    def command(*, first: int = 1, sources: SourceOptions, last: int = 2) -> int:
        assert sources == SourceOptions(tools=["a:b"], db="x.db")
        return first + last

    single = with_single_options(command)
    names = [*inspect.signature(single).parameters]
    assert (names[0], names[-1]) == ("first", "last")
    assert names[1:-1] == [*SourceOptions.__dataclass_fields__]
    given = {**dict.fromkeys(names), "first": 3, "last": 4, "tools": ["a:b"], "db": "x.db"}
    assert single(**given) == 7


def test_a_command_may_have_only_some_options_of_a_group():
    def command(*, sources: ToolOptions) -> int:
        assert sources.db is None
        return len(sources.tools or [])

    single = with_single_options(command)
    assert [*inspect.signature(single).parameters] == ["tools", "toolsets", "mcp"]
    assert single(tools=["a", "b"], toolsets=None, mcp=None) == 2


def test_a_name_that_a_group_and_a_command_both_use_is_refused():
    def command(*, ttl: str = "", cache: CacheOptions) -> int:
        return 0

    with pytest.raises(TypeError, match="command takes these names twice: ttl"):
        with_single_options(command)


def test_a_group_may_not_be_called_like_an_option_of_another():
    def command(*, wanted: SourceOptions, cache: CacheOptions) -> int:
        return 0

    with pytest.raises(TypeError, match="command takes these names twice: wanted"):
        with_single_options(command)
