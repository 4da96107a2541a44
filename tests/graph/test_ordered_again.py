"""An order to run steps again repeats only writes that the person knew of, and asks about all others."""

from contextlib import aclosing

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from plans import FREE, Thread, agent_with, bound, plan
from toolset import make_tool

from plan_execute import Context
from plan_execute.graph.control import edit_plan, retry_steps

SKIPS = Context(approval="never", on_failure="skip", max_attempts=1)
ASKS = Context(approval="never", on_failure="ask", max_attempts=1)
NEVER_MET = [{"type": "matches", "pattern": "never"}]


class Post:
    """Sends letters; the answer to one for ``lost`` is lost."""

    def __init__(self):
        self.sent, self.lost = [], set()
        self.tools = [
            make_tool(self._send(), effect="write"),
            make_tool(self._look(), effect="read"),
        ]

    def _send(self):
        def send(to: str) -> str:
            """Send a letter."""
            self.sent.append(to)
            if to in self.lost:
                raise TimeoutError("no answer")
            return f"sent to {to}"

        return send

    def _look(self):
        def look() -> str:
            """Look at the clock."""
            return "noon"

        return look


def send(step_id, to, *after, **fields):
    return bound(step_id, "send", {"to": to}, *after, **fields)


def decide(decision, **args):
    return {"type": "edit", "args": {"decision": decision, **args}}


def thread_of(post, context=FREE, **options):
    return Thread(agent_with(post.tools, **options), context)


async def order(thread, step_ids=None, **more):
    """Order steps again, and go on."""
    await retry_steps(thread.agent, thread.config, step_ids, **more)
    return await thread.send(None)


async def moment(thread, *, before):
    """Return the config of the newest checkpoint before an event, from which executors run."""
    history = [one async for one in thread.agent.aget_state_history(thread.config)]
    orders = [
        len([event for event in one.values.get("audit") or () if event["event"] == before]) for one in history
    ]
    return next(
        one.config for one, made in zip(history, orders, strict=True) if not made and "executor" in one.next
    )


async def asked_about(thread):
    """Return which step is about to make which call again."""
    question = await thread.question()
    assert question["name"] == "resolve_unknown_outcome"
    return question["args"]["step_id"], question["args"]["tool_args"]


# --- what an order names -----------------------------------------------------------------


@pytest.mark.parametrize("named", [True, False])
async def test_an_order_asks_about_a_write_that_counts_as_failed_and_may_have_happened(named):
    post = Post()
    post.lost.add("Ann")
    thread = thread_of(post, SKIPS)
    await thread.run(send("letter", "Ann"))
    await order(thread, ["letter"] if named else None)
    assert await asked_about(thread) == ("letter", {"to": "Ann"})
    await thread.answer(decide("happened", output="it is there"))
    assert post.sent == ["Ann"]


async def test_an_order_repeats_a_finished_write_if_it_names_its_step():
    post = Post()
    thread = thread_of(post)
    steps = bound("clock", "look"), send("letter", "Ann", "clock"), send("other", "Bob", "letter")
    await thread.run(*steps)
    await order(thread, ["clock", "letter"])
    assert (post.sent, await asked_about(thread)) == (["Ann", "Bob", "Ann"], ("other", {"to": "Bob"}))
    result = await thread.answer(decide("happened", output="it is there"))
    assert (result["status"], post.sent) == ("done", ["Ann", "Bob", "Ann"])


async def test_a_loop_that_needs_a_step_that_is_ordered_again_asks_about_each_write():
    post = Post()
    thread = thread_of(post)
    each = send("each", "${item}", "clock", for_each="${inputs.names}")
    await thread.run(bound("clock", "look"), each, inputs={"names": {"default": ["Ann", "Bob"]}})
    await order(thread, ["clock"])
    asked = await thread.questions()
    assert [one.value["action_requests"][0]["args"]["tool_args"]["to"] for one in asked] == ["Ann", "Bob"]
    result = await thread.answer({one.id: decide("happened", output="there") for one in asked})
    assert (result["status"], post.sent) == ("done", ["Ann", "Bob"])
    await order(thread, ["each"])
    assert sorted(post.sent) == ["Ann", "Ann", "Bob", "Bob"]


async def test_a_write_that_was_made_in_several_attempts_is_asked_about_once():
    post = Post()
    thread = thread_of(post)
    await thread.run(bound("clock", "look"), send("letter", "Ann", "clock"))
    await order(thread, ["letter"])
    await order(thread, ["clock"])
    await asked_about(thread)
    result = await thread.answer(decide("run_again"))
    assert (result["status"], post.sent) == ("done", ["Ann"] * 3)


async def test_an_order_for_all_that_failed_asks_about_a_write_whose_output_was_not_good_enough():
    post = Post()
    thread = thread_of(post, SKIPS)
    await thread.run(send("letter", "Ann", success_criteria=NEVER_MET))
    await order(thread)
    await asked_about(thread)
    await thread.answer(decide("fail"))
    assert post.sent == ["Ann"]


async def test_an_order_of_somebody_who_has_not_seen_the_end_of_the_step_asks():
    post = Post()
    thread = thread_of(post)
    first = await thread.run(send("letter", "Ann"))
    seen = {"letter": first["results"]["letter"]["finished_at"]}
    await order(thread, ["letter"], seen=seen)
    assert post.sent == ["Ann", "Ann"]
    await order(thread, ["letter"], seen=seen)
    await asked_about(thread)
    assert post.sent == ["Ann", "Ann"]


# --- orders that were left behind --------------------------------------------------------


async def test_an_order_that_a_fork_leaves_behind_repeats_nothing_without_a_question():
    post = Post()
    thread = thread_of(post)
    await thread.run(send("letter", "Ann"))
    await retry_steps(thread.agent, thread.config, ["letter"])
    fork = await moment(thread, before="steps_retried")
    await thread.agent.ainvoke(None, fork)
    assert (post.sent, await asked_about(thread)) == (["Ann"], ("letter", {"to": "Ann"}))
    await thread.answer(decide("happened", output="it is there"))
    await order(thread, ["letter"])
    assert post.sent == ["Ann", "Ann"], "an order in this branch counts"


class Breaking(InMemorySaver):
    """Is killed before it has stored a checkpoint."""

    broken = False

    def put(self, *args):
        if self.broken:
            raise SystemError("the process was killed")
        return super().put(*args)


EDITED = plan(send("letter", "Ann"), send("other", "Eve"))


@pytest.mark.parametrize(("change", "given"), [(retry_steps, ["letter"]), (edit_plan, EDITED)])
async def test_a_change_that_was_cut_off_leaves_the_run_as_it_was(change, given):
    post, saver = Post(), Breaking()
    thread = thread_of(post, ASKS, checkpointer=saver)
    await thread.run(send("letter", "Ann"), send("other", "Bob", success_criteria=NEVER_MET))
    assert (await thread.question())["name"] == "handle_step_failure"
    saver.broken = True
    with pytest.raises(SystemError):
        await change(thread.agent, thread.config, given)
    saver.broken = False
    await thread.send(None)
    assert (await thread.question())["args"]["step_id"] == "other"
    result = await thread.answer(decide("supply", output="by hand"))
    assert (result["status"], sorted(post.sent)) == ("done", ["Ann", "Bob"])


# --- who only says yes -------------------------------------------------------------------


@pytest.mark.parametrize("looped", [False, True])
async def test_who_only_says_yes_repeats_no_write_that_has_happened(looped):
    post = Post()
    thread = thread_of(post, ASKS)
    loop = {"for_each": "${inputs.names}"} if looped else {}
    letter = send("letter", "${item}" if looped else "Ann", success_criteria=NEVER_MET, **loop)
    await thread.run(letter, inputs={"names": {"default": ["Ann"]}})
    question = await thread.question()
    assert (question["name"], question["args"]["decision"]) == ("handle_step_failure", "abort")
    assert (
        'This has happened: `send({"to": "Ann"})` [write]. `retry` makes it again.' in question["description"]
    )
    await thread.answer("approve")
    assert post.sent == ["Ann"]


async def leave_after(thread, event, given):
    """Run until an event, and stop reading."""
    async with aclosing(
        thread.agent.astream(given, thread.config, context=thread.context, stream_mode="custom")
    ) as events:
        async for one in events:
            if one["type"] == event:
                return
    raise AssertionError(f"there was no {event}")


@pytest.mark.parametrize("event", ["plan_validated", "plan_approved"])
async def test_an_order_keeps_the_plan_of_a_run_that_was_left_before_its_first_step(event):
    post = Post()
    thread = thread_of(post)
    await leave_after(thread, event, {"plan": plan(send("a", "Ann"), send("b", "Bob", "a"))})
    result = await order(thread, ["a"])
    assert (result["status"], post.sent) == ("done", ["Ann", "Bob"])


async def test_an_order_keeps_the_approval_of_a_run_that_was_left_before_its_first_step():
    post = Post()
    thread = thread_of(post, Context(approval="always"))
    await thread.run(send("a", "Ann"))
    await leave_after(thread, "plan_approved", Command(resume="approve"))
    result = await order(thread, ["a"])
    assert (result["status"], post.sent) == ("done", ["Ann"])
