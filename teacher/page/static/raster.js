// The pixels that a stroke covers, by the same sums in the same order as `strokes.py`: what is seen while
// drawing is what the server saves. A mask is a Uint8Array of side * side classes, rows from the top.

export const NOTHING = 255; // of a pixel on which nobody has drawn

/** A place as it is sent: to a hundredth of a pixel, and no further outside than the server takes. */
export function rounded([x, y], side) {
  return [x, y].map((v) => Math.round(Math.min(2 * side, Math.max(-side, v)) * 100) / 100);
}

/** Change a mask as a stroke does. */
export function put(mask, stroke, side) {
  if (stroke.kind === "agreed") return putRuns(mask, stroke.runs);
  const covered = stroke.kind === "line"
    ? coverLine(stroke.points, stroke.size, side) : coverArea(stroke.points, side);
  covered.forEach((inside, i) => { if (inside) mask[i] = stroke.class; });
}

function putRuns(mask, runs) {
  for (const [label, first, count] of runs) {
    for (let i = first; i < first + count; i++) if (mask[i] === NOTHING) mask[i] = label;
  }
}

/** Pixels whose centre is within half of the brush's size of a line, and those of its points. */
export function coverLine(points, size, side) {
  const covered = new Uint8Array(side * side);
  if (points.length === 1) coverStep(covered, points[0], points[0], size, side);
  for (let i = 1; i < points.length; i++) coverStep(covered, points[i - 1], points[i], size, side);
  return covered;
}

/** The same for one straight step of the line, so that a long line need not be covered again and again. */
export function coverStep(covered, [ax, ay], [bx, by], size, side) {
  const radius = size / 2;
  const [left, right] = between(Math.min(ax, bx) - radius, Math.max(ax, bx) + radius, side);
  const [top, bottom] = between(Math.min(ay, by) - radius, Math.max(ay, by) + radius, side);
  const dx = bx - ax, dy = by - ay;
  const length = dx * dx + dy * dy;
  for (let y = top; y < bottom; y++) {
    const py = y + 0.5;
    for (let x = left; x < right; x++) {
      const px = x + 0.5;
      const along = length ? Math.min(1, Math.max(0, ((px - ax) * dx + (py - ay) * dy) / length)) : 0;
      const ex = px - (ax + along * dx), ey = py - (ay + along * dy);
      if (ex * ex + ey * ey <= radius * radius) covered[y * side + x] = 1;
    }
  }
  coverPoint(covered, ax, ay, side);
  coverPoint(covered, bx, by, side);
}

function coverPoint(covered, px, py, side) {
  const x = Math.floor(px), y = Math.floor(py);
  if (x >= 0 && x < side && y >= 0 && y < side) covered[y * side + x] = 1;
}

/** Pixels whose centre is inside of a closed outline, by the even-odd rule. */
export function coverArea(points, side) {
  const covered = new Uint8Array(side * side);
  points.forEach(([ax, ay], i) => {
    const [bx, by] = points[(i + 1) % points.length];
    const [top, bottom] = between(Math.min(ay, by), Math.max(ay, by), side);
    for (let y = top; y < bottom; y++) {
      const py = y + 0.5;
      if (ay > py === by > py) continue;
      const crossing = (bx - ax) * (py - ay) / (by - ay) + ax;
      for (let x = 0; x < side && x + 0.5 < crossing; x++) covered[y * side + x] ^= 1;
    }
  });
  return covered;
}

/** First pixel and end of those whose centre may lie between two places. */
function between(low, high, side) {
  return [Math.max(0, Math.floor(low)), Math.min(side, Math.max(0, Math.ceil(high) + 1))];
}

/** The connected pixels of one class around a pixel; neighbours share an edge. */
export function region(labels, side, start) {
  const chosen = new Uint8Array(labels.length);
  const open = [start];
  chosen[start] = 1;
  const visit = (i) => {
    if (labels[i] === labels[start] && !chosen[i]) {
      chosen[i] = 1;
      open.push(i);
    }
  };
  while (open.length) {
    const i = open.pop(), x = i % side;
    if (x > 0) visit(i - 1);
    if (x < side - 1) visit(i + 1);
    if (i >= side) visit(i - side);
    if (i < labels.length - side) visit(i + side);
  }
  return chosen;
}

/** Chosen pixels as runs of [class, first pixel, number of pixels]. */
export function runsOf(labels, isChosen) {
  const runs = [];
  let last = null;
  labels.forEach((label, i) => {
    if (!isChosen(i)) last = null;
    else if (last?.[0] === label) last[2]++;
    else runs.push(last = [label, i, 1]);
  });
  return runs;
}
