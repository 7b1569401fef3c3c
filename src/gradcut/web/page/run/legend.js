// The classes of the photograph: the list beside it, and the menu that says whose a region is.

import { make } from "/talk.js";
import { $, changed, current, state } from "/run/state.js";
import { paint, stage } from "/run/stage.js";
import { crumbs, fill, give, known, redraw, toggle } from "/run/changes.js";

function rows() {
  const { objects, colours } = state.open, { removed, painted } = state.edit;
  const there = new Set(objects.map(({ label }) => label));
  return [
    ...objects,
    ...painted.filter((label) => !there.has(label)).map((label) => ({ label, colour: colours[label], figures: "paint it" })),
    ...removed.filter((label) => !there.has(label) && !painted.includes(label)).map((label) => ({ label, removed: true, figures: "removed" })),
  ];
}

function figures({ label, score, confidence, figures: text }) {
  if (text) return text;
  if (state.edit.painted.includes(label)) return "by hand";
  return confidence === null ? score.toFixed(2) : `IoU ${confidence.toFixed(2)}`;
}

const swatch = (colour) => {
  const mark = make("i", { className: "swatch" });
  if (colour) mark.style.background = `rgb(${colour})`;
  return mark;
};

function row(item, number) {
  const { label, colour, note, removed } = item;
  const button = make("button", { type: "button", className: "class", title: [label, number < 9 ? `key ${number + 1}` : "", note ?? ""].filter(Boolean).join("; ") },
    swatch(colour), make("span", {}, label), make("small", { className: note ? "note" : "" }, figures(item)));
  button.dataset.label = label;
  button.setAttribute("aria-pressed", label === stage.selected);
  button.addEventListener("click", () => select(label));
  const more = make("button", { type: "button", className: "more", title: "Give it to another class, fill its holes, drop its crumbs", hidden: Boolean(removed) }, "⋯");
  more.setAttribute("aria-label", `More about ${label}`);
  more.addEventListener("click", () => { select(label); ask(label, null, document.querySelector(`.more[aria-label="${CSS.escape(`More about ${label}`)}"]`) ?? $("legend")); });
  const switches = make("button", { type: "button", title: removed ? "bring back" : "remove" }, removed ? "↺" : "✕");
  switches.setAttribute("aria-label", `${removed ? "Bring back" : "Remove"} ${label}`);
  switches.addEventListener("click", () => toggle(label));
  return make("li", { className: removed ? "removed" : "" }, button, more, switches);
}

export function showLegend() {
  const focused = document.activeElement?.closest("#legend") ? document.activeElement.getAttribute("aria-label") ?? document.activeElement.dataset.label : null;
  $("legend").replaceChildren(...rows().map(row));
  if (!$("legend").children.length) $("legend").append(make("li", { className: "empty" }, "No class here. Add one below."));
  if (focused) [...$("legend").querySelectorAll("button")].find((button) => (button.getAttribute("aria-label") ?? button.dataset.label) === focused)?.focus();
  $("undo").disabled = !state.history.length;
  $("redo").disabled = !state.undone.length;
  $("untouch").disabled = !changed() && current().state === "untouched";
  $("name").textContent = `${current().name} · ${state.at + 1} of ${state.queue.length} · ${current().state}`;
  $("photo").alt = `${current().name}: ${state.open.objects.map(({ label }) => label).join(", ") || "nothing found"}`;
  redraw();
  paint();
}

export function select(label) {
  stage.selected = label;
  showLegend();
}

// The menu -----------------------------------------------------------------------------------------------------------

function item(text, does, ...marks) {
  const button = make("button", { type: "button" }, ...marks, make("span", {}, text));
  button.addEventListener("click", () => { $("menu").hidePopover(); does(); });
  return button;
}

// Whose a region is, or with no point all of a class; `anchor` is an element, or a place in the window.
export async function ask(label, at, anchor) {
  const others = rows().filter((other) => other.label !== label && !other.removed);
  const another = make("input", { placeholder: "another class", maxLength: 200, autocomplete: "off" });
  another.setAttribute("list", "labels");
  another.setAttribute("aria-label", "Another class");
  const form = make("form", {}, another, make("button", {}, "Give"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const to = another.value.trim().replace(/\s+/g, " ");
    if (!to || to === label) return;
    $("menu").hidePopover();
    give(label, at, others.find((other) => other.label.toLowerCase() === to.toLowerCase())?.label ?? to);
  });
  const title = make("p", {}, at ? "This region of " : "All of ", make("b", {}, label), " is");
  const gives = [...others.map((other) => item(other.label, () => give(label, at, other.label), swatch(other.colour))), item("nothing, background", () => give(label, at, null), swatch(null)), form];
  const repairs = at ? [] : [make("hr"), item("Fill its holes", () => fill(label), make("kbd", {}, "H")), item("Drop its crumbs", () => crumbs(label), make("kbd", {}, "K")), make("small", {}, "Crumbs are regions smaller than a tenth of its largest.")];
  $("menu").replaceChildren(title, ...gives, ...repairs);
  const box = anchor instanceof Element ? anchor.getBoundingClientRect() : { left: anchor.clientX, bottom: anchor.clientY };
  await new Promise((done) => setTimeout(done)); // else the pointer that asked for it would close it, too
  $("menu").showPopover();
  const { offsetWidth: width, offsetHeight: height } = $("menu");
  $("menu").style.left = `${Math.max(8, Math.min(box.left, innerWidth - width - 8))}px`;
  $("menu").style.top = `${Math.max(8, Math.min(box.bottom + 6, innerHeight - height - 8))}px`;
  $("menu").querySelector("button").focus();
}

export function listenToMenu() {
  $("menu").addEventListener("keydown", (event) => {
    const all = [...$("menu").querySelectorAll("button, input")], at = all.indexOf(document.activeElement);
    const next = { ArrowDown: at + 1, ArrowUp: at - 1 }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    all[(next + all.length) % all.length].focus();
  });
}

export const chosen = () => (stage.selected !== null && known(stage.selected) ? stage.selected : null);
