// Classes and doubt as colours: small canvases of one pixel for each of the sample's, which the view enlarges.

const [RED, GREEN, BLUE, ALPHA] = [0, 1, 2, 3];

export function newCanvas(side) {
  return Object.assign(document.createElement("canvas"), { width: side, height: side });
}

/** Colours by class, as pixels of a canvas; nothing is clear. */
export function colourTable(classes) {
  const bytes = new Uint8Array(4 * 256);
  classes.forEach(({ colour }, i) => bytes.set([...channels(colour), 255], 4 * i));
  return new Uint32Array(bytes.buffer);
}

const channels = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));

/** Whether black is read more easily on a colour than white. */
export function isLight(colour) {
  const [red, green, blue] = channels(colour);
  return 0.299 * red + 0.587 * green + 0.114 * blue > 140;
}

export function paintLabels(canvas, labels, table) {
  paint(canvas, (pixels) => labels.forEach((label, i) => { pixels[i] = table[label]; }));
}

/** Covered pixels in one colour: a stroke while it is drawn. */
export function paintCovered(canvas, covered, colour) {
  paint(canvas, (pixels) => covered.forEach((inside, i) => { if (inside) pixels[i] = colour; }));
}

/** White where the teacher is in doubt, clear where it is not. */
export function paintDoubt(canvas, doubt) {
  paint(canvas, (_, bytes) => doubt.forEach((value, i) => {
    bytes[4 * i + RED] = bytes[4 * i + GREEN] = bytes[4 * i + BLUE] = 255;
    bytes[4 * i + ALPHA] = value;
  }));
}

function paint(canvas, fill) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  fill(new Uint32Array(image.data.buffer), image.data);
  context.putImageData(image, 0, 0);
}

/** The edges of all that is drawn, along the sides of its pixels. */
export function outline(mask, side) {
  const path = new Path2D();
  const differ = (i, j) => mask[i] !== mask[j];
  for (let line = 1; line < side; line++) {
    edges(side, (k) => differ(line * side + k, (line - 1) * side + k), (from, to) => {
      path.moveTo(from, line);
      path.lineTo(to, line);
    });
    edges(side, (k) => differ(k * side + line, k * side + line - 1), (from, to) => {
      path.moveTo(line, from);
      path.lineTo(line, to);
    });
  }
  return path;
}

/** Neighbouring sides of pixels in one piece. */
function edges(side, isEdge, add) {
  let from = -1;
  for (let k = 0; k <= side; k++) {
    const here = k < side && isEdge(k);
    if (here && from < 0) from = k;
    if (!here && from >= 0) {
      add(from, k);
      from = -1;
    }
  }
}

