"""Any text can be a label or key of any store, and is the same one in every version of this package."""

from urllib.parse import quote

from hypothesis import example, given
from hypothesis import strategies as st

from plan_execute.storage.rows import decode, encode

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
