"""Commands about threads that exist: list, show, history, retry, cancel; and the picture."""

import asyncio
import json
from dataclasses import replace

from postgres_server import schema_of

from plan_execute import create_plan_execute_agent, local_persistence, postgres_persistence
from plan_execute.threads.queue import Queue, QueuedThread
from plan_execute.threads.submission import queue_of


def test_list_names_threads_newest_first_with_status_and_goal(cli):
    cli.run_plan("read.yaml")
    cli("run", "--plan", "write.yaml", "--tools", "mytools:ALL", "--thread", "second")
    lines = cli("list").out.splitlines()
    assert [line.split()[0] for line in lines] == ["second", "t"]
    assert "waiting" in lines[0]
    assert "write a thing down" in lines[0]
    found = cli("list", "--json", "--limit", "1").json
    assert [thread["status"] for thread in found["threads"]] == ["waiting"]
    assert found["more"] == 1


def test_list_can_be_limited_to_some_statuses(cli):
    cli.run_plan("read.yaml")
    cli("run", "--plan", "write.yaml", "--tools", "mytools:ALL", "--thread", "second")
    cli("run", "--plan", "read.yaml", "--tools", "mytools:ALL", "--thread", "third")

    def named(*words):
        found = cli("list", "--json", *words).json
        return [thread["thread"] for thread in found["threads"]], found["more"]

    assert named("--status", "done") == (["third", "t"], 0)
    assert named("--status", "waiting") == (["second"], 0)
    assert named("--status", "done,waiting") == (["third", "second", "t"], 0)
    assert named("--status", "waiting", "--status", "done", "--limit", "2") == (["third", "second"], 1)
    assert named("--status", "done", "--limit", "1") == (["third"], 1)
    none = cli("list", "--status", "failed")
    assert (none.code, none.out, none.err.strip()) == (0, "", "No thread matches.")


def test_list_refuses_an_unknown_status_and_names_the_known(cli):
    for words in ("dnoe", "done,dnoe"):
        refused = cli("list", "--status", words)
        assert refused.code == 2
        assert "'dnoe'" in refused.err
        for status in ("done", "failed", "partial", "planning", "rejected", "running", "waiting", "queued"):
            assert status in refused.err


def test_list_without_a_database_is_empty_and_makes_none(cli):
    done = cli("list", "--json")
    assert (done.code, done.json) == (0, {"threads": [], "more": 0})
    assert not (cli.folder / "threads.db").exists()


def test_show_gives_status_the_state_of_every_step_and_the_answer(cli):
    cli.run_plan("fail.yaml", "--on-failure", "abort")
    text = cli("show", "t").out
    assert "Status: partial" in text
    assert "✓ a [done, met]" in text
    assert "✗ f: this fails [failed] — look raised RuntimeError: no such thing" in text
    assert "– after (after f) [blocked]" in text
    assert "The run ended before everything was done." in text


def test_show_of_a_waiting_thread_gives_the_question_and_what_is_done_already(cli):
    cli.run_plan("fail.yaml", "--on-failure", "ask")
    text = cli("show", "t").out
    assert "Status: waiting" in text
    assert "✓ a [done, met]" in text
    assert "handle_step_failure" in text
    state = cli("show", "t", "--json").json
    assert state["status"] == "waiting"
    assert state["results"]["a"]["status"] == "done"
    assert [question["name"] for question in state["questions"]] == ["handle_step_failure"]
    assert state["messages"][0]["content"] == "fail"


def test_history_prints_every_decision_in_order(cli):
    cli.run_plan("write.yaml")
    cli("resume", "t", "--approve", "--tools", "mytools:ALL")
    events = [event["event"] for event in cli("history", "t", "--json").json["audit"]]
    assert events[:2] == ["plan_accepted", "plan_approved"]
    assert events[-1] == "finished"
    text = cli("history", "t").out
    assert text.index("plan_accepted") < text.index("plan_approved") < text.index("finished")
    assert "by person" in text


def test_history_prints_what_a_person_answered_to_a_step_that_asks(cli):
    (cli.folder / "ask.yaml").write_text("steps:\n- id: colour\n  ask: {question: Which colour?}\n")
    cli("run", "--plan", "ask.yaml", "--thread", "t")
    assert cli("resume", "t", "--answer", "green").code == 0
    [answered] = [one for one in cli("history", "t", "--json").json["audit"] if one["event"] == "answered"]
    assert (answered["step_id"], answered["by"]["kind"]) == ("colour", "person")
    assert "green" in answered["evidence"][0]
    assert "A question to you" in cli("history", "t").out


def test_looking_at_a_thread_that_is_not_there_exits_2_and_makes_no_database(cli):
    for command in ("show", "history", "cancel", "retry"):
        done = cli(command, "nope", "--json")
        assert (done.code, done.json["error"]["code"]) == (2, "thread_not_found"), command
    assert not (cli.folder / "threads.db").exists()


def test_retry_runs_failed_steps_and_what_depends_on_them_again_and_nothing_else(cli):
    assert cli.run_plan("fail.yaml", "--on-failure", "abort").code == 4
    (cli.folder / "mended").touch()
    done = cli("retry", "t", "--tools", "mytools:ALL")
    assert done.code == 0, done.err
    assert "Again: f, after" in done.err
    assert sorted(cli.calls) == ["look bad", "look bad", "look bad", "look tea"]


def test_retry_of_a_chosen_step_runs_it_again_though_it_succeeded(cli):
    cli.run_plan("read.yaml")
    done = cli("retry", "t", "--step", "b", "--tools", "mytools:ALL")
    assert done.code == 0, done.err
    assert cli.calls == ["look tea", "look x", "look x"]
    unknown = cli("retry", "t", "--step", "zzz", "--tools", "mytools:ALL")
    assert unknown.code == 2
    assert "a, b" in unknown.err


def test_cancel_ends_a_waiting_thread_with_a_report(cli):
    cli.run_plan("fail.yaml", "--on-failure", "ask")
    done = cli("cancel", "t", "--json")
    assert done.code == 0
    assert done.json == {"thread": "t", "cancel": "cancelled", "status": "partial"}
    assert cli("cancel", "t").code == 1


def test_cancel_stops_a_run_of_another_process(cli):
    process = cli.start("run", "--plan", "long.yaml", "--tools", "mytools:ALL", "--thread", "t", "--json")
    try:
        cli.wait_for_call("slow")
        assert cli("cancel", "t", "--json").json["cancel"] == "requested"
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 4
    assert json.loads(out)["status"] == "partial"


def test_a_cancelled_run_names_its_write_in_doubt_and_resume_asks_about_it(cli):
    (cli.folder / "stall.yaml").write_text(
        "goal: g\nsteps: [{id: w, call: {tool: stall, args: {seconds: 60}}}]\n"
    )
    tools = ("--tools", "mytools:ALL")
    process = cli.start("run", "--plan", "stall.yaml", *tools, "--thread", "t", "--yes")
    cli.wait_for_call("stall")
    process.kill()
    process.communicate()
    assert cli("cancel", "t").code == 0
    doubt = "May have happened"
    assert doubt in cli("show", "t").out
    assert cli("report", "t", "-o", "report.html").code == 0
    assert doubt in (cli.folder / "report.html").read_text()
    asked = cli("resume", "t", *tools, "--json")
    assert (asked.code, asked.json["questions"][0]["name"]) == (3, "resolve_unknown_outcome")
    told = '{"decision": "happened", "output": "changed"}'
    assert cli("resume", "t", *tools, "--answer", told).code == 1
    shown = cli("show", "t").out
    assert doubt not in shown
    assert "stall" in shown
    assert "in step w: happened" in shown
    assert cli.calls == ["stall"]


def test_graph_prints_a_mermaid_picture_of_every_node(cli):
    picture = cli("graph").out
    assert "graph TD" in picture
    nodes = [
        "planner",
        "validator",
        "approval",
        "dispatcher",
        "executor",
        "evaluator",
        "replanner",
        "synthesizer",
    ]
    assert [node for node in nodes if f"{node}({node})" not in picture] == []
    assert cli("graph", "--json").json["mermaid"].strip() == picture.strip()


def test_a_thread_that_the_workers_have_given_up_says_so_and_why_until_a_new_goal_abandons_it(cli):
    address = cli.env["PLAN_EXECUTE_DB"] = schema_of(cli.folder)
    cli("run", "--plan", "write.yaml", "--tools", "mytools:ALL", "--thread", "t", "--queue")
    assert "Status: queued" in cli("show", "t").out
    assert "waits for a worker with the tools" in cli("show", "t").out

    async def park():
        async with postgres_persistence(address) as (saver, store):
            queue = await queue_of(create_plan_execute_agent(None, checkpointer=saver, store=store))
            await queue.put(replace(await queue.get("t"), parked="its worker died 5 times", attempts=5))

    asyncio.run(park())
    shown = cli("show", "t").out
    assert "Status: parked\n        its worker died 5 times\n" in shown
    found = cli("show", "t", "--json").json
    assert (found["status"], found["reason"]) == ("parked", "its worker died 5 times")
    again = ("run", "--plan", "read.yaml", "--tools", "mytools:ALL", "--thread", "t", "--queue")
    assert cli(*again).code == 1
    done = cli(*again, "--abandon")
    assert (done.code, cli("show", "t", "--json").json["status"]) == (0, "queued"), done.err
    assert cli("worker", "--tools", "mytools:ALL", "--until-idle").code == 0
    assert cli.calls == ["look tea", "look x"]
    assert "reason" in cli("show", "t", "--json").json


def test_a_file_has_no_queue_and_what_an_older_version_queued_there_says_what_to_do(cli):
    refused = cli("run", "--plan", "read.yaml", "--tools", "mytools:ALL", "--queue")
    assert refused.code == 2
    assert "plan-execute serve" in refused.err
    cli.run_plan("write.yaml")

    async def queue_as_before():
        async with local_persistence(cli.folder / "threads.db") as (_, store):
            await Queue(store, None).note(QueuedThread("t"))

    asyncio.run(queue_as_before())
    shown = cli("show", "t", "--json").json
    assert shown["status"] == "queued"
    assert "plan-execute resume" in shown["reason"]
    assert cli("list", "--json", "--status", "queued").json["threads"][0]["reason"] == shown["reason"]


def test_a_new_goal_can_abandon_the_run_that_waits_on_its_thread(cli):
    cli.run_plan("write.yaml")
    assert cli.run_plan("read.yaml").code == 1
    done = cli.run_plan("read.yaml", "--abandon")
    assert done.code == 0
    assert cli("show", "t", "--json").json["status"] == "done"
