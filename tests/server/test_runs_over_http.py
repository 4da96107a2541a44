"""Runs over HTTP: watched while they go, cancelled, many at once, with the settings of an assistant."""

import httpx
import pytest
from dev_server import ALWAYS, NEVER, RUN_S, bound, plan

pytestmark = pytest.mark.timeout(180)

THREADS = 50


def dozes(mark, count, seconds):
    steps = [bound(f"s{n}", "doze", args={"text": f"{mark}-{n}", "seconds": seconds}) for n in range(count)]
    return plan(*steps)


def started(server, given, **what):
    """Start a run in the background and return its thread and its id."""
    thread = server.new_thread()
    run = server.client.runs.create(thread, "plan_execute", input=given, **what)
    return thread, run["run_id"]


# --- streams -----------------------------------------------------------------------------


def test_progress_is_streamed_while_steps_run_as_events_updates_and_values(server):
    thread, seen = server.new_thread(), []
    steps = plan(
        bound("quick", "echo", args={"text": "stream-quick"}),
        bound("slow", "hold", args={"name": "stream-slow"}),
        bound("last", "echo", "slow", args={"text": "${slow} is over"}),
    )
    modes = ["values", "updates", "custom"]
    for part in server.client.runs.stream(
        thread, "plan_execute", input=steps, context=NEVER, stream_mode=modes
    ):
        seen.append((part.event, part.data))
        if _finished(part.event, part.data) == "quick":
            (server.folder / "stream-slow").touch()  # only now can the slow step end

    assert [_finished(*part) for part in seen if _finished(*part)] == ["quick", "slow", "last"]
    events = [data["type"] for event, data in seen if event == "custom" and data["type"] != "ui"]
    assert events[0] == "plan_validated"
    assert events[-1] == "synthesized"
    assert events.count("step_started") == events.count("tool_call") == 3
    updates = [node for event, data in seen if event == "updates" for node in data]
    assert updates == ["planner", "validator", "dispatcher", *["executor"] * 3, "evaluator", "synthesizer"]
    values = [data["status"] for event, data in seen if event == "values" and "status" in data]
    assert list(dict.fromkeys(values)) == ["planning", "running", "done"]


def _finished(event, data):
    """Name the step that an event says is finished, if it is such an event."""
    return data["step_id"] if event == "custom" and data["type"] == "step_finished" else None


def test_a_stream_ends_with_the_question_when_a_person_is_needed(server):
    thread = server.new_thread()
    steps = plan(bound("written", "write", args={"text": "stream-asked"}))
    parts = list(server.client.runs.stream(thread, "plan_execute", input=steps, stream_mode=["updates"]))
    (question,) = parts[-1].data["__interrupt__"]
    assert [question["id"]] == [asked["id"] for asked in server.questions(thread)]
    assert server.calls("stream-asked") == []


# --- cancel ------------------------------------------------------------------------------


def test_a_cancelled_run_goes_on_where_it_stopped_and_runs_no_finished_step_again(server):
    steps = plan(
        bound("first", "echo", args={"text": "cancel-first"}),
        bound("long", "doze", "first", args={"text": "cancel-long", "seconds": 10}),
        bound("last", "write", "long", args={"text": "cancel-last"}),
    )
    thread, run = started(server, steps, context=NEVER)
    server.await_call("cancel-long", "doze")
    server.client.runs.cancel(thread, run, wait=True)
    assert server.client.runs.get(thread, run)["status"] == "interrupted"

    told = server.refusal(thread, input=plan(bound("other", "echo", args={"text": "cancel-other"})))
    assert told.startswith(f"ThreadUnfinishedError: the run of thread '{thread}' has not ended")

    result = server.run(thread, input=None)
    assert result["status"] == "done"
    assert server.calls("cancel-first") == ["echo"]
    assert server.calls("cancel-long") == ["doze", "doze", "woke"], "cut off, then run again"
    assert server.calls("cancel-last") == ["write"]
    assert server.calls("cancel-other") == []


def test_a_write_that_a_cancel_cut_off_is_asked_about_and_never_repeated_by_itself(server):
    steps = plan(
        bound("kept", "keep", args={"name": "cut-off"}),
        bound("after", "echo", "kept", args={"text": "cut-off ${kept}"}),
    )
    thread, run = started(server, steps, context=NEVER)
    server.await_call("cut-off", "keep")
    server.client.runs.cancel(thread, run, wait=True)
    (server.folder / "cut-off").touch()
    server.run(thread, input=None)
    assert server.question(thread)["name"] == "resolve_unknown_outcome"

    result = server.answer(thread, {"decision": "happened", "output": "as I saw"})
    assert result["status"] == "done"
    assert result["results"]["after"]["output"] == "cut-off as I saw"
    assert server.calls("cut-off").count("keep") == 1


def test_a_new_goal_may_be_queued_behind_a_running_one_and_starts_when_that_has_ended(server):
    thread, _ = started(server, plan(bound("held", "hold", args={"name": "queue-1"})), context=NEVER)
    server.await_call("queue-1", "hold")
    second = server.client.runs.create(
        thread, "plan_execute", input=plan(bound("next", "echo", args={"text": "queue-2"}))
    )
    with pytest.raises(httpx.HTTPStatusError, match="409"):
        server.run(thread, input=plan(), multitask_strategy="reject")
    assert server.calls("queue-2") == []
    (server.folder / "queue-1").touch()
    server.client.runs.join(thread, second["run_id"])
    assert server.values(thread)["status"] == "done"
    assert (server.calls("queue-1"), server.calls("queue-2")) == (["hold"], ["echo"])


# --- many --------------------------------------------------------------------------------


def test_fifty_threads_at_once_ask_are_answered_and_end_each_with_its_own_results(server):
    threads = [server.new_thread() for _ in range(THREADS)]

    def ask(number):
        first = bound("first", "echo", args={"text": f"many-{number}."})
        second = bound("second", "write", "first", args={"text": "${first} and on"})
        server.run(threads[number], input=plan(first, second), context=ALWAYS)

    server.at_once(lambda number=number: ask(number) for number in range(THREADS))
    assert server.calls("many-") == []
    results = server.at_once(lambda thread=thread: server.answer(thread, "approve") for thread in threads)
    assert [result["status"] for result in results] == ["done"] * THREADS
    outputs = [result["results"]["second"]["output"] for result in results]
    assert outputs == [f"many-{number}. and on" for number in range(THREADS)]
    assert sorted(server.calls("many-")) == ["echo"] * THREADS + ["write"] * THREADS


# --- assistants --------------------------------------------------------------------------


def test_two_assistants_run_the_same_plan_each_with_its_own_settings(server):
    careful, quick = (
        server.client.assistants.create("plan_execute", context=context)["assistant_id"]
        for context in ({**ALWAYS, "max_parallel": 1}, {**NEVER, "max_parallel": 3})
    )
    asked, free = server.new_thread(), server.new_thread()
    server.at_once(
        [
            lambda: server.run(asked, careful, input=dozes("one-by-one", 3, 0.1)),
            lambda: server.run(free, quick, input=dozes("together", 3, 0.5)),
        ]
    )
    assert server.calls("together") == ["doze"] * 3 + ["woke"] * 3, "all at the same time"
    assert server.values(free)["status"] == "done"

    assert server.question(asked)["name"] == "approve_plan"
    assert server.calls("one-by-one") == []
    answer = {"command": {"resume": "approve"}}
    assert server.run(asked, careful, **answer)["status"] == "done"
    assert server.calls("one-by-one") == ["doze", "woke"] * 3, "one after the other"


def test_a_thread_keeps_the_settings_it_was_started_with_when_it_is_resumed_without_any(server):
    thread = server.new_thread()
    one_at_a_time = server.client.assistants.create("plan_execute", context={**ALWAYS, "max_parallel": 1})
    server.run(thread, one_at_a_time["assistant_id"], input=dozes("settled", 3, 0.1))
    assert server.answer(thread, "approve")["status"] == "done"
    assert server.calls("settled") == ["doze", "woke"] * 3
    assert server.values(thread)["settings"] == {**ALWAYS, "max_parallel": 1}


def test_an_assistants_settings_can_be_changed_and_the_next_thread_has_the_new_ones(server):
    client = server.client
    assistant = client.assistants.create("plan_execute", context=NEVER)["assistant_id"]
    client.assistants.update(assistant, context=ALWAYS)
    thread = server.new_thread()
    server.run(thread, assistant, input=dozes("changed", 1, 0))
    assert server.question(thread)["name"] == "approve_plan"
    assert server.calls("changed") == []


def test_the_server_is_well_after_all_of_this(server):
    assert httpx.get(f"{server.url}/ok", timeout=RUN_S).json()["ok"] is True
    assert server.complaints() == []


def test_a_chat_that_asks_for_no_events_sees_how_far_the_run_is_in_its_messages(server):
    steps = plan(bound("held", "hold", args={"name": "chat-progress"}))
    said, events = [], set()
    for part in server.client.runs.stream(
        server.new_thread(),
        "plan_execute",
        input=steps,
        context=NEVER,
        stream_mode=["values", "messages-tuple"],
        stream_subgraphs=True,
    ):
        events.add(part.event.split("|")[0])
        if part.event == "values" and part.data["messages"]:
            said.append(part.data["messages"][-1]["content"])
            if said[-1] == "Working … 0 of 1 steps have ended. Now: held.":
                (server.folder / "chat-progress").touch()
    assert "Working … 0 of 1 steps have ended. Now: held." in said
    assert not said[-1].startswith(("Working", "Done …"))
    assert "custom" not in events
