// Strokes as they are seen: lines of a brush, polygons, boxes, and what an eraser has taken away.

// Blue and orange: apart for colour-blind eyes too.
export const COLOURS = { foreground: "rgb(0, 140, 255)", background: "rgb(255, 120, 0)", erase: "rgb(255, 255, 255)" };

function path(context, points, close) {
  context.beginPath();
  context.moveTo(...points[0]);
  for (const point of points) context.lineTo(...point);
  if (close) context.closePath();
}

function line(context, { radius, points }) {
  context.lineWidth = 2 * radius;
  path(context, points);
  context.stroke();
}

function polygon(context, { kind, points, open, hover }, thin) {
  path(context, open && hover ? [...points, hover] : points, !open);
  if (!open) {
    context.globalAlpha *= kind === "erase" ? 1 : 0.5;
    context.fill("evenodd");
    if (kind === "erase") return;
    context.globalAlpha = 1;
  }
  context.lineWidth = thin;
  context.stroke();
  if (open) for (const [x, y] of points) context.fillRect(x - 2 * thin, y - 2 * thin, 4 * thin, 4 * thin);
}

function box(context, { points: [[x0, y0], [x1, y1]] }, thin, { width, height }) {
  const sides = [Math.min(x0, x1), Math.min(y0, y1), Math.abs(x1 - x0), Math.abs(y1 - y0)];
  context.beginPath();
  context.rect(0, 0, width, height);
  context.rect(...sides);
  context.globalAlpha = 0.2;
  context.fill("evenodd");
  context.globalAlpha = 1;
  context.lineWidth = thin;
  context.setLineDash([4 * thin, 3 * thin]);
  context.strokeRect(...sides);
}

// `thin` is the width of an outline, in pixels of the photograph.
export function drawStroke(context, stroke, thin, size) {
  context.save();
  context.lineCap = context.lineJoin = "round";
  context.strokeStyle = context.fillStyle = COLOURS[stroke.kind];
  context.globalAlpha = stroke.kind === "erase" ? 1 : 0.8;
  if (stroke.kind === "erase") context.globalCompositeOperation = "destination-out";
  ({ line, polygon, box })[stroke.shape](context, stroke, thin, size);
  context.restore();
}
