// Strokes: by pointer, touch, pen or keyboard; undo and redo of each class's own.

import { $ } from "/talk.js";
import { update } from "/photograph/asking.js";
import { state } from "/photograph/state.js";
import { move, nearness, place, point, unpoint, zoomTo } from "/photograph/zoom.js";

const COLOURS = { foreground: "rgba(26, 109, 255, .8)", background: "rgba(240, 112, 0, .85)" };
const canvases = new Set();
const pointers = new Map();
const cursor = { x: 0.5, y: 0.5, down: false }; // the keyboard's
let drawing = null; // the stroke under the pointer
let pinch = null, panned = null;

const tool = () => document.querySelector("[name=tool]:checked").value;
const radius = () => (Number($("brush").value) / 100) * Math.max(state.photograph.width, state.photograph.height);
const strokes = () => state.strokes[state.label] ?? [];

export const isDrawing = () => drawing !== null;

export function choose(name) {
  $(name).checked = true;
  $("panels").classList.toggle("looking", name === "look");
}

// How large the ring under the pointer is: as the brush.
export function showBrush() {
  if (state.photograph) $("panels").style.setProperty("--brush", (2 * radius()) / state.photograph.width);
}

export function showHistory() {
  $("undo").disabled = !state.history[state.label]?.length;
  $("redo").disabled = !state.undone[state.label]?.length;
  $("clear").disabled = !strokes().length;
  showBrush();
}

// Alt, or the right button, is the other of object and background.
function kind(event) {
  const other = event.altKey || event.button === 2;
  return (tool() === "background") !== Boolean(other) ? "background" : "foreground";
}

function begin(what, at) {
  drawing = { kind: what, radius: radius(), points: [] };
  extend(at);
}

function extend({ x, y }) {
  const { width, height } = state.photograph;
  const next = [Math.round(10 * x * width) / 10, Math.round(10 * y * height) / 10];
  const last = drawing.points.at(-1);
  if (last && Math.hypot(next[0] - last[0], next[1] - last[1]) < drawing.radius / 4) return;
  drawing.points.push(next);
  draw();
}

function finish() {
  const stroke = drawing;
  drawing = null;
  if (stroke && state.label !== null) change([...strokes(), stroke]);
}

export function drop() {
  drawing = null;
  cursor.down = false;
  draw();
}

function replace(drawn, to) {
  (to[state.label] ??= []).push(strokes());
  state.strokes[state.label] = drawn;
  drawing = null;
  draw();
  showHistory();
  update();
}

export function change(drawn) {
  state.undone[state.label] = [];
  replace(drawn, state.history);
}

export function undo() {
  const before = state.history[state.label]?.pop();
  if (before) replace(before, state.undone);
}

export function redo() {
  const after = state.undone[state.label]?.pop();
  if (after) replace(after, state.history);
}

const apart = () => {
  const [a, b] = pointers.values();
  return Math.max(1, Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY));
};
const between = () => {
  const [a, b] = pointers.values();
  return { clientX: (a.clientX + b.clientX) / 2, clientY: (a.clientY + b.clientY) / 2 };
};

export function listen(canvas) {
  canvases.add(canvas);
  new ResizeObserver(() => draw()).observe(canvas);
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("pointerdown", (event) => {
    pointers.set(event.pointerId, event);
    if (pointers.size > 1) { // two fingers mean something else
      drop();
      panned = null;
      pinch = pointers.size === 2 ? { apart: apart(), by: nearness() } : null;
      return;
    }
    const looks = tool() === "look" || event.button === 1;
    if (looks || state.label === null || event.button > 2) { panned = looks ? event : null; return; }
    canvas.setPointerCapture(event.pointerId);
    begin(kind(event), place(event, canvas));
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!pointers.has(event.pointerId)) return;
    pointers.set(event.pointerId, event);
    if (pinch && pointers.size === 2) zoomTo((pinch.by * apart()) / pinch.apart, place(between(), canvas));
    else if (panned && nearness() > 1) {
      const before = place(panned, canvas), now = place(event, canvas);
      move(now.x - before.x, now.y - before.y);
      panned = event;
    } else if (drawing && !cursor.down) {
      for (const each of event.getCoalescedEvents?.() ?? [event]) extend(place(each, canvas));
    }
  });
  const end = (event) => {
    if (!pointers.delete(event.pointerId)) return;
    pinch = panned = null;
    if (cursor.down) return;
    if (event.type === "pointerup") finish(); else drop();
  };
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", end);
  canvas.addEventListener("pointerleave", (event) => { if (!drawing) pointers.delete(event.pointerId); });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomTo(nearness() * Math.exp(-event.deltaY / 400), place(event, canvas));
    draw();
  }, { passive: false });
  canvas.addEventListener("focus", () => { if (canvas.matches(":focus-visible")) point(cursor); });
  canvas.addEventListener("blur", () => { if (cursor.down) { cursor.down = false; finish(); } unpoint(); });
  canvas.addEventListener("keydown", byKey);
}

function byKey(event) {
  const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
  if (dx || dy) {
    const length = (event.shiftKey ? 0.06 : 0.012) / nearness(), ratio = state.photograph.width / state.photograph.height;
    cursor.x = Math.min(1, Math.max(0, cursor.x + dx * length));
    cursor.y = Math.min(1, Math.max(0, cursor.y + dy * length * ratio));
    point(cursor);
    if (cursor.down) extend(cursor);
  } else if (event.key === " " && state.label !== null) {
    if (tool() === "look") choose("foreground");
    if (cursor.down) { cursor.down = false; finish(); } else { cursor.down = true; begin(kind(event), cursor); }
  } else return;
  event.preventDefault();
}

function trace(context, stroke) {
  context.beginPath();
  context.moveTo(...stroke.points[0]);
  for (const each of stroke.points) context.lineTo(...each);
  context.stroke();
}

// Object has a whole white line in its middle, background a broken one: not by colour alone.
export function draw() {
  for (const canvas of canvases) {
    if (!canvas.isConnected) { canvases.delete(canvas); continue; }
    const scale = (devicePixelRatio || 1) * Math.min(3, nearness());
    canvas.width = Math.max(1, Math.round(canvas.clientWidth * scale));
    canvas.height = Math.max(1, Math.round(canvas.clientHeight * scale));
    const context = canvas.getContext("2d");
    context.scale(canvas.width / state.photograph.width, canvas.height / state.photograph.height);
    context.lineCap = context.lineJoin = "round";
    for (const stroke of [...strokes(), ...(drawing ? [drawing] : [])]) {
      const { radius: r } = stroke;
      Object.assign(context, { strokeStyle: COLOURS[stroke.kind], lineWidth: 2 * r });
      context.setLineDash([]);
      trace(context, stroke);
      Object.assign(context, { strokeStyle: "#fff", lineWidth: Math.max(0.3 * r, 1e-6) });
      context.setLineDash(stroke.kind === "background" ? [0.6 * r, 0.9 * r] : []);
      trace(context, stroke);
    }
  }
}
