"""Plans that are kept between runs of the program: hits, what is shown of them, kills, listing, clearing."""

import asyncio
import contextlib
import json
import re
import sqlite3
import time

import pytest
from openai_stub import OpenAIStub, Reply, asks_for_plan

from plan_execute import local_persistence
from plan_execute.storage.plan_cache import CachedPlan, CachedPlans

READS = [("a", "look", {"q": "tea"})]
WRITES = [("a", "look", {"q": "tea"}), ("w", "note", {"text": "${a.found}"})]
SLOW = [("a", "look", {"q": "tea"}), ("s", "slow", {"seconds": 1.5}), ("f", "look", {"q": "bad"})]


def drafted(steps):
    return {
        "outcome": "plan",
        "rationale": "because",
        "steps": [
            {
                "id": step_id,
                "task": f"do {step_id}",
                "depends_on": [steps[number - 1][0]] if number else [],
                "call": tool,
                "arguments": json.dumps(arguments),
                "tools": [],
                "success_criterion": None,
            }
            for number, (step_id, tool, arguments) in enumerate(steps)
        ],
    }


class Endpoint:
    """A model behind HTTP that writes one plan whenever it is asked for one, and counts."""

    def __init__(self, steps):
        self.steps, self.planned = steps, 0

    def __call__(self, body):
        forced = [tool["function"]["name"] for tool in body.get("tools") or ()]
        if not (forced or asks_for_plan(body)):
            return Reply("Here you are.")
        self.planned += 1
        draft = drafted(self.steps)
        return Reply(content=None, tool_calls=[(forced[0], draft)]) if forced else Reply.json(draft)


@pytest.fixture
def work(cli):
    """Give a function that runs a goal with a cache, and the endpoint, by the steps of its plan."""
    with contextlib.ExitStack() as stack:

        def start(steps=READS):
            endpoint = Endpoint(steps)
            stub = stack.enter_context(OpenAIStub(endpoint))
            cli.env |= {"PLAN_EXECUTE_MODEL": "openai:stub", "PLAN_EXECUTE_BASE_URL": stub.base_url}
            cli.env |= {"PLAN_EXECUTE_TOOLS": "mytools:ALL"}
            return endpoint

        yield start


def test_the_second_run_of_a_goal_asks_no_planner_and_says_so(cli, work):
    endpoint = work()
    first = cli("run", "make tea", "--cache", "--thread", "first")
    second = cli("run", "make  tea", "--cache", "--json")
    assert (first.code, second.code, endpoint.planned) == (0, 0, 1)
    assert "plan cache" not in first.err
    hit = r"from the plan cache: it worked in thread first, \d+ seconds? ago"
    assert re.search(f"● plan {hit}; the planner was not asked: a\n", second.err)
    assert re.search(f"1 of 1 steps done · plan {hit} · 1 model call", second.err)
    assert re.fullmatch(hit, second.json["recalled"])
    shown = cli("show", second.json["thread"])
    assert "Plan (revision 1, from the plan cache: it worked in thread first" in shown.out
    assert "plan_recalled" in cli("history", second.json["thread"]).out


def test_a_hit_waits_for_approval_and_its_question_says_that_it_is_one(cli, work):
    endpoint = work(WRITES)
    assert cli("run", "make tea", "--cache", "--yes").code == 0
    asked = cli("run", "make tea", "--cache", "--thread", "t")
    assert asked.code == 3
    assert "This plan is from the plan cache" in asked.json["questions"][0]["description"]
    assert cli.calls == ["look tea", "note tea"]
    assert cli("resume", "t", "--approve").code == 0
    assert endpoint.planned == 1


@pytest.mark.slow
def test_a_run_that_goes_on_in_a_process_without_the_option_keeps_its_plan_all_the_same(cli, work):
    endpoint = work(WRITES)
    assert cli("run", "make tea", "--cache", "--thread", "t").code == 3
    assert cli("cache", "list", "--json").json == {"plans": []}
    assert cli("resume", "t", "--approve").code == 0
    assert cli("run", "make tea", "--cache", "--yes", "--json").json["recalled"]
    assert endpoint.planned == 1


def test_a_hit_that_a_person_rejects_is_dropped_in_whatever_process(cli, work):
    work(WRITES)
    cli("run", "make tea", "--cache", "--yes")
    assert cli("run", "make tea", "--cache", "--thread", "t").code == 3
    assert cli("resume", "t", "--reject", "").code == 1
    assert cli("cache", "list", "--json").json == {"plans": []}


@pytest.mark.slow
def test_a_hit_whose_run_was_killed_and_failed_after_that_is_dropped(cli, work):
    endpoint = work(SLOW)
    (cli.folder / "mended").write_text("")
    assert cli("run", "make tea", "--cache").code == 0
    (cli.folder / "mended").unlink()
    (cli.folder / "calls.txt").unlink()
    process = cli.start("run", "make tea", "--cache", "--thread", "t", "--on-failure", "abort")
    cli.wait_for_call("slow")
    process.kill()
    process.communicate()
    (kept,) = cli("cache", "list", "--json").json["plans"]
    assert kept["hits"] == 1
    done = cli("resume", "t", "--json")
    assert (done.code, done.json["status"], endpoint.planned) == (4, "partial", 1)
    assert cli("cache", "list", "--json").json == {"plans": []}
    assert "cached_plan_dropped" in cli("history", "t").out


@pytest.mark.slow
def test_a_run_that_was_killed_before_its_end_keeps_its_plan_when_it_ends(cli, work):
    endpoint = work(SLOW)
    (cli.folder / "mended").write_text("")
    process = cli.start("run", "make tea", "--cache", "--thread", "t")
    cli.wait_for_call("slow")
    process.kill()
    process.communicate()
    assert cli("resume", "t").code == 0
    assert cli("run", "make tea", "--cache", "--json").json["recalled"]
    assert endpoint.planned == 1


@pytest.mark.slow
def test_processes_that_prove_the_same_plan_at_once_leave_one_entry(cli, work):
    endpoint = work()
    processes = [cli.start("run", "make tea", "--cache") for _ in range(3)]
    for process in processes:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    assert len(cli("cache", "list", "--json").json["plans"]) == 1
    before = endpoint.planned
    assert cli("run", "make tea", "--cache").code == 0
    assert endpoint.planned == before


@pytest.mark.slow
def test_namespaces_do_not_see_each_other(cli, work):
    endpoint = work()
    for tenant in ("ada", "bob"):
        assert cli("run", "make tea", "--cache", "--cache-namespace", tenant).code == 0
    assert endpoint.planned == 2
    (entry,) = cli("cache", "list", "--namespace", "ada", "--json").json["plans"]
    assert entry["namespace"] == "ada"
    assert cli("cache", "clear", "--all", "--namespace", "ada").out == "1 plan cleared.\n"
    assert [entry["namespace"] for entry in cli("cache", "list", "--json").json["plans"]] == ["bob"]


def test_a_plan_expires(cli, work):
    endpoint = work()
    for _ in range(2):
        cli("run", "make tea", "--cache", "--cache-ttl", "0.01s")
    assert endpoint.planned == 2
    (entry,) = cli("cache", "list", "--json").json["plans"]
    assert entry["expires_in_s"] < 0
    assert "expired" in cli("cache", "list").out


def test_the_environment_can_say_that_plans_are_kept(cli, work):
    endpoint = work()
    cli.env |= {"PLAN_EXECUTE_CACHE": "2h", "PLAN_EXECUTE_CACHE_NAMESPACE": "ada"}
    for _ in range(2):
        assert cli("run", "make tea").code == 0
    (entry,) = cli("cache", "list", "--json").json["plans"]
    assert (endpoint.planned, entry["namespace"]) == (1, "ada")
    assert 7000 < entry["expires_in_s"] <= 7200
    assert cli("run", "make tea", "--no-cache").code == 0
    assert endpoint.planned == 2
    assert cli.run_plan("read.yaml").code == 0, "a given plan has no use for it"


def keep(cli, *goals, seconds=3600.0):
    """Keep plans of goals, as runs an hour ago would have."""

    async def act():
        async with local_persistence(cli.folder / "threads.db") as (_, store):
            for goal in goals:
                then = time.time() - 3600
                steps = [{"id": "a", "task": "think", "tools": []}]
                entry = CachedPlan(goal, {"steps": steps}, "stub", "t1", then, then + 3600 + seconds)
                await CachedPlans(store, "default").keep(goal, entry, max_entries=100)
            await CachedPlans(store, "default").count_hit(goals[0])

    asyncio.run(act())


def test_the_list_says_goal_age_expiry_steps_hits_and_thread(cli):
    keep(cli, "make\n tea", seconds=1e6)
    out = cli("cache", "list").out
    assert out.startswith("make tea\n")
    for fact in ("1 step ", "1 hour old", "expires in 11 days", "used 1 time ", "from thread t1"):
        assert fact in out
    (entry,) = cli("cache", "list", "--json").json["plans"]
    assert (entry["goal"], entry["steps"], entry["hits"], entry["thread"]) == ("make\n tea", 1, 1, "t1")
    assert [step["id"] for step in entry["plan"]["steps"]] == ["a"]


@pytest.mark.slow
def test_plans_are_cleared_by_goal_by_age_and_all(cli):
    keep(cli, "make tea", "make coffee", seconds=1000)
    keep(cli, "make haste", seconds=-1)
    assert cli("cache", "clear", "--goal", "make  coffee").out == "1 plan cleared.\n"
    assert cli("cache", "clear", "--goal", "unknown", "--json").json == {"cleared": 0}
    assert cli("cache", "clear", "--expired", "--json").json == {"cleared": 1}
    assert [e["goal"] for e in cli("cache", "list", "--json").json["plans"]] == ["make tea"]
    assert cli("cache", "clear", "--all", "--json").json == {"cleared": 1}
    empty = cli("cache", "list")
    assert (empty.code, empty.out, empty.err) == (0, "", "No plans are kept.\n")


@pytest.mark.slow
def test_entries_that_cannot_be_read_are_listed_and_cleared(cli):
    keep(cli, "make tea")
    with contextlib.closing(sqlite3.connect(cli.folder / "threads.db")) as connection, connection:
        newer = json.dumps({"json": '{"format": 99}'})
        done = connection.execute(
            "UPDATE store SET value = ? WHERE prefix LIKE 'plan_execute.cached_plans.%'", (newer,)
        )
        assert done.rowcount == 1
    assert "(unreadable: it has the format 99" in cli("cache", "list").out
    assert cli("cache", "list", "--json").json["plans"][0]["problem"].startswith("it has the format 99")
    assert cli("cache", "clear", "--goal", "make tea", "--json").json == {"cleared": 0}
    assert cli("cache", "clear", "--all", "--json").json == {"cleared": 1}


def test_before_anything_ran_there_is_nothing_to_list_or_clear(cli):
    assert cli("cache", "list", "--json").json == {"plans": []}
    assert cli("cache", "clear", "--all").out == "0 plans cleared.\n"
    assert not (cli.folder / "threads.db").exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("run", "g", "--cache-ttl", "7d"), "--cache"),
        (("run", "g", "--cache-namespace", "x"), "--cache"),
        (("run", "g", "--cache", "--cache-ttl", "soon"), "soon"),
        (("run", "g", "--cache", "--cache-ttl", "0d"), "0d"),
        (("run", "--plan", "read.yaml", "--cache"), "--cache"),
        (("cache", "clear"), "--goal"),
        (("cache", "clear", "--all", "--expired"), "--all"),
        (("cache",), "command"),
        (("cache", "empty"), "empty"),
    ],
)
def test_options_that_say_nothing_clear_are_refused(cli, arguments, named):
    done = cli(*arguments)
    assert (done.code, done.out) == (2, "")
    assert named in done.err
