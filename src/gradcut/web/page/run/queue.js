// The photographs of the run: which are gone through, in which order, and the one that is open.

import { call, fetched, make, send } from "/talk.js";
import { $, current, fail, say, state } from "/run/state.js";
import { decoded, showPhotograph, stage } from "/run/stage.js";
import { dropLook, kept } from "/run/changes.js";

const MARKS = { accepted: "✓", corrected: "✎", rejected: "✕", untouched: "" };
const ahead = new Map(); // photographs that were opened before they are looked at
let leaving = new AbortController();

export function refilter(name) {
  const label = $("class").value, show = $("show").value;
  state.queue = state.run.photographs.filter((item) => (!label || item.labels.includes(label)) && (!show || item.state === show));
  if ($("order").value === "name") state.queue.sort((a, b) => a.name.localeCompare(b.name));
  // One goes on where one stopped.
  const first = state.queue.findIndex((item) => item.name === name);
  return first >= 0 ? first : Math.max(0, state.queue.findIndex((item) => item.state === "untouched"));
}

export function showCount() {
  const done = state.run.photographs.filter((item) => item.state !== "untouched").length;
  const minutes = (performance.now() - state.since) / 60000;
  const rate = state.decided > 1 ? `, ${(state.decided / minutes).toFixed(0)} a minute` : "";
  $("count").textContent = `${done} of ${state.run.photographs.length} decided${rate}`;
}

// Only what is near is there: a run may have thousands.
export function showStrip() {
  const from = Math.max(0, state.at - 12), to = Math.min(state.queue.length, state.at + 25);
  const before = new Map([...$("strip").children].map((button) => [button.title, button]));
  const buttons = state.queue.slice(from, to).map((item, offset) => {
    const picture = before.get(item.name)?.querySelector("img") ?? make("img", { src: fetched(`/api/run/thumbnail/${encodeURIComponent(item.name)}`), loading: "lazy", alt: "" });
    const button = make("button", { type: "button", className: item.state, title: item.name }, picture);
    if (MARKS[item.state]) button.append(make("i", {}, MARKS[item.state]));
    button.setAttribute("aria-label", `${item.name}, ${item.state}`);
    button.setAttribute("aria-current", from + offset === state.at);
    button.addEventListener("click", () => go(from + offset));
    return button;
  });
  const left = $("strip").scrollLeft, focused = $("strip").contains(document.activeElement);
  $("strip").replaceChildren(...buttons);
  const here = buttons[state.at - from];
  $("strip").scrollLeft = here ? here.offsetLeft - ($("strip").clientWidth - here.offsetWidth) / 2 : left;
  if (focused) here?.focus({ preventScroll: true });
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

export async function go(at) {
  if (at < 0 || at >= state.queue.length) return say(state.queue.length ? "There is no photograph further on." : "No photograph is like that.");
  await kept();
  if (state.queue[at].name === document.body.dataset.shown) {
    state.at = at;
    return state.show();
  }
  delete document.body.dataset.shown; // until it is there, nothing can be changed
  leaving.abort();
  dropLook();
  leaving = new AbortController();
  const { signal } = leaving;
  state.at = at;
  showStrip();
  $("error").hidden = true;
  const item = current();
  try {
    say("Fetching the photograph", true);
    const known = await opened(item.name, signal);
    const now = await decoded(known), before = known.found ? await decoded(known.found) : now;
    if (signal.aborted) return;
    if (state.open) URL.revokeObjectURL(state.open.url);
    state.open = known;
    item.state = known.state; // another window may have decided
    const { removed, added, painted, strokes, edits } = known;
    Object.assign(state, { edit: { removed, added, painted, strokes, edits }, history: [], undone: [] });
    Object.assign(stage, { now, before, selected: known.objects[0]?.label ?? [...added, ...painted][0] ?? null });
    await showPhotograph(known.url, known.width, known.height);
    if (signal.aborted) return;
    state.show();
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
