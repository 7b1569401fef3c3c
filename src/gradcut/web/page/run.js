// A finished run, photograph by photograph: look, mend, decide. Every change is saved beside the run as one goes.

import { call, fetched, make, send } from "/talk.js";
import { drawStrokes, drop, listen, paint, reset, ring, showMasks, showPhotograph, stage, zoomTo } from "/stage.js";

const $ = (id) => document.getElementById(id);
const MARKS = { accepted: "✓", corrected: "✎", rejected: "✕", untouched: "" };
const NOTHING = { removed: [], added: [], strokes: {} };

const state = {
  run: null,       // {run, classes, photographs}
  queue: [],       // those that the filters leave, in order
  at: -1,          // which of them is looked at
  open: null,      // what the server said when it was opened, with url
  edit: NOTHING,   // what was changed: classes removed and added, strokes by class
  history: [], undone: [],
  decided: 0, since: performance.now(),
};
const ahead = new Map(); // photographs that were opened before they are looked at
let leaving = new AbortController(), saving = Promise.resolve(), later = 0;

function say(text, busy = false) {
  $("status").textContent = text;
  $("status").classList.toggle("busy", busy);
}

function fail(error) {
  if (error.name === "AbortError") return;
  say("");
  $("error").textContent = error.message || String(error);
  $("error").hidden = false;
}

addEventListener("error", (event) => fail(new Error(`The page failed: ${event.message}`)));
addEventListener("unhandledrejection", (event) => fail(event.reason));

// The queue ----------------------------------------------------------------------------------------------------------

const current = () => state.queue[state.at];

function refilter(name) {
  const label = $("class").value, show = $("show").value;
  state.queue = state.run.photographs.filter((item) => (!label || item.labels.includes(label)) && (!show || item.state === show));
  if ($("order").value === "name") state.queue.sort((a, b) => a.name.localeCompare(b.name));
  // One goes on where one stopped.
  const first = state.queue.findIndex((item) => item.name === name);
  return first >= 0 ? first : Math.max(0, state.queue.findIndex((item) => item.state === "untouched"));
}

function showCount() {
  const done = state.run.photographs.filter((item) => item.state !== "untouched").length;
  const minutes = (performance.now() - state.since) / 60000;
  const rate = state.decided > 1 ? `, ${(state.decided / minutes).toFixed(0)} a minute` : "";
  $("count").textContent = `${done} of ${state.run.photographs.length} decided${rate}`;
}

// Only what is near is there: a run may have thousands.
function showStrip() {
  const from = Math.max(0, state.at - 12), to = Math.min(state.queue.length, state.at + 25);
  const buttons = state.queue.slice(from, to).map((item, offset) => {
    const picture = make("img", { src: fetched(`/api/run/thumbnail/${encodeURIComponent(item.name)}`), loading: "lazy", alt: "" });
    const button = make("button", { type: "button", className: item.state, title: item.name }, picture);
    if (MARKS[item.state]) button.append(make("i", {}, MARKS[item.state]));
    button.setAttribute("aria-label", `${item.name}, ${item.state}`);
    button.setAttribute("aria-current", from + offset === state.at);
    button.addEventListener("click", () => go(from + offset));
    return button;
  });
  $("strip").replaceChildren(...buttons);
  const here = buttons[state.at - from];
  if (here) $("strip").scrollLeft = here.offsetLeft - ($("strip").clientWidth - here.offsetWidth) / 2;
}

async function opened(name, signal) {
  if (ahead.has(name)) {
    const known = ahead.get(name);
    ahead.delete(name);
    return known;
  }
  const known = await send("/api/run/open", { name }, signal);
  const shown = await call(`/api/photograph/${known.photograph}`, { signal });
  return { ...known, url: URL.createObjectURL(await shown.blob()) };
}

async function go(at) {
  if (at < 0 || at >= state.queue.length) return say(state.queue.length ? "There is no photograph further on." : "No photograph is like that.");
  await kept();
  if (state.queue[at].name === document.body.dataset.shown) {
    state.at = at;
    showStrip();
    return show();
  }
  delete document.body.dataset.shown; // until it is there, nothing can be changed
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  state.at = at;
  showStrip();
  $("error").hidden = true;
  const item = current();
  try {
    say("Fetching the photograph", true);
    const known = await opened(item.name, signal);
    if (state.open) URL.revokeObjectURL(state.open.url);
    state.open = known;
    item.state = known.state; // another window may have decided
    showStrip();
    showCount();
    state.edit = { removed: known.removed, added: known.added, strokes: known.strokes };
    Object.assign(state, { history: [], undone: [] });
    stage.selected = known.objects[0]?.label ?? known.added[0] ?? null;
    await showPhotograph(known.url, known.width, known.height);
    await showMasks(known.objects, known.values);
    show();
    document.body.dataset.shown = item.name;
    say("");
    prepare(signal).catch(() => {});
  } catch (error) {
    fail(error);
  }
}

// While one looks, the network says what a stroke will need, and the next photograph comes.
async function prepare(signal) {
  await new Promise((done) => setTimeout(done, 300));
  if (signal.aborted) return;
  const next = state.queue[state.at + 1];
  await call("/api/run/prepare", { method: "POST", body: JSON.stringify({ photograph: state.open.photograph }), signal });
  if (!next || ahead.has(next.name)) return;
  for (const [name, { url }] of ahead) { URL.revokeObjectURL(url); ahead.delete(name); }
  ahead.set(next.name, await opened(next.name, signal));
}

// What is changed ----------------------------------------------------------------------------------------------------

const there = () => state.open !== null && current()?.name === document.body.dataset.shown;
const changed = () => state.edit.removed.length || state.edit.added.length || Object.values(state.edit.strokes).some((drawn) => drawn.length);
const strokes = () => state.edit.strokes[stage.selected] ?? [];

function show() {
  const { removed } = state.edit;
  const shown = [...state.open.objects, ...removed.map((label) => ({ label, removed: true }))];
  $("legend").replaceChildren(...shown.map((object, number) => {
    const { label, colour, score, confidence, note } = object;
    const swatch = make("i", { className: "swatch" });
    if (colour) swatch.style.background = `rgb(${colour})`;
    const figures = object.removed ? "removed" : confidence === null ? score.toFixed(2) : `IoU ${confidence.toFixed(2)}`;
    const button = make("button", { type: "button", className: "class", title: [number < 9 ? `key ${number + 1}` : "", note ?? ""].filter(Boolean).join("; ") }, swatch, make("span", {}, label), make("small", { className: note ? "note" : "" }, figures));
    button.dataset.label = label;
    button.setAttribute("aria-pressed", label === stage.selected);
    button.addEventListener("click", () => select(label));
    const toggle = make("button", { type: "button", title: object.removed ? "bring back" : "remove" }, object.removed ? "↺" : "✕");
    toggle.setAttribute("aria-label", `${object.removed ? "Bring back" : "Remove"} ${label}`);
    toggle.addEventListener("click", () => toggled(label));
    return make("li", { className: object.removed ? "removed" : "" }, button, toggle);
  }));
  $("undo").disabled = !state.history.length;
  $("redo").disabled = !state.undone.length;
  $("untouch").disabled = !changed() && current().state === "untouched";
  $("name").textContent = `${current().name} · ${state.at + 1} of ${state.queue.length} · ${current().state}`;
  $("photo").alt = `${current().name}: ${state.open.objects.map(({ label }) => label).join(", ") || "nothing found"}`;
  drawStrokes(strokes());
  paint();
}

function select(label) {
  stage.selected = label;
  show();
}

function change(edit) {
  if (!there()) return null;
  state.history.push(state.edit);
  state.undone = [];
  state.edit = edit;
  return look();
}

function step(from, to) {
  if (!from.length || !there()) return;
  to.push(state.edit);
  state.edit = from.pop();
  look();
}

function toggled(label) {
  const { removed, added, strokes: drawn } = state.edit;
  if (added.includes(label)) {
    const { [label]: _, ...others } = drawn;
    return change({ removed, added: added.filter((other) => other !== label), strokes: others });
  }
  return change({ removed: removed.includes(label) ? removed.filter((other) => other !== label) : [...removed, label], added, strokes: drawn });
}

let looking = null;

async function look() {
  looking?.abort();
  looking = new AbortController();
  const { signal } = looking, { open } = state, item = current();
  leaving.signal.addEventListener("abort", () => looking?.abort(), { once: true });
  show();
  const slow = setTimeout(() => say("Cutting", true), 400);
  try {
    const seen = await send("/api/run/look", { photograph: open.photograph, ...state.edit }, signal);
    if (open !== state.open) return;
    Object.assign(open, { objects: seen.objects });
    if (signal.aborted) return;
    state.edit = { ...state.edit, added: seen.added };
    await showMasks(seen.objects, seen.values);
    if (![...seen.objects.map(({ label }) => label), ...state.edit.removed].includes(stage.selected)) stage.selected = seen.objects[0]?.label ?? null;
    $("error").hidden = true;
    say("");
    show();
    clearTimeout(later);
    const wanted = changed() ? "corrected" : "untouched";
    later = setTimeout(() => keep(item, open, wanted), 700);
  } catch (error) {
    fail(error);
  } finally {
    clearTimeout(slow);
  }
}

// What is kept -------------------------------------------------------------------------------------------------------

function keep(item, open, wanted) {
  clearTimeout(later);
  later = 0;
  const edit = state.edit;
  saving = saving.then(async () => {
    if (wanted === "untouched" && open.revision === 0) return;
    const saved = await send("/api/run/save", { photograph: open.photograph, state: wanted, revision: open.revision, ...edit });
    open.revision = saved.revision;
    if (item.state === "untouched" && saved.state !== "untouched") state.decided += 1;
    item.state = saved.state;
    showCount();
    showStrip();
    if (open === state.open) show();
  }).catch((error) => {
    fail(error);
    if (open === state.open) delete document.body.dataset.shown; // its thumbnail fetches it anew
  });
  return saving;
}

// What waits to be saved is, before one goes on.
async function kept() {
  if (later) keep(current(), state.open, changed() ? "corrected" : "untouched");
  await saving;
}

async function decide(wanted) {
  if (!there()) return;
  clearTimeout(later);
  later = 0;
  say("Saving", true);
  $("error").hidden = true;
  await keep(current(), state.open, wanted);
  if (!$("error").hidden) return;
  say("");
  if (state.at + 1 < state.queue.length) await go(state.at + 1);
  else say("That was the last one.");
}

// Hands and keys -----------------------------------------------------------------------------------------------------

stage.onPick = select;
stage.onStroke = (stroke) => {
  if (!stroke) return drawStrokes(strokes());
  const { removed, added, strokes: drawn } = state.edit;
  change({ removed: removed.filter((label) => label !== stage.selected), added, strokes: { ...drawn, [stage.selected]: [...strokes(), stroke] } });
};

function choose(tool) {
  $(tool).checked = true;
  ring();
}

const numbered = (number) => $("legend").querySelectorAll(".class")[number - 1]?.click();
const KEYS = {
  a: () => decide("accepted"), r: () => decide("rejected"), arrowright: () => go(state.at + 1), arrowleft: () => go(state.at - 1),
  x: () => stage.selected !== null && toggled(stage.selected), l: () => choose("look"), o: () => choose("foreground"), b: () => choose("background"),
  z: () => step(state.history, state.undone), y: () => step(state.undone, state.history),
  m: () => { $("opacity").value = Number($("opacity").value) ? 0 : 1; opacity(); }, f: () => reset(),
  "[": () => { $("brush").stepDown(3); ring(); }, "]": () => { $("brush").stepUp(3); ring(); },
  "+": () => zoomTo(stage.zoom * 1.5), "-": () => zoomTo(stage.zoom / 1.5), escape: drop,
  "?": () => { const keys = document.querySelector("details"); keys.open = !keys.open; },
};

function opacity() { $("masks").style.opacity = $("opacity").value; }

addEventListener("keydown", (event) => {
  if (event.target.matches("input:not([type=range], [type=radio], [type=checkbox]), select") || event.altKey || !state.open) return;
  const key = event.key.toLowerCase();
  if ((event.ctrlKey || event.metaKey) && key !== "z" && key !== "y") return;
  const does = (event.ctrlKey || event.metaKey) && event.shiftKey && key === "z" ? KEYS.y : /^[1-9]$/.test(key) ? () => numbered(Number(key)) : KEYS[key];
  if (!does || (event.target.matches("[type=range], [type=radio]") && key.startsWith("arrow"))) return;
  event.preventDefault();
  does();
});

for (const tool of ["look", "foreground", "background"]) $(tool).addEventListener("change", () => ring());
for (const id of ["class", "show", "order"]) $(id).addEventListener("change", () => go(refilter(current()?.name)));
for (const [id, does] of Object.entries({
  accept: KEYS.a, reject: KEYS.r, next: KEYS.arrowright, previous: KEYS.arrowleft, undo: KEYS.z, redo: KEYS.y, fit: KEYS.f,
  untouch: () => change(NOTHING),
})) $(id).addEventListener("click", does);
$("opacity").addEventListener("input", opacity);
$("outline").addEventListener("change", paint);
$("add").addEventListener("submit", (event) => {
  event.preventDefault();
  const label = $("another").value.trim();
  $("another").value = "";
  const { removed, added, strokes: drawn } = state.edit;
  if (removed.includes(label)) return toggled(label);
  if (state.open.objects.some((object) => object.label === label)) return select(label);
  stage.selected = label;
  change({ removed, added: [...added, label], strokes: drawn });
});
addEventListener("beforeunload", (event) => { if (later) event.preventDefault(); });

async function start() {
  state.run = await (await call("/api/run")).json();
  $("run").textContent = state.run.run;
  document.title = `gradcut: ${state.run.run}`;
  const seen = [...new Set(state.run.photographs.flatMap(({ labels }) => labels))].sort();
  $("class").append(...seen.map((label) => make("option", { value: label }, label)));
  $("labels").replaceChildren(...state.run.classes.map((label) => make("option", { value: label })));
  listen();
  showCount();
  await go(refilter(null));
  document.body.dataset.ready = "yes";
}

start().catch(fail);
