// The page of gradcut. What is chosen and painted lives here; the server keeps photographs and saliency only, so each
// request carries all of it, undo is a list of earlier strokes, and two tabs cannot disturb each other.

import { call, make } from "/talk.js";

const $ = (id) => document.getElementById(id);
const RED = "rgba(240, 50, 60, .8)", BLUE = "rgba(50, 110, 240, .8)";
const STEPS = { waiting: (n) => `Waiting in line, ${n} before you`, reading: () => "Reading the words", asking: () => `Asking ${$("classifier").value}`, cutting: (n) => (n ? `Waiting for the cut, ${n} before you` : "Cutting") };

const state = {
  page: null,          // what the server offers
  words: {},           // by classifier of words: the classes asked for, instead of its own
  photograph: null,    // {photograph, name, width, height, url}
  label: null,         // the class that is looked at; null: the best one
  strokes: {},         // by label: the strokes in order
  history: {},         // by label: the lists of strokes before this one
  rows: [],            // the panels of the recipe, and of the one it is compared with
  drawing: null,       // the stroke under the pointer
  pointer: null,       // whose it is: a second finger paints nothing
  note: "",            // what there is to say beside a result
  cursor: { x: 0.5, y: 0.5, down: false },
};

// Talking to the server ----------------------------------------------------------------------------------------------

function request(recipe, own) {
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

async function segment(recipe, own, signal) {
  const late = setTimeout(() => say("Waiting for the server", true), 500);
  const answer = await call("/api/segment", { method: "POST", body: request(recipe, own), signal }).finally(() => clearTimeout(late));
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

// One request at a time: what is changed while one is under way goes into the next. Who looks at something else does not
// wait for the end of what was asked for before.
let running = null, again = false, leaving = new AbortController();

function restart() {
  leaving.abort();
  update();
}

function cancel() {
  again = false;
  leaving.abort();
  $("result").setAttribute("aria-busy", "false");
  say("Cancelled.");
}

function update() {
  if (!state.photograph) return;
  again = true;
  $("result").setAttribute("aria-busy", "true");
  running ??= (async () => {
    while (again) {
      again = false;
      leaving = new AbortController();
      try {
        await once(leaving.signal);
      } catch (error) {
        if (error.name !== "AbortError") fail(error);
      }
    }
    running = null;
    $("result").setAttribute("aria-busy", "false");
  })();
}

async function once(signal) {
  const { photograph, label } = state;
  const names = [$("recipe").value, $("compare").value].filter(Boolean);
  let first = null;
  for (const [number, name] of names.entries()) {
    const seen = await segment(name, number === 0, signal);
    // What was chosen meanwhile is asked for next.
    if (photograph !== state.photograph || (number === 0 && label !== state.label)) return;
    if (number === 0) {
      first = seen;
      state.label = seen.label;
      showClasses(seen);
    }
    showRow(number, name, seen);
  }
  while (state.rows.length > names.length) state.rows.pop().element.remove();
  for (const { element, heading } of state.rows) {
    heading.hidden = state.rows.length < 2;
    element.classList.remove("stale");
  }
  $("error").textContent = state.note;
  $("error").hidden = !state.note;
  showFigures(first);
}

let since = 0, step = "", ticking = 0;

function say(text, busy = false) {
  if (!busy || text !== step) since = performance.now();
  step = text;
  const tell = () => {
    const seconds = Math.floor((performance.now() - since) / 1000);
    $("status").textContent = busy ? `${text} …${seconds ? ` ${seconds} s` : ""}` : text;
  };
  $("status").classList.toggle("busy", busy);
  $("cancel").hidden = !busy;
  clearInterval(ticking);
  if (busy) ticking = setInterval(tell, 1000);
  tell();
}

function fail(error) {
  say("");
  $("error").textContent = error.message || String(error);
  $("error").hidden = false;
}

addEventListener("error", (event) => fail(new Error(`The page failed: ${event.message}`)));
addEventListener("unhandledrejection", (event) => fail(new Error(`The page failed: ${event.reason?.message ?? event.reason}`)));

// Photographs --------------------------------------------------------------------------------------------------------

async function take(send, note = "") {
  try {
    state.note = note;
    $("error").hidden = true;
    leaving.abort();
    leaving = new AbortController();
    const { signal } = leaving;
    const sent = await send(signal);
    say("Fetching the photograph", true);
    const shown = await call(`/api/photograph/${sent.photograph}`, { signal });
    if (state.photograph) URL.revokeObjectURL(state.photograph.url);
    state.photograph = { ...sent, url: URL.createObjectURL(await shown.blob()) };
    Object.assign(state, { label: null, strokes: {}, history: {}, drawing: null, pointer: null, cursor: { x: 0.5, y: 0.5, down: false } });
    for (const { element } of state.rows.splice(0)) element.remove();
    $("panels").style.setProperty("--ratio", sent.width / sent.height);
    $("classes").replaceChildren();
    $("result").hidden = false;
    restart();
  } catch (error) {
    if (error.name === "AbortError") return;
    fail(error);
    if (state.photograph) $("error").textContent += ` Below is still ${state.photograph.name}.`;
  }
}

function upload(files) {
  const [file] = files;
  if (!file) return;
  const others = files.length - 1;
  take(async (signal) => {
    if (!state.page) throw new Error("The page is not ready yet; try again in a moment.");
    if (file.size > state.page.megabytes * 1e6) {
      throw new Error(`${file.name} is ${(file.size / 1e6).toFixed(1)} MB; the limit is ${state.page.megabytes} MB. Choose a smaller file.`);
    }
    say("Sending the photograph", true);
    return (await call("/api/photograph", { method: "POST", body: file, signal, headers: { "x-name": encodeURIComponent(file.name) } })).json();
  }, others ? `One photograph at a time: this is ${file.name}; ${others} more ${others === 1 ? "was" : "were"} left out.` : "");
}

$("file").addEventListener("change", () => { upload([...$("file").files]); $("file").value = ""; });
$("example").addEventListener("click", () => take(async (signal) => {
  say("Fetching the espresso", true);
  return (await call("/api/example", { method: "POST", signal })).json();
}));
for (const type of ["dragover", "drop", "dragleave"]) {
  addEventListener(type, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", type === "dragover");
    if (type !== "drop") return;
    if (event.dataTransfer.files.length) upload([...event.dataTransfer.files]);
    else fail(new Error("What was dropped is no file; save the photograph first, and drop it from its folder."));
  });
}
addEventListener("paste", (event) => upload([...event.clipboardData.files]));

// What is shown ------------------------------------------------------------------------------------------------------

function showClasses(seen) {
  const focused = document.activeElement?.dataset?.label;
  const buttons = seen.classes.map(({ label, score, found, unsure }) => {
    const title = [found ? "" : "not detected", unsure].filter(Boolean).join("; ");
    const button = make("button", { type: "button", className: found ? "found" : "", title }, label, make("small", {}, score.toFixed(2)));
    if (unsure) button.append(make("small", { className: "unsure" }, "unsure"));
    button.dataset.label = label;
    button.setAttribute("aria-pressed", label === seen.label);
    button.addEventListener("click", () => look(label));
    return button;
  });
  $("classes").replaceChildren(...buttons);
  if (focused) buttons.find((button) => button.dataset.label === focused)?.focus();
}

function look(label) {
  state.label = label;
  state.cursor.down = false;
  state.drawing = null;
  for (const button of $("classes").children) button.setAttribute("aria-pressed", button.dataset.label === label);
  showHistory();
  restart();
}

function showFigures(seen) {
  const seconds = Object.values(seen.seconds).reduce((sum, value) => sum + value, 0);
  const unsure = seen.classes.some((other) => other.label === seen.label && other.unsure);
  const expected = seen.confidence === null ? "" : `, expected IoU ${seen.confidence.toFixed(2)}${unsure ? " (unsure)" : ""}`;
  $("figures").textContent = `${seen.label}: score ${seen.score.toFixed(3)}, ${(100 * seen.share).toFixed(1)} % of the photograph${expected}; ${seconds.toFixed(2)} s`;
  if (seen.blank) {
    $("figures").textContent = `${seen.label}: score ${seen.score.toFixed(3)}, no mask; ${seconds.toFixed(2)} s`;
    return say(seen.blank);
  }
  const best = seen.classes.some(({ found }) => found) ? "" : `Nothing reaches the least score of ${$("threshold").value}; `;
  say(best ? `${best}looking at ${seen.label} all the same.` : `${seen.label}: the mask covers ${(100 * seen.share).toFixed(0)} % of the photograph${unsure ? ", and is unsure" : ""}.`);
}

function newRow() {
  const heading = make("h2");
  const photograph = () => make("img", { className: "photograph", alt: "", src: state.photograph.url });
  const picture = (className) => make("img", { className, alt: "", hidden: true });
  const [mask, saliency, seeds] = [picture("mask"), picture("saliency"), picture("seeds")];
  const blank = make("p", { className: "blank", hidden: true });
  const canvas = make("canvas", { tabIndex: 0 });
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-label", "Mask: paint with the arrow keys and the space bar");
  const grey = photograph();
  grey.classList.add("grey");
  const cross = () => make("div", { className: "cross" });
  const frames = [
    make("div", { className: "frame" }, photograph(), mask, blank, canvas, cross()),
    make("div", { className: "frame" }, photograph(), saliency, cross()),
    make("div", { className: "frame" }, grey, seeds, cross()),
  ];
  const element = make("section", { className: "row stale" }, heading,
    ...frames.map((frame, number) => make("figure", {}, frame, make("figcaption", {}, ["Mask", "Saliency", "Seeds"][number]))));
  $("panels").append(element);
  listen(canvas);
  for (const frame of frames) {
    frame.addEventListener("pointermove", (event) => point(place(event, frame)));
    frame.addEventListener("pointerleave", () => $("panels").classList.remove("pointing"));
  }
  new ResizeObserver(() => draw()).observe(canvas);
  return { element, heading, mask, saliency, seeds, blank, canvas };
}

function showRow(number, name, seen) {
  const row = (state.rows[number] ??= newRow());
  row.heading.replaceChildren(`${name} `, make("span", {}, seen.blank ? "blank" : `${(100 * seen.share).toFixed(1)} % of the photograph`));
  row.element.setAttribute("aria-label", `${seen.label}, recipe ${name}`);
  for (const kind of ["mask", "saliency", "seeds"]) {
    row[kind].hidden = !(kind in seen);
    if (!(kind in seen)) continue;
    row[kind].src = seen[kind];
    row[kind].alt = `${kind} of ${seen.label}`;
  }
  row.blank.textContent = seen.blank ?? "";
  row.blank.hidden = !seen.blank;
  draw();
  showHistory();
}

function showHistory() {
  $("undo").disabled = !(state.history[state.label]?.length);
  $("clear").disabled = !(state.strokes[state.label]?.length);
}

// Painting -----------------------------------------------------------------------------------------------------------

const tool = () => document.querySelector("[name=tool]:checked").value;
const radius = () => (Number($("brush").value) / 100) * Math.max(state.photograph.width, state.photograph.height);

function place(event, element) {
  const box = element.getBoundingClientRect();
  return { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
}

function point({ x, y }) {
  $("panels").style.setProperty("--x", x);
  $("panels").style.setProperty("--y", y);
  $("panels").classList.add("pointing");
}

function begin({ x, y }) {
  state.drawing = { kind: tool(), radius: radius(), points: [] };
  extend({ x, y });
}

function extend({ x, y }) {
  const { width, height } = state.photograph;
  const next = [Math.round(10 * x * width) / 10, Math.round(10 * y * height) / 10];
  const last = state.drawing.points.at(-1);
  if (last && Math.hypot(next[0] - last[0], next[1] - last[1]) < state.drawing.radius / 4) return;
  state.drawing.points.push(next);
  draw();
}

function finish() {
  if (!state.drawing || state.label === null) { state.drawing = null; return; }
  change([...(state.strokes[state.label] ?? []), state.drawing]);
}

function drop() {
  state.drawing = state.pointer = null;
  state.cursor.down = false;
  draw();
}

function change(strokes) {
  (state.history[state.label] ??= []).push(state.strokes[state.label] ?? []);
  state.strokes[state.label] = strokes;
  state.drawing = null;
  draw();
  showHistory();
  update();
}

function undo() {
  const before = state.history[state.label]?.pop();
  if (!before) return;
  state.strokes[state.label] = before;
  draw();
  showHistory();
  update();
}

function listen(canvas) {
  canvas.addEventListener("pointerdown", (event) => {
    if (!event.isPrimary) return drop();  // two fingers mean something else
    if (tool() === "look" || event.button !== 0 || state.label === null) return;
    canvas.setPointerCapture(event.pointerId);
    state.pointer = event.pointerId;
    begin(place(event, canvas));
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!state.drawing || state.cursor.down || event.pointerId !== state.pointer) return;
    for (const each of event.getCoalescedEvents?.() ?? [event]) extend(place(each, canvas));
  });
  canvas.addEventListener("pointerup", (event) => { if (!state.cursor.down && event.pointerId === state.pointer) finish(); });
  canvas.addEventListener("pointercancel", drop);
  canvas.addEventListener("focus", () => { if (canvas.matches(":focus-visible")) point(state.cursor); });
  canvas.addEventListener("blur", () => { if (state.cursor.down) { state.cursor.down = false; finish(); } });
  canvas.addEventListener("keydown", (event) => {
    const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
    const { cursor } = state;
    if (dx || dy) {
      const length = event.shiftKey ? 0.06 : 0.012, ratio = state.photograph.width / state.photograph.height;
      cursor.x = Math.min(1, Math.max(0, cursor.x + dx * length));
      cursor.y = Math.min(1, Math.max(0, cursor.y + dy * length * ratio));
      point(cursor);
      if (cursor.down) extend(cursor);
    } else if (event.key === " ") {
      if (tool() === "look") choose("foreground");
      if (cursor.down) { cursor.down = false; finish(); } else { cursor.down = true; begin(cursor); }
    } else return;
    event.preventDefault();
  });
}

function draw() {
  if (!state.photograph) return;
  for (const { canvas } of state.rows) {
    const scale = devicePixelRatio || 1;
    canvas.width = Math.max(1, Math.round(canvas.clientWidth * scale));
    canvas.height = Math.max(1, Math.round(canvas.clientHeight * scale));
    const context = canvas.getContext("2d");
    context.scale(canvas.width / state.photograph.width, canvas.height / state.photograph.height);
    context.lineCap = context.lineJoin = "round";
    for (const stroke of [...(state.strokes[state.label] ?? []), ...(state.drawing ? [state.drawing] : [])]) {
      context.strokeStyle = stroke.kind === "foreground" ? RED : BLUE;
      context.lineWidth = 2 * stroke.radius;
      context.beginPath();
      context.moveTo(...stroke.points[0]);
      for (const each of stroke.points) context.lineTo(...each);
      context.stroke();
    }
  }
}

function choose(name) {
  $(name).checked = true;
  $("panels").classList.toggle("looking", name === "look");
}

for (const name of ["look", "foreground", "background"]) $(name).addEventListener("change", () => choose(name));
$("undo").addEventListener("click", undo);
$("clear").addEventListener("click", () => change([]));
$("hide").addEventListener("click", () => {
  const hiding = $("panels").classList.toggle("hiding");
  $("hide").setAttribute("aria-pressed", hiding);
});

addEventListener("keydown", (event) => {
  if (event.key === "Escape") return state.drawing ? drop() : $("cancel").hidden || cancel();
  if (event.target.matches("input:not([type=range], [type=radio]), select") || event.altKey || !state.photograph) return;
  const key = event.key.toLowerCase();
  if ((event.ctrlKey || event.metaKey) && key !== "z") return;
  const brush = $("brush");
  const does = {
    l: () => choose("look"), o: () => choose("foreground"), b: () => choose("background"), z: undo, m: () => $("hide").click(),
    "[": () => { brush.stepDown(3); tell(brush); }, "]": () => { brush.stepUp(3); tell(brush); },
  }[key];
  if (!does) return;
  event.preventDefault();
  does();
});

// Menus and sliders --------------------------------------------------------------------------------------------------

function tell(slider) {
  const unit = { high: seedUnit(), low: seedUnit(), brush: "%" }[slider.id] ?? "";
  const value = Number(slider.value);
  document.querySelector(`output[for=${slider.id}]`).textContent = unit === "max" ? `${Math.round(100 * value)} %` : unit === "%" ? `${value.toFixed(1)} %` : unit === "th" ? `${value}th` : value.toFixed(2);
}

const recipe = (name) => state.page.recipes.find((each) => each.name === name);
const classifier = () => state.page.classifiers.find((each) => each.name === $("classifier").value);
const seedUnit = () => ({ percentile: "th", "of the maximum": "max" })[recipe($("recipe").value)?.seeds?.unit] ?? "";

function showRecipe() {
  const { seeds, summary } = recipe($("recipe").value);
  $("recipe-line").textContent = summary;
  $("compare-line").textContent = $("compare").value ? recipe($("compare").value).summary : "";
  for (const [id, own] of [["high", seeds?.foreground], ["low", seeds?.background]]) {
    const slider = $(id);
    slider.disabled = !seeds;
    Object.assign(slider, { min: 0, max: seeds?.top ?? 1, step: (seeds?.top ?? 1) / 100 });
    slider.value = own ?? 0;
    delete slider.dataset.moved;
    tell(slider);
  }
  $("seed-line").textContent = seeds ? { percentile: "Seeds by percentiles of the saliency", "of the maximum": "Seeds by shares of the saliency's maximum" }[seeds.unit] : "This recipe has no such seeds";
}

function showClassifier() {
  const { summary, threshold, words } = classifier();
  const labels = state.words[$("classifier").value] ?? classifier().labels;
  $("classifier-line").textContent = summary;
  $("words-form").hidden = !words;
  $("words").value = labels.join(", ");
  $("threshold").value = threshold;
  delete $("threshold").dataset.moved;
  tell($("threshold"));
  $("labels").replaceChildren(...labels.map((label) => make("option", { value: label })));
}

$("recipe").addEventListener("change", () => { showRecipe(); restart(); });
$("compare").addEventListener("change", () => { showRecipe(); restart(); });
$("classifier").addEventListener("change", () => { showClassifier(); state.label = null; restart(); });
$("cancel").addEventListener("click", cancel);
$("words-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const words = $("words").value.split(",").map((word) => word.trim()).filter(Boolean);
  if (!words.length) return;
  state.words[$("classifier").value] = words;
  state.label = null;
  showClassifier();
  restart();
});
$("reset").addEventListener("click", () => { showRecipe(); showClassifier(); update(); });
$("ask").addEventListener("submit", (event) => { event.preventDefault(); look($("another").value.trim()); });
$("threshold").addEventListener("input", () => { $("threshold").dataset.moved = "yes"; tell($("threshold")); update(); });
for (const [id, other] of [["high", "low"], ["low", "high"]]) {
  $(id).addEventListener("input", () => {
    // Background below more than object above would leave nothing between: one slider pushes the other.
    if (Number($("low").value) > Number($("high").value)) $(other).value = $(id).value;
    $("high").dataset.moved = "yes";
    tell($(id));
    tell($(other));
    update();
  });
}
$("brush").addEventListener("input", () => tell($("brush")));

async function download(kind) {
  try {
    const answer = await call(`/api/download/${kind}`, { method: "POST", body: request($("recipe").value, true) });
    const name = /filename="([^"]+)"/.exec(answer.headers.get("content-disposition"))[1];
    const url = URL.createObjectURL(await answer.blob());
    make("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
    say(`${name} is on its way.`);
  } catch (error) {
    fail(error);
  }
}

async function start() {
  state.page = await (await call("/api/page")).json();
  const option = ({ name }) => make("option", { value: name }, name);
  $("recipe").append(...state.page.recipes.map(option));
  $("recipe").value = state.page.recipe;
  $("compare").append(make("option", { value: "" }, "nothing"), ...state.page.recipes.map(option));
  $("classifier").append(...state.page.classifiers.map(option));
  $("downloads").append(...state.page.downloads.map(({ kind, name }) => {
    const button = make("button", { type: "button", id: `download-${kind}` }, name);
    button.addEventListener("click", () => download(kind));
    return button;
  }));
  $("threshold").min = state.page.floor;
  choose(matchMedia("(pointer: coarse)").matches ? "look" : "foreground");
  tell($("brush"));
  showRecipe();
  showClassifier();
  document.body.dataset.ready = "yes";
}

start().catch(fail);
