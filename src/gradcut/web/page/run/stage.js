// The photograph with its masks and strokes: what is seen, zoom, pan. Coordinates are pixels of the photograph.

import { drawStroke } from "/run/shapes.js";
import { $ } from "/run/state.js";

export const stage = {
  size: { width: 1, height: 1 }, // of the photograph
  now: null, before: null,       // layers: {objects, values, width, height}
  comparing: false,              // the run's own masks are shown
  selected: null,
  zoom: 1, x: 0, y: 0,
  drawing: null,                 // a stroke that is not finished
  onMove: () => {},
};

const layer = () => (stage.comparing ? stage.before : stage.now);

export async function showPhotograph(url, width, height) {
  stage.size = { width, height };
  $("photo").src = url;
  await $("photo").decode().catch(() => {});
  Object.assign($("strokes"), { width: $("photo").naturalWidth || 1, height: $("photo").naturalHeight || 1 });
  document.body.style.setProperty("--ratio", width / height);
  reset();
}

// A label map that came as a picture.
export async function decoded({ objects, values: url }) {
  const picture = new Image();
  picture.src = url;
  await picture.decode();
  const { naturalWidth: width, naturalHeight: height } = picture;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  const values = new Uint8Array(width * height);
  for (let i = 0; i < values.length; i++) values[i] = data[4 * i];
  return { objects, values, width, height };
}

// The label map in the classes' colours; the selected class has a white outline.
export function paint() {
  const shown = layer(), canvas = $("masks");
  if (!shown) return;
  const { objects, values, width, height } = shown;
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d"), pixels = context.createImageData(width, height);
  const words = new Uint32Array(pixels.data.buffer), filled = !$("outline").checked;
  const inside = new Uint32Array(256), edge = new Uint32Array(256);
  for (const { label, value, colour: [red, green, blue] } of objects) {
    const rgb = (blue << 16) | (green << 8) | red;
    inside[value] = filled ? ((150 << 24) | rgb) >>> 0 : 0;
    edge[value] = label === stage.selected ? 0xffffffff : ((255 << 24) | rgb) >>> 0;
  }
  // Outlines as wide as a screen shows them: two pixels where the photograph is large.
  const reach = Math.max(1, Math.round(Math.max(width, height) / 600));
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const value = values[i];
      if (!edge[value]) continue;
      const atEdge = (x + reach < width && values[i + reach] !== value) || (x >= reach && values[i - reach] !== value)
        || (y + reach < height && values[i + reach * width] !== value) || (y >= reach && values[i - reach * width] !== value);
      words[i] = atEdge ? edge[value] : inside[value];
    }
  }
  context.putImageData(pixels, 0, 0);
}

export function drawStrokes(strokes) {
  const canvas = $("strokes"), { width, height } = canvas, context = canvas.getContext("2d");
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, width, height);
  if (stage.comparing) return;
  context.scale(width / stage.size.width, height / stage.size.height);
  const thin = (2 * stage.size.width) / Math.max(1, canvas.getBoundingClientRect().width);
  for (const stroke of [...strokes, ...(stage.drawing ? [stage.drawing] : [])]) if (stroke.points.length) drawStroke(context, stroke, thin, stage.size);
}

export function under([x, y]) {
  if (!stage.now) return null;
  const { objects, values, width, height } = stage.now;
  const column = Math.floor((x / stage.size.width) * width), row = Math.floor((y / stage.size.height) * height);
  const value = values[row * width + column];
  return objects.find((item) => item.value === value)?.label ?? null;
}

// Zoom and pan -------------------------------------------------------------------------------------------------------

export function place(event) {
  const box = $("strokes").getBoundingClientRect();
  const x = ((event.clientX - box.left) / box.width) * stage.size.width, y = ((event.clientY - box.top) / box.height) * stage.size.height;
  return [Math.round(10 * x) / 10, Math.round(10 * y) / 10];
}

// Where a point of the photograph is in the window.
export function client([x, y]) {
  const box = $("strokes").getBoundingClientRect();
  return { clientX: box.left + (x / stage.size.width) * box.width, clientY: box.top + (y / stage.size.height) * box.height };
}

export function apply() {
  const box = $("stage").getBoundingClientRect();
  stage.x = Math.min(0, Math.max(box.width * (1 - stage.zoom), stage.x));
  stage.y = Math.min(0, Math.max(box.height * (1 - stage.zoom), stage.y));
  $("layers").style.transform = `translate(${stage.x}px, ${stage.y}px) scale(${stage.zoom})`;
  stage.onMove();
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
