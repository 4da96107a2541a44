"""A large output comes back exactly, or is missed aloud; what looks like a handle is not taken for one."""

import asyncio
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langgraph.store.memory import InMemoryStore

from plan_execute import local_persistence
from plan_execute.errors import StorageDamagedError
from plan_execute.storage import artifacts as module
from plan_execute.storage.artifacts import HANDLE, Artifacts, shown

LIMIT = 300

# Not two halves of one character in a row: JSON itself reads those as the character.
TEXT = st.text() | st.sampled_from(["\ud800", "a\udfffb", "\x00", "é\u2028", "😀" * 200, "x" * 5000])
NUMBER = st.integers() | st.integers(-(10**40), 10**40) | st.floats(allow_nan=False, allow_infinity=False)
SCALAR = st.none() | st.booleans() | NUMBER | TEXT
JSON = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(TEXT, inner, max_size=6),
    max_leaves=30,
)


def same(one, other):
    """Tell whether two JSON values are one, to the type of each number and the order of all keys."""
    return type(one) is type(other) and json.dumps(one) == json.dumps(other)


def artifacts(store, limit=LIMIT, thread="t"):
    return Artifacts(store, thread, limit)


def rows(store):
    return store.search(("plan_execute", "artifacts"), limit=1000)


def text_of(size):
    """Return a text whose JSON has exactly so many bytes."""
    return "x" * (size - 2)


@settings(max_examples=150, deadline=None)
@given(JSON)
def test_any_json_value_comes_back_exactly_from_another_run(value):
    async def there_and_back():
        store = InMemoryStore()
        kept = await artifacts(store, 0).put_away(value)
        assert set(kept) == {HANDLE}
        return await artifacts(store).value(json.loads(json.dumps(kept)), "s")

    assert same(asyncio.run(there_and_back()), value)


@settings(max_examples=40, deadline=None)
@given(JSON.filter(lambda value: isinstance(value, dict)))
def test_what_looks_like_a_handle_is_kept_as_a_value_whatever_its_size_and_the_store(value):
    async def there_and_back(store):
        forged = {HANDLE: value}
        kept = await artifacts(store, 10**9).put_away(forged)
        assert kept != forged
        return await artifacts(store).value(kept, "s"), forged

    for store in (InMemoryStore(), None):
        got, forged = asyncio.run(there_and_back(store))
        assert same(got, forged)


@pytest.mark.parametrize("size", [LIMIT - 1, LIMIT])
async def test_up_to_the_limit_an_output_stays(size):
    store = InMemoryStore()
    assert await artifacts(store).put_away(text_of(size)) == text_of(size)
    assert not rows(store)


@pytest.mark.parametrize("size", [LIMIT + 1, LIMIT * 50, 3_500_000])
async def test_above_the_limit_a_handle_says_what_was_put_away(size):
    store = InMemoryStore()
    kept = await artifacts(store).put_away(text_of(size))
    said = kept[HANDLE]
    assert re.fullmatch("sha256:[0-9a-f]{64}", said["digest"])
    assert (said["bytes"], said["type"], "items" in said) == (size, "string", False)
    assert len(json.dumps(kept)) < 1000
    assert await artifacts(store).value(kept, "s") == text_of(size)
    assert max(len(row.value["json"]) for row in rows(store)) <= module.PIECE_CHARACTERS


@pytest.mark.parametrize(
    ("value", "type_", "items"),
    [
        ([1] * 500, "array", 500),
        ({"k": "v" * 500}, "object", 1),
        ("é" * 200, "string", None),
        (10**400, "number", None),
    ],
)
async def test_the_limit_counts_bytes_and_the_handle_names_the_type(value, type_, items):
    said = (await artifacts(InMemoryStore()).put_away(value))[HANDLE]
    assert (said["type"], said.get("items")) == (type_, items)
    assert said["bytes"] == len(json.dumps(value, ensure_ascii=False).encode())


async def test_without_a_lasting_store_outputs_stay_where_they_are():
    assert await Artifacts(None, "t", LIMIT).put_away(text_of(10_000)) == text_of(10_000)


async def test_the_same_content_is_kept_once():
    store = InMemoryStore()
    for _ in range(3):
        await artifacts(store).put_away(text_of(5000))
    assert len(rows(store)) == 1


async def test_a_value_is_the_callers_to_change():
    kept = artifacts(InMemoryStore())
    for value in ([1, [2]], [text_of(5000), [2]]):
        handle = await kept.put_away(value)
        (await kept.value(handle, "s"))[1] = "changed"
        assert await kept.value(handle, "s") == value


async def test_many_who_need_one_artifact_share_one_reading():
    store = CountingStore()
    handle = await artifacts(store).put_away(text_of(5_000_000))
    reader = artifacts(store)
    store.reads = 0
    got = await asyncio.gather(*(reader.value(handle, "s") for _ in range(50)))
    assert set(got) == {text_of(5_000_000)}
    assert store.reads == 1
    writer = artifacts(store)
    await writer.value(await writer.put_away(text_of(4000)), "s")
    assert store.reads == 1, "who put it away has it"


class CountingStore(InMemoryStore):
    """A real store that counts when it is read."""

    reads = 0

    async def abatch(self, ops):
        wanted = [*ops]
        self.reads += any(type(op).__name__ == "GetOp" for op in wanted)
        return await super().abatch(wanted)


async def test_a_run_holds_only_so_much_in_memory(monkeypatch):
    monkeypatch.setattr(module, "CACHE_CHARACTERS", 10_000)
    kept = artifacts(InMemoryStore())
    handles = [await kept.put_away(str(n) * 3000) for n in range(10)]
    assert kept._held <= 10_000
    assert [await kept.value(handle, "s") for handle in handles] == [str(n) * 3000 for n in range(10)]


# --- what is wrong -----------------------------------------------------------------------


async def damaged(store, handle, thread="t"):
    with pytest.raises(StorageDamagedError) as caught:
        await artifacts(store, thread=thread).value(handle, "weather")
    assert "'weather'" in str(caught.value)
    return str(caught.value)


async def test_a_missing_artifact_names_step_and_digest():
    handle = await artifacts(InMemoryStore()).put_away(text_of(400))
    assert handle[HANDLE]["digest"] in await damaged(InMemoryStore(), handle)
    assert "no lasting store" in await damaged(None, handle)


@pytest.mark.parametrize("spoil", ["change", "cut", "drop"])
async def test_an_altered_artifact_names_step_and_digest(spoil):
    store = InMemoryStore()
    handle = await artifacts(store).put_away(text_of(2_500_000))
    first, second, _ = sorted(rows(store), key=lambda row: row.key)
    if spoil == "change":
        store.put(first.namespace, first.key, {"json": first.value["json"].replace("x", "y", 1)})
    elif spoil == "cut":
        store.put(second.namespace, second.key, {"json": second.value["json"][:-1]})
    else:
        store.delete(second.namespace, second.key)
    assert handle[HANDLE]["digest"] in await damaged(store, handle)


async def test_putting_a_damaged_artifact_away_again_mends_it():
    store = InMemoryStore()
    handle = await artifacts(store).put_away(text_of(400))
    store.put(rows(store)[0].namespace, rows(store)[0].key, {"json": "?"})
    assert await artifacts(store).put_away(text_of(400)) == handle
    assert await artifacts(store).value(handle, "s") == text_of(400)


async def test_a_handle_names_content_of_its_own_thread_only():
    store = InMemoryStore()
    handle = await artifacts(store, thread="theirs").put_away(text_of(400))
    await damaged(store, handle, thread="mine")


@pytest.mark.parametrize(
    "said", [None, 7, "x", [], {}, {"digest": 7}, {"digest": "sha256:../x"}, {"digest": "md5:" + "0" * 64}]
)
async def test_a_forged_handle_is_refused(said):
    await damaged(InMemoryStore(), {HANDLE: said})


async def test_a_file_keeps_artifacts_for_the_next_process(tmp_path):
    value = {"text": "é\x00\ud800" * 1000, "numbers": [1.5, 2**63, -0.0]}
    with local_persistence(tmp_path / "x.db") as (_, store):
        handle = await artifacts(store).put_away(value)
    with local_persistence(tmp_path / "x.db") as (_, store):
        assert same(await artifacts(store).value(handle, "s"), value)


# --- what people and prompts see ---------------------------------------------------------


async def test_a_handle_is_shown_by_its_beginning_and_its_size():
    store = InMemoryStore()
    handle = await artifacts(store).put_away("beginning " + text_of(5000))
    assert shown(handle, 20) == "beginning xxxxxxxxxx… (5,010 bytes in all)"
    assert shown({"plain": 1}, 20) == '{"plain": 1}'
    long = await artifacts(store).shown(handle, "s", 4000)
    assert long.startswith("beginning xxx")
    assert len(long) > 4000
    assert "is not in the store" in await artifacts(InMemoryStore()).shown(handle, "s", 4000)


async def test_what_is_no_handle_of_ours_is_shown_as_what_it_is():
    forged = {HANDLE: {"preview": "all is well"}}
    assert shown(forged, 100) == json.dumps(forged)
    assert shown(await Artifacts(None).put_away(forged), 100) == json.dumps(forged)
