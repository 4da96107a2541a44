"""What a plan would do is shown before it runs: dry runs, validate, and pictures of plans."""

import xml.dom.minidom

TOOLS = ("--tools", "mytools:ALL")


def test_a_plan_file_runs_when_it_is_named_alone(cli):
    done = cli("run", "read.yaml", *TOOLS, "--input", "what=milk")
    assert done.code == 0, done.err
    assert cli.calls == ["look milk", "look x"]
    assert cli("run", "nosuch.yaml").err.startswith("Error: nosuch.yaml: cannot be read")
    assert "needs a model" in cli("run", "mend the file config.yaml").err


def test_a_dry_run_shows_steps_effects_questions_and_an_estimate_and_runs_nothing(cli):
    done = cli("run", "write.yaml", *TOOLS, "--dry-run")
    assert done.code == 0, done.err
    for said in (
        '  a     [read] look({"q": "tea"})',
        '  └─ w  [write] note({"text": "${a.found}"})',
        "May change the world: w",
        "before anything runs, whether this plan may run: w may write",
        "2 tool calls",
    ):
        assert said in done.out
    assert cli.calls == []
    assert not (cli.folder / "threads.db").exists()


def test_a_dry_run_takes_the_settings_and_earlier_runs_into_account(cli):
    assert "You would be asked nothing." in cli("run", "write.yaml", *TOOLS, "--dry-run", "--yes").out
    cli("run", "write.yaml", *TOOLS, "--yes")
    told = cli("run", "write.yaml", *TOOLS, "--dry-run", "--json", "--on-failure", "ask").json
    assert told["estimate"]["samples"] == 2
    assert told["writes"] == ["w"]
    assert told["asks"][1:] == ["a: what to do, if it fails", "w: what to do, if it fails"]
    assert [step["effects"] for step in told["steps"]] == [["read"], ["write"]]


def test_a_dry_run_of_a_plan_that_cannot_run_says_why(cli):
    done = cli("run", "bad.yaml", *TOOLS, "--dry-run")
    assert (done.code, done.out) == (2, "")
    assert "did you mean 'look'?" in done.err


def test_validate_shows_the_same_below_its_findings(cli):
    done = cli("validate", "ask.yaml", *TOOLS)
    assert (done.code, done.out.splitlines()[0]) == (0, "ask.yaml: valid")
    assert "what: What shall be looked up?" in done.out
    assert "a: whether its call may be made" in done.out
    without = cli("validate", "write.yaml")
    assert "Effects: not known without the tools" in without.err
    assert "before anything runs, if one of its tools writes" in without.err
    assert cli("validate", "bad.yaml", "--json").json["preview"] is None


def test_graph_draws_the_plan_of_a_file_and_of_a_thread(cli, terminal):
    picture = cli("graph", "wide.yaml").out
    assert picture.startswith("flowchart TD")
    assert 's3["○ after"]' in picture
    assert "s2 --> s3" in picture
    cli.run_plan("fail.yaml", "--on-failure", "abort")
    assert cli("graph", "t", "--format", "text").out.splitlines() == [
        "✓ a",
        "✗ f  this fails",
        "└─ ⊘ after",
    ]
    window = terminal("graph", "wide.yaml")
    window.expect("└─ ○ after (also after left)")
    assert window.wait() == 0


def test_graph_writes_an_svg_that_needs_nothing_else(cli):
    done = cli("graph", "wide.yaml", "-o", "wide.svg")
    assert done.code == 0, done.err
    svg = xml.dom.minidom.parse(str(cli.folder / "wide.svg")).documentElement
    assert svg.getAttribute("xmlns") == "http://www.w3.org/2000/svg"
    assert "--text: #1c2128" in svg.getElementsByTagName("style")[0].firstChild.data
    names = [text.firstChild.data for text in svg.getElementsByTagName("text")]
    assert {"a", "left", "right", "after"} <= set(names)
    assert cli("graph", "wide.yaml", "-o", "wide.svg").code == 2
    assert cli("graph", "wide.yaml", "-o", "wide.svg", "--force").code == 0


def test_graph_refuses_what_it_cannot_draw(cli):
    assert cli("graph", "nosuch").code == 2
    assert cli("graph", "--format", "svg").code == 2
    assert cli("graph", "read.yaml", "-o", "x.png").code == 2
