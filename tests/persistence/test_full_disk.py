"""A full disk stops the run with an error and no result; with room again the run goes on where it was."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from langchain_core.messages import AIMessage, ToolMessage
from langgraph.types import Command
from plans import agent_with, bound, draft, draft_step, plan
from toolset import make_tool

from plan_execute import Context, ScriptedModel, local_persistence
from plan_execute.errors import StorageError
from plan_execute.storage.effect_log import EffectLog
from plan_execute.storage.ledger import Ledger

ONE_BY_ONE = Context(approval="never", max_parallel=1)
THREAD = {"configurable": {"thread_id": "t"}}


class Sender:
    """Sends long texts, and counts what was sent."""

    def __init__(self) -> None:
        self.sent: Counter[str] = Counter()

    def send(self, name: str, text: str = "") -> str:
        """Send something."""
        self.sent[name] += 1
        return f"{name} {text}".ljust(20_000, ".")


def _sending_agent(name: str) -> Callable[[list[Any]], AIMessage]:
    def answer(messages: list[Any]) -> AIMessage:
        if any(isinstance(message, ToolMessage) for message in messages):
            return AIMessage("sent it")
        return ScriptedModel.tool_calls(("send", {"name": name}))

    return answer


def bound_steps() -> tuple[dict[str, Any], ScriptedModel | None]:
    chained = (
        bound(i, "send", {"name": i, "text": ref}) for i, ref in (("a", ""), ("b", "${a}"), ("c", "${b}"))
    )
    return plan(*chained), None


def loop() -> tuple[dict[str, Any], ScriptedModel | None]:
    each = bound("s", "send", {"name": "${item}"}, for_each="${inputs.all}")
    return plan(each, inputs={"all": {"default": ["a", "b", "c"]}}), None


def agent() -> tuple[dict[str, Any], ScriptedModel | None]:
    model = ScriptedModel({"executor": [_sending_agent("a")] * 9, "synthesizer": ["end"] * 9}, strict=False)
    step = {"id": "s", "task": "send", "tools": ["send"]}
    return plan(step, bound("c", "send", {"name": "c"}, "s")), model


def sub_plan() -> tuple[dict[str, Any], ScriptedModel | None]:
    inner = draft(draft_step("x", "send", {"name": "a"}))
    model = ScriptedModel({"planner": [inner] * 9, "synthesizer": ["end"] * 9}, strict=False)
    return plan({"id": "s", "plan": {"goal": "send it"}}, bound("c", "send", {"name": "c"}, "s")), model


def _limit(persistence: Any, pages: int) -> None:
    """Let the database grow to so many more pages at most, as a full disk does."""
    connection = persistence.checkpointer.shared.connection
    (there,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count={there + pages}")


def _answers(open_questions: Any, sender: Sender) -> dict[str, Any]:
    """Say of each write in doubt what became of it; nothing else is asked."""
    answers: dict[str, Any] = {}
    for question in open_questions:
        request = question.value["action_requests"][0]
        assert request["name"] == "resolve_unknown_outcome"
        name = request["args"]["tool_args"]["name"]
        happened = {"decision": "happened", "output": sender.send(name)}
        sender.sent[name] -= 1
        answers[question.id] = happened if sender.sent[name] else {"decision": "run_again"}
    return answers


def _go_on(graph: Any, given: Any, sender: Sender) -> dict[str, Any]:
    """Bring the run to its end as a person would: resume, and answer."""
    for _ in range(10):
        snapshot = graph.get_state(THREAD)
        if snapshot.created_at is None:
            graph.invoke(given, THREAD, context=ONE_BY_ONE)
        elif snapshot.interrupts:
            graph.invoke(Command(resume=_answers(snapshot.interrupts, sender)), THREAD)
        elif snapshot.tasks:
            graph.invoke(None, THREAD)
        else:
            return dict(snapshot.values)
    raise AssertionError("the run comes to no end")


@pytest.mark.parametrize("case", [bound_steps, loop, agent, sub_plan])
def test_wherever_the_disk_is_full_no_step_fails_and_each_effect_happens_once(tmp_path, case):
    sent_before: list[int] = []
    enough = 0
    for pages in count():
        sender, (given, model) = Sender(), case()
        tools, input_ = [make_tool(sender.send, effect="write")], {"plan": given}
        with local_persistence(tmp_path / f"{pages}.db") as persistence:
            graph = agent_with(tools, model, **persistence._asdict())
            _limit(persistence, pages)
            fault = _fault_of_run(graph, input_)
            if fault is not None:
                sent_before.append(sum(sender.sent.values()))
            _limit(persistence, 1000)
            end = _go_on(graph, input_, sender)
            log = EffectLog(Ledger(persistence.store, "t"), is_new=False)
            in_doubt = asyncio.run(log.doubts(end["plan"]["id"]))
        assert fault is None or "the disk is full" in fault
        results = {step_id: (result["status"], result["error"]) for step_id, result in end["results"].items()}
        assert set(results.values()) == {("done", None)}, f"full after {pages} pages"
        assert (set(sender.sent.values()), in_doubt) == ({1}, []), f"full after {pages} pages"
        enough = 0 if fault else enough + 1
        if enough == 3:
            break
    assert len(set(sent_before)) > 1, "it was full before and after effects"


def _fault_of_run(graph: Any, given: Any) -> str | None:
    try:
        graph.invoke(given, THREAD, context=ONE_BY_ONE)
    except StorageError as error:
        return str(error)
    return None
