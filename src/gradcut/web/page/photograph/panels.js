// What is shown: the photograph with its mask, saliency or seeds, by one recipe or two; the classes; the figures.

import { $, make } from "/talk.js";
import { restart } from "/photograph/asking.js";
import { draw, drop, listen, showHistory } from "/photograph/painting.js";
import { state } from "/photograph/state.js";
import { say } from "/photograph/status.js";
import { pointAt, unpoint, whole } from "/photograph/zoom.js";

const VIEWS = { mask: "Mask", saliency: "Saliency", seeds: "Seeds" };
const rows = []; // of the recipe, and of the one it is compared with

export function clearPanels() {
  for (const { element, views } of rows.splice(0)) { element.remove(); views.remove(); }
  $("classes").replaceChildren();
  $("figures").textContent = "";
  drop();
  whole();
  rows[0] = newRow();
  showHistory();
}

export function showClasses(seen) {
  const focused = document.activeElement?.dataset?.label;
  const buttons = seen.classes.map(({ label, score, found, unsure }) => {
    const title = [found ? "" : "not detected", unsure].filter(Boolean).join("; ");
    const button = make("button", { type: "button", className: found ? "found" : "", title }, make("span", {}, label));
    if (unsure) button.append(make("small", { className: "unsure" }, "unsure"));
    button.append(make("small", {}, score.toFixed(2)));
    button.dataset.label = label;
    button.style.setProperty("--score", score);
    button.setAttribute("aria-pressed", label === seen.label);
    button.addEventListener("click", () => look(label));
    return button;
  });
  $("classes").replaceChildren(...buttons);
  if (focused) buttons.find((button) => button.dataset.label === focused)?.focus();
}

export function look(label) {
  state.label = label;
  drop();
  for (const button of $("classes").children) button.setAttribute("aria-pressed", button.dataset.label === label);
  showHistory();
  restart();
}

function showFigures(seen) {
  const unsure = seen.classes.some((other) => other.label === seen.label && other.unsure);
  const expected = seen.confidence === null ? "" : `, expected IoU ${seen.confidence.toFixed(2)}${unsure ? " (unsure)" : ""}`;
  $("figures").textContent = `${seen.label}: score ${seen.score.toFixed(3)}, ${(100 * seen.share).toFixed(1)} % of the photograph${expected}`;
  if (seen.blank) {
    $("figures").textContent = `${seen.label}: score ${seen.score.toFixed(3)}, no mask`;
    return say(seen.blank);
  }
  if (!seen.classes.some(({ found }) => found)) {
    return say(`Nothing reaches the least score of ${$("threshold").value}; looking at ${seen.label}, the best guess, all the same. Ask for a class by its name, or lower “Score at least”.`);
  }
  say(`${seen.label}: the mask covers ${(100 * seen.share).toFixed(0)} % of the photograph${unsure ? ", and is unsure" : ""}.`);
}

export function view(kind) {
  $("panels").dataset.view = kind;
  for (const button of $("views").querySelectorAll("button")) button.setAttribute("aria-pressed", button.dataset.view === kind);
}

const cross = () => make("div", { className: "cross" });

function newRow() {
  const heading = make("h2", { hidden: true });
  const photograph = (className) => make("img", { className, alt: "", src: state.photograph.url });
  const picture = (className) => make("img", { className, alt: "", hidden: true });
  const pictures = Object.fromEntries(Object.keys(VIEWS).map((kind) => [kind, picture(kind)]));
  const blank = make("p", { className: "blank", hidden: true });
  const canvas = make("canvas", { tabIndex: 0 });
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-label", "Photograph: paint with the arrow keys and the space bar");
  const layers = make("div", { className: "layers" }, photograph("photograph"), ...Object.values(pictures), canvas, cross());
  const frame = make("div", { className: "frame" }, layers, blank);
  const element = make("section", { className: "row stale waiting" }, heading, frame);
  const thumbs = {}, name = make("p", { hidden: true });
  const views = make("div", { className: "views" }, name, ...Object.entries(VIEWS).map(([kind, title]) => {
    thumbs[kind] = picture("");
    const small = make("span", { className: "frame thumb" }, photograph(kind === "seeds" ? "grey" : ""), thumbs[kind], cross());
    const button = make("button", { type: "button" }, small, title);
    button.dataset.view = kind;
    button.addEventListener("click", () => view(kind));
    pointAt(small);
    return button;
  }));
  if (!rows.length) $("panels").replaceChildren(make("div", { className: "rows" }));
  $("panels").firstChild.append(element);
  $("views").append(views);
  view($("panels").dataset.view);
  listen(canvas);
  pointAt(canvas);
  return { element, views, heading, name, pictures, thumbs, blank, canvas };
}

// One recipe's answer. The first one says which classes there are.
export function showOne(number, name, seen) {
  if (number === 0) {
    state.label = seen.label;
    showClasses(seen);
  }
  const row = (rows[number] ??= newRow());
  row.heading.replaceChildren(`${name} `, make("span", {}, seen.blank ? "blank" : `${(100 * seen.share).toFixed(1)} % of the photograph`));
  row.name.textContent = name;
  row.element.setAttribute("aria-label", `${seen.label}, recipe ${name}`);
  for (const kind of Object.keys(VIEWS)) {
    for (const picture of [row.pictures[kind], row.thumbs[kind]]) {
      picture.hidden = !(kind in seen);
      if (kind in seen) picture.src = seen[kind];
    }
    row.pictures[kind].alt = kind in seen ? `${kind} of ${seen.label}` : "";
  }
  row.blank.textContent = seen.blank ?? "";
  row.blank.hidden = !seen.blank;
  row.element.classList.remove("waiting");
  draw();
  showHistory();
}

export function showAll(first, number) {
  while (rows.length > number) {
    const { element, views } = rows.pop();
    element.remove();
    views.remove();
  }
  for (const { element, heading, name } of rows) {
    heading.hidden = name.hidden = rows.length < 2;
    element.classList.remove("stale");
  }
  unpoint();
  showFigures(first);
}
