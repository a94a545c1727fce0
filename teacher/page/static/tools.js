// What a pointer does to the sample on show. A tool is told of places in the sample's pixels, shows what it
// would do, and gives a finished stroke to the easel.
//
// The easel has: side, view, label (of the class in hand), size (of the brush), answer, mask,
// commit(stroke), say(sentence), changed().

import { NOTHING, coverStep, region, rounded, runsOf } from "./raster.js";

const MOST_POINTS = 19_000; // the server takes some more
const NEAR = 9; // CSS pixels within which a corner is met

class Tool {
  constructor(easel) {
    this.easel = easel;
    this.place = null; // of the pointer
  }

  /** The pointer is there, or has left. */
  hover(place) {
    this.place = place;
    this.easel.view.refresh();
  }

  begin() {}
  move() {}
  end() {}
  cancel() {}
  close() {}
  back() {}
  drop() {
    this.cancel();
  }

  /** Draw on top of the sample; `unit` is a CSS pixel. */
  draw() {}

  get isOpen() {
    return false;
  }

  labelFor(erases) {
    return erases ? NOTHING : this.easel.label;
  }

  rounded(place) {
    return rounded(place, this.easel.side);
  }
}

export class Brush extends Tool {
  begin(place, erases) {
    this.label = this.labelFor(erases);
    this.size = this.easel.size;
    this.points = [];
    this.covered = new Uint8Array(this.easel.side ** 2);
    this.add(place);
    this.show();
  }

  move(places) {
    if (!this.points) return;
    for (const place of places) this.add(place);
    this.show();
  }

  add(place) {
    const point = this.rounded(place);
    const last = this.points.at(-1) ?? point;
    if (this.points.length && last[0] === point[0] && last[1] === point[1]) return;
    this.points.push(point);
    coverStep(this.covered, last, point, this.size, this.easel.side);
    if (this.points.length >= MOST_POINTS) this.goOn();
  }

  show() {
    this.easel.view.showLive(this.covered, this.label);
  }

  /** A stroke that is too long for one goes on as another. */
  goOn() {
    const { label, points } = this;
    this.end();
    Object.assign(this, { label, points: points.slice(-1), covered: new Uint8Array(this.easel.side ** 2) });
  }

  end() {
    if (!this.points) return;
    const { points, size, label } = this;
    this.cancel();
    this.easel.commit({ kind: "line", class: label, size, points });
  }

  cancel() {
    this.points = null;
    this.easel.view.showLive(null);
  }

  draw(context, unit) {
    if (!this.place) return;
    const circle = new Path2D();
    circle.arc(...this.place, Math.max(this.easel.size / 2, 1.5 * unit), 0, 2 * Math.PI);
    outlined(context, circle, unit);
  }
}

export class Eraser extends Brush {
  labelFor() {
    return NOTHING;
  }
}

export class Lasso extends Tool {
  begin(place, erases) {
    this.label = this.labelFor(erases);
    this.points = [this.rounded(place)];
  }

  move(places) {
    if (!this.points) return;
    const room = MOST_POINTS - this.points.length;
    this.points.push(...places.slice(0, room).map((place) => this.rounded(place)));
    this.easel.view.refresh();
  }

  end() {
    const { points, label } = this;
    this.cancel();
    if (points?.length >= 3) this.easel.commit({ kind: "area", class: label, points });
  }

  cancel() {
    this.points = null;
    this.easel.view.refresh();
  }

  draw(context, unit) {
    if (this.points) drawOutline(context, this.points, this.easel.colourOf(this.label), unit);
  }
}

/** Corner after corner. A corner may be dragged until the pointer is lifted. */
export class Polygon extends Tool {
  constructor(easel) {
    super(easel);
    this.corners = [];
    this.corner = null; // that is being placed
  }

  get isOpen() {
    return this.corners.length > 0;
  }

  begin(place, erases) {
    if (!this.isOpen) this.label = this.labelFor(erases);
    this.corner = this.rounded(place);
    this.easel.view.refresh();
  }

  move(places) {
    if (this.corner) this.corner = this.rounded(places.at(-1));
  }

  end() {
    const { corner, corners } = this;
    this.corner = null;
    if (!corner) return;
    // The first corner again, or a double click, closes.
    const isMet = (other) => other && this.isNear(corner, other);
    if (isMet(corners.at(-1)) || (corners.length >= 3 && isMet(corners[0]))) return this.close();
    corners.push(corner);
    this.easel.changed();
  }

  isNear(a, b) {
    return Math.hypot(a[0] - b[0], a[1] - b[1]) * this.easel.view.scale < NEAR;
  }

  /** A second finger came: only the corner that the first one placed is dropped. */
  cancel() {
    this.corner = null;
    this.easel.view.refresh();
  }

  close() {
    if (this.corners.length < 3) return;
    const points = this.corners;
    this.drop();
    this.easel.commit({ kind: "area", class: this.label, points });
  }

  back() {
    this.corners.pop();
    this.easel.changed();
  }

  drop() {
    this.corners = [];
    this.corner = null;
    this.easel.changed();
  }

  draw(context, unit) {
    if (!this.isOpen && !this.corner) return;
    const next = this.corner ?? this.place;
    const points = next ? [...this.corners, next] : this.corners;
    drawOutline(context, points, this.easel.colourOf(this.label), unit);
    for (const [x, y] of this.corners) {
      const dot = new Path2D();
      dot.arc(x, y, 3.5 * unit, 0, 2 * Math.PI);
      context.fillStyle = "#fff";
      context.fill(dot);
      outlined(context, dot, unit);
    }
  }
}

/** "That is right here": a connected region of the teacher's answer. */
export class Fill extends Tool {
  begin(place) {
    this.start = place;
  }

  cancel() {
    this.start = null;
  }

  end() {
    if (!this.start) return;
    const { answer, side, mask } = this.easel;
    const [x, y] = this.start.map(Math.floor);
    this.start = null;
    if (x < 0 || y < 0 || x >= side || y >= side) return;
    if (!answer) return this.easel.say("The teacher has no answer to agree with yet; draw a stroke first.");
    const chosen = region(answer.labels, side, y * side + x);
    const runs = runsOf(answer.labels, (i) => chosen[i] && mask[i] === NOTHING);
    if (!runs.length) return this.easel.say("All of this region is drawn already.");
    this.easel.commit({ kind: "agreed", runs });
  }
}

function drawOutline(context, points, colour, unit) {
  const path = new Path2D();
  points.forEach(([x, y], i) => (i ? path.lineTo(x, y) : path.moveTo(x, y)));
  context.globalAlpha = 0.5;
  context.fillStyle = colour;
  context.fill(path, "evenodd");
  context.globalAlpha = 1;
  if (points.length > 2) path.closePath();
  outlined(context, path, unit);
}

/** A line that is seen on any ground. */
function outlined(context, path, unit) {
  for (const [colour, width] of [["#000b", 3], ["#fff", 1.25]]) {
    context.strokeStyle = colour;
    context.lineWidth = width * unit;
    context.stroke(path);
  }
}
