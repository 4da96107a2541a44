"""The HTML report in a real browser: nothing runs, nothing is asked for, all fits and can be reached.

``REPORT_SCREENSHOTS=folder`` keeps a picture of every page that a test opens, to be looked at.
"""

from __future__ import annotations

import json
import os
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from browser import NAMES, PROGRAM

from plan_execute.report import write_report

pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason=f"THE REPORT WAS NOT TRIED IN A BROWSER: no {', '.join(NAMES)} on the PATH"
)

RUNS = ("small", "revised", "waiting", "hostile", "many")

INSIDE = """
[...document.querySelectorAll('svg')].flatMap(svg => {
  const frame = svg.getBoundingClientRect();
  return [...svg.querySelectorAll('rect, path, .name, .took, .tick')].filter(part => {
    const box = part.getBoundingClientRect();
    return box.width && (box.left < frame.left - 1 || box.right > frame.right + 1
      || box.top < frame.top - 1 || box.bottom > frame.bottom + 1);
  }).map(part => part.outerHTML);
})
"""
OVERLAPS = """
(() => {
  const boxes = [...document.querySelectorAll('.node > rect')].map(node => node.getBoundingClientRect());
  return boxes.flatMap((a, n) => boxes.slice(n + 1).filter(b =>
    a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom)).length;
})()
"""
SPILLED = """
[...document.querySelectorAll('.node')].filter(node => {
  const frame = node.querySelector('rect').getBoundingClientRect();
  const words = [...node.querySelectorAll('text')].map(text => text.getBoundingClientRect());
  return words.some(text => text.right > frame.right + 1);
}).map(node => node.textContent)
"""
CONTRAST = """
[...document.querySelectorAll('body, .badge, .muted, .said, .error')].map(found => {
  const light = color => {
    const [r, g, b] = color.match(/[\\d.]+/g).map(Number).map(v => v / 255)
      .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  let behind = found;
  while (getComputedStyle(behind).backgroundColor === 'rgba(0, 0, 0, 0)') behind = behind.parentElement;
  const [a, b] = [getComputedStyle(found).color, getComputedStyle(behind).backgroundColor].map(light);
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}).reduce((a, b) => Math.min(a, b), 21)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("reports")


@pytest.fixture
def page(browser, folder, request):
    """Write the report of a run and open it."""

    def open_page(run, **window):
        path = folder / f"{run}.html"
        if not path.exists():
            path.write_text(write_report(request.getfixturevalue(run)), encoding="utf-8")
        browser.open(path.as_uri(), **window)
        if pictures := os.environ.get("REPORT_SCREENSHOTS"):
            name = "-".join([run, *(f"{key}={value}" for key, value in window.items())])
            browser.screenshot(Path(pictures) / f"{name}.png")
        return browser

    return open_page


def require(opened, *selectors):
    """Fail where a selector finds nothing in the page: what is asked of nothing always holds."""
    for selector in selectors:
        found = opened.evaluate(f"document.querySelectorAll({json.dumps(selector)}).length")
        assert found, f"nothing matches {selector!r}"


@pytest.mark.parametrize("run", RUNS)
def test_no_script_runs_and_nothing_but_the_file_is_asked_for(page, run):
    opened = page(run)
    assert opened.requests == [opened.evaluate("location.href")]
    assert opened.refused == []
    assert opened.dialogs == 0
    assert opened.evaluate("document.title").endswith("run report")
    assert opened.evaluate("document.scripts.length + document.images.length + frames.length") == 0


def test_a_server_that_serves_it_is_asked_once(browser, folder, small):
    asked = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format, *args):
            asked.append(self.path)

    (folder / "served.html").write_text(write_report(small), encoding="utf-8")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        browser.open(f"http://127.0.0.1:{server.server_port}/served.html")
        assert browser.evaluate("document.readyState") == "complete"
    finally:
        server.shutdown()
        server.server_close()
    assert asked == ["/served.html"], "not even an icon"


def test_markup_that_came_in_all_the_same_could_not_run(browser, folder, small):
    forced = (
        "<script>document.title = 'pwned'</script><img src='http://127.0.0.1:9/x.png' onerror='alert(1)'>"
    )
    html = write_report(small).replace("<main>", f"<main>{forced}<p style='position:fixed'>over all</p>")
    (folder / "forced.html").write_text(html, encoding="utf-8")
    browser.open((folder / "forced.html").as_uri())
    assert browser.evaluate("document.title") != "pwned"
    assert browser.dialogs == 0
    assert len(browser.refused) >= 3, "the page's policy refuses the script, the picture and the style"


@pytest.mark.parametrize(("run", "width"), [*((run, 380) for run in RUNS), ("small", 760), ("hostile", 1200)])
def test_the_page_never_scrolls_sideways(page, run, width):
    opened = page(run, width=width)
    require(opened, "details")
    opened.evaluate("document.querySelectorAll('details').forEach(found => found.open = true)")
    assert opened.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("run", RUNS)
def test_everything_that_is_drawn_is_inside_its_drawing_and_boxes_do_not_overlap(page, run):
    opened = page(run)
    require(opened, "svg rect", "svg .name", "svg .took", "svg .tick", ".node > rect")
    if run != "hostile":  # no step of it needs another
        require(opened, "svg path")
    assert opened.evaluate(INSIDE) == []
    assert opened.evaluate(OVERLAPS) == 0


@pytest.mark.parametrize("run", ["small", "revised", "many"])
def test_the_words_in_a_box_fit_into_it(page, run):
    opened = page(run)
    require(opened, ".node rect", ".node text")
    assert opened.evaluate(SPILLED) == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("run", ["revised", "waiting"])
def test_words_can_be_read_in_light_and_in_dark(page, run, dark):
    opened = page(run, dark=dark)
    require(opened, ".badge", ".muted", ".said", ".error")
    shade = opened.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (shade == "rgb(255, 255, 255)") is not dark
    assert opened.evaluate(CONTRAST) >= 4.5, "WCAG AA"


def test_a_box_leads_to_its_step_which_unfolds(page):
    opened = page("many")
    folded = "document.querySelector('#step-150').closest('details').open"
    assert opened.evaluate(folded) is False
    opened.evaluate(
        "document.querySelector('a.node[href=\"#step-150\"]').dispatchEvent(new MouseEvent('click'))"
    )
    assert opened.evaluate("new Promise(done => setTimeout(() => done(location.hash), 0))") == "#step-150"
    assert opened.evaluate(folded) is True
    assert opened.evaluate("scrollY") > 1000


def test_what_is_folded_is_printed(page):
    opened = page("small")
    opened.send("Emulation.setEmulatedMedia", media="print")
    height = "document.querySelector('#step-1').getBoundingClientRect().height"
    assert opened.evaluate(height) > 40
    opened.send("Emulation.setEmulatedMedia", media="screen")
