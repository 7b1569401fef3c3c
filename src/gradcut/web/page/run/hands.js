// Mouse, fingers, pen and keys on the photograph: they paint strokes, click on regions, zoom and pan.

import { apply, client, place, stage, zoomTo } from "/run/stage.js";
import { COLOURS } from "/run/shapes.js";
import { $ } from "/run/state.js";

export const hands = {
  side: "foreground", // of polygons
  onStroke: () => {}, // a finished stroke, or null where one is being drawn
  onPick: () => {},   // a click with Look or Give: tool and point
  onNobody: () => {}, // painting while no class is chosen
};

export const tool = () => document.querySelector("[name=tool]:checked").value;

const cursor = { point: [0, 0], shown: false, down: false }; // moved by keys
const pointers = new Map();
let panning = null, held = false, pinch = null, pen = false, last = null;

const isEraser = (event) => event.pointerType === "pen" && (event.button === 5 || (event.buttons & 32) !== 0);
const radius = () => (Number($("brush").value) / 100) * Math.max(stage.size.width, stage.size.height);

// Alt, or the right button, is the other of object and background.
function kind(event) {
  if (tool() === "erase" || isEraser(event)) return "erase";
  if (tool() === "box") return "background";
  const other = event.altKey || event.button === 2 || (event.buttons & 2) !== 0;
  const side = tool() === "polygon" ? hands.side : tool();
  return (side === "background") !== other ? "background" : "foreground";
}

// A ring as large as the brush, under the pointer or the keys' cursor.
export function ring(event = last) {
  if (event?.clientX !== undefined) last = event;
  const at = cursor.shown ? client(cursor.point) : event;
  const paints = at && event !== null && (!["look", "give"].includes(tool()) || cursor.shown) && !panning && !held;
  $("ring").hidden = !paints;
  if (!paints) return;
  const box = $("strokes").getBoundingClientRect(), outer = $("stage").getBoundingClientRect();
  const brush = ["foreground", "background", "erase"].includes(tool());
  const size = brush ? (2 * radius() * box.width) / stage.size.width : 9;
  Object.assign($("ring").style, { width: `${size}px`, height: `${size}px`, left: `${at.clientX - outer.left}px`, top: `${at.clientY - outer.top}px`, borderColor: COLOURS[kind(event ?? {})] });
}

// Strokes ------------------------------------------------------------------------------------------------------------

function begin(event, point) {
  if (stage.selected === null) return hands.onNobody();
  const erases = isEraser(event), shape = !erases && tool() === "box" ? "box" : "line";
  stage.drawing = { kind: kind(event), shape, radius: radius(), points: shape === "box" ? [point, point] : [point] };
  hands.onStroke(null);
}

function extend(point) {
  const { drawing } = stage;
  if (drawing.shape === "box") drawing.points = [drawing.points[0], point];
  else if (Math.hypot(point[0] - drawing.points.at(-1)[0], point[1] - drawing.points.at(-1)[1]) >= drawing.radius / 4) drawing.points.push(point);
}

function finish() {
  const { open, hover, ...stroke } = stage.drawing;
  stage.drawing = null;
  const [[x0, y0], [x1, y1] = [x0, y0]] = stroke.points;
  const empty = (stroke.shape === "box" && (Math.abs(x1 - x0) < 2 || Math.abs(y1 - y0) < 2)) || (stroke.shape === "polygon" && stroke.points.length < 3);
  hands.onStroke(empty ? null : stroke);
}

export function drop() {
  if (!stage.drawing) return false;
  stage.drawing = null;
  cursor.down = false;
  hands.onStroke(null);
  return true;
}

// A polygon's next corner; one on its first or its last corner closes it, and so does a double click.
function corner(event, point) {
  if (stage.selected === null) return hands.onNobody();
  const near = (other) => { const a = client(point), b = client(other); return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY) < (event.pointerType === "touch" ? 14 : 7); };
  if (!stage.drawing) stage.drawing = { kind: kind(event), shape: "polygon", radius: 1, points: [point], open: true };
  else if (near(stage.drawing.points[0]) || near(stage.drawing.points.at(-1))) return stage.drawing.points.length > 2 && finish();
  else stage.drawing.points.push(point);
  hands.onStroke(null);
}

export const drawsPolygon = () => stage.drawing?.shape === "polygon";
export const closePolygon = () => stage.drawing.points.length > 2 && finish();
export function takeCornerBack() {
  if (stage.drawing.points.length < 2) return drop();
  stage.drawing.points.pop();
  hands.onStroke(null);
}

// Pointers -----------------------------------------------------------------------------------------------------------

const middle = ([a, b]) => ({ clientX: (a.clientX + b.clientX) / 2, clientY: (a.clientY + b.clientY) / 2, apart: Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY) });

function down(event) {
  event.preventDefault(); // the keyboard's focus stays where it is
  if (document.activeElement?.matches("input")) document.activeElement.blur();
  if (event.isTrusted) event.currentTarget.setPointerCapture(event.pointerId);
  cursor.shown = false;
  if (event.pointerType === "pen") {
    pen = true; // a hand that holds one lies on the screen: from now on fingers only move the photograph
    for (const [id, other] of pointers) if (other.pointerType === "touch") pointers.delete(id);
    pinch = panning = null;
  } else if (event.pointerType === "touch" && stage.drawing && [...pointers.values()].some((other) => other.pointerType === "pen")) return;
  pointers.set(event.pointerId, event);
  if (pointers.size === 2) {
    if (!drawsPolygon()) drop();
    panning = null;
    pinch = { ...middle([...pointers.values()]), zoom: stage.zoom };
    return;
  }
  if (pointers.size > 2) return;
  const moves = held || event.button === 1 || (pen && event.pointerType === "touch");
  if (!isEraser(event) && (moves || ["look", "give", "polygon"].includes(tool()))) panning = { x: event.clientX - stage.x, y: event.clientY - stage.y, moved: false, only: moves };
  else if (!drawsPolygon()) begin(event, place(event));
}

function move(event) {
  cursor.shown &&= cursor.down;
  ring(event);
  if (!pointers.has(event.pointerId)) {
    if (drawsPolygon()) { stage.drawing.hover = place(event); hands.onStroke(null); }
    return;
  }
  pointers.set(event.pointerId, event);
  if (pinch && pointers.size === 2) {
    const now = middle([...pointers.values()]);
    stage.x += now.clientX - pinch.clientX;
    stage.y += now.clientY - pinch.clientY;
    zoomTo((stage.zoom * now.apart) / Math.max(1, pinch.apart), now);
    pinch = now;
  } else if (panning) {
    const x = event.clientX - panning.x, y = event.clientY - panning.y;
    panning.moved ||= Math.hypot(x - stage.x, y - stage.y) > 4;
    if (!panning.moved || (tool() === "polygon" && !panning.only)) return;
    Object.assign(stage, { x, y });
    apply();
  } else if (stage.drawing && !drawsPolygon()) {
    const all = event.getCoalescedEvents?.() ?? [];
    for (const point of all.length ? all : [event]) extend(place(point));
    hands.onStroke(null);
  }
}

function up(event) {
  if (!pointers.delete(event.pointerId)) return;
  if (pointers.size < 2) pinch = null;
  const clicked = panning && !panning.only && (!panning.moved || tool() === "polygon") && event.type === "pointerup";
  if (panning && pointers.size) return;
  panning = null;
  if (clicked && tool() === "polygon") corner(event, place(event));
  else if (clicked) hands.onPick(tool(), place(event));
  else if (stage.drawing && !drawsPolygon()) { if (event.type === "pointerup") finish(); else drop(); }
}

// Keys on the photograph ----------------------------------------------------------------------------------------------

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function pressed(event) {
  const arrow = ARROWS[event.key];
  if (arrow && !event.ctrlKey && !event.metaKey && !event.altKey) {
    const { width, height } = stage.size, length = ((event.shiftKey ? 0.06 : 0.012) * Math.max(width, height)) / Math.sqrt(stage.zoom);
    const [x, y] = cursor.point;
    cursor.point = [Math.min(width, Math.max(0, x + arrow[0] * length)), Math.min(height, Math.max(0, y + arrow[1] * length))];
    cursor.shown = true;
    if (cursor.down && stage.drawing) { extend(cursor.point); hands.onStroke(null); }
  } else if (event.key === " " && cursor.shown) {
    if (event.repeat) return event.preventDefault();
    if (["look", "give"].includes(tool())) hands.onPick(tool(), cursor.point);
    else if (tool() === "polygon") corner(event, cursor.point);
    else if (cursor.down) { cursor.down = false; finish(); }
    else { begin(event, cursor.point); cursor.down = stage.drawing !== null; }
  } else return;
  event.preventDefault();
  event.stopPropagation(); // elsewhere the arrow keys go to another photograph
  ring({});
}

export function listen() {
  const canvas = $("strokes");
  stage.onMove = ring;
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("mousedown", (event) => event.preventDefault());
  canvas.addEventListener("pointerdown", down);
  canvas.addEventListener("pointermove", move);
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", up);
  canvas.addEventListener("pointerleave", () => { last = null; ring(null); });
  canvas.addEventListener("keydown", pressed);
  canvas.addEventListener("focus", () => {
    if (!canvas.matches(":focus-visible")) return;
    if (!cursor.point[0]) cursor.point = [stage.size.width / 2, stage.size.height / 2];
    cursor.shown = true;
    ring({});
  });
  canvas.addEventListener("blur", () => {
    if (cursor.down && stage.drawing) finish();
    Object.assign(cursor, { down: false, shown: false });
    ring(null);
  });
  $("stage").addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomTo(stage.zoom * Math.exp(-event.deltaY / 400), event);
  }, { passive: false });
  addEventListener("keydown", (event) => {
    if (event.key !== " " || event.target.matches("input:not([type=radio]), select, button, [popover] *, dialog *") || cursor.shown) return;
    held = true;
    event.preventDefault();
    ring();
  });
  addEventListener("keyup", (event) => { if (event.key === " ") { held = false; ring(); } });
  addEventListener("blur", () => { held = false; });
  new ResizeObserver(apply).observe($("stage"));
}
