"""Nobody sees or does anything but who was let in, from the page's own forms."""

import subprocess
from getpass import getuser

import httpx
import pytest
from served_page import PLANS, text_of


def test_only_the_printed_address_lets_in_and_only_once(program):
    program.start()
    assert program.client.get("/").status_code == 401
    assert program.client.get("/?token=guessed").status_code == 401
    answer = program.client.get(program.printed)
    cookie = answer.headers["set-cookie"]
    assert answer.status_code == 303
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert program.client.get("/").status_code == 200
    program.client.cookies.clear()
    assert program.client.get(program.printed).status_code == 401
    assert program.client.get("/runs").status_code == 401


@pytest.mark.parametrize(
    "path", ["/", "/runs", "/new", "/events", "/runs/x", "/runs/x/events", "/static/board.js"]
)
def test_no_address_answers_without_the_cookie(shared, path):
    assert httpx.get(shared.address + path).status_code == 401


def test_a_server_of_another_name_is_refused(shared):
    """Else any name that leads to this machine could read the page (DNS rebinding)."""
    assert shared.client.get("/", headers={"Host": "evil.example"}).status_code == 400
    port = shared.address.rpartition(":")[2]
    assert shared.client.get("/", headers={"Host": f"evil.example:{port}"}).status_code == 400


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "", "http://127.0.0.1:1", "http://["])
def test_a_form_of_another_page_changes_nothing(shared, origin):
    answer = shared.post("/new", {"plan": "goal: x\nsteps: []"}, headers={"Origin": origin})
    assert answer.status_code == 403


def test_a_form_without_its_token_changes_nothing(shared):
    for fields in ({}, {"form_token": "0" * 64}, {"form_token": "é"}):
        answer = shared.client.post("/new", data={"goal": "x", **fields})
        assert answer.status_code == 403, fields
    assert "There is" not in shared.get("/runs")
    assert "0 runs" in shared.get("/runs")


def test_read_only_shows_all_and_changes_nothing(page):
    page.start().signed_in()
    path = page.begin("write")
    waiting = page.wait_for_status(path, "waiting")
    where = page.question(waiting)
    page.stop()
    page.start("--read-only").signed_in()
    shown = page.get(path)
    assert "May this plan run?" in shown
    assert "<form" not in shown.replace('<form id="find"', "")
    for target in (
        "/new",
        where,
        f"{path}/cancel",
        f"{path}/go-on",
        f"{path}/retry",
        f"{path}/stop",
        f"{path}/fork",
    ):
        assert page.client.post(target, data={"type": "approve"}).status_code == 403
    assert page.calls == []


def test_every_answer_forbids_scripts_of_others(shared):
    for path in ("/", "/runs", "/new", "/static/board.js"):
        headers = shared.client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"


def test_others_reach_it_only_with_auth(page):
    done = subprocess.run(
        page.command("--host", "0.0.0.0"), cwd=page.folder, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert "--auth MODULE:FUNCTION" in done.stderr


def test_auth_says_who_may(page):
    page.start("--auth", "mytools:authenticate")
    assert "token" not in page.printed
    refused = page.client.get("/")
    assert (refused.status_code, refused.headers["www-authenticate"][:5]) == (401, "Basic")
    page.client.headers["X-User"] = "eve"
    assert page.client.get("/").status_code == 200
    path = page.begin("hold")
    page.client.headers["X-User"] = "mallory"
    assert page.client.get(path).status_code == 401


def test_what_is_decided_in_the_page_is_of_whom_auth_names(page):
    page.start("--auth", "mytools:authenticate")
    page.client.headers["X-User"] = "eve"
    path = page.begin("write")
    where = page.question(page.wait_for_status(path, "waiting"))
    assert page.post(where, {"type": "approve"}).status_code == 303
    assert "by person eve" in text_of(page.wait_for_status(path, "done"))


def test_what_is_decided_behind_the_printed_address_is_of_the_user_of_the_system(page):
    page.start().signed_in()
    path = page.begin("write")
    where = page.question(page.wait_for_status(path, "waiting"))
    assert page.post(where, {"type": "reject", "message": "not today"}).status_code == 303
    assert f"by person {getuser()}" in text_of(page.wait_for_status(path, "rejected"))


def test_the_rules_about_who_decides_hold_in_the_page(page):
    policy = page.folder / "policy.json"
    policy.write_text('{"approvers": [{"who": ["eve"], "effect": "write"}]}')
    page.variables["PLAN_EXECUTE_POLICY"] = str(policy)
    page.start().signed_in()
    path = page.begin("write")
    where = page.question(page.wait_for_status(path, "waiting"))
    refused = page.post(where, {"type": "approve"})
    assert refused.status_code == 422
    assert f"{getuser()} may not decide this" in text_of(refused.text)
    for target in (f"{path}/plan", f"{path}/retry"):
        fields = {"type": "edit", "edited": PLANS["write"], "step": "w"}
        assert "may not decide this" in text_of(page.post(target, fields).text), target
    page.stop()
    page.start("--auth", "mytools:authenticate")
    page.client.headers["X-User"] = "eve"
    assert page.post(where, {"type": "approve"}).status_code == 303
    page.wait_for_status(path, "done")
    assert page.calls == ["look tea", "note some tea"]
