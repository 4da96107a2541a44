"""A real ``langgraph dev`` with the checkout's langgraph.json, as any client finds it."""

import signal

import pytest
from dev_server import ALWAYS, NEVER, bound, plan, serve

pytestmark = pytest.mark.timeout(180)


def write(text):
    return plan(bound("written", "write", args={"text": text}))


def properties(server, graph="plan_execute"):
    (assistant,) = server.client.assistants.search(graph_id=graph)
    return server.client.assistants.get_schemas(assistant["assistant_id"])["context_schema"]["properties"]


def test_both_graphs_are_served_without_a_model_or_a_key(server):
    assert {a["graph_id"] for a in server.client.assistants.search()} == {"plan_execute", "demo"}


def test_clients_learn_the_input_and_the_picture(server):
    (assistant,) = server.client.assistants.search(graph_id="plan_execute")
    schemas = server.client.assistants.get_schemas(assistant["assistant_id"])
    graph = server.client.assistants.get_graph(assistant["assistant_id"], xray=True)
    assert set(schemas["input_schema"]["properties"]) == {"goal", "messages", "plan", "inputs"}
    assert {"planner", "approval", "dispatcher", "executor"} <= {node["id"] for node in graph["nodes"]}


def test_every_setting_of_an_assistant_has_a_title_and_a_choice_names_its_values(server):
    settings = properties(server)
    assert [name for name, setting in settings.items() if not setting.get("title")] == []
    assert settings["approval"]["title"] == "Plan approval"
    assert settings["approval"]["enum"] == ["always", "writes", "never"]
    assert "replan" in settings["on_failure"]["enum"]
    assert settings["approval"]["default"] == "writes"
    assert properties(server, "demo") == settings


def test_every_choice_and_every_optional_setting_is_described(server):
    settings = properties(server)
    unclear = {name for name, setting in settings.items() if "enum" in setting or "anyOf" in setting}
    assert {"approval", "on_failure", "max_steps", "step_timeout_s"} <= unclear
    assert [name for name in unclear if not settings[name].get("description")] == []


def test_every_number_among_the_settings_has_a_lower_bound(server):
    numbers = {
        name: number
        for name, setting in properties(server).items()
        for number in setting.get("anyOf", [setting])
        if number.get("type") in ("integer", "number")
    }
    assert {"max_parallel", "max_attempts", "max_replans", "max_tokens", "step_timeout_s"} <= set(numbers)
    assert [name for name, n in numbers.items() if not {"minimum", "exclusiveMinimum"} & set(n)] == []
    assert (numbers["max_parallel"]["minimum"], numbers["max_parallel"]["maximum"]) == (1, 1000)


def test_the_instructions_are_marked_for_the_nodes_whose_prompts_they_change(server):
    (assistant,) = server.client.assistants.search(graph_id="plan_execute")
    picture = server.client.assistants.get_graph(assistant["assistant_id"])
    marked = properties(server)["instructions"]["langgraph_nodes"]
    assert {"planner", "replanner"} <= set(marked) <= {node["id"] for node in picture["nodes"]}


def test_a_setting_out_of_its_bounds_is_refused_by_name(server):
    bad = [{"max_parallel": 0}, {"approval": "sometimes"}, {"models": {"poet": "x"}}]
    told = server.at_once(
        lambda context=context: server.refusal(server.new_thread(), **_with(context)) for context in bad
    )
    for message, name in zip(told, ["max_parallel", "approval", "models"], strict=True):
        assert message.startswith(f"ConfigurationError: bad context: {name}")


def _with(context):
    return {"input": write("never written"), "context": context}


def test_the_demo_runs_to_its_end(server):
    thread = server.new_thread()
    result = server.run(thread, "demo", input={"goal": "Release the project"}, context=NEVER)
    assert result["status"] == "done", result.get("final_answer")
    assert result["results"]
    assert {step["status"] for step in result["results"].values()} == {"done"}


def test_the_demo_asks_before_it_writes_and_goes_on_when_a_person_has_said_yes(server):
    thread = server.new_thread()
    server.run(thread, "demo", input={"goal": "Release the project"})
    assert server.question(thread)["name"] == "approve_plan"
    answer = {"resume": {"decisions": [{"type": "approve"}]}}
    assert server.run(thread, "demo", command=answer)["status"] == "done"


def test_in_chat_mode_a_human_message_starts_a_run_and_the_answer_is_an_ai_message(server):
    thread, said = server.new_thread(), []
    for text in ("Release it, please", "And once more"):
        messages = {"messages": [{"role": "user", "content": text}]}
        said = server.run(thread, "demo", input=messages, context=NEVER)["messages"]
    assert [message["type"] for message in said] == ["human", "ai", "human", "ai"]
    assert [said[0]["content"], said[2]["content"]] == ["Release it, please", "And once more"]
    assert "is released" in said[3]["content"] == server.values(thread)["final_answer"]


def test_input_that_is_no_goal_is_refused_with_what_is_wrong_and_nothing_is_left_open(server):
    bad = {
        "the goal is empty": {"goal": " "},
        "the goal must be text, not int": {"goal": 5},
        "unknown input 'gaol'; known inputs: goal": {"gaol": "x"},
        "messages cannot be read": {"messages": [{"text": "no role"}]},
        "not list": ["goal"],
        "inputs must be a mapping": {"goal": "x", "inputs": [1]},
    }
    threads = [server.new_thread() for _ in bad]
    told = server.at_once(
        lambda thread=thread, given=given: server.refusal(thread, input=given)
        for thread, given in zip(threads, bad.values(), strict=True)
    )
    for message, expected in zip(told, bad, strict=True):
        assert message.startswith("InvalidInputError: ")
        assert expected in message
    assert [server.questions(thread) for thread in threads] == [[]] * len(bad)


def test_a_goal_without_a_model_fails_with_the_reason_and_the_server_goes_on(server):
    told = server.refusal(server.new_thread(), input={"goal": "Plan my week"})
    assert told.startswith("MissingModelError: planning a goal needs a model, but none is configured")
    assert server.run(server.new_thread(), input=write("after"), context=NEVER)["status"] == "done"


def test_a_plan_that_needs_approval_is_refused_where_nobody_can_be_asked(server):
    run = server.client.runs.wait(
        None, "plan_execute", input=write("unasked"), context=ALWAYS, raise_error=False
    )
    assert run["__error__"]["error"] == "ApprovalImpossibleError"
    assert server.calls("unasked") == []


def test_the_log_holds_no_warning_of_ours_and_no_blocking_call(server):
    assert "Starting queue" in server.log
    assert server.complaints() == []


def test_the_server_stops_when_told(server):
    assert server.stop(signal.SIGINT) in (0, 130, -signal.SIGINT)
    assert "Traceback" not in server.log.rpartition("Shutting down")[2]


def test_the_servers_detector_of_blocking_calls_is_on_and_a_tool_that_blocks_fails(tmp_path):
    with serve(tmp_path / "app", "--no-reload") as server:
        thread = server.new_thread()
        blocking = bound("held", "block", args={"text": "x"}, on_failure="ask", max_attempts=1)
        server.run(thread, input=plan(blocking), context=NEVER)
        error = server.question(thread)["args"]["error"]
        assert error["code"] == "tool_failed"
        assert "Blocking call to time.sleep" in error["message"]
