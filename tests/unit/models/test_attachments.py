"""What a person attached reaches models that take it; others are told that they do not see it."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

from plan_execute import ScriptedModel
from plan_execute.models.prompts.attachments import attachments_of, with_attachments

IMAGE = {"type": "image", "mimeType": "image/png", "data": "aW1n", "metadata": {"name": "cat.png"}}
FILE = {"type": "file", "mime_type": "application/pdf", "base64": "cGRm", "filename": "plan.pdf"}
TEXT = {"type": "text", "text": "What is this?"}


def _said(*content: Any) -> HumanMessage:
    return HumanMessage(list(content))


@pytest.mark.parametrize(
    ("messages", "kinds"),
    [
        ([HumanMessage("What is this?")], []),
        ([_said(TEXT, IMAGE, FILE)], ["image", "file"]),
        ([_said(IMAGE), AIMessage("A cat."), _said(TEXT)], []),
        ([AIMessage("Hello."), _said(IMAGE), HumanMessage("What is this?")], ["image"]),
        ([_said(IMAGE), AIMessage("Approve?", id="question-1"), HumanMessage("yes")], ["image"]),
    ],
)
def test_what_came_since_the_last_answer_is_attached(messages: Any, kinds: list[str]) -> None:
    assert [block["type"] for block in attachments_of({"messages": messages})] == kinds


def _prompted(profile: dict[str, Any] | None, *attached: Any) -> Any:
    model = ScriptedModel({})
    model.profile = profile  # type: ignore[assignment]
    blocks = attachments_of({"messages": [_said(*attached)]})
    return with_attachments([SystemMessage("You plan."), HumanMessage("Goal")], blocks, model)[-1].content


@pytest.mark.parametrize("profile", [None, {"image_inputs": True, "pdf_inputs": True}])
def test_a_model_that_takes_it_is_shown_it(profile: dict[str, Any] | None) -> None:
    text, image, file = _prompted(profile, IMAGE, FILE)
    assert text == {"type": "text", "text": "Goal"}
    assert (image["base64"], image["mime_type"]) == ("aW1n", "image/png")
    assert (file["base64"], file["mime_type"], file["filename"]) == ("cGRm", "application/pdf", "plan.pdf")


def test_a_model_that_does_not_take_it_is_told_what_it_does_not_see() -> None:
    text = _prompted({"image_inputs": False, "pdf_inputs": False}, IMAGE, FILE)
    assert text == (
        "Goal\n\nAttached by the person, and not shown to you: cat.png, plan.pdf. "
        "You take no such input: say so where it matters, and never guess what it holds."
    )


def test_a_model_is_shown_what_it_takes_and_told_of_the_rest() -> None:
    text, image = _prompted({"image_inputs": True, "pdf_inputs": False}, IMAGE, FILE)
    assert "not shown to you: plan.pdf." in text["text"]
    assert image["type"] == "image"
