// The photograph with its masks and strokes: zoom, pan, brush. Coordinates that go out are pixels of the photograph.

const $ = (id) => document.getElementById(id);
const FOREGROUND = "rgba(0, 200, 120, .9)", BACKGROUND = "rgba(235, 60, 60, .9)";

export const stage = {
  size: { width: 1, height: 1 }, // of the photograph
  values: null,                  // the label map, as large as the canvases
  objects: [],
  selected: null,
  zoom: 1, x: 0, y: 0,
  drawing: null,
  tool: () => document.querySelector("[name=tool]:checked").value,
  onStroke: () => {},
  onPick: () => {},
};

const pointers = new Map();
let panning = false, held = false, pinch = null;

// What is shown ------------------------------------------------------------------------------------------------------

export async function showPhotograph(url, width, height) {
  stage.size = { width, height };
  $("photo").src = url;
  await $("photo").decode().catch(() => {});
  for (const id of ["masks", "strokes"]) Object.assign($(id), { width: $("photo").naturalWidth || 1, height: $("photo").naturalHeight || 1 });
  $("stage").style.setProperty("--ratio", width / height);
  reset();
}

export async function showMasks(objects, url) {
  const picture = new Image();
  picture.src = url;
  await picture.decode();
  const canvas = new OffscreenCanvas(picture.naturalWidth, picture.naturalHeight);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  stage.values = Uint8Array.from({ length: data.length / 4 }, (_, i) => data[4 * i]);
  stage.objects = objects;
  paint();
}

// The label map in the classes' colours; the selected class has a white outline.
export function paint() {
  const { width, height } = $("masks");
  const context = $("masks").getContext("2d");
  context.clearRect(0, 0, width, height);
  if (!stage.values || stage.values.length !== width * height) return;
  const pixels = context.createImageData(width, height);
  const colours = new Map(stage.objects.map(({ value, colour }) => [value, colour]));
  const chosen = stage.objects.find(({ label }) => label === stage.selected)?.value;
  const filled = !$("outline").checked;
  const { values } = stage;
  for (let i = 0; i < values.length; i++) {
    const colour = colours.get(values[i]);
    if (!colour) continue;
    const x = i % width;
    const edge = (x + 1 < width && values[i + 1] !== values[i]) || (x > 0 && values[i - 1] !== values[i]) || (i + width < values.length && values[i + width] !== values[i]) || (i >= width && values[i - width] !== values[i]);
    if (!edge && !filled) continue;
    pixels.data.set(edge && values[i] === chosen ? [255, 255, 255, 255] : [...colour, edge ? 255 : 150], 4 * i);
  }
  context.putImageData(pixels, 0, 0);
}

export function drawStrokes(strokes) {
  const { width, height } = $("strokes");
  const context = $("strokes").getContext("2d");
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, width, height);
  context.scale(width / stage.size.width, height / stage.size.height);
  context.lineCap = context.lineJoin = "round";
  for (const stroke of [...strokes, ...(stage.drawing ? [stage.drawing] : [])]) {
    context.strokeStyle = stroke.kind === "foreground" ? FOREGROUND : BACKGROUND;
    context.lineWidth = 2 * stroke.radius;
    context.beginPath();
    context.moveTo(...stroke.points[0]);
    for (const point of stroke.points) context.lineTo(...point);
    context.stroke();
  }
}

// Zoom and pan -------------------------------------------------------------------------------------------------------

function apply() {
  const box = $("stage").getBoundingClientRect();
  stage.x = Math.min(0, Math.max(box.width * (1 - stage.zoom), stage.x));
  stage.y = Math.min(0, Math.max(box.height * (1 - stage.zoom), stage.y));
  $("layers").style.transform = `translate(${stage.x}px, ${stage.y}px) scale(${stage.zoom})`;
  ring();
}

export function zoomTo(zoom, at) {
  const box = $("stage").getBoundingClientRect();
  const x = (at?.clientX ?? box.left + box.width / 2) - box.left, y = (at?.clientY ?? box.top + box.height / 2) - box.top;
  const next = Math.min(16, Math.max(1, zoom));
  stage.x = x - ((x - stage.x) * next) / stage.zoom;
  stage.y = y - ((y - stage.y) * next) / stage.zoom;
  stage.zoom = next;
  apply();
}

export function reset() {
  Object.assign(stage, { zoom: 1, x: 0, y: 0, drawing: null });
  apply();
}

// The brush ----------------------------------------------------------------------------------------------------------

const radius = () => (Number($("brush").value) / 100) * Math.max(stage.size.width, stage.size.height);
let last = null;

// A ring as large as the brush, under the pointer.
export function ring(event = last) {
  last = event;
  const painting = event && stage.tool() !== "look" && !panning && !held;
  $("ring").hidden = !painting;
  if (!painting) return;
  const box = $("strokes").getBoundingClientRect(), outer = $("stage").getBoundingClientRect();
  const size = (2 * radius() * box.width) / stage.size.width;
  Object.assign($("ring").style, { width: `${size}px`, height: `${size}px`, left: `${event.clientX - outer.left}px`, top: `${event.clientY - outer.top}px` });
  $("ring").style.borderColor = kind(event) === "foreground" ? FOREGROUND : BACKGROUND;
}

// Alt, or the right button, is the other of object and background.
const kind = (event) => {
  const other = event.altKey || event.button === 2 || (event.buttons & 2);
  return (stage.tool() === "background") !== Boolean(other) ? "background" : "foreground";
};

function place(event) {
  const box = $("strokes").getBoundingClientRect();
  const x = ((event.clientX - box.left) / box.width) * stage.size.width, y = ((event.clientY - box.top) / box.height) * stage.size.height;
  return [Math.round(10 * x) / 10, Math.round(10 * y) / 10];
}

function extend(event) {
  const next = place(event), before = stage.drawing.points.at(-1);
  if (before && Math.hypot(next[0] - before[0], next[1] - before[1]) < stage.drawing.radius / 4) return;
  stage.drawing.points.push(next);
}

export function drop() {
  if (!stage.drawing) return false;
  stage.drawing = null;
  stage.onStroke(null);
  return true;
}

function pick(event) {
  if (!stage.values) return;
  const [x, y] = place(event), { width, height } = $("masks");
  const column = Math.floor((x / stage.size.width) * width), row = Math.floor((y / stage.size.height) * height);
  const value = stage.values[row * width + column];
  const object = stage.objects.find((item) => item.value === value);
  if (object) stage.onPick(object.label);
}

export function listen() {
  const canvas = $("strokes");
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, event);
    if (pointers.size === 2) {
      drop();
      const [a, b] = pointers.values();
      pinch = { apart: Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY), zoom: stage.zoom };
      return;
    }
    if (pointers.size > 2) return;
    if (held || event.button === 1 || stage.tool() === "look") {
      panning = { x: event.clientX - stage.x, y: event.clientY - stage.y, moved: false };
      return;
    }
    if (stage.selected === null) return;
    stage.drawing = { kind: kind(event), radius: radius(), points: [] };
    extend(event);
    stage.onStroke(null);
  });
  canvas.addEventListener("pointermove", (event) => {
    ring(event);
    if (!pointers.has(event.pointerId)) return;
    pointers.set(event.pointerId, event);
    if (pinch && pointers.size === 2) {
      const [a, b] = pointers.values();
      const apart = Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
      zoomTo((pinch.zoom * apart) / pinch.apart, { clientX: (a.clientX + b.clientX) / 2, clientY: (a.clientY + b.clientY) / 2 });
    } else if (panning) {
      const x = event.clientX - panning.x, y = event.clientY - panning.y;
      panning.moved ||= Math.hypot(x - stage.x, y - stage.y) > 3;
      if (panning.moved) Object.assign(stage, { x, y });
      apply();
    } else if (stage.drawing) {
      for (const point of event.getCoalescedEvents?.() ?? [event]) extend(point);
      stage.onStroke(null);
    }
  });
  const end = (event) => {
    pointers.delete(event.pointerId);
    if (pointers.size < 2) pinch = null;
    if (panning && !panning.moved && stage.tool() === "look") pick(event);
    panning = false;
    if (!stage.drawing) return;
    const stroke = stage.drawing;
    stage.drawing = null;
    stage.onStroke(event.type === "pointerup" ? stroke : null);
  };
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", end);
  canvas.addEventListener("pointerleave", () => ring(null));
  $("stage").addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomTo(stage.zoom * Math.exp(-event.deltaY / 400), event);
  }, { passive: false });
  addEventListener("keydown", (event) => { if (event.key === " " && event.target === canvas) { held = true; event.preventDefault(); ring(); } });
  addEventListener("keyup", (event) => { if (event.key === " ") { held = false; ring(); } });
  new ResizeObserver(apply).observe($("stage"));
}
