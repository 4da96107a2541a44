"""Runs are started, answered, ended and gone on with in the page, and nothing is lost when it is killed."""

import html
import json
import re
from getpass import getuser

from served_page import HOSTILE, PLANS, text_of

from plan_execute import Context, create_plan_execute_agent, local_persistence


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
    assert "'coffee' is not one of the choices: tea, milk" in text_of(refused.text)
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


def where_to(page, path, question):
    """Give where the answer to a question of a run goes, once it is asked."""
    cards = page.wait(path, lambda shown: question in shown).split("<article")
    return re.search('action="([^"]+/answers/[^"]+)"', next(card for card in cards if question in card))[1]


def test_questions_are_answered_while_other_steps_run(page):
    page.start().signed_in()
    path = page.begin("meanwhile")
    page.wait_for_call("hold milk")
    what, who = where_to(page, path, "What shall be"), where_to(page, path, "For whom?")
    assert page.post(what, {"type": "respond", "choice": "coffee"}).status_code == 422
    assert "Other steps still run" in text_of(page.get(path))
    assert page.post(what, {"type": "respond", "choice": "milk"}).status_code == 303
    assert text_of(page.get(path)).count("Your answer is kept.") == 1
    assert page.get("/").count("<article") == 1, "what is answered waits for nobody"
    assert page.post(what, {"type": "respond", "choice": "tea"}).status_code == 303, "it may be changed"
    assert page.post(who, {"type": "respond", "message": "eve"}).status_code == 303
    assert page.calls == ["hold milk"]
    (page.folder / "go").touch()
    page.wait_for_status(path, "done")
    assert page.calls == ["hold milk", "look tea for eve"]


def test_what_somebody_may_not_decide_is_refused_while_other_steps_run(page):
    policy = page.folder / "policy.json"
    policy.write_text('{"approvers": [{"who": ["eve"], "question": "ask_person"}]}')
    page.variables["PLAN_EXECUTE_POLICY"] = str(policy)
    page.start("--auth", "mytools:authenticate")
    page.client.headers["X-User"] = "eve"
    path = page.begin("meanwhile")
    page.wait_for_call("hold milk")
    where = where_to(page, path, "For whom?")
    page.client.headers["X-User"] = "bob"
    refused = page.post(where, {"type": "reject", "message": "no"})
    assert (refused.status_code, "bob may not decide this" in text_of(refused.text)) == (422, True)
    assert "Your answer is kept." not in page.get(path)


def test_an_answer_that_was_kept_is_asked_for_again_when_the_page_was_killed(page):
    page.start().signed_in()
    path = page.begin("meanwhile")
    page.wait_for_call("hold milk")
    page.post(where_to(page, path, "For whom?"), {"type": "reject", "message": "no"})
    where_to(page, path, "What shall be")
    page.kill()
    (page.folder / "go").touch()
    page.start().signed_in()
    assert page.wait_for_status(path, "waiting").count("<article") == 2
    assert "Your answer is kept." not in page.get(path)


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


def test_a_step_that_asks_has_its_place_in_the_page_and_in_the_report(page):
    page.start().signed_in()
    path = page.begin("ask")
    page.wait_for_status(path, "waiting")
    for shown in (page.get(f"{path}/steps/what"), page.get(f"{path}/report")):
        assert "question to a person" in shown


def test_a_run_is_stopped_and_goes_on(page):
    page.start().signed_in()
    path = page.begin("hold")
    page.wait_for_call("hold milk")
    assert page.post(f"{path}/stop", {}).status_code == 303
    assert "stopped, or run elsewhere" in page.get(path)
    assert page.post(f"{path}/stop", {}).status_code == 422
    (page.folder / "go").touch()
    assert page.post(f"{path}/go-on", {}).status_code == 303
    page.wait_for_status(path, "done")
    assert page.calls.count("look tea") == 1


def test_a_write_that_was_cut_off_when_the_run_was_stopped_is_asked_about(page):
    page.start().signed_in()
    path = page.begin("slow write", approval="never")
    page.wait_for_call("slow_note tea")
    page.post(f"{path}/stop", {})
    page.post(f"{path}/go-on", {})
    shown = page.wait(path, lambda shown: 'value="run_again"' in shown)
    assert "The call still goes on" in text_of(shown), "a blocking tool cannot be cut off"
    page.post(page.question(shown), {"type": "decide", "decision": "happened", "output": "noted"})
    page.wait_for_status(path, "done")
    assert page.calls == ["slow_note tea"]


def test_the_plan_of_a_run_is_changed_while_it_runs(page):
    page.start().signed_in()
    path = page.begin("hold")
    page.wait_for_call("hold milk")
    page.wait(path, lambda shown: 'data-fact="done">1 of 3<' in shown)
    assert "the run is stopped for it" in text_of(page.get(f"{path}/plan"))
    cannot = PLANS["hold"].replace("q: tea", "q: coffee")
    for kind, code in (("check", 200), ("edit", 422)):
        refused = page.post(f"{path}/plan", {"type": kind, "edited": cannot})
        assert (refused.status_code, "done_step_changed" in text_of(refused.text)) == (code, True)
    page.wait_for_status(path, "running")
    edited = PLANS["hold"].replace("tool: hold", "tool: look").replace("q: milk", "q: oats")
    assert page.post(f"{path}/plan", {"type": "edit", "edited": edited}).status_code == 303
    page.wait_for_status(path, "done")
    assert page.calls == ["look tea", "hold milk", "look oats", "look oats"]


def test_a_finished_step_runs_again_while_its_run_goes_on(page):
    page.start().signed_in()
    path = page.begin("hold")
    page.wait_for_call("hold milk")
    page.wait(path, lambda shown: 'data-fact="done">1 of 3<' in shown)
    assert "Stop, and run this step again" in page.get(f"{path}/steps/a")
    assert page.post(f"{path}/retry", {"step": "a"}).status_code == 409, "not without stopping it"
    (page.folder / "go").touch()
    assert page.post(f"{path}/retry", {"step": "a", "stop": "1"}).status_code == 303
    page.wait_for_status(path, "done")
    assert page.calls.count("look tea") == 2


def test_a_second_click_asks_before_a_write_is_made_again(page):
    page.start().signed_in()
    path = page.begin("write", approval="never")
    page.wait_for_status(path, "done")
    ended = re.search('name="ended" value="([^"]+)"', page.get(f"{path}/steps/w"))[1]
    for status in ("done", "waiting"):
        assert page.post(f"{path}/retry", {"step": "w", "ended": ended}).status_code == 303
        shown = page.wait_for_status(path, status)
    assert page.calls.count("note some tea") == 2
    where = page.question(shown)
    page.post(where, {"type": "decide", "decision": "happened", "output": "noted"})
    page.wait_for_status(path, "done")
    assert page.calls.count("note some tea") == 2


def test_a_step_is_edited_in_its_form_and_skipped(page):
    page.start().signed_in()
    path = page.begin("fails")
    page.post(page.question(page.wait_for_status(path, "waiting")), {"type": "decide", "decision": "abort"})
    page.wait_for_status(path, "failed")
    link = re.search('href="([^"]+/plan[^"]+)"', page.get(f"{path}/steps/a"))[1]
    form = page.get(link)
    was = html.unescape(re.search('id="was" value="([^"]+)"', form)[1])
    text = html.unescape(re.search("<textarea[^>]*edited[^>]*>\n([^<]*)", form)[1])
    fields = {f"f.{name}": value for name, value in json.loads(was).items()}
    given = {"edited": text, "shown": "a", "step": "a", "was": was, **fields, "f.skip": "yes"}
    checked = page.post(f"{path}/plan", {**given, "type": "check"})
    assert "`false`" in re.search("<textarea[^>]*edited[^>]*>([^<]*)", checked.text)[1]
    assert page.post(f"{path}/plan", {**given, "type": "edit"}).status_code == 303
    page.wait_for_status(path, "done")
    assert page.calls == ["look bad", "look b"]


def moments(page, path):
    """List the moments of a run: what happened, and the address that shows it as it was."""
    shown = page.client.get(f"{path}?moment=last", follow_redirects=True).text
    listed = shown.partition('class="moments"')[2].partition("</ol>")[0]
    return [
        (text_of(words), html.unescape(href))
        for href, words in re.findall('<a href="([^"]+)"[^>]*>(.*?)</a>', listed)
    ]


def at(page, path, words):
    return next(href for said, href in moments(page, path) if words in said)


def test_a_run_is_seen_as_it_was(page):
    page.start().signed_in()
    path = page.begin("write")
    page.post(page.question(page.wait_for_status(path, "waiting")), {"type": "approve"})
    page.wait_for_status(path, "done")
    said = [words for words, _ in moments(page, path)]
    me = getuser()
    assert [words.split(" (")[0] for words in said] == [
        "The goal was given",
        "The plan is valid",
        f"The plan was approved by {me}",
        "a done",
        "w done",
        "The run was evaluated: continue",
        "The run ended: done",
    ]
    shown = page.get(at(page, path, "a done"))
    assert "As it was" in shown
    assert 'data-fact="done">1 of 2<' in shown
    assert "Written by" in shown
    assert "<form" not in shown.replace('<form id="find"', "").replace('<form method="get"', "")
    step = at(page, path, "a done").replace("?", "/steps/w?")
    assert "noted" not in page.get(step)
    assert "noted" in page.get(at(page, path, "w done").replace("?", "/steps/w?"))
    assert 'data-fact="done">0 of 2<' in page.get(at(page, path, "The goal was given"))
    assert "Back to now" in shown
    assert page.client.get(f"{path}?moment=2").headers["location"] == at(page, path, "The plan is valid")


def test_what_happens_now_is_part_of_the_history(page):
    page.start().signed_in()
    path = page.begin("hold")
    page.wait_for_call("hold milk")
    page.wait(path, lambda shown: 'data-fact="done">1 of 3<' in shown)
    assert moments(page, path)[-1][0] == "a done"
    (page.folder / "go").touch()
    page.wait_for_status(path, "done")
    assert "b done" in [words for words, _ in moments(page, path)]


def test_a_moment_that_is_not_there_is_refused(page):
    page.start().signed_in()
    path = page.begin("ask")
    page.wait_for_status(path, "waiting")
    for query in ("moment=0", "moment=99", "moment=" + "9" * 5000, "moment=x", "at=1f0", "at=", "at=%27"):
        answer = page.client.get(f"{path}?{query}")
        assert (answer.status_code, "moment" in text_of(answer.text)) == (422, True), query
    assert page.client.get("/runs/none?moment=1").status_code == 404


def test_a_run_goes_on_from_an_earlier_moment(page):
    page.start().signed_in()
    path = page.begin("ask")
    where = page.question(page.wait_for_status(path, "waiting"))
    page.post(where, {"type": "respond", "choice": "tea"})
    page.wait_for_status(path, "done")
    asked = at(page, path, "The plan is valid")
    fork = re.search('href="([^"]+/fork[^"]+)"', page.get(asked))[1]
    said = text_of(page.get(html.unescape(fork)))
    assert "Kept, and not run again: a, what." in said
    assert "You are asked before a write is repeated" in said
    assert page.post(f"{path}/fork", {"at": asked.partition("?at=")[2]}).status_code == 303
    page.wait_for_status(path, "done")
    assert page.calls == ["look tea"], "what is finished is not done again"
    words = [words for words, _ in moments(page, path)]
    assert words.count("The run ended: done") == 2
    assert [word for word in words if word.startswith("Kept from before: ")] == ["Kept from before: a, what"]
    assert "on a branch that was left behind" in page.get(at(page, path, "a done"))


def test_a_write_is_asked_about_before_a_run_from_an_earlier_moment_makes_it_again(page):
    page.start().signed_in()
    path = page.begin("write")
    page.post(page.question(page.wait_for_status(path, "waiting")), {"type": "approve"})
    page.wait_for_status(path, "done")
    given = at(page, path, "The goal was given").partition("?at=")[2]
    assert "A new plan is written first." in page.get(f"{path}/fork?at={given}")
    page.post(f"{path}/fork", {"at": given})
    page.post(
        page.question(page.wait(path, lambda shown: "May this plan run?" in shown)), {"type": "approve"}
    )
    where = page.question(page.wait(path, lambda shown: 'value="run_again"' in shown))
    page.post(where, {"type": "decide", "decision": "happened", "output": "noted"})
    page.wait_for_status(path, "done")
    assert page.calls.count("note some tea") == 1


def test_no_run_goes_on_from_its_end_or_while_it_runs(page):
    page.start().signed_in()
    done = page.begin("two")
    page.wait_for_status(done, "done")
    end = at(page, done, "The run ended").partition("?at=")[2]
    assert "/fork" not in page.get(at(page, done, "The run ended"))
    assert page.client.get(f"{done}/fork?at={end}").status_code == 422
    path = page.begin("hold")
    page.wait_for_call("hold milk")
    valid = at(page, path, "The plan is valid").partition("?at=")[2]
    assert page.post(f"{path}/fork", {"at": valid}).status_code == 409
    asked = page.client.get(f"{path}/fork?at={valid}")
    assert (asked.status_code, "stop it" in text_of(asked.text)) == (409, True)


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
    assert "is not a cost: write a number" in page.get("/runs?cost=cheap")
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


IDS = ["a/report", "a/events", "a/steps/b", "runs", "..", ".", "a b/ü", "100%", "a%2Fb", "/", "x?at=1#y"]


def test_a_thread_may_have_any_id(page):
    with local_persistence(page.folder / "t.db") as (checkpointer, store):
        agent = create_plan_execute_agent(None, tools=[tea], checkpointer=checkpointer, store=store)
        for thread in IDS:
            plan = {"goal": f"of {thread}", "steps": [{"id": "b", "call": {"tool": "tea", "args": {}}}]}
            config = {"configurable": {"thread_id": thread}}
            agent.invoke({"plan": plan}, config, context=Context(approval="never"))
    page.start().signed_in()
    links = {html.unescape(one) for one in re.findall(r'href="(/runs/[^"]+)"', page.get("/runs"))}
    found = {html.unescape(re.search("<h1[^>]*>of (.*?)</h1>", page.get(link))[1]): link for link in links}
    assert {*found} == {*IDS}
    for thread, link in found.items():
        assert f"of {thread}" in html.unescape(page.get(f"{link}/report"))
        assert "some tea" in page.get(f"{link}/steps/b")
        follows = html.unescape(re.search('data-follows="([^"]+)"', page.get(link))[1])
        with page.client.stream("GET", follows) as events:
            assert '"b": "done"' in next(line for line in events.iter_lines() if line.startswith("data:"))


def tea() -> str:
    """Give tea."""
    return "some tea"
