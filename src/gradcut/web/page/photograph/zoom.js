// Nearer and further, for all panels together; and the mark under the pointer, at the same place in each.

import { $ } from "/talk.js";

const MOST = 16;
const zoom = { by: 1, left: 0, top: 0 }; // what of the photograph is at the frame's corner, as shares of its sides

function apply() {
  const most = 1 - 1 / zoom.by;
  zoom.left = Math.min(most, Math.max(0, zoom.left));
  zoom.top = Math.min(most, Math.max(0, zoom.top));
  for (const [name, value] of [["--zoom", zoom.by], ["--left", zoom.left], ["--top", zoom.top]]) $("panels").style.setProperty(name, value);
  $("panels").classList.toggle("near", zoom.by > 1);
  $("fit").disabled = zoom.by === 1;
}

export const nearness = () => zoom.by;

// The place at (x, y), shares of the photograph's sides, stays where it is.
export function zoomTo(by, { x, y } = { x: zoom.left + 0.5 / zoom.by, y: zoom.top + 0.5 / zoom.by }) {
  const next = Math.min(MOST, Math.max(1, by));
  zoom.left = x - ((x - zoom.left) * zoom.by) / next;
  zoom.top = y - ((y - zoom.top) * zoom.by) / next;
  zoom.by = next;
  apply();
}

export function move(dx, dy) {
  zoom.left -= dx;
  zoom.top -= dy;
  apply();
}

export function whole() {
  Object.assign(zoom, { by: 1, left: 0, top: 0 });
  apply();
}

export function place(event, element) {
  const box = element.getBoundingClientRect();
  return { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
}

export function point({ x, y }) {
  document.body.style.setProperty("--x", x);
  document.body.style.setProperty("--y", y);
  document.body.classList.add("pointing");
}

export const unpoint = () => document.body.classList.remove("pointing");

export function pointAt(element) {
  element.addEventListener("pointermove", (event) => point(place(event, element)));
  element.addEventListener("pointerleave", unpoint);
}
