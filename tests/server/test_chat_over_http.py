"""What Agent Chat UI, Agent Inbox and deep-agents-ui send and read, against a server with a model."""

import json
import re

import httpx
import pytest
from dev_server import ALWAYS, NEVER, bound, plan, serve
from openai_stub import OpenAIStub, Reply, asks_for_plan

pytestmark = pytest.mark.timeout(180)

SAYING = re.compile(r"(write|think|doze|fetch|keep|watch) (mark-[\w-]+)")
"""A goal of these tests: what to do, and a mark that tells it from all others."""


def route(body):
    """Plan what the goal says; an agent step thinks aloud."""
    said = body["messages"][-1]["content"]
    text = said if isinstance(said, str) else " ".join(part.get("text", "") for part in said)
    if not asks_for_plan(body) and body.get("tools") and body["messages"][-1]["role"] == "user":
        return Reply(tool_calls=[("doze", {"text": SAYING.findall(text)[-1][1], "seconds": 20})])
    if not asks_for_plan(body):
        return Reply("A thought that is nobody's business." if "agent" in text else "It is done.")
    verb, mark = SAYING.findall(text)[-1]
    calls = {
        "write": f'a = write(text="{mark}")',
        "doze": f'a = doze(text="{mark}", seconds=20)',
        "fetch": f'a = fetch(name="{mark}")',
        "keep": f'a = keep(name="{mark}")',
        "watch": f'a = "watch {mark}" tools=[doze]',
        "think": f'a = "think about {mark} as an agent"',
    }
    return Reply(calls[verb], delay_s=3.0 if "slowly" in text else 0.0)


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


@pytest.mark.parametrize("modes", [["values", "custom"], ["values", "updates", "custom"]], ids=len)
def test_a_question_is_streamed_when_it_can_be_answered(server, modes):
    asking = bound("a", "fetch", args={"name": "mark-nothing"}, on_failure="ask", max_attempts=1)
    steps = plan(asking, bound("b", "doze", args={"text": "mark-busy", "seconds": 2}))
    given = {"input": steps, "context": NEVER, "stream_mode": modes}
    parts = list(server.client.runs.stream(server.new_thread(), "plan_execute", **given))
    asked = [number for number, part in enumerate(parts) if "__interrupt__" in part.data]
    ended = {part.data.get("step_id"): number for number, part in enumerate(parts) if part.event == "custom"}
    assert min(asked) > ended["b"]
    assert parts[-1].data["messages"][-1]["tool_calls"][0]["name"] == "handle_step_failure"


def test_a_list_of_threads_has_each_with_its_newest_question(server):
    thread = server.new_thread()
    for turn in ("mark-listed", "mark-listed-again"):
        server.run(thread, input=chat(f"write {turn}"), context=ALWAYS)
        kept = server.client.threads.get(thread)
        told = [(message["id"], message["content"]) for message in kept["values"]["messages"]]
        assert told == [(message["id"], message["content"]) for message in said(server, thread)]
        assert kept["values"]["messages"][-1]["tool_calls"][0]["name"] == "approve_plan"
        asked = [one["id"] for several in kept["interrupts"].values() for one in several]
        assert asked == [question["id"] for question in server.questions(thread)]
        server.answer(thread, "approve")
    assert server.client.threads.get(thread)["interrupts"] == {}


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


def test_a_word_that_was_sent_before_the_question_was_asked_approves_nothing(server):
    thread = server.new_thread()
    first = server.client.runs.create(
        thread, "plan_execute", input=chat("slowly write mark-early"), context=ALWAYS
    )
    server.run(thread, input=chat("yes"), multitask_strategy="enqueue")
    assert server.client.runs.get(thread, first["run_id"])["status"] == "success"
    assert server.calls("mark-early") == []
    assert "you wrote it before this question was asked" in server.question(thread)["description"]
    assert [kind for kind, _ in kinds(server, thread)] == ["human", "human", "ai"]
    assert server.run(thread, input=chat("Yes."))["status"] == "done"
    assert server.calls("mark-early") == ["write"]


def test_another_wish_that_was_sent_before_the_plan_was_there_is_heard(server):
    thread = server.new_thread()
    server.client.runs.create(thread, "plan_execute", input=chat("slowly write mark-former"), context=ALWAYS)
    server.run(thread, input=chat("write mark-latter instead"), multitask_strategy="enqueue")
    assert server.values(thread)["approval"]["feedback"] == ["write mark-latter instead"]
    assert server.question(thread)["name"] == "approve_plan"
    assert server.calls("mark-former") == []


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


def test_words_that_are_none_of_the_choices_stand_before_the_question_that_is_asked_again(server):
    thread = server.new_thread()
    asking = {"id": "which", "ask": {"question": "Which one?", "choices": ["left", "right"]}}
    server.run(thread, input=plan(asking), context=NEVER)
    server.run(thread, input=chat("the middle"))
    assert status(server, thread) == "interrupted"
    assert [kind for kind, _ in kinds(server, thread)] == ["human", "human", "ai"]
    assert "'the middle' is not one of the choices: left, right" in said(server, thread)[-1]["content"]
    assert server.run(thread, input=chat("Right"))["results"]["which"]["output"] == "right"


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


@pytest.mark.parametrize(
    ("by", "answer"), [("form", {"command": {"resume": "approve"}}), ("words", {"input": chat("fail")})]
)
def test_a_message_after_stop_stands_once_though_the_stopped_write_is_asked_about_first(server, by, answer):
    thread, mark, new = server.new_thread(), f"mark-kept-{by}", f"mark-new-{by}"
    run = server.client.runs.create(thread, "plan_execute", input=chat(f"keep {mark}"), context=NEVER)
    server.await_call(mark, "keep")
    server.client.runs.cancel(thread, run["run_id"], wait=True)
    server.run(thread, input=chat(f"doze {new}"))
    assert server.question(thread)["name"] == "resolve_unknown_outcome"
    server.client.runs.create(thread, "plan_execute", **answer)
    server.await_call(new, "doze")
    by_people = [str(message["content"]) for message in said(server, thread) if message["type"] == "human"]
    assert sum(new in text for text in by_people) == 1


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


def test_an_image_and_a_file_reach_the_planner_and_the_executor(server, stub):
    thread, mark = server.new_thread(), "mark-attached"
    image = {"type": "image", "mimeType": "image/png", "data": "aW1hZ2U=", "metadata": {"name": "cat.png"}}
    file = {
        "type": "file",
        "mimeType": "application/pdf",
        "data": "ZmlsZQ==",
        "metadata": {"filename": "plan.pdf"},
    }
    content = [{"type": "text", "text": f"think {mark}"}, image, file]
    given = {"messages": [{"type": "human", "content": content}]}
    assert server.run(thread, input=given, context=NEVER)["status"] == "done"
    asked = [request.body["messages"][-1]["content"] for request in stub.requests]
    seen = [content for content in asked if mark in json.dumps(content) and isinstance(content, list)]
    assert len(seen) == 2
    for content in seen:
        urls = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
        assert urls == ["data:image/png;base64,aW1hZ2U="]
        files = [part["file"] for part in content if part["type"] == "file"]
        assert files == [{"file_data": "data:application/pdf;base64,ZmlsZQ==", "filename": "plan.pdf"}]


# --- what stays inside -------------------------------------------------------------------


def test_the_conversation_of_an_agent_step_is_no_part_of_what_a_chat_is_streamed(server):
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
    assert {part.event for part in parts} == {"metadata", "values", "messages"}, "and nothing of a subgraph"
    own = [part.data[0] for part in parts if part.event == "messages"]
    assert "think about" not in json.dumps(own), "what the planner writes is for the program"


def test_who_watches_sees_how_far_the_run_is_in_one_message_and_no_long_silence(server):
    thread = server.new_thread()
    steps = plan(
        bound("first", "echo", args={"text": "x"}),
        bound("long", "doze", "first", args={"text": "mark-progress", "seconds": 4}),
    )
    modes = ["values", "custom"]
    parts = list(
        server.client.runs.stream(thread, "plan_execute", input=steps, context=NEVER, stream_mode=modes)
    )
    shown = [part.data for part in parts if part.event == "custom" and part.data["type"] == "ui"]
    assert len({message["id"] for message in shown}) == 1
    assert {message["metadata"]["message_id"] for message in shown} == {shown[0]["id"]}
    texts = [message["props"]["text"] for message in shown]
    assert texts[0] == "Planning …"
    assert "Working … 1 of 2 steps have ended. Now: long." in texts
    assert texts[-1] == "Done … 2 of 2 steps have ended."
    assert texts.count("Working … 1 of 2 steps have ended. Now: long.") > 2, "the doze is no silence"
    *_, last = (part.data for part in parts if part.event == "values")
    values = [part.data["messages"] for part in parts if part.event == "values"]
    said_meanwhile = [messages[-1] for messages in values if messages]
    in_words = [message for message in said_meanwhile if message["id"] == shown[0]["id"]]
    assert "Working … 1 of 2 steps have ended. Now: long." in [message["content"] for message in in_words]
    drawn = [part.data["ui"] for part in parts if part.event == "values" and "ui" in part.data]
    assert drawn == [[message] for message in shown], "a client forgets it when values come without it"
    assert [message["type"] for message in last["messages"]] == ["human", "ai"]
    assert kinds(server, thread) == [("human", []), ("ai", [])]


def test_the_component_that_draws_progress_is_served_without_a_bundler(server):
    served = httpx.post(f"{server.url}/ui/any-assistant", json={"name": "progress"})
    assert (served.status_code, served.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert served.text.count("{{shadowRootId}}") == 1, "the client fills in the first one only"
    assert "UI bundler" not in server.log, "it is fetched from npm, and ends the server where it cannot be"
    refused = httpx.post(f"{server.url}/ui/plan_execute", json={"name": "chart"})
    assert refused.status_code == 404
    assert refused.text == "no component is served for {'name': 'chart'}; known: progress"


# --- studio ------------------------------------------------------------------------------


def test_studio_sees_the_inner_agent(server):
    assistant = server.client.assistants.search(graph_id="plan_execute")[0]["assistant_id"]
    drawn = server.client.assistants.get_graph(assistant, xray=True)
    assert {"executor:agent:model", "executor:agent:tools"} <= {node["id"] for node in drawn["nodes"]}
    assert "executor|agent" in server.client.assistants.get_subgraphs(assistant, recurse=True)


def test_the_state_of_an_agent_can_be_opened_while_it_runs(server):
    thread = server.new_thread()
    run = server.client.runs.create(thread, "plan_execute", input=chat("watch mark-open"), context=NEVER)
    server.await_call("mark-open", "doze")
    (task,) = server.state(thread)["tasks"]
    opened = server.client.threads.get_state(thread, checkpoint=task["checkpoint"])
    inside = server.client.threads.get_state(thread, subgraphs=True)["tasks"][0]["state"]
    for state in (opened, inside):
        *_, told, called = state["values"]["messages"]
        assert "watch mark-open" in told["content"]
        assert [call["name"] for call in called["tool_calls"]] == ["doze"]
        assert state["next"] == ["tools"]
    server.client.runs.cancel(thread, run["run_id"], wait=True)
