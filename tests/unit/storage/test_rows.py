"""Any text can be a label or key of any store, and is the same one in every version of this package."""

from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from langgraph.store.memory import InMemoryStore

from plan_execute.errors import StorageDamagedError
from plan_execute.storage.rows import decode, encode, load

ANY_TEXT = st.text(st.characters(exclude_categories=()))


@given(ANY_TEXT)
@example("")
@example("%")
@example("a.b/c d%2E")
@example("\0\ud800\udfffé雪😀")
def test_a_label_is_the_text_as_urls_quote_it_without_dots(text):
    label = encode(text)
    assert label == (quote(text, safe="", errors="surrogatepass").replace(".", "%2E") or "%")
    assert decode(label) == text


@pytest.mark.parametrize("value", [{"json": '{"a": 1'}, {"json": 1}, {"jsom": "{}"}])
def test_a_row_that_cannot_be_read_is_damage(value):
    store = InMemoryStore()
    store.put(("a", "b"), "k", value)
    with pytest.raises(StorageDamagedError, match="the store's row a/b/k cannot be read"):
        load(store.get(("a", "b"), "k"))
