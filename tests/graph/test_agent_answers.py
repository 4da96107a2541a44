"""What the answer of an agent step is worth: what is no result, and what is said again."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents.middleware import ModelCallLimitMiddleware
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import StructuredTool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.store.memory import InMemoryStore
from plans import Thread, agent_with, bound, think
from toolset import Toolset, make_tool

from plan_execute import Context, ScriptedModel

ONCE = Context(approval="never", on_failure="abort", max_attempts=1)
TWICE = Context(approval="never", on_failure="abort", max_attempts=2)
CALL = ScriptedModel.tool_calls
LOOK = CALL(("look", {"q": "x"}))
SCHEMA = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}


async def _run(*said: Any, context: Context = ONCE, **fields: Any) -> tuple[dict[str, Any], ScriptedModel]:
    """Run one agent step in which the model says this, and return its result."""
    tools = Toolset()
    model = ScriptedModel({"executor": list(said), "synthesizer": ["ok"]})
    middleware = fields.pop("middleware", ())
    thread = Thread(agent_with(fields.pop("extra", []) + tools.tools, model, middleware=middleware), context)
    result = await thread.run(think("b", **fields))
    return result["results"]["b"] | {"calls": tools.calls}, model


def _told(model: ScriptedModel, number: int) -> str:
    last = model.calls[number].messages[-1]
    assert isinstance(last, HumanMessage)
    return str(last.text)


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ({"finish_reason": "length"}, "model_truncated"),
        ({"finish_reason": "MAX_TOKENS"}, "model_truncated"),
        ({"finish_reason": "FinishReason.MAX_TOKENS"}, "model_truncated"),
        ({"stop_reason": "pause_turn"}, "model_truncated"),
        ({"stop_reason": "model_context_window_exceeded"}, "model_truncated"),
        ({"incomplete_details": {"reason": "max_output_tokens"}}, "model_truncated"),
        ({"finish_reason": "content_filter"}, "content_filter"),
        ({"finish_reason": "SAFETY"}, "content_filter"),
        ({"stop_reason": "refusal"}, "model_refusal"),
    ],
    ids=str,
)
async def test_an_answer_that_was_cut_off_or_withheld_is_no_result(reason: dict[str, Any], code: str) -> None:
    half = AIMessage("Sales were up by 12 % and", response_metadata=reason)
    step, _ = await _run(half, success_criteria=[{"type": "not_empty"}])
    assert (step["status"], step["output"], step["error"]["code"]) == ("failed", None, code)


async def test_another_attempt_is_told_that_the_answer_was_cut_off() -> None:
    half = AIMessage("Sales were up by", response_metadata={"finish_reason": "length"})
    step, model = await _run(
        half, "Sales grew.", context=TWICE, tools=["wr"], success_criteria=[{"type": "not_empty"}]
    )
    assert (step["output"], step["attempts"]) == ("Sales grew.", 2)
    assert "write much less" in _told(model, 1)


@pytest.mark.parametrize(
    "text",
    [
        "<think>\nhm\n</think>\n\nIt is 4 degrees.",
        "hm\n</think>\nIt is 4 degrees.",
        "<think>a</think>\n<thought>b</thought>It is 4 degrees.",
        "[THINK]hm[/THINK]It is 4 degrees.",
    ],
)
async def test_thinking_is_no_part_of_the_output(text: str) -> None:
    step, _ = await _run(text)
    assert step["output"] == "It is 4 degrees."


async def test_thinking_alone_is_no_answer() -> None:
    step, _ = await _run("<think>hm</think>", success_criteria=[{"type": "not_empty"}])
    assert (step["status"], step["error"]["code"]) == ("failed", "model_output")


def _broken(args: str, **more: Any) -> AIMessage:
    call = {"name": "look", "args": args, "id": "c1", "error": "not JSON", "type": "invalid_tool_call"}
    return AIMessage("Looking now.", invalid_tool_calls=[call], **more)


@pytest.mark.parametrize(
    "turn",
    [
        _broken('{"q": "x", }'),
        _broken('{"q": ', tool_calls=[{"name": "look", "args": {"q": "y"}, "id": "c2"}]),
        AIMessage("", response_metadata={"finish_reason": "MALFORMED_FUNCTION_CALL"}),
        CALL(("look", {"q": "half of a lo"})).model_copy(
            update={"response_metadata": {"finish_reason": "length"}}
        ),
    ],
    ids=["broken", "beside a good one", "by the provider", "cut off"],
)
async def test_a_call_that_cannot_be_made_is_fed_back_and_nothing_of_the_turn_is_called(
    turn: AIMessage,
) -> None:
    step, model = await _run(turn, LOOK, "found", tools=["look"])
    assert (step["output"], step["calls"], step["attempts"]) == ("found", [("look", "x")], 1)
    assert "no tool was called" in _told(model, 1)
    assert not any(call for said in model.calls[1].messages for call in getattr(said, "tool_calls", ()))


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "look", "parameters": {"q": "x"}}',
        '<tool_call>\n{"name": "look", "arguments": {"q": "x"}}\n</tool_call>',
        '```json\n{"name": "look", "arguments": {"q": "x"}}\n```',
        'I will look it up.\n{"tool": "look", "args": {"q": "x"}}',
        '[{"type": "function", "function": {"name": "look", "arguments": "{}"}}]',
        '[look(q="x")]',
        '[TOOL_CALLS][{"name": "look", "arguments": {"q": "x"}}]',
        "Thought: I look.\nAction: look\nAction Input: x",
        '<function=look>{"q": "x"}</function>',
    ],
)
async def test_a_call_written_as_text_is_no_result(text: str) -> None:
    step, model = await _run(text, LOOK, "found", tools=["look"])
    assert (step["output"], step["calls"]) == ("found", [("look", "x")])
    assert "wrote a call of look as text" in _told(model, 1)


async def test_a_model_that_only_writes_calls_as_text_fails_by_name() -> None:
    text = '{"name": "look", "parameters": {"q": "x"}}'
    step, _ = await _run(text, text, text, tools=["look"])
    assert step["error"]["code"] == "model_output"
    assert "wrote a call of look as text" in step["error"]["message"]
    assert "bound step" in step["error"]["message"]


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "Ann", "args": 3}',
        'Use look(q="x") for that.',
        '{"look": 3}',
        "Action: we look into it.",
        "It prints <function look at 0x7f>, and no tool_call.",
    ],
)
async def test_text_that_only_looks_like_a_call_is_a_result(text: str) -> None:
    step, _ = await _run(LOOK, text, tools=["look"])
    assert step["output"] == text


async def test_an_empty_text_after_calls_asks_the_same_conversation_once_more() -> None:
    step, model = await _run(LOOK, "<think>hm</think>", "found x", tools=["look"])
    assert (step["output"], step["calls"], step["attempts"]) == ("found x", [("look", "x")], 1)
    assert any(isinstance(said, ToolMessage) for said in model.calls[2].messages), (
        "it is the same conversation"
    )
    step, _ = await _run(LOOK, "", "", tools=["look"])
    assert (step["status"], step["error"]["code"]) == ("failed", "model_output")


async def test_corrections_count_as_turns() -> None:
    step, _ = await _run(_broken("{"), _broken("{"), tools=["look"], max_iterations=2)
    assert step["error"]["code"] == "model_output"


async def test_a_result_that_a_tool_returns_directly_is_the_output() -> None:
    def final(q: str) -> str:
        """Give the final word."""
        return f"final {q}"

    tool = StructuredTool.from_function(final, return_direct=True, metadata={"effect": "read"})
    step, _ = await _run(CALL(("final", {"q": "x"})), tools=["final"], extra=[tool])
    assert (step["status"], step["output"]) == ("done", "final x")


async def test_a_limit_of_a_middleware_is_a_limit_and_no_result() -> None:
    limit = ModelCallLimitMiddleware(run_limit=1, exit_behavior="end")
    step, _ = await _run(LOOK, tools=["look"], middleware=[limit])
    assert (step["status"], step["error"]["code"]) == ("failed", "max_iterations")
    assert "run limit (1/1)" in step["error"]["message"]


async def test_links_and_data_without_a_type_are_shown_to_the_model_as_text() -> None:
    def files() -> list[dict[str, Any]]:
        """List files."""
        return [
            {"type": "file", "url": "file:///a.txt", "mime_type": "text/plain"},
            {"type": "file", "base64": "aGVsbG8h", "mime_type": None},
            {"type": "image", "base64": "aGVsbG8h", "mime_type": "image/png"},
        ]

    _, model = await _run(CALL(("files", {})), "ok", tools=["files"], extra=[make_tool(files)])
    shown = next(said for said in model.calls[1].messages if isinstance(said, ToolMessage)).content
    assert [block["type"] for block in shown] == ["text", "text", "image"]
    assert "file:///a.txt" in shown[0]["text"]
    assert "6 bytes" in shown[1]["text"]


# --- doing is verified by calls ----------------------------------------------------------


async def test_an_agent_that_was_to_write_and_did_not_has_done_nothing() -> None:
    step, _ = await _run("The mail is sent.", tools=["wr"])
    assert (step["status"], step["verdict"], step["error"]["code"]) == ("failed", "failed", "nothing_done")
    assert "no call of wr succeeded" in step["error"]["message"]


async def test_it_gets_another_attempt_with_that_gap() -> None:
    step, model = await _run("Sent.", CALL(("wr", {"text": "x"})), "Sent.", tools=["wr"], context=TWICE)
    assert (step["status"], step["attempts"], step["calls"]) == ("done", 2, [("wr", "x")])
    assert "nothing_done" in _told(model, 1)


@pytest.mark.parametrize(
    ("said", "fields"),
    [
        (["Done."], {"success_criteria": [{"type": "matches", "pattern": "Done"}]}),
        (["NOTHING TO DO: it is sent already."], {}),
        (["**NOTHING TO DO:** it is sent already."], {}),
        ([CALL(("wr", {"text": "x"})), "Done."], {}),
    ],
    ids=["a criterion", "declared", "declared in bold", "written"],
)
async def test_it_is_done_by_a_write_a_criterion_or_a_declaration(said: list[Any], fields: Any) -> None:
    step, _ = await _run(*said, tools=["wr"], **fields)
    assert (step["status"], step["error"]) == ("done", None)


async def test_the_form_of_an_answer_does_not_show_that_anything_was_done() -> None:
    step, _ = await _run('{"n": 3}', tools=["wr"], output_schema=SCHEMA)
    assert step["error"]["code"] == "nothing_done"


async def test_an_agent_that_called_none_of_its_tools_says_so_in_its_result() -> None:
    step, _ = await _run("It is 4 degrees.", tools=["look"])
    assert step["criteria"] == [
        {"type": "tools_called", "passed": None, "gap": "its agent called none of its tools (look)"}
    ]
    step, _ = await _run(LOOK, "found", tools=["look"])
    assert step["criteria"] == []


# --- declarations ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("CANNOT BE DONE: there is no such file", {}),
        ("**CANNOT BE DONE:** there is no such file", {}),
        ("CANNOT BE DONE: there is no such file", {"output_schema": SCHEMA}),
        ('{"cannot_be_done": "there is no such file"}', {"output_schema": SCHEMA}),
        ('{"n": 0, "cannot_be_done": "there is no such file"}', {"output_schema": SCHEMA}),
        ("CANNOT BE DONE: there is no such file", {"success_criteria": [{"type": "not_empty"}]}),
    ],
)
async def test_what_cannot_be_done_is_a_failure_with_its_reason(text: str, fields: Any) -> None:
    step, model = await _run(text, context=TWICE, **fields)
    assert (step["status"], step["output"], step["attempts"]) == ("failed", None, 1)
    assert step["error"]["code"] == "cannot"
    assert step["error"]["message"].endswith("there is no such file")
    assert [call.role for call in model.calls].count("executor") == 1


async def test_an_empty_declaration_in_json_is_not_part_of_the_output() -> None:
    step, _ = await _run('{"n": 3, "cannot_be_done": null}', output_schema=SCHEMA)
    assert (step["output"], step["verdict"]) == ({"n": 3}, "met")


async def _asking(*said: Any, **fields: Any) -> tuple[Thread, ScriptedModel, Toolset]:
    tools = Toolset()
    model = ScriptedModel({"executor": list(said), "synthesizer": ["ok"]})
    thread = Thread(agent_with(tools.tools, model), ONCE)
    await thread.run(think("b", **fields))
    return thread, model, tools


async def test_an_agent_may_ask_the_person_and_goes_on_in_the_same_conversation() -> None:
    thread, model, tools = await _asking(LOOK, "ASK THE PERSON: Which client?", "For ACME.", tools=["look"])
    asked = await thread.question()
    assert (asked["name"], asked["args"]) == (
        "ask_person",
        {"question": "Which client?", "choices": [], "answer": ""},
    )
    step = (await thread.answer("ACME"))["results"]["b"]
    assert (step["status"], step["output"], step["attempts"]) == ("done", "For ACME.", 1)
    assert tools.calls == [("look", "x")], "what was done before the question is not done again"
    assert [call["tool"] for call in step["evidence"]] == ["look"]
    assert _told(model, 2) == "The person answers: ACME"
    assert [call.role for call in model.calls].count("executor") == 3


async def test_an_agents_question_outlives_the_process_with_its_conversation() -> None:
    tools, kept = Toolset(), {"checkpointer": InMemorySaver(), "store": InMemoryStore()}
    first = ScriptedModel({"executor": [LOOK, "ASK THE PERSON: Which client?"]})
    thread = Thread(agent_with(tools.tools, first, **kept), ONCE)
    await thread.run(think("b", tools=["look"]))
    second = ScriptedModel({"executor": ["For ACME."], "synthesizer": ["ok"]})
    thread.agent = agent_with(tools.tools, second, **kept)
    step = (await thread.answer("ACME"))["results"]["b"]
    assert (step["output"], tools.calls) == ("For ACME.", [("look", "x")])
    assert any(isinstance(said, ToolMessage) for said in second.calls[0].messages)


async def test_an_agent_may_ask_twice() -> None:
    ask = "ASK THE PERSON: Which one?"
    thread, model, _ = await _asking(ask, ask, "Both.")
    await thread.answer("the first")
    assert (await thread.question())["args"]["question"] == "Which one?"
    step = (await thread.answer("the second"))["results"]["b"]
    assert step["output"] == "Both."
    assert _told(model, 2) == "The person answers: the second"


async def test_a_question_that_is_declined_fails_the_step() -> None:
    thread, _, _ = await _asking("ASK THE PERSON: Which client?")
    step = (await thread.answer({"type": "reject", "message": "ask Ann"}))["results"]["b"]
    assert (step["status"], step["error"]["code"]) == ("failed", "unanswered")
    assert "ask Ann" in step["error"]["message"]


async def test_where_nobody_can_be_asked_a_question_fails_the_step() -> None:
    model = ScriptedModel({"executor": ["ASK THE PERSON: Which client?"], "synthesizer": ["ok"]})
    result = await Thread(agent_with((), model, checkpointer=None), ONCE).run(think("b"))
    step = result["results"]["b"]
    assert (step["status"], step["error"]["code"]) == ("failed", "unanswered")
    assert "Which client?" in step["error"]["message"]


async def test_an_agent_is_told_which_parts_of_its_answer_other_steps_take() -> None:
    model = ScriptedModel({"executor": ["It is tea (t1).", '{"id": "t1"}'], "synthesizer": ["ok"]})
    tools = Toolset()
    result = await Thread(agent_with(tools.tools, model), TWICE).run(
        think("a", task="find tea"), bound("b", "look", {"q": "${a.id}"})
    )
    assert '"required": ["id"]' in str(model.calls[0].messages)
    assert "other steps use id from the answer" in _told(model, 1)
    assert (result["results"]["a"]["attempts"], tools.named("look")) == (2, ["t1"])
    assert result["results"]["a"]["verdict"] == "unverified", "a form says nothing about what is in it"
