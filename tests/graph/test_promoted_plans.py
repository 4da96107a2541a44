"""A promoted plan with agent steps needs a model for them, and none to plan."""

from logged_tools import Log, make_tools
from openai_stub import OpenAIStub, Reply, asks_for_plan
from plans import draft, draft_step

from plan_execute import Context, create_plan_execute_agent
from plan_execute.plan.files.plan_files import load_plan_file, save_plan_file
from plan_execute.plan.promotion import promote

FREE = Context(approval="never")
PLAN = draft(
    draft_step("price", "look", {"name": "price", "q": "tea"}),
    draft_step("write", None, None, "price", tools=["send"], task="Send a mail about ${price}"),
)


class Office:
    """A model that plans once, and whose agent sends one mail; counts what it was asked."""

    def __init__(self):
        self.planned = self.acted = 0

    def __call__(self, body):
        if asks_for_plan(body):
            self.planned += 1
            return Reply.json(PLAN)
        if not body.get("tools"):
            return Reply("The end.")
        self.acted += 1
        if body["messages"][-1]["role"] == "tool":
            return Reply("It is sent.")
        return Reply(None, tool_calls=[("send", {"name": "mail", "text": "tea"})])


def test_it_runs_again_with_the_same_effects_and_no_call_of_the_planner(tmp_path):
    log, office = Log(tmp_path / "log"), Office()
    with OpenAIStub(office) as stub:
        agent = create_plan_execute_agent("openai:stub", make_tools(log), base_url=stub.base_url)
        first = agent.invoke({"goal": "mail the price"}, context=FREE)
        assert (first["status"], office.planned, office.acted) == ("done", 1, 2)
        effects = log.calls()
        log.forget()

        promotion = promote(first["plan"], first["results"], audit=first["audit"])
        save_plan_file(promotion.plan, tmp_path / "mail.yaml")
        again = agent.invoke({"plan": load_plan_file(tmp_path / "mail.yaml").plan}, context=FREE)
    assert (again["status"], office.planned, office.acted) == ("done", 1, 4)
    assert log.calls() == effects
    assert {i: r["output"] for i, r in again["results"].items()} == {
        i: r["output"] for i, r in first["results"].items()
    }
