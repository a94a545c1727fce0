// The student in a browser. An image becomes RGB as `student.predict` makes it, the network's label map
// is drawn over it in the classes' colours, and saved as the same palette PNG that Python writes.

const LARGEST = 2048; // pixels of a side; more is neither seen on a screen nor by the network
const CAMERA = 512;

const get = (id) => document.getElementById(id);
const { names, colours, resolution } = JSON.parse(get("labels").textContent);
const shown = names.map((_, index) => index > 0); // background is left clear
const rows = names.map(addRow);
const image = get("image").getContext("2d", { alpha: false, willReadFrequently: true });
const overlay = get("overlay").getContext("2d");
let result = null; // { labels, width, height, name }
let stream = null; // of the camera, while it is live
let turn = 0; // of what was asked for last: what was asked for before is dropped

// ---- the network

function bytesOf(id) {
  const text = get(id).textContent;
  get(id).remove(); // the text is not needed again
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

async function through(transform, bytes) {
  return new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(transform)).arrayBuffer());
}

const unpacked = (id) => through(new DecompressionStream("gzip"), bytesOf(id));

async function load() {
  const source = URL.createObjectURL(new Blob([await unpacked("script")], { type: "text/javascript" }));
  const ort = await import(source);
  ort.env.wasm.numThreads = 1; // threads need headers that a file or a plain host does not give
  ort.env.wasm.wasmBinary = (await unpacked("binary")).buffer;
  const session = await ort.InferenceSession.create(await unpacked("model"));
  const run = async (rgb, width, height) => {
    const images = new ort.Tensor("uint8", rgb, [1, height, width, 3]);
    const { labels } = await session.run({ images }, ["labels"]);
    return labels.data;
  };
  await run(new Uint8Array(3 * resolution ** 2), resolution, resolution); // the first takes longer
  return run;
}

const network = load();
network.then(() => say("Ready."), (error) => {
  const old = typeof DecompressionStream === "undefined";
  say(old ? "This browser is too old; Chrome 97, Firefox 113, Safari 16.4 and newer will do."
    : `The network cannot be started here (${error.message ?? error}).`, true);
});

// ---- from an image to its parts

/** Segment what is on the canvas, and draw that unless something newer was asked for meanwhile. */
async function segment(mine, name) {
  const { width, height } = image.canvas;
  const pixels = image.getImageData(0, 0, width, height).data;
  const rgb = new Uint8Array(width * height * 3);
  for (let i = 0, o = 0; i < pixels.length; i += 4) {
    rgb[o++] = pixels[i];
    rgb[o++] = pixels[i + 1];
    rgb[o++] = pixels[i + 2];
  }
  const run = await network;
  const started = performance.now();
  const labels = await run(rgb, width, height);
  const took = performance.now() - started;
  if (mine !== turn) return;
  result = { labels, width, height, name };
  get("time").textContent = `${took < 10 ? took.toFixed(1) : Math.round(took)} ms`;
  get("facts").hidden = get("save").disabled = false;
  drawOverlay();
  drawShares();
}

/** Draw a source on the image's canvas, on white as in Python, and set the stage for it. */
function show(source, cut, width, height, mirrored) {
  for (const { canvas } of [image, overlay]) {
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    canvas.hidden = false;
  }
  image.fillStyle = "white";
  image.fillRect(0, 0, width, height);
  image.imageSmoothingQuality = "high";
  image.drawImage(source, ...cut, 0, 0, width, height);
  get("stage").style.setProperty("--ratio", width / height);
  get("stage").classList.remove("empty");
  get("stage").classList.toggle("mirrored", mirrored);
  get("size").textContent = `${width} × ${height} px`;
}

async function openImage(file) {
  stopCamera();
  const mine = ++turn;
  let bitmap;
  try {
    // As Pillow does: turned as EXIF says, colour profiles left alone.
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" });
  } catch {
    say(`${file.name} cannot be read as an image here; JPEG, PNG and WebP can.`, true);
    return;
  }
  if (mine !== turn) return;
  const { width, height } = bitmap;
  const scale = Math.min(1, LARGEST / Math.max(width, height));
  const size = [width, height].map((side) => Math.max(1, Math.round(side * scale)));
  forget();
  show(bitmap, [0, 0, width, height], ...size, false);
  bitmap.close();
  say("Segmenting …");
  const reduced = scale < 1 ? ` at ${size.join(" × ")} pixels, reduced from ${width} × ${height}` : "";
  try {
    await segment(mine, file.name);
    if (mine === turn) say(`${file.name} is segmented${reduced}.`);
  } catch (error) {
    say(`${file.name} cannot be segmented here (${error.message ?? error}).`, true);
  }
}

/** The parts of the image before. */
function forget() {
  result = null;
  overlay.clearRect(0, 0, overlay.canvas.width, overlay.canvas.height);
  get("facts").hidden = get("save").disabled = true;
  for (const share of rows) share.textContent = "";
}

function drawOverlay() {
  if (!result) return;
  const image = overlay.createImageData(result.width, result.height);
  const paint = new Uint32Array(image.data.buffer);
  const bytes = new Uint8Array(4 * names.length);
  names.forEach((_, index) => shown[index] && bytes.set([...colours[index], 255], 4 * index));
  const table = new Uint32Array(bytes.buffer);
  result.labels.forEach((label, i) => { paint[i] = table[label]; });
  overlay.putImageData(image, 0, 0);
}

// ---- the camera

const CAMERA_ERRORS = {
  NotAllowedError: "The camera may not be used: allow it for this page in the browser's settings.",
  NotFoundError: "There is no camera.",
  NotReadableError: "The camera is in use by another program.",
};

async function startCamera() {
  const mine = ++turn;
  if (!navigator.mediaDevices) {
    say("This browser gives a page opened so no camera; it does over https.", true);
    return;
  }
  const video = Object.assign(document.createElement("video"), { muted: true, playsInline: true });
  try {
    const wanted = { facingMode: "user", width: { ideal: 640 }, height: { ideal: 480 } };
    const opened = await navigator.mediaDevices.getUserMedia({ video: wanted });
    if (mine !== turn) return opened.getTracks().forEach((track) => track.stop());
    stream = opened;
    get("camera").textContent = "Stop";
    video.srcObject = stream;
    await video.play();
  } catch (error) {
    stopCamera();
    say(CAMERA_ERRORS[error.name] ?? `The camera cannot be used (${error.message}).`, true);
    return;
  }
  stream.getVideoTracks()[0].addEventListener("ended", stopCamera);
  say("Live. Let your face fill the square.");
  while (stream && mine === turn) {
    const { videoWidth: width, videoHeight: height } = video;
    const side = Math.min(width, height);
    const size = Math.min(side, CAMERA);
    show(video, [(width - side) / 2, (height - side) / 2, side, side], size, size, true);
    await segment(mine, "camera");
    await new Promise(requestAnimationFrame);
  }
}

/** The last image stays, with its parts. */
function stopCamera() {
  if (!stream) return;
  stream.getTracks().forEach((track) => track.stop());
  stream = null;
  get("camera").textContent = "Camera";
  say("The camera is off.");
}

// ---- the mask as a file

async function saveMask() {
  const { labels, width, height, name } = result;
  const lines = new Uint8Array(height * (width + 1)); // each begins with the number of its filter: none
  for (let y = 0; y < height; y++) {
    lines.set(labels.subarray(y * width, (y + 1) * width), y * (width + 1) + 1);
  }
  const header = new DataView(new ArrayBuffer(13));
  header.setUint32(0, width);
  header.setUint32(4, height);
  header.setUint16(8, 0x0803); // eight bits, palette
  const palette = new Uint8Array(768).fill(255);
  palette.set(colours.flat());
  const blob = new Blob([
    Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10),
    chunk("IHDR", new Uint8Array(header.buffer)),
    chunk("PLTE", palette),
    chunk("IDAT", await through(new CompressionStream("deflate"), lines)),
    chunk("IEND", new Uint8Array(0)),
  ], { type: "image/png" });
  const href = URL.createObjectURL(blob);
  Object.assign(document.createElement("a"), { href, download: `${name.replace(/\.\w+$/, "")}_mask.png` }).click();
  setTimeout(() => URL.revokeObjectURL(href), 60000);
}

/** A chunk of a PNG file: length, name, data, checksum. */
function chunk(name, data) {
  const bytes = new Uint8Array(data.length + 12);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  bytes.set([...name].map((letter) => letter.charCodeAt(0)), 4);
  bytes.set(data, 8);
  let sum = -1;
  for (const byte of bytes.subarray(4, -4)) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit++) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  }
  view.setUint32(data.length + 8, ~sum);
  return bytes;
}

// ---- what people see and press

function say(text, wrong = false) {
  get("status").textContent = text;
  get("status").classList.toggle("wrong", wrong);
}

/** A class in the legend; gives the place of its share. */
function addRow(name, index) {
  const make = (tag, values) => Object.assign(document.createElement(tag), values);
  const label = make("label", {});
  const box = make("input", { type: "checkbox", checked: index > 0 });
  const swatch = make("span", { className: "swatch" });
  const share = make("span", { className: "share" });
  swatch.style.background = `rgb(${colours[index]})`;
  box.addEventListener("change", () => { shown[index] = box.checked; drawOverlay(); });
  label.append(box, swatch, make("span", { className: "name", textContent: name }), share);
  const row = make("li", {});
  row.append(label);
  get("legend").append(row);
  return share;
}

function drawShares() {
  const counts = new Array(names.length).fill(0);
  for (const label of result.labels) counts[label]++;
  counts.forEach((n, i) => { rows[i].textContent = `${((100 * n) / result.labels.length).toFixed(1)} %`; });
}

const stage = get("stage");
const choose = () => get("file").click();
get("choose").addEventListener("click", choose);
stage.addEventListener("click", () => stage.classList.contains("empty") && choose());
get("file").addEventListener("change", ({ target }) => {
  if (target.files[0]) openImage(target.files[0]);
  target.value = ""; // so that the same file can be chosen again
});
get("example").addEventListener("click", () => {
  const bytes = Uint8Array.from(atob(get("sample").textContent), (letter) => letter.charCodeAt(0));
  openImage(new File([bytes], "example.png", { type: "image/png" }));
});
get("camera").addEventListener("click", () => (stream ? stopCamera() : startCamera()));
get("save").addEventListener("click", saveMask);
get("opacity").addEventListener("input", ({ target }) => {
  get("overlay").style.opacity = target.value / 100;
  get("percent").textContent = `${target.value} %`;
});
// The whole page takes a drop, so that a near miss does not leave it for the image.
document.addEventListener("dragover", (event) => { event.preventDefault(); stage.classList.add("over"); });
document.addEventListener("dragleave", () => stage.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  stage.classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file) openImage(file);
  else say("That was no file; save the image first, then drop it here.", true);
});
