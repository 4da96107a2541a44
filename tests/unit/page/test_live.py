"""What browsers are told of a run: the last word about each step, and when a page must be loaded again."""

import asyncio

from langchain_core.messages import AIMessageChunk

from plan_execute.page.live import Live, Watch

SPENT = {"model_calls": 0, "total_tokens": 0, "tool_calls": 1, "seconds": 0.5}


def event(kind, step_id=None, within=(), **more):
    return {"type": kind, "step_id": step_id, "within": list(within), "spent": SPENT, **more}


async def told(live, *events):
    watch = Watch()
    live.watches.add(watch)
    for one in events:
        live.hear(one)
    return await asyncio.wait_for(anext(watch.news()), 10)


async def test_a_browser_is_told_the_last_word_about_each_step_at_once():
    news = await told(
        Live(),
        event("step_started", "a"),
        event("step_started", "b"),
        event("tool_call", "b", tool="look"),
        event("step_finished", "a", status="done", verdict="met"),
    )
    assert news["steps"] == {"a": "done", "b": "running"}
    assert news["now"] == ["b (calls look)"]
    assert news["spent"] == SPENT
    assert "stale" not in news


async def test_steps_of_a_sub_plan_are_the_work_of_their_step():
    news = await told(
        Live(),
        event("step_started", "outer"),
        event("step_finished", "inner", within=["outer"], status="failed", verdict=None),
        event("plan_validated", within=["outer"]),
    )
    assert news["steps"] == {"outer": "running"}
    assert "stale" not in news


async def test_a_step_that_asks_waits_and_the_page_is_loaded_again():
    live = Live()
    news = await told(live, event("step_started", "a"), event("question_open", "a"))
    assert news["steps"] == {"a": "waiting"}
    assert news["stale"] == {"rest": True}
    assert live.version == 1


def test_a_stored_state_is_told_as_far_as_it_differs():
    live, watch = Live(), Watch()
    live.watches.add(watch)
    plan = {"id": "p", "revision": 1}
    done = {"status": "done", "verdict": "met"}
    live.see({"plan": plan, "results": {"a": done, "b": {"status": "failed", "verdict": None}}}, [])
    assert live.version == 0, "what is seen first is what the page shows"
    live.see({"plan": plan, "results": {"a": done}}, [])
    assert live.outcomes == {"a": "done"}
    assert live.version == 0
    live.see({"plan": plan | {"revision": 2}, "results": {"a": done}}, [])
    assert live.version == 1


def words_of(*pieces, node="synthesizer"):
    live = Live()
    for message, text in pieces:
        live.hear_words(AIMessageChunk(text, id=message), {"langgraph_node": node})
    return live.words


def test_the_answer_is_told_as_it_is_written_without_what_a_model_thinks():
    assert words_of(("1", "<think>hm")) == ""
    assert words_of(("1", "<think>hm"), ("1", "</think> It is"), ("1", " done")) == "It is done"
    assert words_of(("1", "It is"), ("2", "Another")) == "Another", "a call that failed is made again"
    assert words_of(("1", "to myself"), node="executor") == ""


async def test_what_tools_write_into_the_stream_is_nothing_of_ours():
    live = Live()
    live.hear({"type": "step_finished", "anything": 1})
    live.hear({"no": "type"})
    assert live.outcomes == {}
