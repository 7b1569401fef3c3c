// What a person changes of a photograph: every change is shown, can be taken back, and is saved as one goes.

import { send } from "/talk.js";
import { $, NOTHING, changed, current, fail, say, state, there } from "/run/state.js";
import { decoded, drawStrokes, stage } from "/run/stage.js";

let looking = null, saving = Promise.resolve(), later = 0;

export const drawn = () => state.edit.strokes[stage.selected] ?? [];

export function change(edit) {
  if (!there()) return null;
  state.history.push(state.edit);
  state.undone = [];
  state.edit = { ...state.edit, ...edit };
  return look();
}

function step(from, to) {
  if (!from.length || !there()) return;
  to.push(state.edit);
  state.edit = from.pop();
  look();
}

export const undo = () => step(state.history, state.undone);
export const redo = () => step(state.undone, state.history);
export const untouch = () => change(NOTHING);

const without = (list, label) => list.filter((other) => other !== label);

// Removed, or brought back. One that a person has added goes with its strokes and with what it was given.
export function toggle(label) {
  const { removed, added, painted, strokes, edits } = state.edit;
  if (painted.includes(label) || added.includes(label)) {
    const { [label]: _, ...others } = strokes;
    return change({ added: without(added, label), painted: without(painted, label), strokes: others, edits: edits.filter((edit) => edit.label !== label && edit.to !== label) });
  }
  return change({ removed: removed.includes(label) ? without(removed, label) : [...removed, label] });
}

export const known = (label) => state.open.objects.some((object) => object.label === label) || state.edit.painted.includes(label);

// A class of the photograph that is called so, whatever its case; also one that was removed.
export function alike(label) {
  const all = [...state.open.objects.map((object) => object.label), ...state.edit.painted, ...state.edit.removed];
  return all.find((other) => other.toLowerCase() === label.toLowerCase());
}

let chosenBefore = null; // comes back where a class cannot be had

export function find(label) {
  chosenBefore = stage.selected;
  stage.selected = label;
  return state.edit.removed.includes(label) ? toggle(label) : change({ added: [...state.edit.added, label] });
}

// A class that the classifier is not asked for: what is painted of it, or given to it.
export function paintNew(label) {
  stage.selected = label;
  return change({ painted: [...state.edit.painted, label] });
}

// The latest stroke of a class stands last, so that it covers those of others.
export function addStroke(stroke) {
  const { [stage.selected]: before = [], ...others } = state.edit.strokes;
  const bringsBack = state.edit.painted.includes(stage.selected) ? state.edit.removed : without(state.edit.removed, stage.selected);
  return change({ removed: bringsBack, strokes: { ...others, [stage.selected]: [...before, stroke] } });
}

function exact(edit, more = {}) {
  const after = Object.fromEntries(Object.entries(state.edit.strokes).map(([label, strokes]) => [label, strokes.length]));
  return change({ ...more, edits: [...state.edit.edits, { to: null, at: null, ...edit, after }] });
}

export const fill = (label) => exact({ kind: "fill", label });
export const crumbs = (label) => exact({ kind: "crumbs", label });
export function give(label, at, to) {
  const painted = to === null || known(to) ? state.edit.painted : [...state.edit.painted, to];
  if (to !== null && !at) stage.selected = to;
  return exact({ kind: "give", label, to, at }, { painted });
}

async function look() {
  looking?.abort();
  const asked = (looking = new AbortController()), { open, edit } = state, item = current();
  state.show();
  const slow = setTimeout(() => say("Cutting", true), 400);
  try {
    const seen = await send("/api/run/look", { photograph: open.photograph, ...edit }, asked.signal);
    const layer = await decoded(seen);
    if (open !== state.open || asked.signal.aborted) return;
    Object.assign(open, { objects: seen.objects, colours: seen.colours, idle: seen.idle });
    stage.now = layer;
    if (edit.added.includes(stage.selected) && !seen.added.includes(stage.selected)) stage.selected = seen.added.at(-1);
    state.edit = { ...edit, added: seen.added, painted: seen.painted };
    if (!known(stage.selected) && !edit.removed.includes(stage.selected)) stage.selected = seen.objects[0]?.label ?? null;
    $("error").hidden = true;
    say(nothing(seen.idle));
    state.show();
    clearTimeout(later);
    const wanted = changed() ? "corrected" : "untouched";
    later = setTimeout(() => keep(item, open, wanted), 700);
  } catch (error) {
    if (error.name !== "AbortError" && edit === state.edit && open === state.open) { // one can go on from before
      state.undone.push(edit);
      state.edit = state.history.pop() ?? NOTHING;
      if (edit.added.length > state.edit.added.length) error.message = `${error.message.replace(/\.$/, "")}. Paint takes any name.`;
      if (!known(stage.selected)) stage.selected = known(chosenBefore) ? chosenBefore : open.objects[0]?.label ?? null;
      state.show();
    }
    fail(error);
  } finally {
    clearTimeout(slow);
  }
}

function nothing(idle) {
  const { edits } = state.edit;
  if (!idle.length) return "";
  const [what] = { give: ["no such region"], fill: ["no hole"], crumbs: ["no crumb"] }[edits[idle.at(-1)].kind];
  return idle.at(-1) === edits.length - 1 ? `There is ${what} in ${edits.at(-1).label}.` : `${idle.length} of the earlier edits find nothing any more.`;
}

export function dropLook() { looking?.abort(); }

// What is kept -------------------------------------------------------------------------------------------------------

function keep(item, open, wanted) {
  clearTimeout(later);
  later = 0;
  const { edit } = state;
  saving = saving.then(async () => {
    if (wanted === "untouched" && open.revision === 0) return;
    const saved = await send("/api/run/save", { photograph: open.photograph, state: wanted, revision: open.revision, ...edit });
    open.revision = saved.revision;
    if (item.state === "untouched" && saved.state !== "untouched") state.decided += 1;
    item.state = saved.state;
    if (open !== state.open) return;
    if (saved.idle?.some((place) => !open.idle?.includes(place))) say("At the photograph's own size an edit finds nothing.");
    state.show();
  }).catch((error) => {
    fail(error);
    if (open === state.open) delete document.body.dataset.shown; // its thumbnail fetches it anew
  });
  return saving;
}

export const waits = () => later !== 0;

// What waits to be saved is, before one goes on.
export async function kept() {
  if (later) keep(current(), state.open, changed() ? "corrected" : "untouched");
  await saving;
}

// True once it is saved.
export async function decide(wanted) {
  if (!there()) return false;
  dropLook(); // its answer would be saved over the decision
  clearTimeout(later);
  later = 0;
  say("Saving", true);
  $("error").hidden = true;
  await keep(current(), state.open, wanted);
  if (!$("error").hidden) return false;
  say("");
  return true;
}

export const redraw = () => drawStrokes(drawn());
