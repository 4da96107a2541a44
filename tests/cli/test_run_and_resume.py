"""Runs without a terminal: exit codes, the JSON on stdout, answers by option, going on after a stop."""

import signal
import sqlite3

import pytest


def test_a_plan_of_bound_steps_runs_without_a_model_and_exits_0(cli):
    done = cli.run_plan("read.yaml", "--input", "what=coffee")
    assert done.code == 0
    assert '{"found": "coffee"}' in done.out
    assert "Thread: t" in done.err
    assert cli.calls == ["look coffee", "look x"]


def test_json_is_exactly_one_document_on_stdout(cli):
    done = cli.run_plan("read.yaml", "--json")
    assert done.code == 0
    assert (done.json["status"], done.json["thread"]) == ("done", "t")
    assert done.json["results"]["a"]["output"] == {"found": "tea"}


def test_a_new_thread_gets_an_id_that_is_printed(cli):
    done = cli("run", "--plan", "read.yaml", "--tools", "mytools:ALL", "--json")
    assert f"Thread: {done.json['thread']}\n" in done.err
    assert cli("show", done.json["thread"]).code == 0


def test_an_input_is_json_if_it_parses_else_text(cli):
    (cli.folder / "typed.yaml").write_text(
        "goal: g\ninputs: {n: {type: integer}, s: {type: string}}\n"
        "steps: [{id: a, call: {tool: look, args: {q: '${inputs.n} ${inputs.s}'}}}]\n"
    )
    done = cli.run_plan("typed.yaml", "--input", "n=7", "--input", "s=a=NaN", "--json")
    assert done.code == 0, done.err
    assert done.json["results"]["a"]["output"] == {"found": "7 a=NaN"}


def test_without_a_terminal_a_question_is_json_and_exit_code_3(cli):
    done = cli.run_plan("write.yaml")
    assert done.code == 3
    assert set(done.json) == {"status", "thread", "questions"}
    assert (done.json["status"], done.json["thread"]) == ("waiting", "t")
    (question,) = done.json["questions"]
    assert set(question) == {"id", "name", "args", "description"}
    assert question["name"] == "approve_plan"
    assert [step["id"] for step in question["args"]["plan"]["steps"]] == ["a", "w"]
    assert "write it down" in question["description"]
    assert "plan-execute resume t --tools mytools:ALL --approve" in done.err
    assert cli.calls == []


def test_resume_approve_runs_the_plan(cli):
    cli.run_plan("write.yaml")
    done = cli("resume", "t", "--approve", "--tools", "mytools:ALL")
    assert done.code == 0, done.err
    assert cli.calls == ["look tea", "note tea"]


def test_a_rejected_plan_ends_the_run_with_exit_code_1_and_the_reason(cli):
    cli.run_plan("write.yaml")
    done = cli("resume", "t", "--reject", "too risky", "--json")
    assert done.code == 1
    assert done.json["status"] == "rejected"
    assert "too risky" in done.json["final_answer"]
    assert cli.calls == []


def test_resume_without_an_answer_prints_the_question_again(cli):
    asked = cli.run_plan("write.yaml")
    again = cli("resume", "t")
    assert (again.code, again.json) == (3, asked.json)


def test_yes_runs_writes_without_asking(cli):
    assert cli.run_plan("write.yaml", "--yes").code == 0
    assert cli.calls == ["look tea", "note tea"]


def test_yes_on_a_thread_that_was_started_without_says_that_it_does_not_count(cli):
    cli.run_plan("write.yaml")
    assert cli("resume", "t", "--tools", "mytools:ALL", "--approve").code == 0
    again = cli.run_plan("write.yaml", "--yes")
    assert again.code == 3
    assert "Approval stays 'writes'" in again.err


def test_a_failed_step_can_be_supplied_by_hand(cli):
    assert cli.run_plan("fail.yaml", "--on-failure", "ask").code == 3
    answer = '{"decision": "supply", "output": {"found": "by hand"}}'
    done = cli("resume", "t", "--answer", answer, "--tools", "mytools:ALL", "--json")
    assert done.code == 0, done.err
    assert done.json["results"]["after"]["output"] == {"found": "by hand"}
    assert cli.calls.count("look tea") == 1


def test_a_bad_answer_exits_2_and_leaves_the_question_open(cli):
    cli.run_plan("write.yaml")
    for answer in ("{}", "null", '"perhaps"', "not json"):
        done = cli("resume", "t", "--answer", answer, "--tools", "mytools:ALL")
        assert (done.code, done.out) == (2, ""), answer
    assert cli("resume", "t", "--approve", "--tools", "mytools:ALL").code == 0


def test_a_question_in_words_is_answered_in_words_and_a_call_is_confirmed_with_its_arguments(cli):
    asked = cli.run_plan("ask.yaml")
    assert (asked.code, asked.json["questions"][0]["name"]) == (3, "ask_person")
    assert cli("resume", "t", "--answer", "coffee", "--tools", "mytools:ALL").code == 2
    confirming = cli("resume", "t", "--answer", "Tea", "--tools", "mytools:ALL")
    assert confirming.json["questions"][0]["args"]["tool_args"] == {"q": "tea"}
    assert cli.calls == []
    assert cli("resume", "t", "--approve", "--tools", "mytools:ALL").code == 0
    assert cli.calls == ["look tea"]


def test_several_open_questions_need_a_choice_by_id_or_its_beginning(cli):
    first, second = cli.run_plan("fail_twice.yaml").json["questions"]
    unclear = cli("resume", "t", "--answer", '{"decision": "skip"}', "--tools", "mytools:ALL")
    assert unclear.code == 2
    assert first["id"][:8] in unclear.err
    assert second["id"][:8] in unclear.err
    skip = ("--answer", '{"decision": "skip"}', "--tools", "mytools:ALL")
    one = cli("resume", "t", "--question", first["id"][:8], *skip)
    assert one.code == 3
    assert [question["id"] for question in one.json["questions"]] == [second["id"]]
    unknown = cli("resume", "t", "--question", "ffff", *skip)
    assert unknown.code == 2
    assert cli("resume", "t", "--question", second["id"], *skip, "--json").json["status"] == "failed"


@pytest.mark.parametrize(
    ("plan", "code", "status"), [("fail.yaml", 4, "partial"), ("fail_all.yaml", 1, "failed")]
)
def test_an_incomplete_run_says_how_far_it_came(cli, plan, code, status):
    done = cli.run_plan(plan, "--on-failure", "abort", "--json")
    assert (done.code, done.json["status"]) == (code, status)


def test_ctrl_c_exits_130_and_the_command_it_names_goes_on_without_doing_anything_twice(cli):
    process = cli.start("run", "--plan", "long.yaml", "--tools", "mytools:ALL", "--thread", "t")
    cli.wait_for_call("slow")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err.endswith("Interrupted.\nGo on with: plan-execute resume t --tools mytools:ALL\n")
    again = cli.start("resume", "t", "--tools", "mytools:ALL", "--json")
    try:
        cli.wait_for_call("slow")
        while cli.calls.count("slow") < 2:
            assert again.poll() is None, again.communicate()
    finally:
        again.kill()
        again.communicate()
    assert cli.calls.count("look tea") == 1


def test_after_a_kill_the_question_about_a_call_comes_before_any_line_of_the_call(cli):
    process = cli.start(
        "run", "--plan", "stall.yaml", "--tools", "mytools:ALL", "--thread", "t", "--approval", "never"
    )
    cli.wait_for_call("stall")
    process.kill()
    process.communicate()
    tools = ("--tools", "mytools:ALL")
    asked = cli("resume", "t", *tools)
    assert asked.code == 3
    assert "? s: waits for a decision (resolve_unknown_outcome)" in asked.err
    assert "· s: stall" not in asked.err
    answered = cli("resume", "t", *tools, "--answer", '{"decision": "happened", "output": "changed"}')
    assert (answered.code, cli.calls.count("stall")) == (0, 1)
    assert "· s: stall" not in answered.err, "nothing was called"
    assert "✓ s" in answered.err


def test_a_second_runner_of_a_thread_is_told_that_it_is_busy(cli):
    process = cli.start("run", "--plan", "long.yaml", "--tools", "mytools:ALL", "--thread", "t")
    try:
        cli.wait_for_call("slow")
        done = cli("resume", "t", "--tools", "mytools:ALL", "--json")
        assert (done.code, done.json["error"]["code"]) == (1, "thread_busy")
    finally:
        process.kill()
        process.communicate()


def test_a_new_run_on_a_waiting_thread_is_refused_with_the_way_on(cli):
    cli.run_plan("write.yaml")
    done = cli.run_plan("read.yaml")
    assert done.code == 1
    assert "waits for an answer" in done.err
    assert "Go on with: plan-execute resume t" in done.err


def test_a_new_run_on_a_thread_that_has_ended_says_what_it_keeps(cli):
    first = cli.run_plan("read.yaml")
    assert "A new run begins" not in first.err
    second = cli.run_plan("read.yaml", "--input", "what=milk")
    assert second.code == 0
    assert second.err.startswith(
        "The last run of thread 't' ended as done. A new run begins: it keeps the thread's conversation and "
        "history, and no plan, results or approval.\n"
    )
    assert cli.calls == ["look tea", "look x", "look milk", "look x"]
    audit = cli("history", "t", "--json").json["audit"]
    assert [event["event"] for event in audit].count("finished") == 2


def test_resume_without_the_plans_tools_is_refused_before_a_step_can_fail(cli):
    cli.run_plan("write.yaml")
    done = cli("resume", "t", "--approve")
    assert done.code == 2
    assert "look, note" in done.err
    assert cli("show", "t", "--json").json["status"] == "waiting"


def test_resume_of_a_finished_or_unknown_thread_is_an_error(cli):
    cli.run_plan("read.yaml")
    finished = cli("resume", "t", "--tools", "mytools:ALL", "--json")
    assert (finished.code, finished.json["error"]["code"]) == (1, "nothing_to_resume")
    unknown = cli("resume", "other", "--json")
    assert (unknown.code, unknown.json["error"]["code"]) == (2, "thread_not_found")


def test_damaged_storage_is_refused_with_exit_code_1(cli):
    (cli.folder / "threads.db").write_bytes(b"no database at all" * 100)
    done = cli.run_plan("read.yaml", "--json")
    assert (done.code, done.json["error"]["code"]) == (1, "storage_damaged")
    assert cli("list").code == 1


def test_the_default_database_is_in_the_users_data_folder(cli):
    done = cli.run_plan("read.yaml", PLAN_EXECUTE_DB="", XDG_DATA_HOME=str(cli.folder / "data"))
    assert done.code == 0
    (found,) = (cli.folder / "data").rglob("*.db")
    with sqlite3.connect(found) as database:
        assert database.execute("SELECT DISTINCT thread_id FROM checkpoints").fetchall() == [("t",)]
    database.close()
