"""The page in a real browser: its flows, its looks at three widths, and whether everybody can use it.

Each page is looked at once for each width; `-m slow` looks at every one in light and dark.
``PAGE_SCREENSHOTS=folder`` keeps a picture of every page that is looked at.
"""

from __future__ import annotations

import json
import os
import re
from importlib.resources import files
from pathlib import Path
from threading import Event

import pytest
from browser import NAMES, PROGRAM
from openai_stub import OpenAIStub, Reply
from served_page import HOSTILE, PLANS

pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason=f"THE PAGE WAS NOT TRIED IN A BROWSER: no {', '.join(NAMES)} on the PATH"
)

LOOKS = [(width, dark) for width in (400, 800, 1400) for dark in (False, True)]
SOME_LOOKS = [(400, False), (800, False), (1400, True)]
AXE = files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8")
RULES = "{runOnly: {type: 'tag', values: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice']}}"


@pytest.fixture
def tab(browser, page):
    """Open the page's printed address in the browser."""
    page.start()
    browser.open(page.printed)
    page.client.cookies.update({one["name"]: one["value"] for one in cookies(browser)})
    return browser


def cookies(tab):
    return tab.send("Network.getCookies")["cookies"]


def click(tab, selector):
    """Click what is found first."""
    event = "new MouseEvent('click', {bubbles: true, cancelable: true})"
    tab.evaluate(f"document.querySelector({json.dumps(selector)}).dispatchEvent({event})")


def picture(tab, name):
    if folder := os.environ.get("PAGE_SCREENSHOTS"):
        tab.screenshot(Path(folder) / f"{name}.png")


def outcome(step):
    return f"document.querySelector('#plan a.node[href=\"#step-{step}\"]').classList"


def problems(tab):
    """List what axe-core finds wrong in the page."""
    tab.evaluate(f"{AXE}; 0")
    found = tab.evaluate(
        f"axe.run(document, {RULES}).then(done => done.violations.map(one => "
        "one.id + ': ' + one.nodes.slice(0, 3).map(node => node.html.slice(0, 160)).join(' | ')))"
    )
    return [*found]


# --- flows -------------------------------------------------------------------------------


def test_a_plan_is_typed_approved_and_seen_as_it_runs(tab, page):
    tab.open(page.address + "/new")
    click(tab, "summary")
    tab.evaluate("document.querySelector('details').open = true")
    tab.evaluate(f"document.querySelector('[name=plan]').value = {json.dumps(PLANS['hold'])}")
    tab.evaluate("document.querySelector('[value=always]').checked = true")
    click(tab, ".new button.approve")
    tab.wait("document.querySelector('article.question h3').textContent.includes('May this plan run?')")
    tab.wait("document.title.startsWith('(1) ')")
    tab.wait("document.querySelector('button[value=approve]')")
    tab.evaluate("window.before = 1")
    click(tab, "button[value=approve]")
    tab.wait("window.before !== 1")
    tab.wait(f"{outcome('h')}.contains('running') && {outcome('a')}.contains('done')")
    assert tab.evaluate(f"{outcome('b')}.contains('open')")
    picture(tab, "run-running-1200")
    tab.evaluate("window.here = 1")
    (page.folder / "go").touch()
    tab.wait(f"{outcome('b')}.contains('done')")
    tab.wait("document.querySelector('#head .badge').textContent === 'done'")
    tab.wait("document.querySelectorAll('#timeline .bar').length === 3")
    assert tab.evaluate("window.here") == 1, "the page was not loaded again"
    assert tab.evaluate("document.querySelector('[data-fact=done]').textContent") == "3 of 3"
    assert not tab.refused
    assert tab.dialogs == 0


def test_what_is_being_typed_stays_while_the_inbox_changes(tab, page):
    first = page.begin("ask")
    page.wait_for_status(first, "waiting")
    tab.open(page.address + "/")
    tab.evaluate("document.querySelector('article.question [name=message]').value = 'half a sen'")
    tab.evaluate("document.querySelector('article.question [name=message]').closest('details').open = true")
    second = page.begin("write")
    page.wait_for_status(second, "waiting")
    tab.wait("document.querySelectorAll('article.question').length === 2")
    assert tab.evaluate("document.querySelector('article.question [name=message]').value") == "half a sen"
    assert tab.evaluate("document.querySelector('article.question details').open") is True
    assert tab.evaluate("document.title") == "(2) Inbox"


def test_a_step_is_opened_and_closed_with_the_keyboard(tab, page):
    path = page.begin("fails")
    page.wait_for_status(path, "waiting")
    tab.open(page.address + path)
    tab.evaluate("document.querySelector('#plan a.node').focus()")
    press(tab, "Enter", "\r")
    tab.wait("document.querySelector('#drawer').hidden === false")
    tab.wait("document.querySelector('#step').textContent.includes('no such thing')")
    assert tab.evaluate("document.activeElement.id") == "drawer"
    press(tab, "Escape")
    assert tab.evaluate("document.querySelector('#drawer').hidden") is True
    assert tab.evaluate("document.activeElement.getAttribute('href')") == "#step-a"
    assert tab.evaluate("document.title").find("pwned") < 0
    assert tab.dialogs == 0


def press(tab, key, text=""):
    for kind in ("keyDown", "keyUp"):
        tab.send(
            "Input.dispatchKeyEvent", type=kind, key=key, code=key, text=text if kind == "keyDown" else ""
        )


def test_an_edit_is_checked_while_it_is_typed(tab, page):
    path = page.begin("write")
    where = page.question(page.wait_for_status(path, "waiting"))
    tab.open(f"{page.address}{where}/edit")

    def type_in(old, new):
        tab.evaluate(
            f"box = document.querySelector('textarea'); box.value = box.value.replace({old!r}, {new!r}); "
            "box.dispatchEvent(new Event('input', {bubbles: true})); 0"
        )

    type_in("tool: look", "tool: lok")
    tab.wait("document.querySelector('#check').textContent.includes('unknown_tool')")
    type_in("tool: lok", "tool: look")
    type_in("some tea", "better tea")
    tab.wait("document.querySelector('#check .added').textContent.includes('better tea')")
    assert tab.refused == []


def test_the_answer_appears_as_the_model_writes_it(tab, page):
    """The stub holds the end back. The last words come then: they might be a part of a secret."""
    ends = Event()
    said = f"# Tea\n\n{HOSTILE} was found, and it is *hot*. There is no more to say of it."
    with OpenAIStub([Reply(said, hold=ends)]) as stub:
        page.stop()
        page.variables |= {"OPENAI_API_KEY": "k"}
        page.start("--model", "openai:m", "--base-url", stub.base_url)
        tab.open(page.printed)
        page.client.cookies.update({one["name"]: one["value"] for one in cookies(tab)})
        path = page.begin("two")
        tab.open(page.address + path)
        tab.wait("document.querySelector('#words').textContent.includes('it is *hot*.')")
        picture(tab, "run-answer-1200")
        assert tab.evaluate("document.querySelector('#words').childElementCount") == 0, "it is text"
        tab.evaluate("window.here = 1")
        ends.set()
        tab.wait("document.querySelector('#answer em').textContent === 'hot'")
    assert tab.evaluate("window.here") == 1
    assert (tab.refused, tab.dialogs) == ([], 0)


def test_a_run_is_scrubbed_through_and_gone_on_with_by_keyboard(tab, page):
    path = page.begin("ask")
    page.post(page.question(page.wait_for_status(path, "waiting")), {"type": "respond", "choice": "tea"})
    page.wait_for_status(path, "done")
    tab.open(page.address + path)
    click(tab, "#head a[href*=moment]")
    tab.wait("document.querySelector('#past').textContent.includes('The run ended: done')")
    tab.evaluate("window.here = 1; document.querySelector('#scrub input').focus()")
    for said in ("The run was evaluated", "a done", "what done", "The plan is valid"):
        press(tab, "ArrowLeft")
        tab.wait(f"document.querySelector('#past > p').textContent.includes('{said}')")
    assert tab.evaluate(f"{outcome('a')}.contains('open')")
    assert tab.evaluate("[window.here, document.activeElement.name, location.search.slice(0, 4)]") == [
        1,
        "moment",
        "?at=",
    ]
    tab.evaluate("location.hash = 'step-what'")
    tab.wait("document.querySelector('#step .mark').textContent === '○'")
    press(tab, "Escape")
    click(tab, "#past a[href*=fork]")
    tab.wait("document.querySelector('h1').textContent.startsWith('Go on from an earlier moment')")
    click(tab, "button.approve")
    tab.wait("document.querySelector('#head .badge').textContent === 'done'")
    assert page.calls == ["look tea"]
    assert tab.refused == []


def test_form_and_text_of_a_plan_follow_each_other(tab, page):
    path = page.begin("hold")
    page.wait_for_call("hold milk")
    page.wait(path, lambda shown: 'data-fact="done">1 of 3<' in shown)
    tab.open(f"{page.address}{path}/plan?step=h")
    picture(tab, "edit-running-1200")
    put(tab, "[name='f.arg.q']", "cream")
    tab.wait("document.querySelector('textarea.code').value.includes('q: cream')")
    tab.wait("document.querySelector('#check .added').textContent.includes('cream')")
    text = tab.evaluate("document.querySelector('textarea.code').value")
    put(tab, "textarea.code", text.replace("q: cream", "q: oats").replace("tool: hold", "tool: holt"))
    tab.wait("document.querySelector('[name=\"f.arg.q\"]').value === 'oats'")
    tab.wait("document.querySelector('#check').textContent.includes('unknown_tool')")
    put(tab, "[name='f.tool']", "look")
    tab.wait(r"/tool: look\s+args:\s+q: oats/.test(document.querySelector('textarea.code').value)")
    put(tab, "select[name=step]", "b")
    tab.wait("document.querySelector('[name=shown]').value === 'b'")
    click(tab, "[name='f.skip']")
    tab.wait("document.querySelector('textarea.code').value.includes('`false`')")
    tab.wait("document.querySelector('#check .added')")
    assert tab.refused == []
    click(tab, "button.edit")
    tab.wait("document.querySelector('#head .badge').textContent === 'done'")
    tab.wait(f"{outcome('b')}.contains('skipped')")
    assert page.calls == ["look tea", "hold milk", "look oats"]


def put(tab, selector, value):
    """Put a value into a field as a person does."""
    tab.evaluate(
        f"box = document.querySelector({json.dumps(selector)}); box.focus(); "
        f"box.value = {json.dumps(value)}; box.dispatchEvent(new Event('input', {{bubbles: true}})); 0"
    )


# --- looks -------------------------------------------------------------------------------


@pytest.fixture
def pages(tab, page):
    """Have runs of all kinds, and give the addresses of the pages that show them."""
    done, failed, waiting = page.begin("write"), page.begin("fails"), page.begin("ask")
    page.post(page.question(page.wait_for_status(done, "waiting")), {"type": "approve"})
    for path, status in ((done, "done"), (failed, "waiting"), (waiting, "waiting")):
        page.wait_for_status(path, status)
    approval = page.begin("write")
    page.wait_for_status(approval, "waiting")
    edit = page.question(page.get(approval)) + "/edit"
    history = page.client.get(f"{failed}?moment=1", follow_redirects=True).text
    valid = re.findall(r'href="([^"]+)"[^>]*>The plan is valid', history)[0]
    return {
        "past": valid, "fork": valid.replace("?", "/fork?"), "inbox": "/", "runs": "/runs", "new": "/new",
        "edit": edit, "run-done": done, "run-failed": failed, "run-approval": approval,
        "step": f"{failed}#step-a",
    }  # fmt: skip


@pytest.mark.parametrize("looks", [SOME_LOOKS, pytest.param(LOOKS, marks=pytest.mark.slow)])
def test_every_page_fits_and_can_be_used_by_everybody(tab, page, pages, looks):
    found = []
    for name, path in pages.items():
        for width, dark in looks:
            tab.open(page.address + path, width=width, dark=dark)
            if "#" in path:
                tab.wait("document.querySelector('#step').textContent.length > 10")
            where = f"{name} at {width}{' dark' if dark else ''}"
            picture(tab, f"{name}-{width}{'-dark' if dark else ''}")
            if tab.evaluate("document.documentElement.scrollWidth") > width:
                found.append(f"{where}: scrolls sideways")
            if width != 800:
                found += [f"{where}: {one}" for one in problems(tab)]
    assert not found, "\n".join(found)


# --- many steps --------------------------------------------------------------------------


def many(count, wide=10):
    """Write a plan of so many steps in layers, each of which needs two of the layer before; one waits."""
    steps = ["goal: count", "steps:"]
    for n in range(count):
        above = [f"s{n - wide}", f"s{n - n % wide - wide + (n + 1) % wide}"] if n >= wide else []
        call = "tool: hold, args: {q: milk}" if n == count // 2 else f"tool: count, args: {{n: {n}}}"
        steps.append(f"  - id: s{n}\n    depends_on: [{', '.join(above)}]\n    call: {{{call}}}")
    return "\n".join(steps)


COUNT_CHANGES = """
window.changes = 0;
new MutationObserver(seen => { window.changes += seen.length; }).observe(
  document.querySelector('#plan'), {subtree: true, childList: true, attributes: true});
"""


@pytest.mark.parametrize("count", [200, pytest.param(500, marks=pytest.mark.slow)])
def test_many_steps_are_shown_as_they_run(tab, page, count):
    answer = page.post("/new", {"plan": many(count), "approval": "always"})
    path = answer.headers["location"]
    page.wait_for_status(path, "waiting")
    tab.open(page.address + path, width=1400)
    tab.evaluate(COUNT_CHANGES)
    page.post(page.question(page.get(path)), {"type": "approve"})
    done = "document.querySelectorAll('#plan a.node.done').length"
    tab.wait(f"{outcome(f's{count // 2}')}.contains('running') && {done} >= {count // 2}")
    (page.folder / "go").touch()
    tab.wait(f"{done} === {count}")
    tab.wait("document.querySelector('#head .badge').textContent === 'done'")
    assert tab.evaluate("window.changes") < 15 * count, "only what changed is drawn anew"
    picture(tab, f"run-{count}-1400")
    assert tab.evaluate("document.querySelector('#plan .node .name').getBoundingClientRect().height") > 6
    assert tab.send("Runtime.getHeapUsage")["usedSize"] < 150e6
