"""Answers that come while other steps run are given when these have ended, and none replaces a better one."""

import asyncio

import pytest
from langchain_core.tools import tool
from langgraph.types import interrupt

from plan_execute import Context, create_plan_execute_agent, local_persistence
from plan_execute.context import Approvers
from plan_execute.errors import NotAllowedError
from plan_execute.page.board import Board


class SlowBoard(Board):
    """Lets others act while it reads what a run that has ended asks."""

    meanwhile = None

    async def state(self, thread, checkpoint=None):
        found = await super().state(thread, checkpoint)
        if self.meanwhile is not None and not self.is_running(thread):
            act, self.meanwhile = self.meanwhile, None
            await act()
        return found


class Asking:
    """A run that holds at a step while others ask."""

    def __init__(self, persistence, *rules):
        self.go, self.paid = asyncio.Event(), []

        @tool
        async def hold() -> str:
            """Wait until the test says go."""
            await self.go.wait()
            return "held"

        @tool
        def pay(amount: int) -> str:
            """Pay if a person agrees."""
            self.paid.append(interrupt({"pay": amount}))
            return "paid"

        hold.metadata = {"effect": "read"}
        agent = create_plan_execute_agent(
            None,
            tools=[hold, pay],
            checkpointer=persistence.checkpointer,
            store=persistence.store,
            policy=Context(approvers=rules),
        )
        self.board = SlowBoard(agent, lambda _: agent, lambda *_: ({}, {}))

    async def begin(self, *amounts):
        steps = [{"id": "h", "call": {"tool": "hold", "args": {}}}]
        steps += [{"id": f"p{one}", "call": {"tool": "pay", "args": {"amount": one}}} for one in amounts]
        plan = {"goal": "pay", "steps": steps}
        thread = await self.board.start({"plan": plan}, {"approval": "never"}, "zoe")
        while len(open_ := (await self.board.state(thread)).interrupts) < len(amounts):
            await asyncio.sleep(0.02)
        return thread, {one.value["pay"]: one.id for one in open_}

    async def end(self, thread):
        while self.board.is_running(thread) or not (await self.board.state(thread)).values.get(
            "final_answer"
        ):
            await asyncio.sleep(0.02)


@pytest.fixture
def persistence(tmp_path):
    with local_persistence(tmp_path / "t.db") as found:
        yield found


async def test_a_kept_answer_is_given_though_another_comes_when_the_steps_have_just_ended(persistence):
    run = Asking(persistence)
    thread, asked = await run.begin(1, 2)
    await run.board.answer(thread, asked[1], "one", "zoe")

    async def answer_the_other():
        await run.board.answer(thread, asked[2], "two", "zoe")

    run.board.meanwhile = answer_the_other
    run.go.set()
    await run.end(thread)
    assert sorted(run.paid) == ["one", "two"]
    await run.board.close()


async def test_who_may_not_decide_what_a_tool_asks_cannot_replace_a_kept_answer(persistence):
    run = Asking(persistence, Approvers(tool="pay", who=("alice",)))
    thread, asked = await run.begin(1)
    await run.board.answer(thread, asked[1], "yes", "alice")
    with pytest.raises(
        NotAllowedError, match=r"bob may not decide this\. About the tool pay, alice may decide\."
    ):
        await run.board.answer(thread, asked[1], "no", "bob")
    run.go.set()
    await run.end(thread)
    assert run.paid == ["yes"]
    assert run.board.faults == {}
    await run.board.close()


async def test_a_kept_answer_outlives_a_stop_and_is_given_when_the_run_has_gone_on(persistence):
    run = Asking(persistence)
    thread, asked = await run.begin(1, 2)
    await run.board.answer(thread, asked[1], "one", "alice")
    await run.board.stop(thread)
    assert set(run.board.kept(thread)) == {asked[1]}
    snapshot = await run.board.snapshot(thread)
    assert [one.id for one in snapshot.interrupts] == list(asked.values())
    run.go.set()
    await run.board.go_on(thread, "zoe")
    while run.board.is_running(thread) or not run.paid:
        await asyncio.sleep(0.02)
    assert (run.paid, set(run.board.kept(thread))) == (["one"], set())
    await run.board.answer(thread, asked[2], "two", "zoe")
    await run.end(thread)
    assert run.paid == ["one", "two"]
    await run.board.close()


async def test_a_kept_answer_outlives_a_step_that_is_stopped_and_run_again(persistence):
    run = Asking(persistence)
    thread, asked = await run.begin(1)
    await run.board.answer(thread, asked[1], "one", "alice")
    run.go.set()
    await run.board.retry(thread, ["h"], "zoe", stop=True)
    await run.end(thread)
    assert run.paid == ["one"]
    await run.board.close()


async def test_a_later_answer_counts_instead_of_one_that_was_kept_before_a_stop(persistence):
    run = Asking(persistence)
    thread, asked = await run.begin(1)
    await run.board.answer(thread, asked[1], "one", "alice")
    await run.board.stop(thread)
    run.go.set()
    await run.board.answer(thread, asked[1], "other", "zoe")
    await run.end(thread)
    assert (run.paid, set(run.board.kept(thread)), run.board.faults) == (["other"], set(), {})
    await run.board.close()


async def test_an_answer_is_kept_though_the_run_that_takes_it_is_stopped_at_once(persistence):
    run = Asking(persistence)
    run.go.set()
    thread, asked = await run.begin(1)
    while run.board.is_running(thread):
        await asyncio.sleep(0.02)
    answering = asyncio.create_task(run.board.answer(thread, asked[1], "yes", "zoe"))
    while not run.board.is_running(thread):
        await asyncio.sleep(0)
    stopping = asyncio.create_task(run.board.stop(thread))
    await asyncio.gather(answering, stopping, return_exceptions=True)
    answering.result()
    assert asked[1] not in {one.id for one in (await run.board.state(thread)).interrupts}
    await run.board.close()
