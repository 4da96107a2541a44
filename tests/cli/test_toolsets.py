"""Built-in tools by name: each thread works in a folder of its own, or in the one that is given."""

PLAN = """
goal: write and run
steps:
  - {id: w, call: {tool: write_file, args: {path: out/a.py, text: "print('tea')"}}}
  - {id: r, depends_on: [w], call: {tool: run_command, args: {command: [python, out/a.py]}}}
  - {id: out, depends_on: [w], on_failure: skip, max_attempts: 1,
     call: {tool: read_file, args: {path: ../../threads.db}}}
"""
SETS = ("--toolset", "files", "--toolset", "command:python")


def test_each_thread_has_a_workspace_next_to_the_database_also_when_it_is_resumed(cli):
    (cli.folder / "plan.yaml").write_text(PLAN)
    asked = cli("run", "--plan", "plan.yaml", "--thread", "t", *SETS, "--json")
    assert asked.code == 3
    assert not (cli.folder / "threads.db.workspaces").exists()
    done = cli("resume", "t", "--approve", *SETS, "--json").json
    assert done["results"]["r"]["output"] == "tea\n"
    assert "outside the folder" in done["results"]["out"]["error"]["message"]
    assert (cli.folder / "threads.db.workspaces" / "t" / "out" / "a.py").read_text() == "print('tea')"
    cli("run", "--plan", "plan.yaml", "--thread", "../../x", *SETS, "--yes")
    assert len([*(cli.folder / "threads.db.workspaces").iterdir()]) == 2
    assert not (cli.folder.parent / "x").exists()


def test_the_workspace_that_is_given_is_used_and_a_hint_repeats_it(cli):
    (cli.folder / "plan.yaml").write_text(PLAN)
    (cli.folder / "here").mkdir()
    given = (*SETS, "--workspace", "here")
    asked = cli("run", "--plan", "plan.yaml", "--thread", "t", *given)
    assert "--toolset files --toolset command:python --workspace here" in asked.err
    assert cli("resume", "t", "--approve", *given).code in (0, 4)
    assert (cli.folder / "here" / "out" / "a.py").exists()
    assert not (cli.folder / "threads.db.workspaces").exists()


def test_a_set_or_a_workspace_that_is_not_there_exits_2_and_names_what_is(cli):
    (cli.folder / "plan.yaml").write_text(PLAN)
    unknown = cli("validate", "plan.yaml", "--toolset", "file")
    assert unknown.code == 2
    assert "unknown tool set 'file'; known tool sets: files, http, command:PROGRAM,…" in unknown.err
    assert "name the programs" in cli("validate", "plan.yaml", "--toolset", "command").err
    assert cli("validate", "plan.yaml", *SETS).code == 0
    missing = cli("run", "--plan", "plan.yaml", *SETS, "--workspace", "nowhere")
    assert missing.code == 2
    assert "--workspace nowhere is not a folder" in missing.err
