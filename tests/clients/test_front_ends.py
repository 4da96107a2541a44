"""Chat front ends that people use, each driven through what it offers, against a real ``langgraph dev``."""

import base64
import struct
import zlib

import pytest
from front_ends import CLIENTS, AgentChatUI, AgentInbox, DeepAgentsUI

pytestmark = [pytest.mark.clients, pytest.mark.timeout(900)]

PROMPTS = ("You carry out one step", "You write the final answer", "You plan work", "Your step:")
"""The beginnings of the roles' prompts."""

MACHINE = (*PROMPTS, "<data", "tools=[")
"""What no person should read: prompts, and a plan as a model writes it."""


def in_clients(*kinds):
    """Run the test in these clients: the others do not have the feature."""
    return pytest.mark.parametrize("client", kinds, indirect=True, ids=lambda kind: kind.folder)


everywhere = in_clients(*CLIENTS)
chats = in_clients(AgentChatUI, DeepAgentsUI)


def assistant(client, **context):
    """Make an assistant with settings of its own."""
    return client.server.client.assistants.create("plan_execute", context=context)["assistant_id"]


def answered(client, answer, *given):
    """Answer, and wait until the run that takes the answer has ended."""
    runs = len(client.server.client.runs.list(client.thread))
    answer(*given)
    threads = client.server.client
    client.until(lambda: len(threads.runs.list(client.thread)) > runs, "the answer was not sent")
    client.until(lambda: threads.threads.get(client.thread)["status"] != "busy", "the run does not end")


def finished(client):
    """Wait until the thread has ended, and return its values."""
    client.until(lambda: client.thread, "there is no thread")
    client.until(
        lambda: client.server.client.threads.get(client.thread)["status"] not in ("busy", "interrupted"),
        "the thread does not end",
    )
    return client.server.values(client.thread)


@chats
def test_start_by_message(client):
    client.open()
    client.say("echo tea")
    said = client.shows("echo tea", "This is what there is: tea.")
    assert not any(prompt in said for prompt in PROMPTS)
    assert finished(client)["status"] == "done"


@everywhere
def test_first_approval(client):
    client.open()
    client.say("write tea")
    said = client.asks("approve_plan")
    client.picture("asked")
    assert "write" in said
    assert "tea" in said
    client.approve()
    assert finished(client)["results"]["write_tea"]["output"] == "tea"


@everywhere
def test_later_approvals(client):
    client.open()
    for word in ("tea", "cocoa", "milk"):
        client.say(f"write {word}")
        said = client.asks("approve_plan")
        client.picture(f"asked_{word}")
        assert word in said
        client.approve()
        assert finished(client)["final_answer"] == f"This is what there is: {word}."


@everywhere
def test_edit(client):
    client.open()
    client.say("write tea")
    client.asks("approve_plan")
    client.edit('"text":"tea"' if client.folder != "deep-agents-ui" else '"text": "tea"', '"text": "cocoa"')
    values = finished(client)
    assert (values["status"], values["results"]["write_tea"]["output"]) == ("done", "cocoa")


@everywhere
def test_reject_with_feedback(client):
    client.open()
    client.say("write tea")
    client.asks("approve_plan")
    client.reject("write cocoa, not tea")
    client.until(lambda: "write_cocoa" in client.text(), "the revised plan is not shown")
    client.asks("approve_plan")
    client.picture("revised")
    client.approve()
    assert finished(client)["results"]["write_cocoa"]["output"] == "cocoa"


@everywhere
def test_invalid_edit_is_explained(client):
    client.open()
    client.say("write tea")
    client.asks("approve_plan")
    before, after = ('"tool":"write"', '"tool":"wrote"')
    if client.folder == "deep-agents-ui":
        before, after = before.replace(":", ": "), after.replace(":", ": ")
    client.edit(before, after)
    client.until(lambda: "uses the tool 'wrote'" in client.read(), "nothing says what is wrong with the edit")
    client.asks("approve_plan")
    client.picture("explained")
    assert client.server.client.threads.get(client.thread)["status"] == "interrupted"
    client.approve()
    finished(client)


@everywhere
def test_broken_edit_is_explained(client):
    client.open()
    client.say("write tea")
    client.asks("approve_plan")
    client.edit('{"id"' if client.folder != "deep-agents-ui" else '{\n  "id"', "{id")
    client.until(
        lambda: "Your answer was not accepted" in client.read(), "nothing says what is wrong with the edit"
    )
    client.picture("explained")
    client.asks("approve_plan")
    assert client.server.client.threads.get(client.thread)["status"] == "interrupted"


@everywhere
def test_two_questions_open(client):
    client.open(assistant=assistant(client, on_failure="ask"))
    client.say("fetch nothing, fetch nowhere")
    client.asks("handle_step_failure")
    client.picture("first")
    for _ in range(2):
        client.asks("handle_step_failure")
        answered(client, client.decide, "retry", "skip")
        client.picture("next")
    values = finished(client)
    assert {values["results"][name]["status"] for name in ("fetch_nothing", "fetch_nowhere")} == {"skipped"}


@everywhere
def test_failure_question(client):
    client.open(assistant=assistant(client, on_failure="ask"))
    client.say("fetch milk")
    said = client.asks("handle_step_failure")
    client.picture("asked")
    assert "milk" in said
    (client.server.folder / "milk").write_text("fresh milk", encoding="utf-8")
    client.approve()
    assert finished(client)["results"]["fetch_milk"]["output"] == "fresh milk"
    (client.server.folder / "milk").unlink()


@everywhere
def test_budget_question(client):
    client.open(assistant=assistant(client, max_tool_calls=4, soft_share=0.5))
    client.say("echo tea then echo cocoa then echo milk")
    said = client.asks("extend_budget")
    client.picture("asked")
    assert "tool" in said
    client.approve()
    assert finished(client)["status"] == "done"


@everywhere
def test_question_in_words(client):
    client.open()
    client.say("ask cup then echo tea")
    said = client.asks("ask_person")
    client.picture("asked")
    assert "Which cup?" in said
    client.respond("the blue one")
    assert finished(client)["results"]["which_cup"]["output"] == "the blue one"


@everywhere
def test_unknown_outcome_question(client):
    client.open(assistant=assistant(client, approval="never"))
    name = f"juice{client.folder.replace('-', '')}"
    client.begin_run(f"keep {name}")
    client.server.await_call(name, "keep")
    (run,) = client.server.client.runs.list(client.thread, status="running")
    client.server.client.runs.cancel(client.thread, run["run_id"], wait=True)
    client.server.client.runs.wait(client.thread, "plan_execute", input=None, raise_error=False)
    client.open(client.thread)
    said = client.asks("resolve_unknown_outcome")
    client.picture("asked")
    assert name in said
    (client.server.folder / name).touch()
    client.decide("fail", "run_again")
    assert finished(client)["status"] == "done"


@chats
def test_answer_in_words(client):
    client.open()
    client.say("write tea")
    client.asks("approve_plan")
    answered(client, client.say, "write cocoa, not tea")
    client.until(lambda: "write_cocoa" in client.asks("approve_plan"), "the revised plan is not shown")
    client.picture("revised")
    client.say("yes")
    client.shows("This is what there is: cocoa.")
    assert finished(client)["results"]["write_cocoa"]["output"] == "cocoa"


@in_clients(AgentChatUI, AgentInbox)
def test_resolved_then_a_new_message(client):
    client.open()
    client.say("write tea")
    client.asks("approve_plan")
    client.resolve()
    client.until(lambda: not client.server.questions(client.thread), "the question is still open")
    client.picture("resolved")
    client.say("write cocoa")
    assert "cocoa" in client.asks("approve_plan")
    client.approve()
    assert finished(client)["results"]["write_cocoa"]["output"] == "cocoa"


@chats
def test_stop_then_a_new_message(client):
    client.open()
    name = f"stop{client.folder.replace('-', '')}"
    client.say(f"hold {name}")
    client.server.await_call(name, "hold")
    client.stop()
    client.picture("stopped")
    client.say("echo cocoa")
    if not client.stops:
        (client.server.folder / name).touch()
    client.shows("This is what there is: cocoa.")
    assert finished(client)["goal"] == "echo cocoa"


@in_clients(DeepAgentsUI)
def test_stop_in_a_write_then_a_new_message(client):
    client.open(assistant=assistant(client, approval="never"))
    client.say("keep stoppedwrite")
    client.server.await_call("stoppedwrite", "keep")
    client.stop()
    client.say("echo cocoa")
    said = client.asks("resolve_unknown_outcome")
    client.picture("asked")
    assert "stoppedwrite" in said
    client.approve()
    client.shows("This is what there is: cocoa.")
    assert finished(client)["goal"] == "echo cocoa"
    assert client.read().count("echo cocoa") == 1
    assert client.server.calls("stoppedwrite") == ["keep"]


@in_clients(AgentChatUI)
def test_edit_a_human_message(client):
    client.open()
    client.say("write tea")
    client.asks("approve_plan")
    client.approve()
    client.shows("This is what there is: tea.")
    client.edit_message("write tea", "write cocoa")
    client.until(lambda: "cocoa" in client.asks("approve_plan"), "the new message is not planned")
    client.picture("asked")
    client.approve()
    said = client.shows("This is what there is: cocoa.")
    assert "This is what there is: tea." not in said


@in_clients(AgentChatUI)
def test_edit_a_human_message_while_asked(client):
    client.open()
    client.say("echo coffee")
    client.shows("This is what there is: coffee.")
    client.say("write water")
    client.asks("approve_plan")
    client.edit_message("write water", "write squash")
    client.until(lambda: "write_squash" in client.asks("approve_plan"), "the new message is not planned")
    client.picture("asked")
    client.approve()
    client.shows("This is what there is: coffee.", "This is what there is: squash.")
    assert client.server.calls("squash") == ["write"]
    assert client.server.calls("water") == []


@in_clients(AgentChatUI)
def test_regenerate(client):
    client.open()
    client.say("write soup")
    client.asks("approve_plan")
    answered(client, client.approve)
    client.shows("This is what there is: soup.")
    answered(client, client.regenerate)
    assert finished(client)["status"] == "done"
    client.shows("write soup", "This is what there is: soup.", "2 / 2")
    assert client.server.calls("soup") == ["write"]


@in_clients(AgentChatUI)
def test_upload(client, model, tmp_path):
    picture = tmp_path / "cup.png"
    picture.write_bytes(_png())
    client.open()
    client.upload(picture)
    client.say("echo tea")
    client.shows("This is what there is: tea.")
    sent = base64.b64encode(picture.read_bytes()).decode()
    assert any(sent in str(one.body) for one in model.requests), "the picture has reached no model"


@chats
def test_progress(client):
    client.open()
    name = f"wait{client.folder.replace('-', '')}"
    client.say(f"hold {name}")
    client.server.await_call(name, "hold")
    client.until(lambda: client.read().count(name) > 1, "no progress is shown")
    client.picture("held")
    (client.server.folder / name).touch()
    assert finished(client)["status"] == "done"


@in_clients(AgentChatUI)
def test_steps_are_drawn(client):
    client.open()
    client.say("echo tea then hold drawnsteps then echo milk")
    drawn = ("● echo_tea: done", "◐ hold_drawnsteps: running", "○ echo_milk: waiting")
    client.until(lambda: all(step in client.drawn() for step in drawn), "the steps are not drawn")
    for name, width, is_dark in (("light", 1200, False), ("dark", 1200, True), ("narrow", 360, False)):
        client.look(width, is_dark)
        client.until(lambda: all(step in client.drawn() for step in drawn), "the steps have gone")
        client.picture(name)
    (client.server.folder / "drawnsteps").touch()
    assert finished(client)["status"] == "done"
    client.until(lambda: not client.drawn(), "the progress has stayed")


@chats
def test_no_machine_text(client):
    client.open()
    goal = "think about coffee then think about tea"
    client.say(goal)
    client.until(lambda: client.thread and client.server.values(client.thread).get("plan"), "no plan")
    seen = [client.read()]
    while client.server.client.threads.get(client.thread)["status"] == "busy":
        seen.append(client.read())
    assert finished(client)["status"] == "done"
    said = client.shows("This is what there is:")
    assert "These words come" not in said, "what a step said has stayed in the conversation"
    assert len(seen) > 1, "nothing was seen of the run"
    assert all(goal in text for text in seen), "the person's message vanished"
    assert not [word for word in MACHINE for text in seen if word in text]


@chats
def test_errors_are_text(client):
    client.open()
    client.say("be refused")
    client.until(lambda: "the stub refuses this request" in client.text(), "nothing says what went wrong")


def _png():
    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\xc0\x60\x20" * 8) * 8)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
