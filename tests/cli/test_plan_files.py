"""Plan files on the command line: every issue with its line, and no model or database to check one."""

from pathlib import Path

import yaml


def test_an_invalid_plan_file_exits_2_with_every_issue_and_its_line_and_runs_nothing(cli):
    done = cli.run_plan("bad.yaml")
    assert (done.code, done.out) == (2, "")
    assert "bad.yaml:4:12: unknown_tool" in done.err
    assert "bad.yaml:6:18: unknown_dependency" in done.err
    assert "bad.yaml:7:31: bad_arguments" in done.err
    assert not (cli.folder / "threads.db").exists()


def test_json_gives_the_issues_of_an_invalid_plan_with_lines(cli):
    error = cli.run_plan("bad.yaml", "--json").json["error"]
    assert error["code"] == "invalid_plan"
    assert ("unknown_tool", "a", 4, 12) in {
        (i["code"], i["step_id"], i["line"], i["column"]) for i in error["issues"]
    }


def test_a_file_that_is_no_plan_exits_2_and_says_where(cli):
    (cli.folder / "broken.yaml").write_text("goal: g\nsteps: [\n")
    for command in (("validate", "broken.yaml"), ("run", "--plan", "broken.yaml")):
        done = cli(*command)
        assert done.code == 2
        assert "broken.yaml:3" in done.out + done.err
    missing = cli("run", "--plan", "missing.yaml", "--json")
    assert (missing.code, missing.json["error"]["code"]) == (2, "invalid_plan")


def test_a_plan_with_agent_steps_and_no_model_exits_2_and_names_the_ways_on(cli):
    (cli.folder / "agent.yaml").write_text("goal: g\nsteps: [{id: a, task: think, tools: []}]\n")
    done = cli("run", "--plan", "agent.yaml")
    assert done.code == 2
    assert "agent.yaml:2:30: missing_model" in done.err
    assert "--model" in done.err
    assert "plan-execute demo" in done.err
    assert cli("validate", "agent.yaml").code == 0


def test_validate_needs_no_tools_and_says_that_they_were_not_checked(cli):
    good = cli("validate", "read.yaml")
    assert (good.code, good.out) == (0, "read.yaml: valid\n")
    assert "Tools were not checked" in good.err
    bad = cli("validate", "bad.yaml", "--json")
    assert bad.code == 2
    assert [issue["code"] for issue in bad.json["issues"]] == ["unknown_dependency"]
    assert bad.json["tools_checked"] is False


def test_validate_with_tools_checks_names_and_arguments(cli):
    done = cli("validate", "bad.yaml", "--tools", "mytools:ALL", "--json")
    assert done.code == 2
    assert {"unknown_tool", "bad_arguments", "unknown_dependency"} == {i["code"] for i in done.json["issues"]}
    assert done.json["tools_checked"] is True
    assert cli("validate", "read.yaml", "--tools", "mytools:ALL").err == ""


def test_validate_without_tools_still_compares_declared_types(cli):
    (cli.folder / "types.yaml").write_text(
        yaml.safe_dump(
            {
                "goal": "g",
                "steps": [
                    {
                        "id": "a",
                        "call": {"tool": "x", "args": {}},
                        "output_schema": {"type": "object", "properties": {"n": {"type": "integer"}}},
                    },
                    {"id": "b", "call": {"tool": "y", "args": {"v": "${a.m}"}}},
                ],
            }
        )
    )
    done = cli("validate", "types.yaml", "--json")
    assert [issue["code"] for issue in done.json["issues"]] == ["type_mismatch"]


def test_validate_opens_no_database(cli):
    cli("validate", "read.yaml")
    assert not (cli.folder / "threads.db").exists()


def test_a_plan_and_its_inputs_can_come_from_the_standard_input_and_from_a_file(cli):
    (cli.folder / "values.yaml").write_text("what: 12\n")
    with (cli.folder / "bad.yaml").open() as plan:
        bad = cli("validate", "-", stdin=plan)
    assert (bad.code, "-:6:18: unknown_dependency" in bad.out) == (2, True)
    with (cli.folder / "read.yaml").open() as plan:
        wrong = cli("run", "--plan", "-", "--inputs", "values.yaml", "--tools", "mytools:ALL", stdin=plan)
    assert wrong.code == 2
    assert "  --inputs values.yaml: what: type_mismatch: input 'what' is declared as string" in wrong.err
    assert cli.calls == []
    with (cli.folder / "read.yaml").open() as plan:
        text = cli("run", "--plan", "-", "--input", "what=12", "--tools", "mytools:ALL", stdin=plan)
    assert text.code == 0, text.err
    assert cli.calls == ["look 12", "look x"]


def test_inputs_without_a_default_are_needed_by_a_run_and_no_fault_of_the_file(cli):
    plan = (cli.folder / "read.yaml").read_text().replace(", default: tea", "")
    (cli.folder / "open.yaml").write_text(plan)
    checked = cli("validate", "open.yaml", "--json")
    assert (checked.code, checked.json["valid"], checked.json["inputs_needed"]) == (0, True, ["what"])
    refused = cli("run", "--plan", "open.yaml", "--tools", "mytools:ALL")
    assert (refused.code, "open.yaml:4:3: missing_input" in refused.err) == (2, True)
    assert "Give it what is missing: --input what=…" in refused.err


def test_a_mistake_in_an_input_names_the_option_that_gave_it_and_not_the_plan(cli):
    (cli.folder / "typed.yaml").write_text(
        "goal: g\ninputs: {n: {type: integer}}\n"
        "steps: [{id: a, call: {tool: look, args: {q: '${inputs.n}'}}}]\n"
    )
    (cli.folder / "values.yaml").write_text("n: many\n")
    for options, said in (
        (("--input", "n=x"), "  --input n: type_mismatch: input 'n' is declared as integer"),
        (
            ("--input", "n=1", "--input", "m=2"),
            "  --input m: unresolved_reference: the plan has no input 'm'",
        ),
        (("--inputs", "values.yaml"), "  --inputs values.yaml: n: type_mismatch: input 'n' is declared as"),
    ):
        refused = cli.run_plan("typed.yaml", *options)
        assert (refused.code, refused.out) == (2, "")
        assert said in refused.err
        assert "typed.yaml:" not in refused.err
        checked = cli("validate", "typed.yaml", *options, "--tools", "mytools:ALL")
        assert said.strip() in checked.out
    refused = cli.run_plan("write.yaml", "--input", "k=v")
    assert (
        "  --input k: unresolved_reference: the plan has no input 'k'; it declares no inputs" in refused.err
    )


def test_the_schema_that_is_published_is_printed(cli):
    published = Path(__file__).parents[2] / "docs/plan.schema.json"
    assert cli("schema").out == published.read_text(encoding="utf-8")
