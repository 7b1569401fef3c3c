// The page for single photographs: what its buttons and keys do. Its parts are in photograph/.

import { $, call } from "/talk.js";
import { cancel, shown } from "/photograph/asking.js";
import { showMenus, tell } from "/photograph/menus.js";
import { change, choose, draw, drop, isDrawing, redo, showBrush, undo } from "/photograph/painting.js";
import { look, showAll, showOne, view } from "/photograph/panels.js";
import { showExamples } from "/photograph/photographs.js";
import { state } from "/photograph/state.js";
import { fail } from "/photograph/status.js";
import { nearness, whole, zoomTo } from "/photograph/zoom.js";

Object.assign(shown, { one: showOne, all: showAll });

for (const name of ["look", "foreground", "background"]) $(name).addEventListener("change", () => choose(name));
$("undo").addEventListener("click", undo);
$("redo").addEventListener("click", redo);
$("clear").addEventListener("click", () => change([]));
$("cancel").addEventListener("click", cancel);
$("fit").addEventListener("click", whole);
$("ask").addEventListener("submit", (event) => { event.preventDefault(); look($("another").value.trim()); });
$("hide").addEventListener("click", () => {
  const hiding = $("panels").classList.toggle("hiding");
  $("hide").setAttribute("aria-pressed", hiding);
});

const brush = (step) => { $("brush")[step](3); tell($("brush")); showBrush(); };
const near = (by) => { zoomTo(nearness() * by); draw(); };
const KEYS = {
  l: () => choose("look"), o: () => choose("foreground"), b: () => choose("background"),
  z: undo, y: redo, m: () => $("hide").click(), f: whole,
  1: () => view("mask"), 2: () => view("saliency"), 3: () => view("seeds"),
  "[": () => brush("stepDown"), "]": () => brush("stepUp"),
  "+": () => near(1.5), "=": () => near(1.5), "-": () => near(1 / 1.5),
  "?": () => { $("keyboard").open = !$("keyboard").open; $("keyboard").scrollIntoView({ block: "nearest" }); },
};

addEventListener("keydown", (event) => {
  if (event.key === "Escape") return isDrawing() ? drop() : $("cancel").hidden || cancel();
  if (event.target.matches("input:not([type=range], [type=radio], [type=checkbox]), select") || event.altKey || !state.photograph) return;
  const held = event.ctrlKey || event.metaKey, key = event.key.toLowerCase();
  if (held ? !"zy".includes(key) : !$("letters").checked) return;
  const does = held && key === "z" && event.shiftKey ? redo : KEYS[key];
  if (!does) return;
  event.preventDefault();
  does();
});

async function start() {
  state.page = await (await call("/api/page")).json();
  showExamples();
  showMenus();
  choose(matchMedia("(pointer: coarse)").matches ? "look" : "foreground");
  document.body.dataset.ready = "yes";
}

start().catch(fail);
