"""Structured calls through the real OpenAI client, over HTTP, against a server that misbehaves."""

from __future__ import annotations

import asyncio
import itertools
from email.utils import formatdate
from typing import Any, Literal

import pytest
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.language_models import BaseChatModel, FakeListChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.errors import GraphInterrupt
from openai_stub import OpenAIStub, Reply
from pydantic import BaseModel, ConfigDict

from plan_execute.errors import (
    BudgetExceededError,
    ContentFilterError,
    ModelCallError,
    ModelOutputError,
    ModelOverflowError,
    ModelRefusalError,
    ModelTruncatedError,
    ModelUnavailableError,
    ScriptError,
)
from plan_execute.models.chat import ChatModels, model_name
from plan_execute.models.client_errors import as_model_error, is_transient
from plan_execute.models.limits import CallLimits
from plan_execute.models.plain import call_message
from plan_execute.models.retrying import Backoff, retry_transient
from plan_execute.models.scripted import ScriptedModel
from plan_execute.models.structured import call_structured
from plan_execute.models.wire_schema import wire_schema

_names = itertools.count()


class Stop(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Literal["train", "bus"]


class Trip(BaseModel):
    """A trip."""

    model_config = ConfigDict(extra="forbid")
    city: str
    days: int
    stops: list[Stop]


TRIP = {"city": "Paris", "days": 3, "stops": [{"kind": "train"}]}
ASK = [HumanMessage("Plan a trip.")]


class Meter:
    """Counts attempts, and stops them at a limit."""

    def __init__(self, limit: int = 100, seconds: float | None = None) -> None:
        self.limit = limit
        self.seconds = seconds
        self.reserved: list[str] = []
        self.recorded: list[tuple[str, AIMessage | None, str]] = []

    def reserve_model_call(self, role: str) -> None:
        if len(self.reserved) >= self.limit:
            raise BudgetExceededError("max_model_calls", len(self.reserved), self.limit)
        self.reserved.append(role)

    async def keep(self) -> None:
        pass

    async def cover(self, model: Any, messages: Any) -> None:
        """Nothing limits what a tenant spends."""

    async def settle(self, covered: Any, message: Any, model: Any) -> None:
        """Nothing was reserved."""

    def record_model_call(self, role: str, message: AIMessage | None, model: Any) -> None:
        self.recorded.append((role, message, model_name(model)))

    def call_limits(self) -> CallLimits:
        return CallLimits()

    def seconds_left(self) -> float | None:
        return self.seconds

    def out_of_time(self) -> Exception:
        return BudgetExceededError("max_seconds", self.seconds or 0.0, self.seconds or 0.0)


class Naps:
    """Stands in for the clock: notes how long it was asked to wait, and does not wait."""

    def __init__(self, now: float = 0.0) -> None:
        self.taken: list[float] = []
        self.backoff = Backoff(jitter_s=0.0, sleep=self.sleep, now=lambda: now)

    async def sleep(self, seconds: float) -> None:
        self.taken.append(seconds)


def model_at(stub: OpenAIStub, **settings: Any) -> BaseChatModel:
    """Make a model with a name of its own: what worked is remembered by name and endpoint."""
    return ChatModels(f"m{next(_names)}", base_url=stub.base_url, **settings).get("planner")


async def ask(model: BaseChatModel, meter: Meter | None = None, **options: Any) -> Trip:
    options = {"backoff": Naps().backoff, "role": "planner", **options}
    return await call_structured(model, Trip, ASK, meter=meter or Meter(), **options)


def modes(stub: OpenAIStub) -> list[str]:
    return [
        "tools"
        if "tools" in request.body
        else (request.body.get("response_format") or {}).get("type", "text")
        for request in stub.requests
    ]


# -- answers in every shape ----------------------------------------------------------------

SHAPES = {
    "bare JSON": Reply.json(TRIP),
    "fenced JSON": Reply("```json\n" + Reply.json(TRIP).content + "\n```"),
    "prose around": Reply(f"Sure! Here it is: {Reply.json(TRIP).content} Have fun."),
    "a think block": Reply('<think>{"city": "no"}</think>' + Reply.json(TRIP).content),
    "a tool call": Reply(None, tool_calls=[("Trip", TRIP)]),
    "JSON encoded twice": Reply.json(Reply.json(TRIP).content),
    "tool arguments encoded twice": Reply(
        None, tool_calls=[("Trip", Reply.json(Reply.json(TRIP).content).content)]
    ),
    "broken tool arguments with prose": Reply(
        None, tool_calls=[("Trip", "args: " + Reply.json(TRIP).content)]
    ),
    "an envelope": Reply.json({"name": "Trip", "arguments": TRIP}),
    "its own name around it": Reply.json({"Trip": TRIP}),
    "a list of one": Reply.json([TRIP]),
    "raw line breaks in text": Reply(Reply.json({**TRIP, "city": "Par@is"}).content.replace("@", "\n")),
}


@pytest.mark.parametrize("reply", SHAPES.values(), ids=SHAPES)
async def test_an_answer_is_understood_without_a_second_call(reply: Reply) -> None:
    meter = Meter()
    with OpenAIStub([reply]) as stub:
        trip = await ask(model_at(stub), meter)
    assert trip.model_dump() | {"city": "Paris"} == TRIP
    assert trip.city in ("Paris", "Par\nis")
    assert len(meter.reserved) == len(meter.recorded) == 1


async def test_numbers_given_for_texts_are_accepted() -> None:
    with OpenAIStub([Reply.json({**TRIP, "city": 75})]) as stub:
        assert (await ask(model_at(stub))).city == "75"


async def test_the_schema_is_sent_strict_closed_and_without_references() -> None:
    with OpenAIStub([Reply.json(TRIP)]) as stub:
        await ask(model_at(stub))
    sent = stub.requests[0].body["response_format"]["json_schema"]
    assert sent["strict"] is True
    assert sent["name"] == "Trip"
    assert "$ref" not in str(sent)
    assert sent["schema"]["additionalProperties"] is False
    assert sent["schema"]["required"] == ["city", "days", "stops"]


async def test_a_schema_that_is_not_strict_is_not_sent_as_strict() -> None:
    loose = {"title": "Trip", "type": "object", "properties": {"city": {"type": "string"}}}
    with OpenAIStub([Reply.json(TRIP)]) as stub:
        await ask(model_at(stub), json_schema=loose)
    assert not stub.requests[0].body["response_format"]["json_schema"].get("strict")


def test_a_schema_that_contains_itself_is_refused() -> None:
    class Node(BaseModel):
        children: list[Node]

    Node.model_rebuild(_types_namespace={"Node": Node})
    with pytest.raises(ValueError, match="contains itself"):
        wire_schema(Node)


# -- repair --------------------------------------------------------------------------------


async def test_problems_are_fed_back_and_the_repaired_answer_is_used() -> None:
    with OpenAIStub([Reply.json({**TRIP, "days": "many"}), Reply.json(TRIP)]) as stub:
        assert (await ask(model_at(stub))).days == 3
    *_, given, feedback = stub.requests[1].body["messages"]
    assert given["role"] == "assistant"
    assert "many" in given["content"]
    assert "days: Input should be a valid integer" in feedback["content"]


async def test_what_the_caller_finds_wrong_is_fed_back_too() -> None:
    def not_paris(trip: Trip) -> list[str]:
        return ["Paris is closed."] if trip.city == "Paris" else []

    with OpenAIStub([Reply.json(TRIP), Reply.json({**TRIP, "city": "Rome"})]) as stub:
        assert (await ask(model_at(stub), check=not_paris)).city == "Rome"
    assert "Paris is closed." in stub.requests[1].body["messages"][-1]["content"]


@pytest.mark.parametrize("content", ["", "I would rather talk.", "{}", "[1]", "null", '{"city": '])
async def test_repair_is_bounded_and_ends_in_a_clear_error(content: str) -> None:
    meter = Meter()
    with (
        OpenAIStub(lambda _: Reply(content)) as stub,
        pytest.raises(ModelOutputError, match=r"\(planner, at .*no usable answer in 3 tries"),
    ):
        await ask(model_at(stub), meter)
    assert len(stub.requests) == len(meter.reserved) == len(meter.recorded) == 3


async def test_no_repair_is_made_when_none_is_allowed() -> None:
    with OpenAIStub([Reply("no")]) as stub, pytest.raises(ModelOutputError):
        await ask(model_at(stub), max_repairs=0)


async def test_a_huge_bad_answer_is_shortened_in_the_feedback() -> None:
    with OpenAIStub([Reply("x" * 1_000_000), Reply.json(TRIP)]) as stub:
        await ask(model_at(stub))
    assert len(str(stub.requests[1].body)) < 20_000


async def test_repairs_count_against_the_budget() -> None:
    with OpenAIStub(lambda _: Reply("{}")) as stub, pytest.raises(BudgetExceededError):
        await ask(model_at(stub), Meter(limit=2))
    assert len(stub.requests) == 2


# -- ways of asking ------------------------------------------------------------------------


async def test_the_way_that_worked_is_remembered() -> None:
    def no_response_format(body: dict[str, Any]) -> Reply:
        if "response_format" in body:
            return Reply.rejecting("response_format")
        return Reply(None, tool_calls=[("Trip", TRIP)])

    with OpenAIStub(no_response_format) as stub:
        model = model_at(stub)
        await ask(model)
        await ask(model)
    assert modes(stub) == ["json_schema", "tools", "tools"]


async def test_a_server_that_says_with_500_that_it_knows_no_tools_is_prompted_at_once() -> None:
    def llama(body: dict[str, Any]) -> Reply:
        if "response_format" in body:
            return Reply.rejecting("response_format")
        return (
            Reply.failure(500, "tools param requires --jinja flag") if "tools" in body else Reply.json(TRIP)
        )

    with OpenAIStub(llama) as stub:
        await ask(model_at(stub))
    assert modes(stub) == ["json_schema", "tools", "text"]


async def test_an_endpoint_that_knows_neither_schema_nor_tools_is_prompted() -> None:
    def text_only(body: dict[str, Any]) -> Reply:
        if "response_format" in body or "tools" in body:
            return Reply.failure(422, "unsupported")
        return Reply.json(TRIP)

    with OpenAIStub(text_only) as stub:
        assert (await ask(model_at(stub))).days == 3
    assert modes(stub) == ["json_schema", "tools", "text"]
    assert '"additionalProperties": false' in stub.requests[-1].body["messages"][-1]["content"]


async def test_an_endpoint_that_ignores_the_schema_is_shown_it_in_the_repair() -> None:
    with OpenAIStub([Reply("Gladly! Where to?"), Reply.json(TRIP), Reply.json(TRIP)]) as stub:
        model = model_at(stub)
        await ask(model)
        await ask(model)
    assert modes(stub) == ["json_schema", "text", "text"]
    assert "JSON Schema" in stub.requests[1].body["messages"][-1]["content"]


async def test_a_rejected_mode_that_warns_does_not_break_the_fallback() -> None:
    rejection = "'response_format' of type 'json_schema' is not supported with this model"
    with OpenAIStub([Reply.failure(400, rejection), Reply(None, tool_calls=[("Trip", TRIP)])]) as stub:
        assert (await ask(model_at(stub))).city == "Paris"


async def test_a_request_that_is_bad_in_every_mode_says_so() -> None:
    with (
        OpenAIStub(lambda _: Reply.failure(400, "temperature is too hot")) as stub,
        pytest.raises(
            ModelUnavailableError, match=r"rejected the request \(HTTP 400\): temperature is too hot"
        ),
    ):
        await ask(model_at(stub))


LLAMA_CPP = {
    "code": 400,
    "type": "exceed_context_size_error",
    "message": "the request exceeds the available context size",
    "n_prompt_tokens": 5000,
    "n_ctx": 4096,
}
VLLM = (
    "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens in the messages, "
    "Please reduce the length of the messages."
)


@pytest.mark.parametrize(
    ("reply", "sizes"),
    [
        (Reply.failure(400, "5000 is too much for 4096", code="context_length_exceeded"), "5000.*4096"),
        (Reply(status=400, error=LLAMA_CPP), r"5,000 tokens, and its context holds 4,096"),
        (Reply(status=500, error={**LLAMA_CPP, "code": 500}), r"5,000 tokens, and its context holds 4,096"),
        (Reply.failure(400, VLLM), "4096.*5000"),
        (
            Reply.failure(
                400, "The decoder prompt (length 5000) is longer than the maximum model length of 4096."
            ),
            "5000.*4096",
        ),
        (Reply.failure(400, "prompt is too long: 5000 tokens > 4096 maximum"), "5000.*4096"),
        (
            Reply.failure(
                400, "The input token count (5000) exceeds the maximum number of tokens allowed (4096)."
            ),
            "5000.*4096",
        ),
    ],
)
async def test_a_prompt_that_is_too_long_is_its_own_error_after_one_call_with_the_sizes(
    reply: Reply, sizes: str
) -> None:
    with (
        OpenAIStub(lambda _: reply) as stub,
        pytest.raises(ModelOverflowError, match=f"planner.*more text than it accepts.*{sizes}"),
    ):
        await ask(model_at(stub))
    assert len(stub.requests) == 1


@pytest.mark.parametrize(
    ("refusing", "sent"), [(False, [True, True]), (True, [True, False, False])], ids=["taken", "refused"]
)
async def test_texts_of_our_own_schemas_are_bounded_where_the_server_takes_that(
    refusing: bool, sent: list[bool]
) -> None:
    def answer(body: dict[str, Any]) -> Reply:
        if refusing and "maxLength" in str(body["response_format"]):
            return Reply.failure(400, "Grammar error: maxLength is not supported by xgrammar")
        return Reply.json(TRIP)

    with OpenAIStub(answer) as stub:
        model = model_at(stub)
        assert [(await ask(model)).city, (await ask(model)).city] == ["Paris", "Paris"]
    forms = [request.body["response_format"] for request in stub.requests]
    assert ["maxLength" in str(form) for form in forms] == sent
    assert all(form["type"] == "json_schema" for form in forms)


async def test_a_repair_quotes_a_few_hundred_characters_of_a_long_answer() -> None:
    with OpenAIStub([Reply("x" * 50_000), Reply.json(TRIP)]) as stub:
        assert (await ask(model_at(stub))).city == "Paris"
    quoted = stub.requests[1].body["messages"][-2]["content"]
    assert quoted.startswith("x" * 300)
    assert len(quoted) < 500


async def test_a_model_without_any_structured_output_is_prompted() -> None:
    assert (await ask(FakeListChatModel(responses=[Reply.json(TRIP).content or ""]))).city == "Paris"


class Blocks(BaseChatModel):
    """A model that only generates, in content blocks."""

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        content: list[str | dict[Any, Any]] = [
            {"type": "reasoning", "reasoning": "hm"},
            {"type": "text", "text": Reply.json(TRIP).content},
        ]
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content))])

    @property
    def _llm_type(self) -> str:
        return "blocks"


async def test_content_blocks_are_read() -> None:
    assert (await ask(Blocks())).days == 3


async def test_the_scripted_model_fills_the_schema() -> None:
    model = ScriptedModel({"planner": [TRIP]})
    assert (await ask(model)).stops == [Stop(kind="train")]
    assert model.calls[0].tools == ("Trip",)


# -- endings -------------------------------------------------------------------------------


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_refusal_is_its_own_error(streaming: bool) -> None:
    with OpenAIStub([Reply(None, refusal="I cannot help with that.")]) as stub:
        model = model_at(stub)
        model.streaming = streaming  # type: ignore[attr-defined]
        with pytest.raises(ModelRefusalError, match=r"planner.*declined to answer: I cannot help with that"):
            await ask(model)


async def test_a_refusal_under_function_calling_is_seen() -> None:
    with (
        OpenAIStub([Reply.rejecting("response_format"), Reply(None, refusal="No.")]) as stub,
        pytest.raises(ModelRefusalError),
    ):
        await ask(model_at(stub))


@pytest.mark.parametrize("streaming", [False, True])
async def test_truncation_gets_one_shorter_try_and_is_then_its_own_error(streaming: bool) -> None:
    meter = Meter()
    with OpenAIStub(lambda _: Reply('{"city": "Par', finish_reason="length")) as stub:
        model = model_at(stub)
        model.streaming = streaming  # type: ignore[attr-defined]
        with pytest.raises(ModelTruncatedError, match=r"planner.*cut off at the token limit"):
            await ask(model, meter)
    assert len(stub.requests) == 2
    assert "much shorter" in stub.requests[1].body["messages"][-1]["content"]
    assert all(message is not None for _, message, _ in meter.recorded)


async def test_a_truncated_answer_that_is_given_again_is_used() -> None:
    with OpenAIStub([Reply('{"city": "Par', finish_reason="length"), Reply.json(TRIP)]) as stub:
        assert (await ask(model_at(stub))).city == "Paris"


async def test_truncated_answers_count_their_tokens() -> None:
    meter = Meter()
    with OpenAIStub([Reply("{", finish_reason="length", usage=(5, 6)), Reply.json(TRIP)]) as stub:
        await ask(model_at(stub), meter)
    message = meter.recorded[0][1]
    assert message is not None
    assert message.usage_metadata == {"input_tokens": 5, "output_tokens": 6, "total_tokens": 11}


@pytest.mark.parametrize(
    "reply",
    [
        Reply("The", finish_reason="content_filter"),
        Reply.failure(400, "The response was filtered", code="content_filter"),
    ],
    ids=["finish reason", "Azure's 400"],
)
async def test_a_content_filter_is_its_own_error(reply: Reply) -> None:
    with (
        OpenAIStub([reply]) as stub,
        pytest.raises(ContentFilterError, match=r"content filter withheld .*planner"),
    ):
        await ask(model_at(stub))


# -- transient failures --------------------------------------------------------------------


@pytest.mark.parametrize(
    "reply",
    [Reply.failure(429), Reply.failure(500), Reply.failure(503), Reply.failure(408), Reply(drop=True)],
    ids=["429", "500", "503", "408", "dropped connection"],
)
async def test_a_transient_failure_is_tried_again_and_counted(reply: Reply) -> None:
    meter, naps = Meter(), Naps()
    with OpenAIStub([reply, Reply.json(TRIP)]) as stub:
        assert (await ask(model_at(stub), meter, backoff=naps.backoff)).days == 3
    assert naps.taken == [0.5]
    assert [message is None for _, message, _ in meter.recorded] == [True, False]


async def test_a_connection_dropped_in_the_middle_of_a_stream_is_tried_again() -> None:
    with OpenAIStub([Reply("Hello there", drop=True), Reply("Hello there")]) as stub:
        model = model_at(stub)
        model.streaming = True  # type: ignore[attr-defined]
        answer = await call_message(model, ASK, role="planner", meter=Meter(), backoff=Naps().backoff)
    assert answer.text == "Hello there"
    assert len(stub.requests) == 2


async def test_waits_double_and_end_after_four_tries() -> None:
    meter, naps = Meter(), Naps()
    with (
        OpenAIStub(lambda _: Reply.failure(500, "boom")) as stub,
        pytest.raises(ModelUnavailableError, match=r"failed \(HTTP 500\): boom"),
    ):
        await ask(model_at(stub), meter, backoff=naps.backoff)
    assert naps.taken == [0.5, 1.0, 2.0]
    assert len(stub.requests) == len(meter.reserved) == 4


@pytest.mark.parametrize(
    ("value", "wait"),
    [("7", 7.0), ("3600", 60.0), (formatdate(1_000_012, usegmt=True), 12.0), ("soon", 0.5), ("-3", 0.0)],
    ids=["seconds", "capped", "date", "nonsense", "past"],
)
async def test_retry_after_is_honoured(value: str, wait: float) -> None:
    naps = Naps(now=1_000_000)
    with OpenAIStub([Reply.failure(429, headers={"Retry-After": value}), Reply.json(TRIP)]) as stub:
        await ask(model_at(stub), backoff=naps.backoff)
    assert naps.taken == [wait]


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_failure_that_will_not_pass_fails_at_once_without_the_key(status: int) -> None:
    naps = Naps()
    with (
        OpenAIStub([Reply.failure(status, "Incorrect API key provided: sk-secret123")]) as stub,
        pytest.raises(ModelUnavailableError, match=rf"planner.*HTTP {status}.*check") as caught,
    ):
        await ask(model_at(stub), backoff=naps.backoff)
    assert "secret" not in str(caught.value)
    assert naps.taken == []


async def test_a_used_up_quota_is_not_tried_again() -> None:
    with (
        OpenAIStub([Reply.failure(429, "Pay first.", code="insufficient_quota")]) as stub,
        pytest.raises(ModelUnavailableError, match=r"quota is used up\. Pay first"),
    ):
        await ask(model_at(stub))


async def test_retries_count_against_the_budget() -> None:
    with OpenAIStub(lambda _: Reply.failure(500)) as stub, pytest.raises(BudgetExceededError):
        await ask(model_at(stub), Meter(limit=2))
    assert len(stub.requests) == 2


async def test_an_endpoint_that_is_down_is_named() -> None:
    with OpenAIStub([]) as stub:
        model = model_at(stub)
    with pytest.raises(ModelUnavailableError, match=r"127\.0\.0\.1:\d+/v1\) cannot be reached"):
        await ask(model)


async def test_an_endpoint_that_hangs_is_given_up() -> None:
    with (
        OpenAIStub(lambda _: Reply.json(TRIP), latency_s=0.5) as stub,
        pytest.raises(ModelUnavailableError, match="did not answer in time"),
    ):
        await ask(model_at(stub, timeout_s=0.05))


@pytest.mark.parametrize("body", ["<html>hello</html>", "[]", "{}", '{"choices": null}', ""])
async def test_a_body_that_is_no_completion_is_a_clear_error(body: str) -> None:
    with (
        OpenAIStub(lambda _: Reply(raw_body=body)) as stub,
        pytest.raises(ModelCallError, match="planner") as caught,
    ):
        await ask(model_at(stub))
    assert "Traceback" not in str(caught.value)


async def test_an_error_inside_a_200_is_read_as_that_error() -> None:
    overloaded = '{"error": {"message": "upstream is overloaded", "code": 503}}'
    with OpenAIStub([Reply(raw_body=overloaded), Reply.json(TRIP)]) as stub:
        assert (await ask(model_at(stub))).city == "Paris"


# -- what passes through -------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [ScriptError("out"), GraphInterrupt(()), BudgetExceededError("max_tokens", 2, 1)]
)
async def test_our_own_and_the_graphs_signals_pass_through(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        await ask(ScriptedModel({"planner": [error]}))
    assert caught.value is error


async def test_cancelling_cancels_the_call_and_records_it() -> None:
    meter = Meter()
    running = asyncio.create_task(ask(ScriptedModel({"planner": [TRIP]}, latency_s=60), meter))
    while not meter.reserved:
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert meter.recorded == [("planner", None, "scripted")]


async def test_an_error_in_the_callers_check_is_not_blamed_on_the_model() -> None:
    def broken(_: Trip) -> list[str]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await ask(ScriptedModel({"planner": [TRIP]}), check=broken)


# -- callbacks, text, single pieces ---------------------------------------------------------


class Seen(AsyncCallbackHandler):
    def __init__(self) -> None:
        self.starts: list[tuple[Any, Any, Any]] = []

    async def on_chat_model_start(self, *_: Any, **details: Any) -> None:
        self.starts.append((details["tags"], details["metadata"], details.get("name")))


async def test_callbacks_learn_the_role_and_keep_the_callers_own_marks() -> None:
    seen = Seen()
    config: Any = {"callbacks": [seen], "tags": ["mine"], "metadata": {"plan_execute_step": "pack"}}
    await ask(ScriptedModel([TRIP]), config=config)
    ((tags, metadata, name),) = seen.starts
    assert {"mine", "role:planner"} <= set(tags)
    assert metadata["plan_execute_step"] == "pack"
    assert metadata["plan_execute_role"] == "planner"
    assert name == "planner pack"


async def test_the_model_and_role_are_reported_to_the_meter() -> None:
    meter = Meter()
    await ask(ScriptedModel([TRIP]), meter)
    assert [(role, model) for role, _, model in meter.recorded] == [("planner", "scripted")]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (" hi ", "hi"),
        ("<think>hm</think>\nhi", "hi"),
        ("hm\n</think>hi", "hi"),
        ("say `<think>`", "say `<think>`"),
    ],
)
async def test_text_comes_without_thinking(content: str, text: str) -> None:
    with OpenAIStub([Reply(content)]) as stub:
        answer = await call_message(model_at(stub), ASK, role="synthesizer", meter=Meter())
        assert answer.text == text


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(""), ModelOutputError),
        (Reply("<think>hm</think>"), ModelOutputError),
        (Reply("cut", finish_reason="length"), ModelTruncatedError),
        (Reply("", finish_reason="content_filter"), ContentFilterError),
        (Reply(None, refusal="no"), ModelRefusalError),
        (Reply.failure(401), ModelUnavailableError),
    ],
)
async def test_text_has_the_same_errors(reply: Reply, error: type[ModelCallError]) -> None:
    with OpenAIStub([reply]) as stub, pytest.raises(error, match="synthesizer"):
        await call_message(model_at(stub), ASK, role="synthesizer", meter=Meter())


async def test_any_call_can_be_retried_with_the_same_policy() -> None:
    failures = iter([ConnectionError(), TimeoutError()])

    async def flaky() -> str:
        for failure in failures:
            raise failure
        return "done"

    assert await retry_transient(flaky, backoff=Naps().backoff) == "done"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TimeoutError(), True),
        (ConnectionResetError(), True),
        (ValueError("bad"), False),
        (ScriptError("out"), False),
        (GraphInterrupt(()), False),
        (asyncio.CancelledError(), False),
    ],
)
def test_only_what_may_pass_is_transient(error: BaseException, expected: bool) -> None:
    assert is_transient(error) is expected


def test_secrets_in_a_providers_text_are_masked() -> None:
    error = as_model_error(RuntimeError("bad header: Bearer abc123, key=xyz"), "planner", "m")
    assert "abc123" not in str(error)
    assert "xyz" not in str(error)
    assert as_model_error(error, "other", "n") is error
