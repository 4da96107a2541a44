// Keeps an open page as it is on the server. Without it, every page and form still works after a reload.

const body = document.body;
const byId = (id) => document.getElementById(id);

// --- pieces of the page ---------------------------------------------------------------

// What a person has opened, or is typing into, stays.
const callbacks = {
  beforeAttributeUpdated: (name, node) => !(name === "open" && node.localName === "details"),
  beforeNodeMorphed: (old) => !(old.nodeType === 1 && old.matches("article.question") && isTouched(old)),
};
const isTouched = (card) =>
  card.contains(document.activeElement) ||
  [...card.querySelectorAll("textarea, input:not([type=hidden])")].some((box) =>
    box.type === "radio" || box.type === "checkbox" ? box.checked !== box.defaultChecked : box.value !== box.defaultValue
  );

let fetching = null;
let again = null;

// Gets the page anew and puts in what is different; what is asked for meanwhile is got once, afterwards.
async function refresh(drawings) {
  if (fetching) {
    again = { drawings: drawings || Boolean(again?.drawings) };
    return;
  }
  fetching = true;
  try {
    const address = new URL(location.href);
    address.hash = "";
    if (body.dataset.run && !drawings) address.searchParams.set("rest", "1");
    const answer = await fetch(address);
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    putIn(page);
    if (drawings) {
      size(scale);
      colour(latest);  // the drawing may be older than what was told meanwhile
    }
    tellTimes();
    // The page of a run is told how many wait: what it was got with may be older.
    if (!body.dataset.run) count(Number(page.getElementById("waiting").textContent || 0));
  } finally {
    fetching = null;
    const next = again;
    again = null;
    if (next) refresh(next.drawings);
  }
}

function putIn(page) {
  for (const piece of page.querySelectorAll("[data-live], [data-drawn]")) {
    const old = byId(piece.id);
    if (old) Idiomorph.morph(old, piece, { morphStyle: "outerHTML", callbacks });
  }
}

function count(waiting) {
  byId("waiting").textContent = waiting || "";
  byId("waiting").setAttribute("aria-label", `${waiting} waiting`);
  document.title = (waiting ? `(${waiting}) ` : "") + body.dataset.title;
}

function tellTimes() {
  const units = [["day", 86400], ["hour", 3600], ["minute", 60]];
  const words = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
  for (const time of document.querySelectorAll("time.ago")) {
    const seconds = (new Date(time.dateTime) - Date.now()) / 1000;
    const unit = units.find(([, size]) => Math.abs(seconds) >= size);
    time.title = new Date(time.dateTime).toLocaleString();
    time.textContent = unit ? words.format(Math.round(seconds / unit[1]), unit[0]) : "just now";
  }
}

// --- a run as it goes on ----------------------------------------------------------------

const outcomes = JSON.parse(body.dataset.outcomes || "{}");
const kinds = Object.keys(outcomes);
const drawn = (step) => document.querySelectorAll(`#plan a.node[href="#step-${CSS.escape(step)}"]`);

function colour(steps) {
  for (const [step, outcome] of Object.entries(steps)) {
    const [mark, label] = outcomes[outcome] || outcomes.open;
    for (const box of drawn(step)) {
      box.classList.remove(...kinds);
      box.classList.add(outcome);
      box.querySelector(".mark").textContent = mark;
      box.querySelector("title").textContent = `${step}: ${label}`;
    }
    if (open === step && outcome !== "running") show(step);
  }
  const boxes = document.querySelectorAll("#plan a.node");
  const done = document.querySelectorAll("#plan a.node:is(.done, .empty, .unverified)");
  if (boxes.length) fact("done", `${done.length} of ${boxes.length}`);
}

function fact(name, words) {
  const found = document.querySelector(`[data-fact="${name}"]`);
  if (found) found.textContent = words;
}

function spend(spent) {
  for (const name of ["model_calls", "total_tokens", "tool_calls"]) fact(name, (spent[name] || 0).toLocaleString("en"));
  fact("seconds", say(spent.seconds || 0));
  if (spent.cost !== undefined) fact("cost", Number(spent.cost.toPrecision(4)).toString());
}

const say = (s) => (s < 60 ? `${s.toFixed(1)} s` : `${Math.floor(s / 60)} min ${Math.round(s % 60)} s`);

function now(doing) {
  const found = byId("now");
  if (found) found.textContent = doing.length ? `Now: ${doing.slice(0, 12).join(", ")}${doing.length > 12 ? " …" : ""}` : "";
}

// The answer as a model writes it: text, whatever it holds. Who reads the end of it goes on seeing the end.
function write(words) {
  const box = byId("words");
  if (!box) return refresh(false);
  const atEnd = box.scrollTop + box.clientHeight > box.scrollHeight - 30;
  box.textContent = words;
  if (atEnd) box.scrollTop = box.scrollHeight;
}

let stale = null;
const MOST_BARS = 150;

let latest = {};

function take(news) {
  if (news.begun) latest = {};
  if (news.steps) {
    Object.assign(latest, news.steps);
    colour(news.steps);
  }
  if (news.spent) spend(news.spent);
  if (news.now) now(news.now);
  if (news.words) write(news.words);
  if (news.waiting !== undefined) count(news.waiting);
  if (news.stale) refresh(Boolean(news.stale.plan));
  if (news.changed && !body.dataset.run) refresh(false);
  // The time chart is drawn by the server; it need not be of this very second. A long one is drawn at the end.
  const bars = document.querySelectorAll("#plan a.node").length;
  if (news.steps && !stale && bars <= MOST_BARS) {
    stale = setTimeout(() => { stale = null; refreshTimeline(); }, 3000);
  }
}

async function refreshTimeline() {
  const answer = await fetch(`${body.dataset.run}?timeline=1`);
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const piece = page.getElementById("timeline");
  const old = byId("timeline");
  if (!piece) return;
  // Put in whole: to compare hundreds of bars takes longer than to draw them.
  const at = old.querySelector(".scroll")?.scrollTop || 0;
  old.replaceChildren(...document.adoptNode(piece).childNodes);
  const frame = old.querySelector(".scroll");
  if (frame) frame.scrollTop = at;
}

let source = null;

function follow() {
  const address = body.dataset.follows;
  if (!address) return;
  source = new EventSource(address);
  source.addEventListener("news", (event) => {
    performance.mark("news");
    take(JSON.parse(event.data));
    performance.measure("update", "news");
  });
  source.onopen = () => {
    if (byId("link").textContent) refresh(true);  // what was missed meanwhile
    byId("link").textContent = "";
  };
  source.onerror = () => { byId("link").textContent = "No connection; trying again"; };
}

// A browser has few connections to one server: a run in a hidden tab lets go of its own.
document.addEventListener("visibilitychange", () => {
  if (!body.dataset.run) return;
  if (document.hidden) { source?.close(); source = null; }
  else if (!source) { refresh(true); follow(); }
});

// --- the drawing -----------------------------------------------------------------------

let scale = 1;

function size(to) {
  const svg = document.querySelector("#plan svg");
  if (!svg) return;
  scale = Math.min(3, Math.max(0.1, to));
  const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
  svg.setAttribute("width", width * scale);
  svg.setAttribute("height", height * scale);
}

// At first a large plan is shown in part: what is too small to be read says nothing.
function fit(least = 0) {
  const svg = document.querySelector("#plan svg");
  const frame = svg?.parentElement;
  if (!svg) return;
  const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
  size(Math.max(least, Math.min(1.5, (frame.clientWidth - 4) / width, (innerHeight * 0.6 - 4) / height)));
}

document.addEventListener("click", (event) => {
  const by = event.target.closest?.("[data-zoom]")?.dataset.zoom;
  if (by === "in") size(scale * 1.25);
  if (by === "out") size(scale / 1.25);
  if (by === "fit") fit();
});

byId("plan")?.addEventListener("wheel", (event) => {
  if (!event.ctrlKey) return;
  event.preventDefault();
  size(scale * (event.deltaY < 0 ? 1.1 : 1 / 1.1));
}, { passive: false });

// Dragging moves the drawing in its frame; scrolling and the arrow keys do too.
byId("plan")?.addEventListener("pointerdown", (down) => {
  const frame = down.target.closest(".scroll");
  if (!frame || down.pointerType !== "mouse" || down.button || down.target.closest("a")) return;
  const move = (at) => { frame.scrollBy(-at.movementX, -at.movementY); };
  const up = () => { removeEventListener("pointermove", move); removeEventListener("pointerup", up); };
  addEventListener("pointermove", move);
  addEventListener("pointerup", up);
  down.preventDefault();
});

// --- a run as it was ---------------------------------------------------------------------

// Shows the moment that the slider stands at; of several, the last one. Without this its form does the same.
let moment = null;

document.addEventListener("input", async (event) => {
  const slider = event.target;
  if (slider.form?.id !== "scrub") return;
  const mine = moment = slider.value;
  const answer = await fetch(`${slider.form.getAttribute("action")}?moment=${mine}`);
  if (!answer.ok || mine !== moment) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (mine !== moment) return;
  history.replaceState(null, "", new URL(answer.url).pathname + new URL(answer.url).search);
  putIn(page);
  size(scale);
  if (open) show(open);
});

// --- an edit ---------------------------------------------------------------------------

// What is wrong, or what changes, as one types; a later text overtakes an earlier one.
let typed = 0;

document.querySelector("[data-checked]")?.addEventListener("input", (event) => {
  const mine = ++typed;
  setTimeout(async () => {
    if (mine !== typed) return;
    const fields = new URLSearchParams(new FormData(event.target.form));
    fields.set("type", "check");
    const answer = await fetch(event.target.form.action, { method: "POST", body: fields });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const check = page.getElementById("check");
    if (mine === typed && check) Idiomorph.morph(byId("check"), check, { morphStyle: "outerHTML" });
  }, 400);
});

// --- one step --------------------------------------------------------------------------

let open = null;
let before = null;

const asWas = () => (byId("past") ? location.search : "");

async function show(step) {
  const drawer = byId("drawer");
  const first = open !== step;
  const answer = await fetch(`${body.dataset.run}/steps/${encodeURIComponent(encodeURIComponent(step))}${asWas()}`);
  byId("step").innerHTML = await answer.text();  // written by the server, where every text is escaped
  if (!first) return;
  if (open === null) before = document.activeElement;
  open = step;
  drawer.hidden = false;
  drawer.setAttribute("aria-label", `Step ${step}`);
  drawer.focus();
}

function close() {
  if (open === null) return;
  open = null;
  byId("drawer").hidden = true;
  history.replaceState(null, "", location.pathname + location.search);
  before?.focus?.();
}

function showNamed() {
  const step = decodeURIComponent(location.hash).replace(/^#step-/, "");
  if (body.dataset.run && location.hash.startsWith("#step-")) show(step);
}

addEventListener("hashchange", showNamed);
addEventListener("keydown", (event) => { if (event.key === "Escape") close(); });
byId("close")?.addEventListener("click", close);
document.addEventListener("submit", (event) => {
  if (event.target.id === "find") {
    event.preventDefault();
    const step = event.target.elements.step.value.trim();
    if (step) location.hash = `step-${step}`;
    return;
  }
  // Once is enough.
  const button = event.submitter;
  if (button) setTimeout(() => { button.disabled = true; });
});

tellTimes();
setInterval(tellTimes, 30000);
fit(0.7);
showNamed();
follow();
