"""A LangGraph server shows its threads at /board, and takes no form there."""

import html

import httpx
from dev_server import ALWAYS, NEVER, bound, plan

HOSTILE = "<script>document.title='pwned'</script>"


def page(server, path):
    answer = httpx.get(f"{server.url}/board{path}", timeout=60)
    assert answer.status_code == 200, answer.text
    assert HOSTILE not in answer.text, "it is escaped"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    return html.unescape(answer.text)


def test_what_waits_and_what_was_done_is_shown(server):
    waiting, done = server.new_thread(), server.new_thread()
    goal = f"keep a thing {HOSTILE}"
    asked = plan(bound("a", "keep", args={"name": "w"}))
    asked["plan"]["goal"] = goal
    server.run(waiting, input=asked, context=ALWAYS)
    server.run(done, input=plan(bound("a", "echo", args={"text": f"x {HOSTILE}"})), context=NEVER)
    inbox = page(server, "/")
    assert "May this plan run?" in inbox
    assert goal in inbox
    assert "<form" not in inbox, "it is read-only"
    runs = page(server, "/runs")
    assert f"/board/runs/{waiting}" in runs
    assert f"/board/runs/{done}" in runs
    shown = page(server, f"/runs/{done}")
    assert 'class="badge done"' in shown
    assert 'href="/board/static/style.css"' in shown
    assert HOSTILE in page(server, f"/runs/{done}/steps/a")
    first = page(
        server,
        httpx.get(f"{server.url}/board/runs/{done}?moment=1").headers["location"].removeprefix("/board"),
    )
    assert "As it was" in first
    assert 'data-fact="done">0 of 1<' in first
    for words in ("The goal was given", "The plan is valid", "a done", "The run ended: done"):
        assert words in first
    assert "/fork" not in first
    assert "--waiting" in httpx.get(f"{server.url}/board/static/style.css").text
    assert httpx.get(f"{server.url}/board/runs/none").status_code == 404


def test_nothing_can_be_changed_there(server):
    thread = server.new_thread()
    server.run(thread, input=plan(bound("a", "keep", args={"name": "n"})), context=ALWAYS)
    question = server.questions(thread)[0]["id"]
    for path in (
        "/new",
        f"/runs/{thread}/answers/{question}",
        f"/runs/{thread}/cancel",
        f"/runs/{thread}/fork",
    ):
        answer = httpx.post(
            f"{server.url}/board{path}", data={"type": "approve"}, headers={"Origin": server.url}
        )
        assert answer.status_code == 403, path
    assert len(server.questions(thread)) == 1
    assert httpx.post(f"{server.url}/store/items/search", json={}).status_code == 404, (
        "the store stays closed"
    )
