"""Which rows of the ledger wait for the disk: what may not be done twice, and what a model was paid for."""

import pytest
from langchain_core.messages import AIMessage
from logged_tools import Log, bound, make_tools, plan

from plan_execute import Context, ScriptedModel, create_plan_execute_agent, local_persistence

NEVER = Context(approval="never")


def commits(persistence):
    """Count the commits that have waited for the disk; the database counts them itself."""
    [(number,)] = persistence.checkpointer.shared.connection.execute("SELECT number FROM ledger_commits")
    return number


def commits_of(tmp_path, steps, model=None):
    with local_persistence(tmp_path / "runs.db") as persistence:
        agent = create_plan_execute_agent(
            model,
            make_tools(Log(tmp_path / "log")),
            checkpointer=persistence.checkpointer,
            store=persistence.store,
        )
        before = commits(persistence)
        result = agent.invoke(steps, {"configurable": {"thread_id": "t"}}, context=NEVER)
        assert result["status"] == "done", result["final_answer"]
        return commits(persistence) - before


def test_what_was_only_read_is_on_record_and_waits_for_no_disk(tmp_path):
    assert commits_of(tmp_path, plan(bound("a", "look"), bound("b", "look", "a"))) == 0


@pytest.mark.parametrize("tool", ["send", "put"])
def test_what_changes_the_world_waits_for_the_disk(tmp_path, tool):
    assert commits_of(tmp_path, plan(bound("a", tool))) >= 2  # begun, and finished


def test_what_a_model_answered_waits_for_the_disk(tmp_path):
    asked = {"id": "a", "task": "think", "tools": []}
    assert commits_of(tmp_path, plan(asked), ScriptedModel([AIMessage("thought")])) >= 1
