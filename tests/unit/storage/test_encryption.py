"""An encrypted database gives nothing away, and opens with its own key only."""

import base64
import shutil
import sqlite3
from contextlib import closing

import pytest
from golden_threads import FOLDER
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

from plan_execute.context import Environment
from plan_execute.errors import (
    ConfigurationError,
    EncryptionKeyError,
    SchemaVersionError,
    StorageDamagedError,
)
from plan_execute.storage.encryption import read_key
from plan_execute.storage.persistence import local_persistence
from plan_execute.storage.thread_names import list_threads
from plan_execute.threads.deletion import delete_thread

KEY = bytes(range(32))
OTHER = bytes(32)
PLAIN = "in clear words"
BIG = PLAIN * 200


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.db"


def config(thread="t", **more):
    return {"configurable": {"thread_id": thread, "checkpoint_ns": "", **more}}


def fill(path, key=KEY, threads=("t",)):
    """Keep a checkpoint with a value inline and one apart, a write and a store row in each thread."""
    with local_persistence(path, encryption_key=key) as (saver, store):
        for thread in threads:
            checkpoint = empty_checkpoint() | {
                "channel_values": {"goal": PLAIN, "results": {"a": BIG, "of": thread}},
                "channel_versions": {"goal": "1.a", "results": "2.b"},
            }
            place = config(thread) | {"metadata": {"customer": PLAIN}}
            stored = saver.put(place, checkpoint, {"step": 1, "source": "input"}, {"results": "2.b"})
            saver.put_writes(stored, [("results", {"b": BIG}), ("status", PLAIN)], "task")
            store.put(("notes", thread), "k", {"text": BIG, "of": thread})


def show(path, key=KEY, thread="t"):
    with local_persistence(path, encryption_key=key) as (saver, store):
        found = saver.get_tuple(config(thread))
        return (
            found,
            store.get(("notes", thread), "k").value,
            [item.value for item in store.search(("notes",))],
        )


def raw(path):
    return b"".join(file.read_bytes() for file in path.parent.iterdir() if file.is_file())


def execute(path, statement, *values):
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(statement, values).fetchall()


# --- what is in the file -----------------------------------------------------------------


def test_the_file_and_its_log_hold_nothing_in_clear_words(path):
    with local_persistence(path, encryption_key=KEY):
        fill(path)
        assert PLAIN.encode() not in raw(path)
    assert PLAIN.encode() not in raw(path)
    assert base64.b64encode(PLAIN.encode())[:12] not in raw(path)
    assert raw(path).count(b"aesgcm") >= 4


def test_everything_comes_back_as_it_was(path):
    fill(path)
    found, item, searched = show(path)
    assert found.checkpoint["channel_values"] == {"goal": PLAIN, "results": {"a": BIG, "of": "t"}}
    assert found.pending_writes == [("task", "results", {"b": BIG}), ("task", "status", PLAIN)]
    assert found.metadata == {"step": 1, "source": "input", "customer": PLAIN}
    assert item == {"text": BIG, "of": "t"}
    assert searched == [item]


def test_checkpoints_are_listed_and_filtered_by_their_metadata(path):
    fill(path, threads=("a", "b"))
    with local_persistence(path, encryption_key=KEY) as persistence:
        saver = persistence.checkpointer
        assert {found.config["configurable"]["thread_id"] for found in saver.list(None)} == {"a", "b"}
        assert len(list(saver.list(None, filter={"customer": PLAIN}))) == 2
        assert list(saver.list(None, filter={"customer": "someone else"})) == []
        assert len(list(saver.list(None, limit=1))) == 1
        assert {name for name, _ in list_threads(saver)} == {"a", "b"}
        delete_thread(persistence, "a")
        assert [name for name, _ in list_threads(saver)] == ["b"]


def test_two_equal_values_are_encrypted_differently(path):
    fill(path, threads=("a", "b"))
    values = [value for (value,) in execute(path, "SELECT value FROM writes")]
    assert len(set(values)) == len(values) == 2


def test_the_digests_of_parts_do_not_tell_which_threads_have_equal_ones(path):
    fill(path, threads=("a", "b"))
    digests = [digest for (digest,) in execute(path, "SELECT digest FROM checkpoint_parts")]
    assert len(set(digests)) == len(digests) == 2


def test_a_store_search_by_content_is_refused(path):
    with (
        local_persistence(path, encryption_key=KEY) as (_, store),
        pytest.raises(ConfigurationError, match="by namespace"),
    ):
        store.search(("notes",), filter={"text": "x"})


# --- whose key it is ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made_with", "opened_with", "message"),
    [
        (KEY, None, "is encrypted: give its key"),
        (KEY, OTHER, "is encrypted with another key"),
        (KEY, KEY[:16], "is encrypted with another key"),
        (None, KEY, "is not encrypted, and a database cannot be encrypted afterwards"),
    ],
)
def test_a_database_opens_with_its_own_key_only_and_is_left_unchanged(path, made_with, opened_with, message):
    fill(path, made_with)
    before = path.read_bytes()
    with pytest.raises(EncryptionKeyError, match=message) as refused:
        local_persistence(path, encryption_key=opened_with).__enter__()
    assert "nothing was changed" in str(refused.value)
    assert path.read_bytes() == before
    show(path, made_with)


@pytest.mark.parametrize("size", [16, 24, 32])
def test_keys_are_bytes_or_the_text_of_their_base64(path, size):
    key = bytes(range(255, 255 - size, -1))
    fill(path, key)
    show(path, base64.b64encode(key).decode())
    show(path, base64.urlsafe_b64encode(key).decode())
    assert read_key(f" {base64.b64encode(key).decode()}\n") == key


@pytest.mark.parametrize(
    "key", [b"", "", b"short", "not base64 at all!", base64.b64encode(bytes(20)).decode()]
)
def test_a_bad_key_is_refused_without_being_quoted(path, key):
    with pytest.raises(ConfigurationError, match="16, 24 or 32 bytes") as refused:
        local_persistence(path, encryption_key=key)
    assert not key or str(key) not in str(refused.value)
    assert not path.exists()


def test_an_encrypted_file_has_a_version_that_older_programs_refuse(path):
    fill(path)
    assert execute(path, "PRAGMA user_version") == [(3,)]
    execute(path, "PRAGMA user_version=4")
    with pytest.raises(SchemaVersionError):
        local_persistence(path, encryption_key=KEY).__enter__()


def test_an_earlier_file_becomes_one_of_this_version_when_it_is_opened(path):
    shutil.copyfile(FOLDER / "v1.db", path)
    assert execute(path, "PRAGMA user_version") == [(1,)]
    with local_persistence(path) as (saver, _):
        assert list(list_threads(saver))
    assert execute(path, "PRAGMA user_version") == [(3,)]


def test_the_key_does_not_show_in_the_environments_text():
    environment = Environment.read({"PLAN_EXECUTE_ENCRYPTION_KEY": "c2VjcmV0"})
    assert environment.encryption_key == "c2VjcmV0"
    assert "c2VjcmV0" not in repr(environment)


# --- rows that were changed --------------------------------------------------------------

TAMPERED = {
    "a checkpoint": "UPDATE checkpoints SET checkpoint = CAST(substr(checkpoint, 1, 40) || x'00' AS BLOB)",
    "a value": """UPDATE checkpoint_blobs SET value = CAST(
        iif(substr(value, 1, 1) = x'00', x'01', x'00') || substr(value, 2) AS BLOB)""",
    "a part of a value": "UPDATE checkpoint_parts SET value = x''",
    "an unencrypted part": "UPDATE checkpoint_parts SET type = 'msgpack', value = x'c0'",
    "a part's type": "UPDATE checkpoint_parts SET type = 'null' || substr(type, instr(type, '+'))",
    "a value's type": "UPDATE checkpoint_blobs SET type = 'null' || substr(type, instr(type, '+'))",
    "a value that is not divided": "UPDATE checkpoint_blobs SET type = replace(type, 'divided ', '')",
    "a value as of an earlier version": "UPDATE checkpoint_blobs SET type = 'msgpack+aesgcm'",
    "a cut value": "UPDATE checkpoint_blobs SET value = x''",
    "a write": "UPDATE writes SET value = x'0011'",
    "the metadata": """UPDATE checkpoints SET metadata = '{"sealed": "AAAA"}'""",
    "plain metadata": """UPDATE checkpoints SET metadata = '{"source": "input"}'""",
    "an unencrypted write": "UPDATE writes SET type = 'msgpack', value = x'c0'",
    "an unencrypted value": "UPDATE checkpoint_blobs SET type = 'msgpack', value = x'c0'",
    "an unencrypted checkpoint": "UPDATE checkpoints SET type = 'json', checkpoint = '{}'",
    "another way": "UPDATE writes SET type = 'msgpack+rot13'",
    "a store row": """UPDATE store SET value = '{"sealed": "AAAA"}'""",
    "an unencrypted store row": """UPDATE store SET value = '{"text": "forged"}'""",
    "a store row that is not base64": """UPDATE store SET value = '{"sealed": 7}'""",
}


@pytest.mark.parametrize("statement", TAMPERED.values(), ids=TAMPERED)
def test_a_changed_or_unencrypted_row_is_refused(path, statement):
    fill(path)
    execute(path, statement)
    with pytest.raises(StorageDamagedError, match="is encrypted and holds a row that"):
        show(path)


MOVED = {
    "a checkpoint": """UPDATE checkpoints SET (checkpoint, metadata) =
        (SELECT checkpoint, metadata FROM checkpoints WHERE thread_id = 'a') WHERE thread_id = 't'""",
    "a value": """UPDATE checkpoint_blobs SET value =
        (SELECT value FROM checkpoint_blobs WHERE thread_id = 'a') WHERE thread_id = 't'""",
    "a write": """UPDATE writes SET value =
        (SELECT value FROM writes WHERE thread_id = 'a' AND idx = 0) WHERE thread_id = 't' AND idx = 0""",
    "a write to another channel": "UPDATE writes SET channel = '__error__'",
    "a write of another task": "UPDATE writes SET task_id = 'other'",
    "a part of a value": """UPDATE checkpoint_parts SET value =
        (SELECT value FROM checkpoint_parts WHERE thread_id = 'a') WHERE thread_id = 't'""",
    "a store row": """UPDATE store SET value =
        (SELECT value FROM store WHERE prefix = 'notes.a') WHERE prefix = 'notes.t'""",
}


@pytest.mark.parametrize("statement", MOVED.values(), ids=MOVED)
def test_a_row_that_belongs_elsewhere_is_refused(path, statement):
    fill(path, threads=("a", "t"))
    execute(path, statement)
    with pytest.raises(StorageDamagedError, match="is encrypted and holds a row that"):
        show(path)


def test_a_clone_of_the_saver_refuses_unencrypted_rows_too(path):
    fill(path)
    execute(path, TAMPERED["an unencrypted write"])
    with local_persistence(path, encryption_key=KEY) as (saver, _):
        clone = saver.with_allowlist([("datetime", "datetime")])
        assert clone is not saver
        with pytest.raises(StorageDamagedError, match="is not encrypted"):
            clone.get_tuple(config())


def test_langgraphs_own_serializer_would_have_taken_such_a_row():
    taken = EncryptedSerializer(cipher=None).loads_typed(("msgpack", b"\xc0"))  # type: ignore[arg-type]
    assert taken is None, "LangGraph refuses plain rows by itself now: RefusingSerializer may go"
