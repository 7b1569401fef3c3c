// A finished run, photograph by photograph: look, mend, decide. Here the buttons and keys are bound to what they do.

import { call, make } from "/talk.js";
import { $, fail, say, state, there } from "/run/state.js";
import { client, paint, reset, stage, under, zoomTo } from "/run/stage.js";
import { closePolygon, drawsPolygon, drop, hands, listen, ring, takeCornerBack } from "/run/hands.js";
import { addStroke, alike, crumbs, decide, fill, find, known, paintNew, redo, redraw, toggle, undo, untouch, waits } from "/run/changes.js";
import { ask, chosen, listenToMenu, select, showLegend } from "/run/legend.js";
import { go, refilter, showCount, showStrip } from "/run/queue.js";

const TOOLS = ["look", "foreground", "background", "erase", "polygon", "box", "give"];

addEventListener("error", (event) => fail(new Error(`The page failed: ${event.message}`)));
addEventListener("unhandledrejection", (event) => fail(event.reason));

state.show = () => { showLegend(); showStrip(); showCount(); };

hands.onNobody = () => say("Choose a class first, or add one.");
hands.onStroke = (stroke) => { if (stroke) addStroke(stroke); else redraw(); };
hands.onPick = (tool, point) => {
  const label = under(point);
  if (label === null) return tool === "give" && say("Here is no class; paint one.");
  select(label);
  if (tool === "give") ask(label, point, client(point));
};

function choose(tool) {
  drop();
  hands.side = tool === "polygon" && $("stage").dataset.tool === "polygon" && hands.side === "foreground" ? "background" : "foreground";
  $(tool).checked = true;
  $("stage").dataset.tool = tool;
  document.body.dataset.side = hands.side;
  ring();
}

async function settle(wanted) {
  if (!await decide(wanted)) return;
  if (state.at + 1 < state.queue.length) await go(state.at + 1);
  else say("That was the last one.");
}

function compare(on) {
  if (!there() || stage.comparing === on) return;
  stage.comparing = on;
  $("before").setAttribute("aria-pressed", on);
  say(on ? "As the run had it" : "");
  paint();
  redraw();
}

function opacity() { $("masks").style.opacity = $("opacity").value; }

function hide() {
  $("opacity").value = Number($("opacity").value) ? 0 : 0.8;
  opacity();
}

function add(does) {
  const typed = $("another").value.trim().replace(/\s+/g, " ");
  if (!typed || !there()) return;
  const label = alike(typed) ?? typed;
  $("another").value = "";
  document.activeElement?.blur();
  if (known(label)) select(label);
  else does(label);
}

// Keys ---------------------------------------------------------------------------------------------------------------

const numbered = (number) => $("legend").querySelectorAll(".class")[number - 1]?.click();
const brush = (steps) => { $("brush").stepUp(steps); ring(); };
const withChosen = (does) => () => { if (there() && chosen() !== null) does(chosen()); };

const KEYS = {
  a: () => settle("accepted"), r: () => settle("rejected"), arrowright: () => go(state.at + 1), arrowleft: () => go(state.at - 1),
  l: () => choose("look"), o: () => choose("foreground"), b: () => choose("background"), e: () => choose("erase"),
  p: () => choose("polygon"), c: () => choose("box"), g: () => choose("give"),
  x: () => stage.selected !== null && toggle(stage.selected), h: withChosen(fill), k: withChosen(crumbs),
  n: () => $("another").focus(), z: undo, y: redo, v: () => compare(true),
  m: hide, u: () => $("outline").click(), f: reset,
  "[": () => brush(-3), "]": () => brush(3), "+": () => zoomTo(stage.zoom * 1.5), "-": () => zoomTo(stage.zoom / 1.5),
  "?": () => $("keys").showModal(),
};

const OF_POLYGONS = { enter: closePolygon, backspace: takeCornerBack, z: takeCornerBack };

addEventListener("keydown", (event) => {
  const key = event.key.toLowerCase(), { target } = event;
  if (key === "escape") return void drop();
  if (target.matches("input:not([type=range], [type=radio], [type=checkbox]), select") || target.closest("#menu, dialog") || event.altKey || !state.open) return;
  const command = event.ctrlKey || event.metaKey;
  if (command && key !== "z" && key !== "y") return;
  if (target.matches("[type=range], [type=radio]") && key.startsWith("arrow")) return;
  const does = (drawsPolygon() && OF_POLYGONS[key]) || (command && event.shiftKey && key === "z" ? redo : /^[1-9]$/.test(key) ? () => numbered(Number(key)) : KEYS[key]);
  if (!does) return;
  event.preventDefault();
  if (!event.repeat || /^(arrow|[[\]+-]|backspace|z|y)/.test(key)) does();
});
addEventListener("keyup", (event) => { if (event.key.toLowerCase() === "v") compare(false); });
addEventListener("blur", () => compare(false));

// Buttons ------------------------------------------------------------------------------------------------------------

// After a click of the mouse the arrow keys and the space bar are the photographs' again.
addEventListener("click", (event) => { if (event.detail && event.target.closest(".rail, .legend, .decide, .strip")) document.activeElement?.blur(); }, true);
for (const tool of TOOLS) $(tool).addEventListener("change", () => choose(tool));
document.querySelector("label[for=polygon]").addEventListener("click", (event) => { if ($("polygon").checked) { event.preventDefault(); choose("polygon"); } });
for (const id of ["class", "show", "order"]) $(id).addEventListener("change", () => go(refilter(document.body.dataset.shown)));
for (const [id, does] of Object.entries({
  accept: KEYS.a, reject: KEYS.r, next: KEYS.arrowright, previous: KEYS.arrowleft, undo, redo, fit: reset, untouch, help: KEYS["?"],
  paint: () => add(paintNew),
})) $(id).addEventListener("click", does);
for (const [kind, on] of [["pointerdown", true], ["pointerup", false], ["pointerleave", false], ["pointercancel", false], ["blur", false]]) $("before").addEventListener(kind, () => compare(on));
for (const kind of ["keydown", "keyup"]) $("before").addEventListener(kind, (event) => { if (event.key === " " || event.key === "Enter") compare(kind === "keydown"); });
$("opacity").addEventListener("input", opacity);
$("brush").addEventListener("input", () => ring());
$("outline").addEventListener("change", paint);
$("add").addEventListener("submit", (event) => { event.preventDefault(); add(find); });
addEventListener("beforeunload", (event) => { if (waits()) event.preventDefault(); });

async function start() {
  state.run = await (await call("/api/run")).json();
  $("run").textContent = state.run.run;
  document.title = `gradcut: ${state.run.run}`;
  if (state.run.words) $("another").placeholder = "Add any word";
  const seen = [...new Set(state.run.photographs.flatMap(({ labels }) => labels))].sort();
  $("class").append(...seen.map((label) => make("option", { value: label }, label)));
  $("labels").replaceChildren(...state.run.classes.map((label) => make("option", { value: label })));
  listen();
  listenToMenu();
  opacity();
  choose("look");
  showCount();
  await go(refilter(null));
  if (!state.run.photographs.some((item) => item.state !== "untouched")) say(matchMedia("(pointer: coarse)").matches ? "Right? Accept. Wrong? Take a tool." : "Right? Press A. Wrong? Take a tool. All keys: ?");
  document.body.dataset.ready = "yes";
}

start().catch(fail);
