"""No file and no event holds a secret, whoever said it, also when the run is killed and goes on."""

import random

import crash_child
import pytest
import secret_child
from crash_child import Workplace
from secret_child import NAME, SECRET, finish


@pytest.fixture(scope="module")
def children(tmp_path_factory):
    with crash_child.serving(tmp_path_factory.mktemp("answers"), secret_child.__file__) as started:
        yield started


def files_of(workplace, events):
    folder = events.parent
    return [path for path in folder.rglob("*") if path.is_file() and path != folder / workplace.log]


def test_an_uninterrupted_run_leaves_no_secret_in_the_database_or_its_events(children, tmp_path):
    workplace, events = Workplace(tmp_path, "local"), tmp_path / "events.txt"
    end = finish(children, workplace, events)
    assert end["status"] == "done", end
    output = end["results"]["leak"]["output"]
    assert output["key"] == f"[redacted {NAME}]"
    assert output["text"] == f"the key is [redacted {NAME}], really"
    assert output[f"[redacted {NAME}]"] == ["[redacted key]", {"deep": "[redacted token]"}]
    assert f"[redacted {NAME}]" in end["final_answer"]
    assert f"[redacted {NAME}]" in end["plan"]["rationale"]
    assert "is not passed on" not in str(end["results"]["send"])
    assert secret_child.found_in(*files_of(workplace, events)) == []


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_run_that_is_killed_again_and_again_leaves_none_either(children, tmp_path, seed):
    workplace, events = Workplace(tmp_path, "local"), tmp_path / "events.txt"
    end = finish(children, workplace, events, kills=4, dice=random.Random(seed))
    assert end["status"] == "done", end
    assert secret_child.found_in(*files_of(workplace, events)) == []


def test_the_search_finds_what_it_should(tmp_path):
    planted = tmp_path / "x"
    planted.write_bytes(b"\0" + SECRET.encode("utf-16-le"))
    assert secret_child.found_in(planted)
