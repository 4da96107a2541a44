"""File tools do their work below one folder, and nothing leads out of it."""

import os
import shutil
import socket
import stat
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from plan_execute import Context, ScriptedModel, create_plan_execute_agent
from plan_execute.errors import ToolFailedError
from plan_execute.tools.files import FileTools, file_tools
from plan_execute.tools.folder import ConfinedFolder
from plan_execute.tools.toolbox import Toolbox

SECRET = "the secret"


@pytest.fixture
def root(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_text(SECRET)
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def tools(root):
    return FileTools(ConfinedFolder(root))


def everything_below(folder):
    return {str(path.relative_to(folder)): path.lstat().st_mtime_ns for path in sorted(folder.rglob("*"))}


# --- the work ------------------------------------------------------------------------------


def test_what_is_written_is_read_back_exactly(tools, root):
    text = "one\r\ntwo\n\ttürkis 🐢\0 end"
    assert tools.write_file("a/b/c.txt", text) == {"path": "a/b/c.txt", "bytes": len(text.encode())}
    assert tools.read_file("a/b/c.txt") == text
    assert (root / "a/b/c.txt").read_bytes() == text.encode()


def test_a_root_that_is_not_there_is_made_when_it_is_used(tmp_path):
    tools = FileTools(ConfinedFolder(tmp_path / "new" / "root"))
    assert not (tmp_path / "new").exists()
    assert tools.list_files() == {"files": [], "skipped": [], "complete": True}
    tools.write_file("a.txt", "x")
    assert (tmp_path / "new" / "root" / "a.txt").read_text() == "x"


def test_files_are_listed_by_pattern_with_their_sizes(tools):
    for path in ("b.md", "sub/a.md", "sub/deep/c.md", "a.txt"):
        tools.write_file(path, path)
    assert tools.list_files(pattern="*.md")["files"] == [
        {"path": "b.md", "bytes": 4},
        {"path": "sub/a.md", "bytes": 8},
        {"path": "sub/deep/c.md", "bytes": 13},
    ]
    assert [file["path"] for file in tools.list_files("sub/deep")["files"]] == ["sub/deep/c.md"]


def test_lines_are_found_with_their_place_and_what_cannot_be_searched_is_named(tools, root):
    tools.write_file("a.txt", "tea\nmilk\ntea and milk\n")
    tools.write_file("sub/b.txt", "no\n  green tea  \n")
    (root / "picture.bin").write_bytes(b"tea \xff\xfe")
    found = tools.find_in_files("tea")
    assert found["matches"] == [
        {"path": "a.txt", "line": 1, "text": "tea"},
        {"path": "a.txt", "line": 3, "text": "tea and milk"},
        {"path": "sub/b.txt", "line": 2, "text": "green tea"},
    ]
    assert found["complete"] is True
    assert [entry["path"] for entry in found["skipped"]] == ["picture.bin"]
    assert "not UTF-8" in found["skipped"][0]["reason"]


def test_a_replaced_file_keeps_its_permissions_and_the_folder_holds_no_rest(tools, root):
    script = root / "run.sh"
    script.write_text("old")
    script.chmod(0o750)
    tools.write_file("run.sh", "new")
    assert (script.read_text(), stat.S_IMODE(script.stat().st_mode)) == ("new", 0o750)
    assert os.listdir(root) == ["run.sh"]


def test_a_reader_never_sees_a_part_of_a_file_that_is_being_written(tools, root):
    versions = {"a" * 500_000, "b" * 400_000}
    tools.write_file("f.txt", "a" * 500_000)
    stop, seen = threading.Event(), set()

    def read():
        while not stop.is_set():
            seen.add((root / "f.txt").read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(10):
        for version in versions:
            tools.write_file("f.txt", version)
    stop.set()
    reader.join()
    assert seen <= versions


# --- ways out ------------------------------------------------------------------------------

WAYS_OUT = [
    "../outside/secret.txt",
    "sub/../../outside/secret.txt",
    "..",
    "sub/..",
    "{outside}/secret.txt",
    "/{outside}/secret.txt",
    "link",
    "folder_link/secret.txt",
    "sub/up/secret.txt",
    "link_to_link",
    "a\0b",
    "",
    "\ud800",
    "dangling",
    "loop",
]


@pytest.fixture
def trapped(root, tmp_path):
    """Make links that lead out, in every way."""
    (root / "sub").mkdir()
    (root / "link").symlink_to(tmp_path / "outside" / "secret.txt")
    (root / "folder_link").symlink_to(tmp_path / "outside")
    (root / "sub" / "up").symlink_to("../../outside")
    (root / "link_to_link").symlink_to("link")
    (root / "dangling").symlink_to(tmp_path / "outside" / "new.txt")
    (root / "loop").symlink_to("loop")
    return root


@pytest.mark.parametrize("path", WAYS_OUT)
def test_no_path_leads_out(tools, trapped, tmp_path, path):
    path = path.replace("{outside}", str(tmp_path / "outside"))
    before = everything_below(tmp_path)
    for call in (
        lambda: tools.read_file(path),
        lambda: tools.write_file(path, "overwritten"),
        lambda: tools.list_files(path),
        lambda: tools.find_in_files("secret", path),
    ):
        with pytest.raises(ToolFailedError) as caught:
            call()
        assert SECRET not in str(caught.value)
        assert str(tmp_path) not in str(caught.value).replace(path or "''", "")
    assert everything_below(tmp_path) == before


def test_a_listing_and_a_search_follow_no_link(tools, trapped):
    listed = tools.list_files()
    assert listed["files"] == []
    assert {entry["path"] for entry in listed["skipped"]} == {
        "dangling",
        "folder_link",
        "link",
        "link_to_link",
        "loop",
        "sub/up",
    }
    assert tools.find_in_files("secret")["matches"] == []


def test_a_link_that_stays_inside_works_and_is_not_replaced_by_a_file(tools, root):
    tools.write_file("real/a.txt", "old")
    (root / "inner").symlink_to("real")
    (root / "a").symlink_to(root / "real" / "a.txt")
    tools.write_file("inner/a.txt", "new")
    assert (tools.read_file("a"), tools.read_file("inner/a.txt")) == ("new", "new")
    tools.write_file("a", "newer")
    assert (root / "a").is_symlink()
    assert (root / "real" / "a.txt").read_text() == "newer"


def test_a_hard_link_to_a_file_outside_is_not_written_through(tools, root, tmp_path):
    os.link(tmp_path / "outside" / "secret.txt", root / "hard.txt")
    tools.write_file("hard.txt", "mine")
    assert (tmp_path / "outside" / "secret.txt").read_text() == SECRET


def test_a_folder_that_is_swapped_for_a_link_at_any_moment_leads_nowhere(tools, root, tmp_path):
    outside = tmp_path / "outside"
    (root / "d").mkdir()
    (root / "d" / "secret.txt").write_text("harmless")
    stop = threading.Event()

    def put_back():
        while True:
            try:
                return os.rename(root / "real", root / "d")
            except OSError:
                shutil.rmtree(root / "d", ignore_errors=True)

    def swap():
        while not stop.is_set():
            os.rename(root / "d", root / "real")
            with suppress(FileExistsError):  # write_file makes missing folders
                os.symlink(outside, root / "d")
                os.unlink(root / "d")
            put_back()

    swapper = threading.Thread(target=swap)
    swapper.start()
    outcomes = set()
    try:
        until = time.monotonic() + 2
        while time.monotonic() < until or not outcomes >= {"refused", "harmless"}:
            for call in (lambda: tools.read_file("d/secret.txt"), lambda: tools.write_file("d/n.txt", "x")):
                try:
                    outcomes.add(str(call()))
                except ToolFailedError:
                    outcomes.add("refused")
    finally:
        stop.set()
        swapper.join()
    assert SECRET not in outcomes
    assert {"refused", "harmless"} <= outcomes
    assert os.listdir(outside) == ["secret.txt"]


def test_a_file_that_is_swapped_for_a_link_at_any_moment_leads_nowhere(tools, root, tmp_path):
    stop = threading.Event()

    def swap():
        while not stop.is_set():
            (root / "new").write_text("harmless")
            os.rename(root / "new", root / "f.txt")
            os.symlink(tmp_path / "outside" / "secret.txt", root / "new")
            os.rename(root / "new", root / "f.txt")

    swapper = threading.Thread(target=swap)
    swapper.start()
    read = set()
    try:
        until = time.monotonic() + 2
        while time.monotonic() < until or not read >= {"refused", "harmless"}:
            try:
                read.add(tools.read_file("f.txt"))
                tools.write_file("f.txt", "overwritten")
            except ToolFailedError:
                read.add("refused")
            read |= {match["text"] for match in tools.find_in_files("e", pattern="f.txt")["matches"]}
    finally:
        stop.set()
        swapper.join()
    assert SECRET not in read
    assert {"refused", "harmless"} <= read
    assert (tmp_path / "outside" / "secret.txt").read_text() == SECRET


# --- what is no file, too large, or no text ------------------------------------------------


def test_a_pipe_a_socket_a_device_and_a_folder_are_refused_at_once(tools, root):
    os.mkfifo(root / "pipe")
    (root / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(root)  # the path of a socket has a short limit
        try:
            server.bind("socket")
        finally:
            os.chdir(here)
        for path in ("pipe", "socket", "folder", "."):
            for call in (tools.read_file, partial(tools.write_file, text="x")):
                with pytest.raises(ToolFailedError):
                    call(path)
        assert {entry["path"] for entry in tools.list_files()["skipped"]} == {"pipe", "socket"}
        assert {entry["path"] for entry in tools.find_in_files("x")["skipped"]} == {"pipe", "socket"}
    with pytest.raises(ToolFailedError, match="not a regular file"):
        FileTools(ConfinedFolder(Path("/dev"))).read_file("zero")


def test_a_file_over_the_limit_is_neither_read_nor_written(root):
    tools = FileTools(ConfinedFolder(root), max_bytes=10)
    (root / "large.txt").write_text("x" * 11)
    (root / "sparse.txt").touch()
    os.truncate(root / "sparse.txt", 1 << 40)
    for path in ("large.txt", "sparse.txt"):
        with pytest.raises(ToolFailedError, match="larger than the limit of 10 bytes"):
            tools.read_file(path)
    with pytest.raises(ToolFailedError, match="12 bytes are more than the limit of 10"):
        tools.write_file("new.txt", "é" * 6)
    assert {entry["path"] for entry in tools.find_in_files("x")["skipped"]} == {"large.txt", "sparse.txt"}
    assert not (root / "new.txt").exists()


def test_a_large_file_is_read_part_by_part_and_each_part_says_where_to_read_on(root):
    tools = FileTools(ConfinedFolder(root), max_bytes=10)
    text = "aä€🐢" * 5
    (root / "large.txt").write_text(text)
    parts, offset = [], 0
    for limit in (10, 4, 5, *[None] * 20):
        part, cut, note = tools.read_file("large.txt", offset, limit).rpartition("\n… (")
        if not cut:
            parts.append(note)
            break
        assert len(part.encode()) <= (limit or 10)
        parts.append(part)
        offset = int(note.removesuffix(")").rpartition("offset=")[2])
        assert f"of {len(text.encode())}; read on with offset={offset})" in note
    assert "".join(parts) == text
    assert tools.read_file("large.txt", len(text.encode())) == ""


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        ({"offset": -1}, "offset from 0"),
        ({"limit": 3}, "limit from 4"),
        ({"offset": 99}, "has 3 bytes; offset=99 is after its end"),
        ({"offset": 1, "limit": 9}, "is not UTF-8 text .byte 0xa4 at 1"),
    ],
)
def test_a_part_that_cannot_be_read_is_refused_with_the_reason(tools, root, args, problem):
    (root / "a.txt").write_text("äb")
    with pytest.raises(ToolFailedError, match=problem):
        tools.read_file("a.txt", **args)


def test_a_listing_and_a_search_that_were_cut_off_say_so(root):
    tools = FileTools(ConfinedFolder(root), max_entries=3, max_matches=2)
    for name in "abc":
        tools.write_file(name, "tea")
    assert tools.list_files()["complete"] is True
    found = tools.find_in_files("tea")
    assert (len(found["matches"]), found["complete"]) == (2, False)
    tools.write_file("d", "milk")
    listed = tools.list_files()
    assert (len(listed["files"]), listed["complete"]) == (3, False)
    assert tools.find_in_files("milk", pattern="d")["complete"] is True
    assert tools.find_in_files("milk") == {"matches": [], "skipped": [], "complete": False}


def test_bytes_that_are_no_text_are_reported_with_their_place(tools, root):
    (root / "b").write_bytes(b"caf\xe9 au lait")
    with pytest.raises(ToolFailedError, match=r"'b' is not UTF-8 text \(byte 0xe9 at 3\)"):
        tools.read_file("b")
    with pytest.raises(ToolFailedError, match="cannot be stored as UTF-8"):
        tools.write_file("c", "\ud800")
    assert os.listdir(root) == ["b"]


def test_a_name_that_is_no_text_is_listed_as_text_that_can_be_stored(tools, root):
    os.close(os.open(os.fsencode(root) + b"/caf\xe9", os.O_CREAT))
    assert [file["path"] for file in tools.list_files()["files"]] == ["caf\ufffd"]


def test_one_file_has_one_name_where_it_is_written(tools, root):
    for path in ("./a.txt", "sub//a.txt", "sub/./a.txt", "a.txt/"):
        with pytest.raises(ToolFailedError, match="must be written as"):
            tools.write_file(path, "x")
    assert os.listdir(root) == []


# --- as tools ------------------------------------------------------------------------------


def test_only_writing_has_an_effect_and_it_names_the_file(root):
    box = Toolbox(file_tools(root))
    assert {name: box.effect(name) for name in box.names} == {
        "list_files": "read",
        "read_file": "read",
        "find_in_files": "read",
        "write_file": "write",
    }
    assert box.known_resource("write_file", {"path": "a.txt", "text": "x"}) == "file:a.txt"


def test_bound_steps_and_agent_steps_use_them(root):
    model = ScriptedModel(
        {
            "executor": [
                ScriptedModel.tool_calls(("read_file", {"path": "../outside/secret.txt"})),
                ScriptedModel.tool_calls(("read_file", {"path": "a.txt"})),
                "It says tea.",
            ],
        }
    )
    plan = {
        "goal": "write and read",
        "steps": [
            {"id": "w", "call": {"tool": "write_file", "args": {"path": "a.txt", "text": "tea"}}},
            {"id": "l", "depends_on": ["w"], "call": {"tool": "list_files", "args": {}}},
            {"id": "r", "task": "read it", "depends_on": ["w"], "tools": ["read_file"]},
        ],
    }
    agent = create_plan_execute_agent(model, file_tools(root))
    result = agent.invoke({"plan": plan}, context=Context(approval="never", on_failure="abort"))
    assert result["results"]["l"]["output"]["files"] == [{"path": "a.txt", "bytes": 3}]
    assert [call["ok"] for call in result["results"]["r"]["evidence"]] == [False, True]
    assert SECRET not in str(result)


def test_two_steps_that_write_one_file_at_the_same_time_are_refused(root):
    steps = [{"id": i, "call": {"tool": "write_file", "args": {"path": "a", "text": i}}} for i in ("x", "y")]
    agent = create_plan_execute_agent(None, file_tools(root))
    result = agent.invoke({"plan": {"goal": "g", "steps": steps}}, context=Context(approval="never"))
    assert {issue["code"] for issue in result["plan_issues"]} == {"write_conflict"}


# --- depth -------------------------------------------------------------------------------


def test_a_path_of_very_many_folders_is_not_made(tools, root):
    """One write of 3,000 folders made every later listing fail."""
    with pytest.raises(ToolFailedError, match="100 nested folders"):
        tools.write_file("d/" * 3000 + "f", "x")
    tools.write_file("d/" * 99 + "f", "x")
    assert tools.read_file("d/" * 99 + "f") == "x"
    assert [found["path"] for found in tools.list_files(".", "f")["files"]] == ["d/" * 99 + "f"]


def test_a_tree_that_somebody_made_too_deep_is_walked_as_far_as_it_goes_and_named(tools, root):
    tools.write_file("a.txt", "needle")
    at = os.open(root, os.O_RDONLY)
    for _ in range(300):
        os.mkdir("d", dir_fd=at)
        inner = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
    os.close(at)
    listed = tools.list_files()
    assert [found["path"] for found in listed["files"]] == ["a.txt"]
    assert [skip["reason"] for skip in listed["skipped"]] == ["too deep"]
    assert tools.find_in_files("needle")["matches"][0]["path"] == "a.txt"
