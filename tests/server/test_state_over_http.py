"""A thread's state is read, edited and forked over HTTP, as Studio does it."""

import pytest
from dev_server import ALWAYS, NEVER, bound, plan

pytestmark = pytest.mark.timeout(180)


def two_steps(mark):
    return plan(
        bound("first", "echo", args={"text": f"{mark}-first"}),
        bound("second", "write", "first", args={"text": f"{mark}-second"}),
    )


def edited(proposed, step_id, **changes):
    """Change one step of a plan."""
    steps = [step | changes if step["id"] == step_id else step for step in proposed["steps"]]
    return {**proposed, "steps": steps}


def writing(text):
    return {"call": {"tool": "write", "args": {"text": text}}}


def checkpoint_before(server, thread, node):
    """Find the latest checkpoint from which this node runs next."""
    history = server.client.threads.get_history(thread, limit=100)
    return next(state for state in history if node in state["next"])


# --- history -----------------------------------------------------------------------------


def test_the_history_lists_every_checkpoint_from_the_answer_back_to_the_input(server):
    thread = server.new_thread()
    server.run(thread, input=two_steps("history"), context=ALWAYS)
    server.answer(thread, "approve")
    history = server.client.threads.get_history(thread, limit=100)
    assert [state["next"] for state in history] == [
        [],
        ["synthesizer"],
        ["evaluator"],
        ["executor", "executor"],
        ["dispatcher"],
        ["approval"],
        ["validator"],
        ["planner"],
        ["__start__"],
    ]
    parents = [state["parent_checkpoint"]["checkpoint_id"] for state in history[:-1]]
    assert parents == [state["checkpoint"]["checkpoint_id"] for state in history[1:]]
    assert history[0]["values"]["status"] == "done"
    events = [event["event"] for event in server.values(thread)["audit"]]
    assert events == ["plan_accepted", "plan_approved", "evaluated", "finished"]


# --- edits -------------------------------------------------------------------------------


def test_a_plan_edited_in_the_state_is_validated_asked_about_and_then_runs_as_edited(server):
    thread = server.new_thread()
    server.run(thread, input=two_steps("state"), context=ALWAYS)
    proposed = server.values(thread)["plan"]

    broken = edited(proposed, "second", depends_on=["nowhere"])
    server.client.threads.update_state(thread, {"plan": broken})
    server.run(thread, input=None)
    assert [issue["code"] for issue in server.values(thread)["plan_issues"]] == ["unknown_dependency"]
    question = server.question(thread)
    assert "'second' depends on 'nowhere'; known steps: first, second" in question["description"]
    assert question["args"]["plan"] == broken, "nothing of the edit is lost"
    assert server.calls("state") == []

    mended = edited(proposed, "second", **writing("state-edited"))
    server.client.threads.update_state(thread, {"plan": mended})
    server.run(thread, input=None)
    assert server.values(thread)["plan_issues"] == []
    assert server.question(thread)["args"]["plan"]["steps"][1]["call"]["args"] == {"text": "state-edited"}
    assert server.calls("state") == [], "an edit in the state approves nothing"

    assert server.answer(thread, "approve")["status"] == "done"
    assert server.calls("state-first") == ["echo"]
    assert (server.calls("state-second"), server.calls("state-edited")) == ([], ["write"])


def test_an_edit_of_a_started_run_keeps_what_is_finished_and_is_asked_about(server):
    thread = server.new_thread()
    steps = plan(
        bound("done", "echo", args={"text": "started-done"}),
        bound("got", "fetch", "done", args={"name": "started-none"}, on_failure="ask", max_attempts=1),
        bound("kept", "write", "got", args={"text": "started ${got}"}),
    )
    server.run(thread, input=steps, context=ALWAYS)
    server.answer(thread, "approve")
    assert server.question(thread)["name"] == "handle_step_failure"

    (server.folder / "started-some").write_text("found")
    call = {"tool": "fetch", "args": {"name": "started-some"}}
    approved = server.values(thread)["plan"]
    server.client.threads.update_state(thread, {"plan": edited(approved, "got", call=call)})
    server.run(thread, input=None)
    question = server.question(thread)
    assert question["name"] == "approve_plan"
    assert "changed: got" in question["description"]

    result = server.answer(thread, "approve")
    assert result["status"] == "done"
    assert result["results"]["kept"]["output"] == "started found"
    assert server.calls("started-done") == ["echo"], "finished before the edit, not run again"


# --- forks -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(server):
    """A thread whose run has ended, to fork from; forks run nothing, so tests can share it."""
    thread = server.new_thread()
    server.run(thread, input=two_steps("fork"), context=ALWAYS)
    server.answer(thread, "approve")
    assert server.calls("fork") == ["echo", "write"]
    return thread


@pytest.mark.parametrize("node", ["dispatcher", "executor", "evaluator"])
def test_a_fork_from_an_older_checkpoint_ends_alike_and_runs_no_finished_step_again(server, finished, node):
    before = server.values(finished)["results"]
    older = checkpoint_before(server, finished, node)
    result = server.run(finished, input=None, checkpoint_id=older["checkpoint"]["checkpoint_id"])
    assert result["status"] == "done"
    assert result["results"] == before
    assert server.calls("fork") == ["echo", "write"]


def test_a_fork_from_before_the_approval_asks_again_and_may_be_answered_otherwise(server, finished):
    older = checkpoint_before(server, finished, "approval")
    server.run(finished, input=None, checkpoint_id=older["checkpoint"]["checkpoint_id"])
    assert server.question(finished)["name"] == "approve_plan"
    result = server.answer(finished, {"type": "reject", "message": "not this time"})
    assert result["status"] == "rejected"
    assert "not this time" in result["final_answer"]
    assert server.calls("fork") == ["echo", "write"]


def test_an_answer_to_a_question_that_was_answered_at_an_older_checkpoint_is_refused(server, finished):
    older = checkpoint_before(server, finished, "approval")
    told = server.refusal(
        finished, command={"resume": "reject"}, checkpoint_id=older["checkpoint"]["checkpoint_id"]
    )
    assert told.startswith("NothingToResumeError: no question is open on thread")
    assert "continue it with None as input" in told, "which asks it again"


def test_a_step_edited_in_a_fork_never_reports_the_outcome_of_what_it_was_before(server):
    thread = server.new_thread()
    server.run(thread, input=two_steps("forkedit"), context=NEVER)
    older = checkpoint_before(server, thread, "dispatcher")
    proposed = edited(older["values"]["plan"], "second", **writing("forkedit-other"))
    server.client.threads.update_state(
        thread, {"plan": proposed}, checkpoint_id=older["checkpoint"]["checkpoint_id"]
    )
    result = server.run(thread, input=None)
    outputs = [step["output"] for step in result["results"].values() if step["status"] == "done"]
    assert ("forkedit-other" in outputs) == (server.calls("forkedit-other") == ["write"])
    assert "forkedit-second" not in outputs
