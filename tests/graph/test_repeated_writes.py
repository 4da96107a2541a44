"""A write that happened, or may have, is not made again without a question, whoever orders it."""

import asyncio
from functools import reduce

import pytest
from httpx import ConnectError, ReadTimeout
from langchain_core.messages import AIMessage
from langchain_core.messages.tool import tool_call
from langgraph.checkpoint.memory import InMemorySaver
from plans import FREE, Thread, agent_with, bound, draft, draft_step, plan, statuses
from toolset import make_tool

from plan_execute import Context, ScriptedModel
from plan_execute.errors import NothingToResumeError
from plan_execute.graph.control import cancel_run, retry_steps

NEVER_MET = [{"type": "matches", "pattern": "never"}]
REPLANS = Context(approval="never", on_failure="patch", max_attempts=1)


class Mail:
    """Sends letters; each letter in ``stuck`` is sent, and then never answers."""

    def __init__(self, effect="write"):
        self.sent, self.stuck, self.got_stuck = [], set(), asyncio.Event()
        self.tool = make_tool(self._function(), effect=effect)

    def _function(self):
        async def send(to: str) -> str:
            """Send a letter."""
            self.sent.append(to)
            if to in self.stuck:
                self.got_stuck.set()
                await asyncio.sleep(3600)
            return f"sent to {to}"

        return send


def send(step_id, to, *after, **fields):
    return bound(step_id, "send", {"to": to}, *after, **fields)


def decide(decision, **args):
    return {"type": "edit", "args": {"decision": decision, **args}}


async def cut_off(thread, mail, *steps, **fields):
    """Run a plan until a letter is on its way, and end the process, as far as the thread can tell."""
    working = asyncio.create_task(thread.run(*steps, **fields))
    await asyncio.wait_for(mail.got_stuck.wait(), 60)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    mail.stuck.clear()


def patched_by(*steps):
    return ScriptedModel({"replanner": [draft(*steps)], "synthesizer": ["The end."]}, strict=False)


# --- writes that happened ----------------------------------------------------------------


async def test_a_revision_that_would_make_a_write_of_a_failed_step_again_is_asked_about():
    mail = Mail()
    model = patched_by(draft_step("again", "send", {"to": "Ann"}))
    thread = Thread(agent_with([mail.tool], model), REPLANS)
    await thread.run(send("first", "Ann", success_criteria=NEVER_MET))
    (question,) = await thread.questions()
    request = question.value["action_requests"][0]
    assert (request["name"], request["args"]["step_id"], request["args"]["tool_args"]) == (
        "resolve_unknown_outcome",
        "again",
        {"to": "Ann"},
    )
    assert "**again**" in request["description"]
    assert "**first**" in request["description"]
    assert mail.sent == ["Ann"]
    result = await thread.answer(decide("happened", output="it is there"))
    assert (mail.sent, result["status"]) == (["Ann"], "done")
    assert result["results"]["again"]["output"] == "it is there"


async def test_a_person_who_wants_the_write_made_again_has_it_made_once_more():
    mail = Mail()
    model = patched_by(draft_step("again", "send", {"to": "Ann"}))
    thread = Thread(agent_with([mail.tool], model), REPLANS)
    await thread.run(send("first", "Ann", success_criteria=NEVER_MET))
    result = await thread.answer(decide("run_again"))
    assert (mail.sent, result["status"]) == (["Ann", "Ann"], "done")


async def test_an_agent_of_a_revision_is_asked_about_the_write_of_the_step_it_replaces():
    mail = Mail()

    def turn(messages):
        if any(message.type == "tool" for message in messages):
            return "fine"
        return AIMessage("", tool_calls=[tool_call(name="send", args={"to": "Ann"}, id="1")])

    script = {"replanner": [draft(draft_step("again", tools=["send"]))], "executor": [turn]}
    model = ScriptedModel({**script, "synthesizer": ["The end."]}, strict=False)
    thread = Thread(agent_with([mail.tool], model), REPLANS)
    await thread.run(send("first", "Ann", success_criteria=NEVER_MET))
    assert (await thread.question())["args"]["step_id"] == "again"
    await thread.answer(decide("happened", output="it is there"))
    assert mail.sent == ["Ann"]


async def test_an_idempotent_call_is_made_again_by_a_revision_without_a_question():
    mail = Mail("idempotent")
    model = patched_by(draft_step("again", "send", {"to": "Ann"}))
    thread = Thread(agent_with([mail.tool], model), REPLANS)
    result = await thread.run(send("first", "Ann", success_criteria=NEVER_MET))
    assert (mail.sent, result["status"]) == (["Ann", "Ann"], "done")


async def test_a_plan_that_says_the_same_write_twice_is_not_asked_about():
    mail = Mail()
    thread = Thread(agent_with([mail.tool]), FREE)
    result = await thread.run(
        send("one", "Ann"),
        send("two", "Ann", "one"),
        {"id": "each", "for_each": "${inputs.names}", "call": {"tool": "send", "args": {"to": "${item}"}}},
        inputs={"names": {"default": ["Ann", "Ann"]}},
    )
    assert (mail.sent, result["status"]) == (["Ann"] * 4, "done")


# --- writes that may have happened -------------------------------------------------------


LOOP = send("letter", "${item}") | {"for_each": "${inputs.names}"}


@pytest.mark.parametrize("step", [send("letter", "Ann"), LOOP], ids=["bound", "loop"])
async def test_who_cancels_is_told_of_a_write_in_doubt_and_can_settle_it_afterwards(step):
    mail = Mail()
    mail.stuck.add("Ann")
    thread = Thread(agent_with([mail.tool]), FREE)
    await cut_off(thread, mail, step, inputs={"names": {"default": ["Ann"]}})
    await cancel_run(thread.agent, thread.config)
    ended = (await thread.agent.aget_state(thread.config)).values
    assert "letter" in ended["final_answer"]
    assert "May have happened" in ended["final_answer"]
    await thread.send(None)
    assert (await thread.question())["name"] == "resolve_unknown_outcome"
    settled = await thread.answer(decide("happened", output="it is there"))
    assert "May have happened" not in settled["final_answer"]
    assert mail.sent == ["Ann"]
    with pytest.raises(NothingToResumeError):
        await thread.send(None)


@pytest.mark.parametrize("ended_by", ["cancel", "abandon"])
async def test_a_new_goal_asks_first_about_a_write_that_an_ended_run_left_in_doubt(ended_by):
    mail = Mail()
    mail.stuck.add("Ann")
    thread = Thread(agent_with([mail.tool]), FREE)
    await cut_off(thread, mail, send("letter", "Ann"))
    if ended_by == "cancel":
        await cancel_run(thread.agent, thread.config)
    new = {"plan": plan(send("other", "Bob"))}
    await thread.send(new if ended_by == "cancel" else {**new, "abandon": True})
    assert (await thread.question())["args"]["tool_args"] == {"to": "Ann"}
    assert mail.sent == ["Ann"]
    result = await thread.answer(decide("happened", output="it is there"))
    assert (mail.sent, result["status"], statuses(result)) == (["Ann", "Bob"], "done", {"other": "done"})


async def test_a_cancelled_run_that_is_ordered_again_asks_about_its_write_in_doubt():
    mail = Mail()
    mail.stuck.add("Ann")
    thread = Thread(agent_with([mail.tool]), FREE)
    await cut_off(thread, mail, send("letter", "Ann"))
    await cancel_run(thread.agent, thread.config)
    await retry_steps(thread.agent, thread.config, ["letter"])
    await thread.send(None)
    assert (await thread.question())["args"]["tool_args"] == {"to": "Ann"}
    await thread.answer(decide("run_again"))
    assert mail.sent == ["Ann", "Ann"]


# --- writes that count as failed, and may have happened ----------------------------------

FAIL = {"fail": decide("fail"), "reject": {"type": "reject", "message": "I cannot find out"}}


def again_by(policy):
    context = Context(approval="never", on_failure=policy, max_attempts=3 if policy == "retry" else 1)
    mail = Mail()
    mail.stuck.add("Ann")
    return mail, Thread(
        agent_with([mail.tool], patched_by(draft_step("again", "send", {"to": "Ann"}))), context
    )


@pytest.mark.parametrize("answer", FAIL)
@pytest.mark.parametrize("step", [send("letter", "Ann"), LOOP], ids=["bound", "loop"])
@pytest.mark.parametrize("policy", ["retry", "patch", "replan"])
async def test_a_write_that_counts_as_failed_and_may_have_happened_is_asked_about_before_it_is_made_again(
    policy, step, answer
):
    mail, thread = again_by(policy)
    await cut_off(thread, mail, step, inputs={"names": {"default": ["Ann"]}})
    await thread.send(None)
    (first,) = await thread.questions()
    await thread.answer(FAIL[answer])
    (second,) = await thread.questions()
    request = second.value["action_requests"][0]
    assert (mail.sent, second.id != first.id) == (["Ann"], True)
    assert request["name"] == "resolve_unknown_outcome"
    assert "may have happened" in request["description"]
    result = await thread.answer(decide("run_again"))
    assert (mail.sent, result["status"]) == (["Ann", "Ann"], "done")


async def test_a_write_that_counted_as_failed_and_has_happened_is_not_made_again():
    mail, thread = again_by("patch")
    await cut_off(thread, mail, send("letter", "Ann"))
    await thread.send(None)
    await thread.answer(decide("fail"))
    result = await thread.answer(decide("happened", output="it is there"))
    assert (mail.sent, result["results"]["again"]["output"]) == (["Ann"], "it is there")


@pytest.mark.parametrize("step", [send("letter", "Ann"), LOOP], ids=["bound", "loop"])
async def test_who_lets_a_write_fail_and_orders_it_again_is_not_asked_twice(step):
    mail, thread = again_by("ask")
    await cut_off(thread, mail, step, inputs={"names": {"default": ["Ann"]}})
    await thread.send(None)
    await thread.answer(decide("fail"))
    question = await thread.question()
    # Who only says yes makes no write again that may have happened.
    assert (question["name"], question["args"]["decision"]) == ("handle_step_failure", "abort")
    assert "This may have happened" in question["description"]
    assert "`retry` makes it again" in question["description"]
    result = await thread.answer(decide("retry"))
    assert (mail.sent, result["status"]) == (["Ann", "Ann"], "done")


async def test_an_agent_that_makes_a_write_again_that_counted_as_failed_is_asked_about():
    mail = Mail()
    mail.stuck.add("Ann")

    def turn(messages):
        said = [message.text for message in messages if message.type == "tool"]
        if len(said) > 1 or "sent to Ann" in said:
            return "fine"
        return AIMessage("", tool_calls=[tool_call(name="send", args={"to": "Ann"}, id=str(len(said)))])

    model = ScriptedModel({"executor": [turn], "synthesizer": ["The end."]}, strict=False)
    thread = Thread(agent_with([mail.tool], model), FREE)
    await cut_off(thread, mail, {"id": "letter", "task": "send it", "tools": ["send"]})
    await thread.send(None)
    (first,) = await thread.questions()
    await thread.answer(decide("fail"))
    (second,) = await thread.questions()
    assert (mail.sent, second.id != first.id) == (["Ann"], True)
    assert second.value["action_requests"][0]["name"] == "resolve_unknown_outcome"
    await thread.answer(decide("happened", output="it is there"))
    assert mail.sent == ["Ann"]


LOST = [TimeoutError("no answer"), ConnectionResetError("reset"), ReadTimeout("slow")]
NOT_SENT = [ConnectionRefusedError("refused"), ConnectError("no route"), ValueError("no such person")]


@pytest.mark.parametrize("policy", ["retry", "patch"])
@pytest.mark.parametrize("raised", [*LOST, *NOT_SENT, "no JSON"], ids=repr)
async def test_a_write_whose_answer_was_lost_is_asked_about_before_it_is_made_again(raised, policy):
    sent = []

    def send(to: str):
        """Send a letter."""
        sent.append(to)
        if len(sent) > 1:
            return f"sent to {to}"
        if raised == "no JSON":
            return reduce(lambda inner, _: [inner], range(5000), to)
        raise raised

    model = patched_by(draft_step("again", "send", {"to": "Ann"}))
    context = Context(approval="never", on_failure=policy, max_attempts=3 if policy == "retry" else 1)
    thread = Thread(agent_with([make_tool(send, effect="write")], model), context)
    await thread.run(bound("letter", "send", {"to": "Ann"}))
    names = [question.value["action_requests"][0]["name"] for question in await thread.questions()]
    if raised in NOT_SENT:
        assert (sent, names) == (["Ann", "Ann"], [])
    else:
        assert (sent, names) == (["Ann"], ["resolve_unknown_outcome"])


# --- forks -------------------------------------------------------------------------------


async def earlier(thread, node):
    """Return the config of the first checkpoint after which a node runs."""
    history = [one async for one in thread.agent.aget_state_history(thread.config)]
    return [one.config for one in history if node in one.next][-1]


async def test_a_fork_asks_anew_what_follows_and_leaves_a_settled_write_settled():
    mail = Mail()
    mail.stuck.add("Ann")
    context = Context(approval="never", on_failure="ask", max_attempts=1)
    thread = Thread(agent_with([mail.tool]), context)
    steps = send("letter", "Ann"), send("other", "Bob", "letter", success_criteria=NEVER_MET)
    await cut_off(thread, mail, *steps)
    await thread.send(None)
    await thread.answer(decide("happened", output="it is there"))
    assert (await thread.question())["name"] == "handle_step_failure"
    first = await thread.answer(decide("abort"))
    assert statuses(first) == {"letter": "done", "other": "failed"}
    fork = await earlier(thread, "dispatcher")
    again = await thread.agent.ainvoke(None, fork)
    names = [one.value["action_requests"][0]["name"] for one in again["__interrupt__"]]
    assert names == ["handle_step_failure"]
    second = await thread.answer(decide("supply", output="by hand"))
    assert (second["results"]["other"]["output"], mail.sent) == ("by hand", ["Ann", "Bob"])


async def test_a_fork_asks_for_the_approval_of_a_step_anew():
    mail = Mail()
    thread = Thread(agent_with([mail.tool]), FREE)
    await thread.run(send("letter", "Ann", approve=True))
    rejected = await thread.answer({"type": "reject", "message": "not now"})
    assert statuses(rejected) == {"letter": "failed"}
    again = await thread.agent.ainvoke(None, await earlier(thread, "executor"))
    assert again["__interrupt__"][0].value["action_requests"][0]["name"] == "approve_step"
    approved = await thread.answer("approve")
    assert (approved["status"], mail.sent) == ("done", ["Ann"])


@pytest.mark.parametrize("node", ["__start__", "planner"])
async def test_a_fork_that_plans_anew_asks_before_it_makes_a_finished_write_again(node):
    mail = Mail()
    thread = Thread(agent_with([mail.tool]), FREE)
    await thread.run(send("letter", "Ann"), send("other", "Bob", "letter"))
    await thread.agent.ainvoke(None, await earlier(thread, node))
    question = await thread.question()
    assert (question["name"], question["args"]["tool_args"]) == ("resolve_unknown_outcome", {"to": "Ann"})
    assert "of a plan that a fork of this thread replaced" in question["description"]
    await thread.answer(decide("happened", output="it is there"))
    assert (await thread.question())["args"]["tool_args"] == {"to": "Bob"}
    result = await thread.answer(decide("run_again"))
    assert (mail.sent, result["status"]) == (["Ann", "Bob", "Bob"], "done")
    assert result["results"]["letter"]["output"] == "it is there"


async def test_a_message_that_replaces_another_asks_before_it_makes_its_write_again():
    mail = Mail()
    thread = Thread(agent_with([mail.tool]), FREE)
    await thread.run(send("letter", "Ann"))
    first = await earlier(thread, "__start__")
    await thread.agent.ainvoke({"plan": plan(send("edited", "Ann"), send("more", "Eve"))}, first)
    assert (await thread.question())["args"]["step_id"] == "edited"
    await thread.answer(decide("happened", output="it is there"))
    assert sorted(mail.sent) == ["Ann", "Eve"]


async def test_the_approval_in_a_fork_names_what_was_done_before_it():
    mail = Mail()
    thread = Thread(agent_with([mail.tool]))
    await thread.run(send("letter", "Ann"), send("other", "Bob", "letter", approve=True))
    await thread.answer("approve")
    assert (await thread.question())["name"] == "approve_step"
    await thread.agent.ainvoke(None, await earlier(thread, "planner"))
    question = await thread.question()
    assert question["name"] == "approve_plan"
    done = question["description"].split(
        "**Done on this thread before, by a plan that a fork left behind:**"
    )[1]
    assert '`send({"to": "Ann"})` in step letter: happened' in done.split("**Steps:**")[0]
    await thread.answer("approve")
    assert (await thread.question())["name"] == "resolve_unknown_outcome"
    assert mail.sent == ["Ann"]


async def test_a_new_goal_that_asks_for_the_same_write_again_is_not_asked_about():
    mail = Mail()
    thread = Thread(agent_with([mail.tool]), FREE)
    for _ in range(2):
        result = await thread.run(send("letter", "Ann"))
        assert result["status"] == "done"
    assert mail.sent == ["Ann", "Ann"]


async def test_a_new_goal_in_a_fork_is_not_asked_about_what_the_goal_before_it_did_in_the_other_branch():
    mail = Mail()
    thread = Thread(agent_with([mail.tool]), FREE)
    await thread.run(send("letter", "Ann"))
    await thread.agent.ainvoke(None, await earlier(thread, "planner"))
    await thread.answer(decide("happened", output="it is there"))
    assert mail.sent == ["Ann"]
    result = await thread.run(send("letter", "Ann"))
    assert (mail.sent, result["status"]) == (["Ann", "Ann"], "done")


async def test_a_fork_of_an_earlier_goal_asks_about_what_later_goals_did():
    mail = Mail()
    thread = Thread(agent_with([mail.tool]), FREE)
    await thread.run(send("letter", "Ann"))
    first = await earlier(thread, "__start__")
    await thread.run(send("later", "Bob"))
    await thread.agent.ainvoke({"plan": plan(send("edited", "Bob"))}, first)
    assert (await thread.question())["args"]["step_id"] == "edited"
    assert mail.sent == ["Ann", "Bob"]


# --- plans that nobody has taken in ------------------------------------------------------


@pytest.mark.parametrize("follows_up", [False, True])
async def test_an_update_past_the_planner_leads_back_to_it(follows_up):
    mail = Mail()
    thread = Thread(agent_with([mail.tool]), FREE)
    if follows_up:
        await thread.run(send("before", "Ann"))
    new = {"goal": "the goal", "plan": plan(send("letter", "Bob")), "inputs": {}}
    await thread.agent.aupdate_state(thread.config, new, as_node="dispatcher")
    result = await thread.send(None)
    assert (result["status"], statuses(result)) == ("done", {"letter": "done"})
    assert mail.sent == (["Ann", "Bob"] if follows_up else ["Bob"])


# --- lists that change -------------------------------------------------------------------


def mail_to_each(names):
    """A step that lists names, and a loop that sends a letter to each; the names may be changed."""
    mail = Mail()

    def listed() -> list[str]:
        """List the names."""
        return list(names)

    steps = bound("names", "listed"), send("each", "${item}", "names", for_each="${names}")
    return mail, Thread(agent_with([mail.tool, make_tool(listed)]), FREE), steps


async def test_an_item_that_moved_in_its_list_is_asked_about_before_its_write_is_made_again():
    names = ["Ann", "Bob"]
    mail, thread, steps = mail_to_each(names)
    mail.stuck.add("Bob")
    await cut_off(thread, mail, *steps)
    names.reverse()
    await retry_steps(thread.agent, thread.config, ["names"])
    await thread.send(None)
    while await thread.questions():
        ids = [question.id for question in await thread.questions()]
        await thread.answer({one: decide("happened", output="it is there") for one in ids})
    assert sorted(mail.sent) == ["Ann", "Bob"]
    assert statuses((await thread.agent.aget_state(thread.config)).values)["each"] == "done"


async def test_a_list_that_holds_a_value_twice_sends_twice_also_after_a_kill():
    mail, thread, steps = mail_to_each(["Ann", "Ann", "Bob"])
    mail.stuck.add("Bob")
    thread.context = Context(approval="never", max_parallel=1)
    await cut_off(thread, mail, *steps)
    await thread.send(None)
    assert (await thread.question())["args"]["tool_args"] == {"to": "Bob"}
    result = await thread.answer(decide("happened", output="it is there"))
    assert (mail.sent, result["status"]) == (["Ann", "Ann", "Bob"], "done")


# --- questions that come again -----------------------------------------------------------


async def test_a_step_that_was_rejected_and_ordered_again_is_asked_about_again():
    mail = Mail()
    thread = Thread(agent_with([mail.tool]), FREE)
    await thread.run(send("letter", "Ann", approve=True))
    await thread.answer({"type": "reject", "message": "not now"})
    await retry_steps(thread.agent, thread.config)
    await thread.send(None)
    assert (await thread.question())["name"] == "approve_step"
    result = await thread.answer("approve")
    assert (mail.sent, result["status"]) == (["Ann"], "done")


async def test_an_approval_of_a_step_is_for_the_values_that_were_shown():
    names, mail = ["Ann"], Mail()
    mail.stuck.add("Ann")

    def name() -> str:
        """Give the name."""
        return names[0]

    thread = Thread(agent_with([mail.tool, make_tool(name)]), FREE)
    await thread.run(bound("who", "name"), send("letter", "${who}", "who", approve=True))
    await thread.agent.aupdate_state(thread.config, {"goal": "the goal"}, as_node="dispatcher")
    names[0] = "Bob"
    await thread.send(None)
    before = (await thread.questions())[0].id
    await retry_steps(thread.agent, thread.config, ["who"])
    await thread.send(None)
    (question,) = await thread.questions()
    assert "Bob" in question.value["action_requests"][0]["description"]
    assert question.id != before


async def test_a_budget_that_ended_a_run_is_asked_about_again_when_its_steps_are_ordered_again():
    mail = Mail()
    thread = Thread(agent_with([mail.tool]), Context(approval="never", max_tool_calls=4, soft_share=0.2))
    await thread.run(send("one", "Ann"), send("two", "Bob", "one"))
    ended = await thread.answer(decide("finish"))
    assert ended["status"] == "partial"
    await retry_steps(thread.agent, thread.config, ["two"])
    await thread.send(None)
    assert (await thread.question())["name"] == "extend_budget"
    result = await thread.answer(decide("extend", by=10))
    assert (mail.sent, result["status"]) == (["Ann", "Bob"], "done")


# --- calls within calls ------------------------------------------------------------------


async def test_a_tool_whose_agent_calls_it_again_does_not_wait_for_itself():
    asked, agents = [], []

    async def research(topic: str) -> str:
        """Research a topic."""
        asked.append(topic)
        if len(asked) > 1:
            return "found"
        steps = plan(bound("deeper", "research", {"topic": topic}))
        inner = await agents[0].ainvoke({"plan": steps}, context=FREE)
        return inner["results"]["deeper"]["output"]

    agents.append(agent_with([make_tool(research, effect="write")]))
    thread = Thread(agents[0], FREE)
    result = await asyncio.wait_for(thread.run(bound("first", "research", {"topic": "tea"})), 60)
    assert (result["results"]["first"]["output"], asked) == ("found", ["tea", "tea"])


# --- records that died -------------------------------------------------------------------


async def test_a_write_that_was_to_run_again_without_a_record_is_asked_about_when_it_is_cut_off_again():
    mail, saver = Mail(), InMemorySaver()
    mail.stuck.add("Ann")
    first = Thread(agent_with([mail.tool], checkpointer=saver, store=None), FREE)
    await cut_off(first, mail, send("letter", "Ann"))
    thread = Thread(agent_with([mail.tool], checkpointer=saver, store=None))
    thread.config = first.config
    await thread.send(None)
    (before,) = await thread.questions()
    mail.stuck.add("Ann")
    mail.got_stuck.clear()
    again = asyncio.create_task(thread.answer(decide("run_again")))
    await asyncio.wait_for(mail.got_stuck.wait(), 60)
    again.cancel()
    with pytest.raises(asyncio.CancelledError):
        await again
    await thread.send(None)
    (question,) = await thread.questions()
    assert question.id != before.id
    assert mail.sent == ["Ann", "Ann"]


async def test_a_run_that_goes_back_to_an_earlier_goal_asks_about_the_doubts_of_the_later_one():
    mail = Mail()
    thread = Thread(agent_with([mail.tool]), FREE)
    await thread.run(send("letter", "Ann"))
    fork = await earlier(thread, "dispatcher")
    mail.stuck.add("Bob")
    await cut_off(thread, mail, send("other", "Bob"))
    await thread.agent.ainvoke(None, fork)
    assert (await thread.question())["args"]["tool_args"] == {"to": "Bob"}
    result = await thread.answer(decide("happened", output="it is there"))
    assert (mail.sent, result["status"], statuses(result)) == (["Ann", "Bob"], "done", {"letter": "done"})
