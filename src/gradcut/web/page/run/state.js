// What the page of a run knows, and what it says. The other modules change it; `state.show` draws it anew.

export const $ = (id) => document.getElementById(id);

export const NOTHING = { removed: [], added: [], painted: [], strokes: {}, edits: [] };

export const state = {
  run: null,       // {run, classes, words, photographs}
  queue: [],       // those that the filters leave, in order
  at: -1,          // which of them is looked at
  open: null,      // what the server said when it was opened, with url
  edit: NOTHING,   // what was changed, as the server reads it
  history: [], undone: [],
  decided: 0, since: performance.now(),
  show: () => {},
};

export const current = () => state.queue[state.at];

// Until the photograph is there, nothing can be changed.
export const there = () => state.open !== null && current()?.name === document.body.dataset.shown;

export function changed() {
  const { strokes, ...lists } = state.edit;
  return Object.values(lists).some((list) => list.length) || Object.values(strokes).some((drawn) => drawn.length);
}

export function say(text, busy = false) {
  $("status").textContent = text;
  $("status").classList.toggle("busy", busy);
}

export function fail(error) {
  if (error.name === "AbortError") return;
  say("");
  $("error").textContent = error.message || String(error);
  $("error").hidden = false;
}
