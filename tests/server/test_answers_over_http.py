"""Questions are found in the thread's state and answered over HTTP, in every shape that clients send."""

import json

import httpx
import pytest
from dev_server import NEVER, RUN_S, Waiting, bound, plan

pytestmark = pytest.mark.timeout(180)

NO_ID = "0" * 32

APPROVALS = {
    "Agent Chat UI": {"decisions": [{"type": "approve"}]},
    "Agent Inbox": [{"type": "accept", "args": None}],
    "Agent Inbox, with what it was shown": [
        {"type": "accept", "args": {"action": "approve_plan", "args": {}}}
    ],
    "shorthand": {"type": "approve"},
    "a word": "approve",
    "JSON as text": '{"type": "approve"}',
}
EDITS = {
    "Agent Chat UI": lambda edited: {
        "decisions": [{"type": "edit", "edited_action": {"name": "approve_plan", "args": {"plan": edited}}}]
    },
    "Agent Inbox": lambda edited: [
        {"type": "edit", "args": {"action": "approve_plan", "args": {"plan": edited}}}
    ],
    "Agent Inbox, which returns values as text": lambda edited: [
        {"type": "edit", "args": {"action": "approve_plan", "args": {"plan": json.dumps(edited)}}}
    ],
    "shorthand": lambda edited: {"type": "edit", "args": {"plan": edited}},
    "shorthand as text": lambda edited: json.dumps({"type": "edit", "args": {"plan": edited}}),
}
REJECTIONS = {
    "Agent Chat UI": {"decisions": [{"type": "reject", "message": "too early"}]},
    "Agent Chat UI, respond": {"decisions": [{"type": "respond", "message": "too early"}]},
    "Agent Inbox, ignore": [{"type": "ignore", "args": None}],
    "Agent Inbox, response": [{"type": "response", "args": "too early"}],
    "shorthand": {"type": "reject", "message": "too early"},
    "a word": "reject",
}
UNFIT = {
    "no word we know": ("yes", "its type is 'yes'. Allowed: approve, edit, reject, respond"),
    "an unknown type": ({"decisions": [{"type": "maybe"}]}, "its type is 'maybe'. Allowed: approve"),
    "a number": (7, "it is int 7"),
    "two decisions": ([{"type": "accept"}, {"type": "accept"}], "it holds 2 decisions for one action"),
    "an edit of nothing": ([{"type": "edit", "args": None}], "an edit needs its args as a JSON object"),
    "an edit without a plan": ({"type": "edit", "args": {"speed": 9}}, "needs the whole plan as args.plan"),
    "a plan that is not JSON": ({"type": "edit", "args": {"plan": "steps:"}}, "the edited args are not JSON"),
    "an empty object": ({}, "the answer is empty. Open: approve_plan"),
    "an empty list": ([], "the answer is empty. Open: approve_plan"),
    "an unknown id": ({NO_ID: "approve"}, f"no open question has the id '{NO_ID}'. Open: approve_plan ["),
}
FAILURES = {
    "Agent Chat UI, edit": (
        {
            "decisions": [
                {
                    "type": "edit",
                    "edited_action": {
                        "name": "handle_step_failure",
                        "args": {"decision": "supply", "output": "mine"},
                    },
                }
            ]
        },
        "mine",
    ),
    "Agent Inbox, edit": (
        [{"type": "edit", "args": {"action": "handle_step_failure", "args": {"decision": "skip"}}}],
        "None",
    ),
    "shorthand": ({"decision": "supply", "output": [1, 2]}, "[1, 2]"),
    "Agent Inbox, accept what is proposed: retry": ([{"type": "accept"}], "mended"),
    "Agent Inbox, response: retry with instructions": ([{"type": "response", "args": "now"}], "mended"),
}


@pytest.fixture(scope="module")
def waiting(server):
    return Waiting(server, 40)


def answered(server, threads, answers):
    return server.at_once(
        lambda thread=thread, answer=answer: server.answer(thread, answer)
        for thread, answer in zip(threads, answers, strict=True)
    )


def edited_to(server, thread, text):
    proposed = server.question(thread)["args"]["plan"]
    (step,) = proposed["steps"]
    return {**proposed, "steps": [{**step, "call": {"tool": "write", "args": {"text": text}}}]}


# --- the question ------------------------------------------------------------------------


def test_a_question_in_the_state_has_the_shape_that_studio_chat_ui_and_inbox_show(server, waiting):
    thread, mark = waiting.one()
    (question,) = server.questions(thread)
    (request,) = question["value"]["action_requests"]
    (config,) = question["value"]["review_configs"]
    assert request["name"] == config["action_name"] == "approve_plan"
    assert config["allowed_decisions"] == ["approve", "edit", "reject", "respond"]
    assert request["args"] == request["arguments"]
    assert [step["id"] for step in request["args"]["plan"]["steps"]] == ["written"]
    assert "`write`" in request["description"]
    state = server.state(thread)
    assert state["next"] == ["approval"]
    assert [task["interrupts"] for task in state["tasks"]] == [[question]]
    assert server.client.threads.get(thread)["status"] == "interrupted"
    assert server.calls(mark) == []


# --- answers that fit --------------------------------------------------------------------


def test_every_shape_of_approval_runs_the_plan_once(server, waiting):
    threads, marks = waiting.take(len(APPROVALS))
    results = answered(server, threads, APPROVALS.values())
    assert [result["status"] for result in results] == ["done"] * len(APPROVALS), list(APPROVALS)
    assert [server.calls(mark) for mark in marks] == [["write"]] * len(APPROVALS)


def test_every_shape_of_edit_runs_the_edited_plan_and_nothing_else(server, waiting):
    threads, marks = waiting.take(len(EDITS))
    answers = [
        shape(edited_to(server, thread, f"edited {mark}"))
        for shape, thread, mark in zip(EDITS.values(), threads, marks, strict=True)
    ]
    results = answered(server, threads, answers)
    assert [result["status"] for result in results] == ["done"] * len(EDITS), list(EDITS)
    assert [result["plan"]["revision"] for result in results] == [2] * len(EDITS)
    assert [server.calls(f"edited {mark}") for mark in marks] == [["write"]] * len(EDITS)
    assert [server.calls(mark) for mark in marks] == [["write"]] * len(EDITS), "and nothing else"


def test_every_shape_of_rejection_runs_nothing_and_says_why(server, waiting):
    threads, marks = waiting.take(len(REJECTIONS))
    results = answered(server, threads, REJECTIONS.values())
    assert [result["status"] for result in results] == ["rejected"] * len(REJECTIONS), list(REJECTIONS)
    assert [server.calls(mark) for mark in marks] == [[]] * len(REJECTIONS)
    told = ["too early" in json.dumps(shape) for shape in REJECTIONS.values()]
    assert ["too early" in result["final_answer"] for result in results] == told


def test_every_shape_of_decision_about_a_failed_step_is_followed(server):
    names = [f"failed-{number}-" for number in range(len(FAILURES))]
    threads = [server.new_thread() for _ in names]
    server.at_once(
        lambda thread=thread, name=name: server.run(
            thread,
            input=plan(
                bound("got", "fetch", args={"name": name}, on_failure="ask", max_attempts=1),
                bound("told", "echo", "got", args={"text": f"{name} ${{got}}"}),
            ),
            context=NEVER,
        )
        for thread, name in zip(threads, names, strict=True)
    )
    assert {server.question(thread)["name"] for thread in threads} == {"handle_step_failure"}
    for name in names:
        (server.folder / name).write_text("mended")
    results = answered(server, threads, [answer for answer, _ in FAILURES.values()])
    expected = [output for _, output in FAILURES.values()]
    assert [result["results"]["told"]["output"].partition(" ")[2] for result in results] == [
        "null" if output == "None" else output for output in expected
    ], list(FAILURES)


def test_an_answer_may_be_given_to_a_question_by_its_id(server, waiting):
    thread, mark = waiting.one()
    (question,) = server.questions(thread)
    assert server.answer(thread, {question["id"]: {"type": "approve"}})["status"] == "done"
    assert server.calls(mark) == ["write"]


def test_an_edit_that_cannot_run_is_asked_about_again_with_its_issues_and_nothing_is_lost(server, waiting):
    thread, mark = waiting.one()
    broken = edited_to(server, thread, f"edited {mark}")
    broken["steps"][0]["depends_on"] = ["nowhere"]
    server.answer(thread, {"type": "edit", "args": {"plan": broken}})
    again = server.question(thread)
    assert "unknown_dependency" in again["description"]
    assert again["args"]["plan"] == broken
    assert [issue["code"] for issue in server.values(thread)["plan_issues"]] == ["unknown_dependency"]
    assert server.calls(mark) == []
    mended = {**broken, "steps": [{**broken["steps"][0], "depends_on": []}]}
    assert server.answer(thread, {"type": "edit", "args": {"plan": mended}})["status"] == "done"
    assert server.calls(f"edited {mark}") == ["write"]


# --- several questions -------------------------------------------------------------------


def test_two_open_questions_are_answered_by_id_and_one_branch_goes_on_while_the_other_waits(server):
    thread = server.new_thread()
    ask = {"on_failure": "ask", "max_attempts": 1}
    steps = plan(
        bound("left", "fetch", args={"name": "two-left"}, **ask),
        bound("right", "fetch", args={"name": "two-right"}, **ask),
        bound("free", "echo", args={"text": "two-free"}),
        bound("after_left", "write", "left", args={"text": "two ${left}"}),
        bound("after_right", "write", "right", args={"text": "two ${right}"}),
    )
    server.run(thread, input=steps, context=NEVER)
    ids = {question["value"]["step_id"]: question["id"] for question in server.questions(thread)}
    assert set(ids) == {"left", "right"}
    assert set(server.values(thread)["results"]) == {"free"}, "visible while others wait"

    server.answer(thread, {ids["right"]: {"decision": "supply", "output": "by hand"}})
    assert [question["id"] for question in server.questions(thread)] == [ids["left"]]
    assert server.values(thread)["results"]["after_right"]["output"] == "two by hand"

    told = server.explained(thread, {ids["right"]: {"decision": "skip"}})
    assert f"no open question has the id '{ids['right']}'. Open: handle_" in told

    (server.folder / "two-left").write_text("from the file")
    result = server.answer(thread, "approve")
    assert result["status"] == "done"
    assert result["results"]["after_left"]["output"] == "two from the file"
    assert sorted(server.calls("two")) == ["echo", "fetch", "fetch", "fetch", "write", "write"]


# --- answers and inputs that do not fit --------------------------------------------------


def test_an_answer_that_fits_nothing_says_what_is_open_and_allowed_and_the_question_stays(server, waiting):
    threads, marks = waiting.take(len(UNFIT))
    open_before = [asked(server.questions(thread)[0]) for thread in threads]
    told = server.at_once(
        lambda thread=thread, answer=answer: server.explained(thread, answer)
        for thread, (answer, _) in zip(threads, UNFIT.values(), strict=True)
    )
    for message, (name, (_, expected)) in zip(told, UNFIT.items(), strict=True):
        assert expected in message, name
    assert [asked(server.questions(thread)[0]) for thread in threads] == open_before
    assert [server.calls(mark) for mark in marks] == [[]] * len(UNFIT)


def test_null_as_an_answer_is_refused_and_the_question_stays(server, waiting):
    thread, mark = waiting.one()
    body = {"assistant_id": "plan_execute", "command": {"resume": None}}
    reply = httpx.post(f"{server.url}/threads/{thread}/runs/wait", json=body, timeout=RUN_S)
    assert "__error__" not in reply.json()
    assert "the answer is empty. Open: approve_plan [" in server.question(thread)["description"]
    assert server.question(thread)["name"] == "approve_plan"
    assert server.calls(mark) == []


def test_a_new_plan_while_a_question_is_open_is_refused_and_the_question_stays(server, waiting):
    thread, mark = waiting.one()
    before = server.questions(thread)
    other = plan(bound("other", "write", args={"text": mark}))
    server.run(thread, input=other, context=NEVER)
    told = server.question(thread)["description"]
    assert f"thread '{thread}' waits for an answer" in told
    assert f"approve_plan [{before[0]['id']}]" in told
    assert [one["id"] for one in server.questions(thread)] == [before[0]["id"]]
    assert server.client.threads.get(thread)["status"] == "interrupted"
    assert server.calls(mark) == []


@pytest.mark.parametrize(
    "command", [{"goto": "dispatcher"}, {"goto": "__end__", "resume": "approve"}], ids=str
)
def test_a_command_that_is_refused_leaves_the_thread_waiting_and_says_why(server, waiting, command):
    thread, mark = waiting.one()
    server.run(thread, command=command)
    assert "cannot" in server.question(thread)["description"].split("**Goal:**")[0]
    assert server.client.threads.get(thread)["status"] == "interrupted"
    assert server.calls(mark) == []


def asked(question):
    """Give what is asked, without the estimate beside it: other runs have ended meanwhile."""
    return question["id"], question["value"]["action_requests"][0]["args"]


def test_going_on_without_an_answer_asks_the_same_question_again(server, waiting):
    thread, mark = waiting.one()
    before = server.questions(thread)
    server.run(thread, input=None)
    assert list(map(asked, server.questions(thread))) == list(map(asked, before))
    assert server.calls(mark) == []


def test_an_answer_where_nothing_is_open_says_so(server, waiting):
    thread, mark = waiting.one()
    server.answer(thread, "approve")
    new = server.new_thread()
    ended, unknown = server.at_once(
        lambda thread=thread: server.refusal(thread, command={"resume": "approve"})
        for thread in (thread, new)
    )
    assert ended.startswith(f"NothingToResumeError: the run of thread '{thread}' has ended (done)")
    assert unknown == f"ThreadNotFoundError: there is no thread '{new}'"
    assert server.calls(mark) == ["write"]


def test_an_answer_to_a_thread_that_does_not_exist_is_not_found(server):
    nowhere = "00000000-0000-4000-8000-000000000000"
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        server.answer(nowhere, "approve")
