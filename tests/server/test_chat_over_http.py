"""What Agent Chat UI, Agent Inbox and deep-agents-ui send and read, against a server with a model."""

import json
import re

import httpx
import pytest
from dev_server import ALWAYS, NEVER, bound, plan, serve
from openai_stub import OpenAIStub, Reply, asks_for_plan

pytestmark = pytest.mark.timeout(180)

SAYING = re.compile(r"(write|think|doze|fetch) (mark-[\w-]+)")
"""A goal of these tests: what to do, and a mark that tells it from all others."""


def route(body):
    """Plan what the goal says; an agent step thinks aloud."""
    said = body["messages"][-1]["content"]
    text = said if isinstance(said, str) else " ".join(part.get("text", "") for part in said)
    if not asks_for_plan(body):
        return Reply("A thought that is nobody's business." if "agent" in text else "It is done.")
    verb, mark = SAYING.findall(text)[-1]
    calls = {
        "write": f'a = write(text="{mark}")',
        "doze": f'a = doze(text="{mark}", seconds=20)',
        "fetch": f'a = fetch(name="{mark}")',
        "think": f'a = "think about {mark} as an agent"',
    }
    return Reply(calls[verb])


@pytest.fixture(scope="module")
def stub():
    with OpenAIStub(route) as started:
        yield started


@pytest.fixture(scope="module")
def server(tmp_path_factory, stub):
    variables = {"PLAN_EXECUTE_MODEL": "openai:stub", "PLAN_EXECUTE_BASE_URL": stub.base_url}
    with serve(tmp_path_factory.mktemp("server") / "app", "--no-reload", jobs=20, **variables) as started:
        yield started


def chat(text, *others, **rest):
    """Write the input of a chat: a message, and whatever comes with it."""
    content = [{"type": "text", "text": text}]
    return {"messages": [*others, {"type": "human", "id": f"human-{text}", "content": content}], **rest}


def said(server, thread):
    """Give the conversation."""
    return server.values(thread)["messages"]


def kinds(server, thread):
    """Give the type of each message, and the names of its calls."""
    return [
        (message["type"], [call["name"] for call in message.get("tool_calls") or []])
        for message in said(server, thread)
    ]


def status(server, thread):
    return server.client.threads.get(thread)["status"]


# --- questions in the conversation -------------------------------------------------------


def test_a_question_stands_in_the_conversation_with_a_call_of_its_name_and_its_answer_after_it(server):
    thread = server.new_thread()
    for turn in ("mark-first", "mark-second"):
        server.run(thread, input=chat(f"write {turn}"), context=ALWAYS)
        question = said(server, thread)[-1]
        (asked,) = server.questions(thread)
        request = asked["value"]["action_requests"][0]
        assert (question["type"], question["content"]) == ("ai", request["description"])
        (call,) = question["tool_calls"]
        assert (call["name"], call["args"], call["id"]) == ("approve_plan", request["args"], asked["id"])
        server.answer(thread, [{"type": "accept", "args": None}])
    turn = [("human", []), ("ai", ["approve_plan"]), ("tool", []), ("ai", [])]
    assert kinds(server, thread) == [*turn, *turn]
    decided = [message for message in said(server, thread) if message["type"] == "tool"]
    assert [message["content"] for message in decided] == ["Approved.", "Approved."]
    assert len({message["id"] for message in said(server, thread)}) == 8


def test_the_question_is_streamed_with_the_values_and_asked_again_it_is_not_said_again(server):
    thread = server.new_thread()
    parts = server.client.runs.stream(
        thread, "plan_execute", input=chat("write mark-live"), context=ALWAYS, stream_mode=["values"]
    )
    last = [part.data for part in parts if part.event == "values"][-1]
    assert last["messages"][-1]["tool_calls"][0]["name"] == "approve_plan"
    assert len(last["__interrupt__"]) == 1
    server.run(thread, input=None)
    assert kinds(server, thread) == [("human", []), ("ai", ["approve_plan"])]


def test_a_failed_step_is_asked_about_in_the_conversation(server):
    thread = server.new_thread()
    failing = bound("a", "fetch", args={"name": "mark-nowhere"}, on_failure="ask", max_attempts=1)
    server.run(thread, input=plan(failing), context=NEVER)
    (call,) = said(server, thread)[-1]["tool_calls"]
    assert call["name"] == "handle_step_failure"
    assert None not in call["args"].values()
    assert server.run(thread, input=chat("skip"))["status"] in ("partial", "failed", "done")
    told = [message["content"] for message in said(server, thread) if message["type"] == "tool"]
    assert told == ['Decided: skip, because you wrote: "skip"']


# --- text as an answer -------------------------------------------------------------------


@pytest.mark.parametrize("text", ["Yes", "ok.", "Ja", "d'accord", "好的"])
def test_a_word_of_the_list_approves(server, text):
    thread, mark = server.new_thread(), f"mark-word-{len(text)}-{text.encode().hex()}"
    server.run(thread, input=chat(f"write {mark}"), context=ALWAYS)
    handled = {"type": "tool", "tool_call_id": server.questions(thread)[0]["id"], "id": "do-not-render-1"}
    client_made = {**handled, "name": "approve_plan", "content": "Successfully handled tool call."}
    assert server.run(thread, input=chat(text, client_made))["status"] == "done"
    assert server.calls(mark) == ["write"]
    conversation = said(server, thread)
    assert [message["type"] for message in conversation] == ["human", "ai", "tool", "human", "ai"]
    assert conversation[2]["content"] == f'Approved, because you wrote: "{text}"'


@pytest.mark.parametrize("text", ["no", "yes, but write mark-other instead", "Okay then let us think"])
def test_all_other_text_rejects_with_the_text_as_feedback(server, text):
    thread = server.new_thread()
    server.run(thread, input=chat("write mark-refused"), context=ALWAYS)
    server.run(thread, input=chat(text))
    assert server.values(thread)["approval"]["feedback"] == [text]
    assert server.calls("mark-refused") == []
    assert server.question(thread)["name"] == "approve_plan"
    assert kinds(server, thread)[-1] == ("ai", ["approve_plan"])
    assert f'Rejected, because you wrote: "{text}"' in [
        message["content"] for message in said(server, thread)
    ]


def test_no_question_is_shown_to_the_planner_as_what_was_said(server, stub):
    thread = server.new_thread()
    server.run(thread, input=chat("write mark-unseen"), context=ALWAYS)
    server.run(thread, input=chat("yes"))
    server.run(thread, input=chat("write mark-later"), context=ALWAYS)
    prompt = json.dumps(
        next(request.body for request in stub.requests if "mark-later" in json.dumps(request.body))
    )
    assert "write mark-unseen" in prompt
    assert "May change the world" not in prompt
    assert "because you wrote" not in prompt


# --- answers that are refused ------------------------------------------------------------


def test_a_refused_answer_leaves_the_thread_waiting_with_the_explanation_in_the_question(server):
    thread = server.new_thread()
    server.run(thread, input=chat("write mark-odd"), context=ALWAYS)
    server.answer(thread, {"decisions": [{"type": "maybe"}]})
    assert status(server, thread) == "interrupted"
    assert "its type is 'maybe'. Allowed: approve" in server.question(thread)["description"]
    assert "its type is 'maybe'. Allowed: approve" in said(server, thread)[-1]["content"]
    assert kinds(server, thread) == [("human", []), ("ai", ["approve_plan"])]
    assert server.answer(thread, "approve")["status"] == "done"
    assert server.calls("mark-odd") == ["write"]


# --- several questions -------------------------------------------------------------------


def test_two_questions_are_met_one_after_the_other_by_a_client_that_sends_no_ids(server):
    ask = {"on_failure": "ask", "max_attempts": 1}
    thread = server.new_thread()
    steps = [bound(name, "fetch", args={"name": f"mark-two-{name}"}, **ask) for name in ("left", "right")]
    server.run(thread, input=plan(*steps, bound("free", "echo", args={"text": "x"})), context=NEVER)
    shown = []
    for _ in steps:
        asked = server.state(thread)["tasks"][-1]["interrupts"][-1]
        shown.append(asked["value"]["step_id"])
        assert said(server, thread)[-1]["tool_calls"][0]["id"] == asked["id"]
        server.answer(
            thread, {"decisions": [{"type": "edit", "edited_action": {"args": {"decision": "skip"}}}]}
        )
    assert shown == ["left", "right"]
    assert [kind for kind, _ in kinds(server, thread)][-5:] == ["ai", "tool", "ai", "tool", "ai"]
    assert server.questions(thread) == []


# --- new input where a chat sends it -----------------------------------------------------


def test_a_message_after_stop_ends_the_stopped_run_and_starts_its_own(server):
    thread = server.new_thread()
    run = server.client.runs.create(thread, "plan_execute", input=chat("doze mark-stop"), context=NEVER)
    server.await_call("mark-stop", "doze")
    server.client.runs.cancel(thread, run["run_id"], wait=True)
    head = server.state(thread)["checkpoint"]
    result = server.run(thread, input=chat("write mark-after"), context=NEVER, checkpoint=head)
    assert (result["status"], result["goal"]) == ("done", "write mark-after")
    assert server.calls("mark-after") == ["write"]


@pytest.mark.parametrize("strategy", ["interrupt", "rollback"])
def test_a_message_that_comes_while_a_run_is_under_way_takes_its_place(server, strategy):
    thread, mark = server.new_thread(), f"mark-{strategy}"
    server.client.runs.create(thread, "plan_execute", input=chat(f"doze {mark}"), context=NEVER)
    server.await_call(mark, "doze")
    then = chat(f"write {mark}-then")
    result = server.run(thread, input=then, context=NEVER, multitask_strategy=strategy)
    assert (result["status"], result["goal"]) == ("done", f"write {mark}-then")
    assert server.calls(f"{mark}-then") == ["write"]


def test_abandon_ends_the_open_run_and_starts_the_new_goal(server):
    thread = server.new_thread()
    server.run(thread, input=chat("write mark-old"), context=ALWAYS)
    server.run(thread, input={"goal": "write mark-new", "abandon": True})
    assert server.values(thread)["goal"] == "write mark-new"
    assert "mark-new" in server.question(thread)["description"]
    assert server.calls("mark-old") == []
    types = [message["type"] for message in said(server, thread)]
    assert types == ["human", "ai", "tool", "ai", "human", "ai"]


def test_an_edited_message_forks_from_the_checkpoint_before_it(server):
    thread = server.new_thread()
    server.run(thread, input=chat("write mark-draft"), context=NEVER)
    history = server.client.threads.get_history(thread)
    ids = [{message["id"] for message in state["values"].get("messages", [])} for state in history]
    first_seen = [
        state for state, seen in zip(history, ids, strict=True) if "human-write mark-draft" in seen
    ][-1]
    result = server.run(
        thread, input=chat("write mark-edited"), context=NEVER, checkpoint=first_seen["parent_checkpoint"]
    )
    assert (result["status"], result["goal"]) == ("done", "write mark-edited")
    texts = [message["content"] for message in result["messages"] if message["type"] == "human"]
    assert texts == [[{"type": "text", "text": "write mark-edited"}]]


def test_the_answer_is_regenerated_from_the_checkpoint_before_it(server):
    thread = server.new_thread()
    first = server.run(thread, input=chat("write mark-again"), context=NEVER)
    history = server.client.threads.get_history(thread)
    answer = first["messages"][-1]["id"]
    seen = [s for s in history if answer in {m["id"] for m in s["values"].get("messages", [])}][-1]
    second = server.run(thread, input=None, checkpoint=seen["parent_checkpoint"])
    assert second["status"] == "done"
    assert second["messages"][-1]["id"] != answer
    assert server.calls("mark-again") == ["write"]


@pytest.mark.parametrize("goto", ["__end__", ["__end__"]])
def test_a_thread_that_a_chat_marks_as_resolved_ends_and_takes_the_next_message(server, goto):
    thread = server.new_thread()
    server.run(thread, input=chat("write mark-resolved"), context=ALWAYS)
    server.run(thread, command={"goto": goto, "update": None})
    assert status(server, thread) == "idle"
    assert server.questions(thread) == []
    assert kinds(server, thread)[:3] == [("human", []), ("ai", ["approve_plan"]), ("tool", [])]
    server.run(thread, input=chat("write mark-next"))
    assert "mark-next" in server.question(thread)["description"]
    assert server.calls("mark-resolved") == []


def test_a_thread_that_agent_inbox_ignores_takes_the_next_message(server):
    thread = server.new_thread()
    server.run(thread, input=chat("write mark-ignored"), context=ALWAYS)
    body = {"values": None, "as_node": "__end__"}
    httpx.post(f"{server.url}/threads/{thread}/state", json=body).raise_for_status()
    assert server.questions(thread) == []
    server.run(thread, input=chat("write mark-next-one"))
    assert "mark-next-one" in server.question(thread)["description"]
    assert [kind for kind, _ in kinds(server, thread)] == ["human", "ai", "tool", "human", "ai"]


def test_unknown_input_is_ignored_with_a_warning(server):
    thread = server.new_thread()
    result = server.run(
        thread, input=chat("write mark-context", context={"title": "an artifact"}), context=NEVER
    )
    assert result["status"] == "done"
    assert "unknown input 'context' is ignored" in server.log


# --- what stays inside -------------------------------------------------------------------


def test_the_conversation_of_an_agent_step_is_never_streamed_as_the_values_of_the_thread(server):
    thread = server.new_thread()
    parts = list(
        server.client.runs.stream(
            thread,
            "plan_execute",
            input=chat("think mark-inside"),
            context=NEVER,
            stream_mode=["values", "messages-tuple"],
            stream_subgraphs=True,
        )
    )
    assert {part.event for part in parts if part.event.startswith("values")} == {"values"}
    own = [part.data[0] for part in parts if part.event == "messages"]
    assert "think about" not in json.dumps(own), "what the planner writes is for the program"


# --- studio ------------------------------------------------------------------------------


def test_studio_sees_the_inner_agent(server):
    assistant = server.client.assistants.search(graph_id="plan_execute")[0]["assistant_id"]
    drawn = server.client.assistants.get_graph(assistant, xray=True)
    assert {"executor:model", "executor:tools"} <= {node["id"] for node in drawn["nodes"]}
    assert "executor" in server.client.assistants.get_subgraphs(assistant)
