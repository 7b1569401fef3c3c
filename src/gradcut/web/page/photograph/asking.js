// Asking the server for masks: one request at a time, and what is changed meanwhile goes into the next.

import { $, call } from "/talk.js";
import { classifier, state } from "/photograph/state.js";
import { fail, say } from "/photograph/status.js";

const STEPS = {
  waiting: (n) => `Waiting in line, ${n} before you`,
  reading: () => "Reading the words",
  asking: () => `Asking ${$("classifier").value} what it sees`,
  cutting: (n) => (n ? `Waiting for the cut, ${n} before you` : "Cutting"),
};

// Who shows what comes: called with the number of the recipe (0, or 1 for the one it is compared with), its name and
// the answer; and, when all are there, with the first answer and how many there are.
export const shown = { one: () => {}, all: () => {} };

export function request(recipe, own) {
  const moved = own && !$("high").disabled && $("high").dataset.moved;
  return JSON.stringify({
    photograph: state.photograph.photograph,
    classifier: $("classifier").value,
    words: state.words[$("classifier").value] ?? null,
    recipe,
    label: state.label,
    // The classifier's own, unless it was moved: the slider has two digits only.
    threshold: $("threshold").dataset.moved ? Number($("threshold").value) : Math.max(state.page.floor, classifier().threshold),
    foreground: moved ? Number($("high").value) : null,
    background: moved ? Number($("low").value) : null,
    strokes: Object.fromEntries(Object.entries(state.strokes).filter(([, each]) => each.length)),
  });
}

// A server that was started again, or has made room, no longer has the photograph: it is sent once more.
export async function again(asks) {
  try {
    return await asks();
  } catch (error) {
    if (error.status !== 404 || !state.photograph) throw error;
    say("Sending the photograph again", true);
    Object.assign(state.photograph, await state.photograph.send(leaving.signal));
    return asks();
  }
}

async function segment(recipe, own, signal) {
  const late = setTimeout(() => say("Waiting for the server", true), 500);
  const asks = () => call("/api/segment", { method: "POST", body: request(recipe, own), signal });
  const answer = await again(asks).finally(() => clearTimeout(late));
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "", last = null;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    text += value;
    const lines = text.split("\n");
    text = lines.pop();
    for (const line of lines) {
      last = JSON.parse(line);
      if (last.state in STEPS) say(STEPS[last.state](last.ahead), true);
    }
  }
  if (last?.state === "error") throw new Error(last.message);
  if (last?.state !== "done") throw new Error("The server broke off its answer; try again.");
  return last;
}

let running = null, wanted = false, others = 0, leaving = new AbortController();

const showBusy = () => $("result").setAttribute("aria-busy", Boolean(running) || others > 0);

// The result is busy while other work is under way, too: another photograph is coming.
export async function during(work) {
  others += 1;
  showBusy();
  try {
    return await work();
  } finally {
    others -= 1;
    showBusy();
  }
}

// Who looks at something else does not wait for the end of what was asked for before.
export function leave() {
  leaving.abort();
  leaving = new AbortController();
  return leaving.signal;
}

export function restart() {
  leave();
  update();
}

export function cancel() {
  wanted = false;
  leave();
  say("Cancelled.");
}

export function update() {
  if (!state.photograph) return;
  wanted = true;
  running ??= (async () => {
    while (wanted) {
      wanted = false;
      const { signal } = leaving;
      try {
        await once(signal);
      } catch (error) {
        if (error.name !== "AbortError") fail(error);
      }
    }
    running = null;
    showBusy();
  })();
  showBusy();
}

async function once(signal) {
  const { photograph, label } = state;
  const names = [$("recipe").value, $("compare").value].filter(Boolean);
  let first = null;
  for (const [number, name] of names.entries()) {
    const seen = await segment(name, number === 0, signal);
    // What was chosen meanwhile is asked for next.
    if (photograph !== state.photograph || (number === 0 && label !== state.label)) return;
    first ??= seen;
    shown.one(number, name, seen);
  }
  $("error").textContent = state.note;
  $("error").hidden = !state.note;
  shown.all(first, names.length);
}
