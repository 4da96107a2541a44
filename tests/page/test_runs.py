"""Runs are started, answered, ended and gone on with in the page, and nothing is lost when it is killed."""

import html
import json
import re

from served_page import HOSTILE, PLANS, text_of


def test_a_plan_runs_when_it_was_approved(page):
    page.start().signed_in()
    path = page.begin("write")
    shown = page.wait_for_status(path, "waiting")
    assert page.calls == []
    assert page.post(page.question(shown), {"type": "approve"}).status_code == 303
    page.wait_for_status(path, "done")
    assert page.calls == ["look tea", "note some tea"]


def test_what_waits_stands_in_the_inbox_until_it_is_answered(page):
    page.start().signed_in()
    assert "Nothing waits for you." in page.get("/")
    first, second = page.begin("ask"), page.begin("write")
    for path in (first, second):
        page.wait_for_status(path, "waiting")
    inbox = page.wait("/", lambda shown: shown.count("<article") == 2)
    assert inbox.index("What shall be looked up?") < inbox.index("May this plan run?"), "oldest first"
    assert "<title>(2) Inbox</title>" in inbox
    where = next(one for one in re.findall(r'action="([^"]+)"', inbox) if one.startswith(first))
    answer = page.post(where, {"type": "respond", "choice": "milk", "back": "inbox"})
    assert answer.headers["location"] == "/"
    page.wait_for_status(first, "done")
    assert page.calls == ["look milk"]
    assert page.get("/").count("<article") == 1


def test_a_rejection_has_words(page):
    page.start().signed_in()
    path = page.begin("write")
    where = page.question(page.wait_for_status(path, "waiting"))
    page.post(where, {"type": "reject", "message": "not today"})
    shown = page.wait_for_status(path, "rejected")
    assert "not today" in text_of(shown)
    assert page.calls == []


def test_a_failed_step_is_decided_about(page):
    page.start().signed_in()
    path = page.begin("fails")
    where = page.question(page.wait_for_status(path, "waiting"))
    offered = page.get(where.partition("/answers/")[0])
    assert 'value="retry"' in offered
    assert 'value="patch"' not in offered, "there is no model to write one"
    page.post(where, {"type": "decide", "decision": "supply", "output": '{"found": 7}'})
    page.wait_for_status(path, "done")
    assert '"found": 7' in text_of(page.get(f"{path}/steps/a"))


def test_an_answer_that_does_not_fit_is_explained_and_kept(page):
    page.start().signed_in()
    path = page.begin("ask")
    where = page.question(page.wait_for_status(path, "waiting"))
    refused = page.post(where, {"type": "respond", "choice": "coffee"})
    assert refused.status_code == 422
    assert "'coffee' is none of the choices: tea, milk" in text_of(refused.text)
    assert page.question(page.get(path)) == where, "the question is still open"


def test_an_edit_that_cannot_run_shows_the_line_and_keeps_the_text(page):
    page.start().signed_in()
    path = page.begin("write")
    where = page.question(page.wait_for_status(path, "waiting"))
    assert "text: some tea" in text_of(page.get(f"{where}/edit"))
    edited = "goal: g\nsteps:\n  - id: a\n    call: {tool: lok, args: {q: my own text}}\n"
    for kind, code in (("check", 200), ("edit", 422)):
        refused = page.post(where, {"type": kind, "edited": edited})
        assert refused.status_code == code
        said = text_of(refused.text)
        assert "the plan:4:" in said
        assert "unknown_tool" in said
        assert "my own text" in said
    assert page.post(where, {"type": "edit", "edited": "steps: ["}).status_code == 422
    edited = PLANS["write"].replace("some tea", "better tea")
    checked = page.post(where, {"type": "check", "edited": edited})
    assert checked.status_code == 200
    assert 'class="added"' in checked.text
    assert page.calls == [], "a check applies nothing"
    assert page.post(where, {"type": "edit", "edited": edited}).status_code == 303
    page.wait_for_status(path, "done")
    assert page.calls == ["look tea", "note better tea"]


def test_the_plan_of_a_run_that_ended_is_changed_and_gone_on_with(page):
    page.start().signed_in()
    path = page.begin("fails")
    page.post(page.question(page.wait_for_status(path, "waiting")), {"type": "decide", "decision": "abort"})
    page.wait_for_status(path, "failed")
    assert "Edit the plan" in page.get(path)
    shown = text_of(page.get(f"{path}/plan"))
    assert "q: bad" in shown
    refused = page.post(f"{path}/plan", {"type": "edit", "edited": PLANS["fails"].replace("look,", "lok,")})
    assert refused.status_code == 422
    edited = PLANS["fails"].replace("q: bad", "q: good")
    assert page.post(f"{path}/plan", {"type": "edit", "edited": edited}).status_code == 303
    page.wait_for_status(path, "done")
    assert page.calls == ["look bad", "look good", "look b"]


def test_a_plan_asks_for_its_inputs_first(page):
    page.start().signed_in()
    form = page.post("/new", {"plan": PLANS["inputs"]})
    assert form.status_code == 200
    assert 'name="input.what"' in form.text
    assert 'name="input.times" value="2"' in form.text
    refused = page.post("/new", {"plan": PLANS["inputs"], "input.what": "", "input.times": "x"})
    assert refused.status_code == 422
    assert "what" in text_of(refused.text)
    path = page.begin("inputs", **{"input.what": "tea", "input.times": "3"})
    page.wait_for_status(path, "done")
    assert page.calls == ["look tea 3"]


def test_a_goal_without_a_model_is_refused_with_all_that_was_typed(page):
    page.start().signed_in()
    refused = page.post("/new", {"goal": "conquer the world"})
    assert refused.status_code == 422
    assert "model" in text_of(refused.text)
    assert "conquer the world" in refused.text
    assert page.post("/new", {}).status_code == 422


def test_a_run_goes_on_after_the_page_was_killed(page):
    page.start().signed_in()
    path = page.begin("hold")
    page.wait_for_call("hold milk")
    assert "running" in page.wait_for_status(path, "running")
    page.kill()
    (page.folder / "go").touch()
    page.start().signed_in()
    assert "stopped, or run elsewhere" in page.get(path)
    assert path in page.get("/"), "the inbox offers to go on with it"
    assert page.post(f"{path}/go-on", {}).status_code == 303
    page.wait_for_status(path, "done")
    assert page.calls.count("look tea") == 1, "what was finished is not done again"


def test_an_answer_is_kept_though_the_page_is_killed(page):
    page.start().signed_in()
    path = page.begin("ask")
    where = page.question(page.wait_for_status(path, "waiting"))
    page.post(where, {"type": "respond", "choice": "tea"})
    page.kill()
    page.start().signed_in()
    shown = page.get(path)
    if "stopped, or run elsewhere" in shown:
        page.post(f"{path}/go-on", {})
    page.wait_for_status(path, "done")
    assert {*page.calls} == {"look tea"}, "a read that was cut off is made again; the answer is the one given"


def test_a_running_run_can_be_ended(page):
    page.start().signed_in()
    path = page.begin("hold")
    page.wait_for_call("hold milk")
    assert page.post(f"{path}/cancel", {}).status_code == 303
    (page.folder / "go").touch()
    page.wait(path, lambda shown: "End this run" not in shown)
    assert "look milk" not in page.calls
    assert page.post(f"{path}/cancel", {}).status_code == 422


def test_what_failed_can_be_run_again(page):
    page.start().signed_in()
    path = page.begin("fails")
    where = page.question(page.wait_for_status(path, "waiting"))
    page.post(where, {"type": "decide", "decision": "abort"})
    page.wait_for_status(path, "failed")
    (page.folder / "mended").touch()
    assert "Retry what failed" in page.get(path)
    page.post(f"{path}/retry", {})
    page.wait_for_status(path, "done")
    assert page.calls == ["look bad", "look bad", "look b"]


def test_runs_are_found_by_status_and_words(page):
    page.start().signed_in()
    held, asked = page.begin("hold"), page.begin("ask")
    page.wait_for_status(asked, "waiting")
    page.wait_for_status(held, "running")
    assert asked in page.get("/runs?status=waiting")
    assert held not in page.get("/runs?status=waiting")
    assert held in page.get("/runs?q=WORD+for")
    assert asked not in page.get("/runs?q=WORD+for")
    assert "No run matches." in page.get("/runs?q=nothing+like+this")
    assert asked in page.get("/runs?started=1h")
    assert "No run matches." in page.get("/runs?cost=0.01"), "nothing has a price"
    assert "is no cost: write a number" in page.get("/runs?cost=cheap")
    assert "is not a length of time" in page.get("/runs?started=soon")
    assert asked in page.get("/runs?started=999999999999d"), "longer than there are years"


def test_what_is_not_there_is_said(page):
    page.start().signed_in()
    assert page.client.get("/runs/none").status_code == 404
    path = page.begin("ask")
    page.wait_for_status(path, "waiting")
    gone = page.client.get(f"{path}/steps/none")
    assert (gone.status_code, "the steps are: a, what" in text_of(gone.text)) == (404, True)
    assert page.client.get("/static/..%2Fapp.py").status_code == 404
    answer = page.post(f"{path}/answers/0000", {"type": "approve"})
    assert (answer.status_code, "not open any more" in text_of(answer.text)) == (422, True)


def test_texts_of_plans_and_tools_stay_text(page):
    page.start().signed_in()
    path = page.begin("write")
    where = page.question(page.wait_for_status(path, "waiting"))
    page.post(where, {"type": "approve"})
    page.wait_for_status(path, "done")
    failing = page.begin("fails")
    page.wait_for_status(failing, "waiting")
    shown = [
        path,
        f"{path}/steps/a",
        f"{path}/report",
        failing,
        f"{failing}/steps/a",
        "/",
        "/runs",
        f"{path}?rest=1",
    ]
    for one in shown:
        text = page.get(one)
        assert "<script>document" not in text, one
        assert "<img" not in text, one
    assert HOSTILE in text_of(page.get(f"{path}/steps/a"))


def test_a_browser_is_told_what_changes(page):
    page.start().signed_in()
    path = page.begin("hold")
    page.wait_for_call("hold milk")
    with page.client.stream("GET", f"{path}/events") as events:
        told = ""
        for line in events.iter_lines():
            told += line
            if '"a": "done"' in told:
                (page.folder / "go").touch()
            if '"b": "done"' in told and '"stale"' in told:
                break
    assert '"h": "done"' in told
    assert HOSTILE not in told


def test_what_changed_between_a_page_and_its_events_is_told(page):
    page.start().signed_in()
    inbox = page.get("/")
    address = html.unescape(re.search(r'data-follows="([^"]+)"', inbox)[1])
    page.wait_for_status(page.begin("write"), "waiting")
    with page.client.stream("GET", address) as events:
        told = next(line for line in events.iter_lines() if line.startswith("data:"))
    news = json.loads(told.removeprefix("data:"))
    assert news == {"waiting": 1, "changed": True}
