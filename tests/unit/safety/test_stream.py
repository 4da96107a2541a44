"""What a run streams holds no secret, also where most of a chunk was in the one before."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessageChunk, HumanMessage

from plan_execute.safety.redaction import Redactor
from plan_execute.safety.stream import RedactedStream

SECRET = "hunter2-hunter2"


@pytest.fixture
def stream() -> RedactedStream:
    return RedactedStream(Redactor({"TOKEN": SECRET}))


def _wrapped(state: dict[str, Any], form: str) -> Any:
    forms: dict[str, Any] = {
        "bare": state,
        "mode": ("values", state),
        "subgraph": (("executor:1",), "values", state),
        "v2": {"type": "values", "ns": (), "data": state},
    }
    return forms[form]


FORMS = pytest.mark.parametrize("form", ["bare", "mode", "subgraph", "v2"])


@FORMS
def test_what_is_new_is_searched_and_what_holds_nothing_comes_back_as_it_is(
    stream: RedactedStream, form: str
) -> None:
    results: dict[str, Any] = {"a": {"output": ["fine", {"deep": "also fine"}]}}
    first = _wrapped({"status": "running", "results": results, "audit": [{"event": "x"}]}, form)
    assert stream.clean(first) is first
    later = {**results, "b": {"output": {"found": [f"it is {SECRET}"]}}}
    cleaned = stream.clean(_wrapped({"status": "done", "results": later, "audit": [{"event": "x"}]}, form))
    assert SECRET not in str(cleaned)
    assert "[redacted TOKEN]" in str(cleaned)


@FORMS
@pytest.mark.parametrize(
    "state",
    [
        {"final_answer": SECRET},
        {f"key {SECRET}": 1},
        {"results": {f"step {SECRET}": {}}},
        {"messages": [HumanMessage(f"my password is {SECRET}")]},
        {"audit": [{"event": "x"}, {"trigger": SECRET}]},
        {"output": [["deep", [SECRET]]]},
        {"output": (SECRET,)},
    ],
)
def test_a_secret_is_found_wherever_it_stands(stream: RedactedStream, form: str, state: Any) -> None:
    stream.clean(_wrapped({"status": "running", "audit": [{"event": "x"}]}, form))
    assert SECRET not in str(stream.clean(_wrapped(state, form)))


def test_a_message_that_is_changed_in_place_is_searched_again(stream: RedactedStream) -> None:
    message = HumanMessage("hello")
    state = {"messages": [message]}
    assert stream.clean(state) is state
    message.content = f"hello {SECRET}"
    assert SECRET not in str(stream.clean(state))


def test_namespaces_are_searched_too(stream: RedactedStream) -> None:
    assert SECRET not in str(stream.clean(((f"step {SECRET}:1",), "values", {"status": "done"})))


@pytest.mark.parametrize("size", [1, 7, 40])
def test_a_secret_of_several_words_in_html_escapes_is_found_in_pieces_too(size: int) -> None:
    secret = "one two three <four> & five six"
    stream = RedactedStream(Redactor({"TOKEN": secret}))
    escaped = " ".join("".join(f"&#x{ord(sign):04x};" for sign in word) for word in secret.split())
    text = f"It is {escaped} and a few words more"
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    given = [stream.clean((AIMessageChunk(piece, id="m"), {}))[0].content for piece in pieces]
    given += [message.content for message, _ in stream.rest()]
    assert "".join(given) == "It is [redacted TOKEN] and a few words more"


def test_what_a_tool_streams_is_searched_also_when_it_was_changed_in_place(stream: RedactedStream) -> None:
    told: dict[str, Any] = {"lines": ["fine"]}
    assert stream.clean(("custom", told)) == ("custom", {"lines": ["fine"]})
    told["lines"].append(f"it is {SECRET}")
    assert stream.clean(("custom", told)) == ("custom", {"lines": ["fine", "it is [redacted TOKEN]"]})


@pytest.mark.parametrize(
    ("kind", "part", "text"),
    [
        ("text-delta", "text", f"it is {SECRET} and some more words"),
        ("tool-call-delta", "args", f'{{"q": "{SECRET}"}}'),
        ("reasoning-delta", "reasoning", f"I know {SECRET}"),
    ],
)
@pytest.mark.parametrize("length", [1, 5, 9])
def test_pieces_of_a_block_of_protocol_3_hold_no_secret_when_they_are_joined(
    stream: RedactedStream, kind: str, part: str, text: str, length: int
) -> None:
    def told(**event: Any) -> dict[str, Any]:
        return {"type": "messages", "ns": (), "data": ({"index": 0, **event}, {"run_id": "r"})}

    pieces = [text[at : at + length] for at in range(0, len(text), length)]
    deltas = [told(event="content-block-delta", delta={"type": kind, part: piece}) for piece in pieces]
    last = told(event="content-block-finish", content={part: text})
    given = [shown["data"][0] for chunk in [*deltas, last] for shown in stream.cleaned(chunk)]
    joined = "".join(event["delta"][part] for event in given[:-1])
    assert joined == text.replace(SECRET, "[redacted TOKEN]")
    assert given[-1]["content"] == {part: joined}
    assert list(stream.rest()) == []
