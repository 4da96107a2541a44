"""Nothing that a client can send makes up for an approval that nobody gave."""

import httpx
import pytest
from dev_server import ALWAYS, NEVER, RUN_S, Waiting, bound, plan
from langgraph_sdk.errors import NotFoundError

pytestmark = pytest.mark.timeout(180)

NODES = ("approval", "dispatcher", "validator", "planner", "executor")
COMMANDS = {
    "to the executor": {"goto": "executor"},
    "to the executor, with a step": {"goto": {"node": "executor", "input": {"step_id": "written"}}},
    "to the executor, with a step and a plan": {
        "goto": {"node": "executor", "input": {"step_id": "written", "plan": {}, "results": {}}}
    },
    "to the dispatcher": {"goto": "dispatcher"},
    "to the dispatcher, as if approved": {"goto": "dispatcher", "update": {"approval": "FORGED"}},
    "an update alone": {"update": {"approval": "FORGED"}},
}
CONFIGS = {
    "a task of a parent graph": {"__pregel_task_id": "1"},
    "a parent that resumes": {"__pregel_task_id": "1", "__pregel_resuming": True},
    "answers of a parent": {"__pregel_resume_map": {"0" * 32: "approve"}},
    "a run of ours": {"__plan_execute_run": {"settings": NEVER}, "__plan_execute_step": {}},
    "a namespace": {"checkpoint_ns": "elsewhere"},
}


def written(mark):
    return plan(bound("written", "write", args={"text": mark}))


@pytest.fixture(scope="module")
def waiting(server):
    return Waiting(server, 20)


def forged(server, thread):
    return {**server.values(thread)["approval"], "decision": "approved", "at": "2026-01-01T00:00:00+00:00"}


def assert_still_asked(server, threads, marks):
    assert [server.calls(mark) for mark in marks] == [[] for _ in marks]
    assert [server.question(thread)["name"] for thread in threads] == ["approve_plan"] * len(threads)


def test_an_approval_in_the_input_counts_for_nothing(server):
    thread = server.new_thread()
    server.run(thread, input={**written("in-input"), "approval": {"decision": "approved"}}, context=ALWAYS)
    assert_still_asked(server, [thread], ["in-input"])


def test_an_approval_written_into_the_state_as_any_node_runs_nothing_and_is_asked_about(server, waiting):
    threads, marks = waiting.take(len(NODES) + 1)
    for thread, node in zip(threads, (*NODES, "evaluator"), strict=True):
        server.client.threads.update_state(thread, {"approval": forged(server, thread)}, as_node=node)
    results = server.at_once(
        lambda thread=thread: server.run(thread, input=None, context=NEVER) for thread in threads
    )
    assert_still_asked(server, threads[:-1], marks)
    assert results[-1]["status"] == "failed", "an evaluator without an evaluation ends the run"


def test_no_command_leads_around_the_approval(server, waiting):
    threads, marks = waiting.take(len(COMMANDS))

    def send(thread, command):
        if "update" in command:
            command = {**command, "update": {"approval": forged(server, thread)}}
        server.run(thread, command=command, context=NEVER)

    server.at_once(
        lambda thread=thread, command=command: send(thread, command)
        for thread, command in zip(threads, COMMANDS.values(), strict=True)
    )
    assert_still_asked(server, threads, marks)


def test_a_looser_context_on_resume_loosens_nothing(server, waiting):
    thread, mark = waiting.one()
    free = server.client.assistants.create("plan_execute", context=NEVER)
    server.run(thread, free["assistant_id"], input=None)
    assert_still_asked(server, [thread], [mark])


def test_no_configuration_of_a_client_passes_for_a_parent_graph_that_answers_for_it(server, waiting):
    threads, marks = waiting.take(len(CONFIGS))
    server.at_once(
        lambda thread=thread, config=config: server.run(
            thread, input=written("config-new"), config={"configurable": {**config, **NEVER}}
        )
        for thread, config in zip(threads, CONFIGS.values(), strict=True)
        if "checkpoint_ns" not in config
    )
    assert_still_asked(server, threads, [*marks, "config-new"])
    server.at_once(
        lambda thread=thread, config=config: server.run(
            thread, input=None, config={"configurable": {**config, **NEVER}}
        )
        for thread, config in zip(threads, CONFIGS.values(), strict=True)
        if "checkpoint_ns" not in config
    )
    assert_still_asked(server, threads, [*marks, "config-new"])


def test_the_store_in_which_approvals_are_recorded_is_closed_to_clients(server):
    with pytest.raises(NotFoundError):
        server.client.store.put_item(("plan_execute",), "k", {"decision": "approved"})
    with pytest.raises(NotFoundError):
        server.client.store.search_items(())
    for method, path in (("PUT", "items"), ("POST", "items/search"), ("POST", "namespaces")):
        reply = httpx.request(method, f"{server.url}/store/{path}", json={}, timeout=RUN_S)
        assert reply.status_code == 404, path


def test_a_copy_of_a_thread_has_no_approval_that_the_original_was_given(server, waiting):
    thread, mark = waiting.one()
    copy = server.client.threads.copy(thread)["thread_id"]
    assert server.answer(thread, "approve")["status"] == "done"
    assert server.calls(mark) == ["write"]
    server.run(copy, input=None, context=NEVER)
    assert server.calls(mark) == ["write"]
    assert server.question(copy)["name"] == "approve_plan"
