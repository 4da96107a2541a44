"""What each role is told stays as it is: a change shows in the golden file."""

import re

import pytest
from golden.compare import assert_golden
from plans import FREE, Thread, agent_with, bound, draft, draft_step, think
from toolset import make_tool

from plan_execute import Context, ScriptedModel


def look(q: str) -> str:
    """Look something up."""
    return f"found {q}"


def send(to: str, text: str) -> str:
    """Send a mail."""
    return f"sent to {to}"


def said_to(model: ScriptedModel, role: str, number: int = 0) -> str:
    """Return a prompt as it is kept: without what changes from run to run."""
    call = [call for call in model.calls if call.role == role][number]
    system, human = call.messages[:2]
    said = re.sub(r"\b[0-9a-f]{8}\b", "MARK", f"{system.text}\n---\n{human.text}\n")
    said = re.sub(r"^Today is .*$", "Today is DATE AND TIME ZONE.", said, flags=re.M)
    return re.sub(r"\b[0-9a-f]{12}\b", "WORD", said)


@pytest.mark.parametrize(("name", "number"), [("planner", 0), ("planner_next_steps", 1)])
def test_the_prompt_of_the_planner(name, number):
    first = draft(draft_step("search", "look", {"q": "kettles"}), complete=False)
    model = ScriptedModel({"planner": [first, draft(outcome="finished")], "synthesizer": ["ok"]})
    agent = agent_with([make_tool(look)], model, checkpointer=None)
    agent.invoke({"goal": "Find the best kettle"}, context=FREE)
    assert_golden(f"prompts/{name}.txt", said_to(model, "planner", number))


def test_the_prompt_of_a_planner_that_may_ask_for_classes_of_models():
    model = ScriptedModel({"planner": ['1. look("kettles")'], "synthesizer": ["ok"]})
    agent = agent_with([make_tool(look)], model, models={"fast": model, "strong": model}, checkpointer=None)
    agent.invoke({"goal": "Find the best kettle"}, context=FREE)
    assert_golden("prompts/planner_with_model_classes.txt", said_to(model, "planner"))


@pytest.fixture
async def failed_run(monkeypatch: pytest.MonkeyPatch) -> ScriptedModel:
    """Run a step that sends a mail and is then judged to have failed, and a follow-up."""
    calls = ScriptedModel.tool_calls(("send", {"to": "boss", "text": "3 kettles"}))
    model = ScriptedModel(
        {
            "executor": [calls, "Sent."],
            "evaluator": [
                ScriptedModel.verdict(met=False, gap="The price is missing."),
                {"decision": "patch", "reason": "The price can be looked up.", "hint": "Look it up."},
            ],
            "replanner": [draft(draft_step("price", "look", {"q": "price"}))],
            "planner": [draft(draft_step("search", "look", {"q": "pots"}))],
            "synthesizer": ["Three kettles.", "Pots, too."],
        }
    )
    monkeypatch.setattr("plan_execute.evaluation.judge.state_criterion", _in_order)
    tools = [make_tool(look), make_tool(send, effect="write")]
    thread = Thread(agent_with(tools, model), Context(approval="never", max_attempts=1))
    judged = [{"type": "judge", "criterion": "names number and price"}]
    steps = [
        bound("kettles", "look", {"q": "${item}"}, for_each="${inputs.kinds}"),
        think("mail", "kettles", tools=["send"], success_criteria=judged),
    ]
    plan = {"goal": "Mail what there is", "steps": steps, "inputs": {"kinds": {}}}
    await thread.send({"plan": plan, "inputs": {"kinds": ["steel", "glass"]}})
    await thread.send({"goal": "And pots?"})
    return model


def _in_order(criterion: str, draw: str) -> object:
    from plan_execute.models.prompts.statements import state_criterion

    return state_criterion(criterion, draw[:12] + "1")


@pytest.mark.parametrize(
    ("name", "role", "number"),
    [
        ("executor", "executor", 0),
        ("judge", "evaluator", 0),
        ("decider", "evaluator", 1),
        ("replanner", "replanner", 0),
        ("synthesizer", "synthesizer", 0),
        ("planner_follow_up", "planner", 0),
        ("synthesizer_follow_up", "synthesizer", 1),
    ],
)
async def test_the_prompts_of_a_run_that_fails_and_goes_on(failed_run, name, role, number):
    assert_golden(f"prompts/{name}.txt", said_to(failed_run, role, number))
