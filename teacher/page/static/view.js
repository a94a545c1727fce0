// The sample on the screen: where it lies, how large it is, and all that is drawn on top of it.

import { newCanvas, outline, paintCovered, paintDoubt, paintLabels } from "./paint.js";

const MARGIN = 16; // CSS pixels around a sample that fits; half of them on a phone
const LARGEST = 96; // CSS pixels of one pixel of the sample
const GRID_FROM = 14; // below, a grid hides more than it shows

export class View {
  /** @param table colours by class */
  constructor(canvas, side, table) {
    Object.assign(this, { canvas, side, table });
    this.context = canvas.getContext("2d");
    this.image = null;
    [this.answer, this.doubt, this.mask, this.live] = [1, 2, 3, 4].map(() => newCanvas(side));
    this.edges = new Path2D();
    this.covered = null; // by the stroke that is being drawn
    this.hidden = this.isFit = false;
    this.isSmooth = this.hasDoubt = true;
    this.strength = 0.5;
    this.scale = 1; // CSS pixels of one pixel of the sample
    this.left = this.top = 0; // CSS pixels from the canvas' corner to the sample's
    this.above = () => {}; // what the tool draws on top
    this.veil = document.createElement("canvas");
    new ResizeObserver(() => this.resize()).observe(canvas);
    this.fit();
  }

  // ---- what is shown

  show(image) {
    this.image = image;
    this.refresh();
  }

  showMask(mask) {
    paintLabels(this.mask, mask, this.table);
    this.edges = outline(mask, this.side);
    this.refresh();
  }

  showAnswer(answer) {
    for (const canvas of [this.answer, this.doubt]) canvas.width = this.side; // empties it
    if (answer) {
      paintLabels(this.answer, answer.labels, this.table);
      paintDoubt(this.doubt, answer.doubt);
    }
    this.refresh();
  }

  /** Pixels that a stroke covers so far, which may grow in place; none to clear them. */
  showLive(covered, label) {
    this.covered = covered;
    this.liveColour = this.table[label] || 0xffffffff; // the eraser is white
    if (!covered) this.live.width = this.side; // empties it
    this.refresh();
  }

  // ---- where it lies

  resize() {
    if (this.isFit) this.fit();
    else this.moveBy(0, 0);
    this.draw(); // at once: else it is seen stretched
  }

  /** Give the canvas a pixel for each of the screen's, which may be another screen than a moment ago. */
  matchScreen() {
    const { canvas } = this;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((n) => Math.round(n * devicePixelRatio));
    if (canvas.width === width && canvas.height === height) return;
    Object.assign(canvas, { width, height });
    this.stripes = null;
  }

  fitting() {
    const { clientWidth, clientHeight } = this.canvas;
    const margin = clientWidth < 500 ? MARGIN / 2 : MARGIN;
    return Math.max(1, Math.min(clientWidth, clientHeight) - 2 * margin) / this.side;
  }

  fit() {
    this.scale = this.fitting();
    this.left = (this.canvas.clientWidth - this.scale * this.side) / 2;
    this.top = (this.canvas.clientHeight - this.scale * this.side) / 2;
    this.isFit = true;
    this.refresh();
  }

  /** Zoom so that what is at a place of the canvas stays there; the canvas' middle if none is given. */
  zoom(factor, x = this.canvas.clientWidth / 2, y = this.canvas.clientHeight / 2) {
    const least = this.fitting() / 2;
    const scale = Math.min(Math.max(LARGEST, least), Math.max(least, this.scale * factor));
    const [px, py] = this.toSample(x, y);
    this.scale = scale;
    this.left = x - px * scale;
    this.top = y - py * scale;
    this.moveBy(0, 0);
  }

  /** Move, but never so far that the sample leaves the canvas' middle. */
  moveBy(dx, dy) {
    const size = this.scale * this.side;
    const { clientWidth, clientHeight } = this.canvas;
    this.left = Math.min(clientWidth / 2, Math.max(clientWidth / 2 - size, this.left + dx));
    this.top = Math.min(clientHeight / 2, Math.max(clientHeight / 2 - size, this.top + dy));
    this.isFit = false;
    this.refresh();
  }

  toSample(x, y) {
    return [(x - this.left) / this.scale, (y - this.top) / this.scale];
  }

  // ---- drawing

  refresh() {
    this.canvas.classList.toggle("fits", this.isFit);
    this.frame ??= requestAnimationFrame(() => this.draw());
  }

  draw() {
    cancelAnimationFrame(this.frame);
    this.frame = null;
    this.matchScreen();
    const { context, canvas, side } = this;
    const ratio = devicePixelRatio;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (!this.image) return;
    // Whole device pixels at the corner, so that the sample's edges are sharp.
    const scale = this.scale * ratio;
    const place = [scale, 0, 0, scale, Math.round(this.left * ratio), Math.round(this.top * ratio)];
    context.setTransform(...place);
    context.imageSmoothingEnabled = this.isSmooth;
    context.imageSmoothingQuality = "high";
    context.drawImage(this.image, 0, 0, side, side);
    if (!this.hidden) this.drawLayers(place);
    this.above(context, 1 / this.scale);
  }

  drawLayers(place) {
    const { context, strength, side } = this;
    context.imageSmoothingEnabled = false;
    context.globalAlpha = 0.8 * strength;
    context.drawImage(this.answer, 0, 0);
    context.globalAlpha = 1;
    if (this.hasDoubt) this.drawVeil(place);
    context.globalAlpha = Math.min(1, 0.3 + 0.8 * strength);
    context.drawImage(this.mask, 0, 0);
    if (this.covered) paintCovered(this.live, this.covered, this.liveColour);
    context.drawImage(this.live, 0, 0);
    context.globalAlpha = 1;
    if (this.scale >= GRID_FROM) this.drawGrid(side);
    this.line(this.edges, "#000a", 2.5);
    this.line(this.edges, "#fff", 1);
  }

  /** Stripes where the teacher is in doubt: no class looks like them, and the image is seen between. */
  drawVeil(place) {
    const { veil, canvas } = this;
    if (veil.width !== canvas.width || veil.height !== canvas.height) {
      Object.assign(veil, { width: canvas.width, height: canvas.height });
    }
    const context = veil.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.globalCompositeOperation = "copy";
    context.imageSmoothingEnabled = false;
    context.setTransform(...place);
    context.drawImage(this.doubt, 0, 0);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.globalCompositeOperation = "source-in";
    this.stripes ??= stripes(context);
    context.fillStyle = this.stripes;
    context.fillRect(0, 0, veil.width, veil.height);
    this.context.resetTransform();
    this.context.drawImage(veil, 0, 0);
    this.context.setTransform(...place);
  }

  drawGrid(side) {
    const grid = new Path2D();
    for (let i = 0; i <= side; i++) {
      grid.moveTo(i, 0);
      grid.lineTo(i, side);
      grid.moveTo(0, i);
      grid.lineTo(side, i);
    }
    this.line(grid, "#fff2", 1);
  }

  /** A line of a width in CSS pixels, at any zoom. */
  line(path, colour, width) {
    this.context.strokeStyle = colour;
    this.context.lineWidth = width / this.scale;
    this.context.stroke(path);
  }
}

function stripes(context) {
  const size = Math.round(8 * devicePixelRatio);
  const tile = newCanvas(size);
  const pen = tile.getContext("2d");
  for (const [colour, shift] of [["#0006", devicePixelRatio], ["#fff", 0]]) {
    pen.strokeStyle = colour;
    pen.lineWidth = devicePixelRatio;
    pen.beginPath();
    for (const start of [-size, 0, size]) { // from tile to tile without a seam
      pen.moveTo(start + shift - 1, size + 1);
      pen.lineTo(start + shift + size + 1, -1);
    }
    pen.stroke();
  }
  return context.createPattern(tile, "repeat");
}
