// The page: it puts the parts together, and brings what they tell to the elements.

import { Easel } from "./easel.js";
import { Keys } from "./keys.js";
import { Legend } from "./legend.js";
import { colourTable } from "./paint.js";
import { Pointers } from "./pointers.js";
import * as server from "./server.js";
import { Strip } from "./strip.js";
import { View } from "./view.js";

const get = (id) => document.getElementById(id);

function say(sentence) {
  get("status").textContent = sentence;
}

function trouble(sentence) {
  get("trouble").hidden = !sentence;
  get("trouble").textContent = sentence ?? "";
}

class Page {
  constructor(setup) {
    this.setup = setup;
    this.view = new View(get("canvas"), setup.resolution, colourTable(setup.classes));
    this.strip = new Strip(get("strip"), setup, (number) => this.open(number));
    this.legend = new Legend(get("legend"), setup.classes, (label) => this.easel.take(label));
    this.easel = new Easel(setup, this.view, {
      changed: () => this.show(),
      opened: () => this.opened(),
      answered: (event) => this.answered(event),
      say,
      trouble,
    });
    this.pointers = new Pointers(this.view, () => this.easel.tool);
    this.keys = new Keys(this.deeds());
    get("key-table").replaceChildren(...this.keys.help());
    get("about").textContent = `Strokes are saved in ${setup.folder}. ${setup.features}`;
    get("size").max = this.easel.sizes.length - 1;
    this.wire();
    this.show();
    server.listen((event) => this.hear(event), (error) => this.lost(error));
  }

  /** What keys and buttons do. */
  deeds() {
    const { easel, view } = this;
    return {
      choose: (name) => easel.choose(name),
      resize: (steps) => easel.resize(steps),
      type: (digit) => this.legend.type(digit),
      close: () => easel.tool.close(),
      takeBack: () => easel.tool.back(),
      drop: () => { this.pointers.drop(); easel.tool.drop(); },
      undo: () => easel.undo(),
      redo: () => easel.redo(),
      accept: () => easel.accept(),
      next: () => easel.next(),
      back: () => easel.back(),
      step: (by) => this.step(by),
      toggle: (name) => this.toggle(name),
      zoom: (factor) => view.zoom(factor),
      fit: () => view.fit(),
      help: () => get("keys").showModal(),
      holdSpace: (isHeld) => this.pointers.holdSpace(isHeld),
    };
  }

  wire() {
    const { easel, view } = this;
    const deeds = this.deeds();
    const on = (id, run) => get(id).addEventListener("click", run);
    for (const button of document.querySelectorAll("[data-tool]")) {
      button.addEventListener("click", () => easel.choose(button.dataset.tool));
    }
    for (const name of ["accept", "next", "help", "undo", "redo", "fit", "close", "drop"]) on(name, deeds[name]);
    on("take-back", deeds.takeBack);
    on("before", () => this.step(-1));
    on("after", () => this.step(1));
    on("zoom-in", () => view.zoom(1.5));
    on("zoom-out", () => view.zoom(1 / 1.5));
    get("size").addEventListener("input", ({ target }) => {
      easel.size = easel.sizes[target.value];
      easel.changed();
    });
    for (const name of ["strength", "doubt", "smooth", "hidden"]) {
      get(name).addEventListener("input", () => this.look());
    }
    // After a click the keys belong to the drawing again; after Tab and Enter the focus stays.
    document.addEventListener("click", ({ target, detail }) => {
      if (detail && target.closest("button, input[type=checkbox]") && !get("keys").open) {
        get("canvas").focus({ preventScroll: true });
      }
    });
    addEventListener("hashchange", () => this.open(this.asked()));
  }

  toggle(name) {
    get(name).checked = !get(name).checked;
    this.look();
  }

  /** How the overlays look. */
  look() {
    const { view } = this;
    view.strength = get("strength").value / 100;
    view.hasDoubt = get("doubt").checked;
    view.isSmooth = get("smooth").checked;
    view.hidden = get("hidden").checked;
    get("strength-text").textContent = `${get("strength").value} %`;
    view.refresh();
  }

  // ---- samples

  /** The sample that the address names, so that a reload comes back to it. */
  asked() {
    const number = Number.parseInt(location.hash.slice(1), 10);
    return number >= 0 && number < this.setup.samples ? number : this.setup.first;
  }

  open(number) {
    return this.easel.open(number);
  }

  step(by) {
    const { numbers } = this.strip;
    const to = numbers[numbers.indexOf(this.easel.sample?.number) + by];
    if (to !== undefined) this.open(to);
  }

  opened() {
    const { number } = this.easel.sample;
    history.replaceState(null, "", `#${number}`);
    get("title").textContent = `Sample ${number}`;
    document.title = `Sample ${number} · Draw`;
    this.strip.show(number);
    this.show();
  }

  // ---- what is seen

  show() {
    const { easel, setup } = this;
    const { sample } = easel;
    for (const button of document.querySelectorAll("[data-tool]")) {
      button.setAttribute("aria-pressed", String(button.dataset.tool === easel.toolName));
    }
    get("size").value = easel.sizes.indexOf(easel.size);
    get("size-text").textContent = `${easel.size} px`;
    get("polygon").hidden = !easel.tool.isOpen;
    get("undo").disabled = !sample?.can("undo");
    get("redo").disabled = !sample?.can("redo");
    get("accept").disabled = !sample?.answer;
    get("next").disabled = !sample;
    const counts = sample?.counts(setup.classes.length) ?? setup.classes.map(() => 0);
    this.legend.show(easel.label, counts);
    if (sample) this.describe(sample, counts);
  }

  /** In words: what the canvas shows. */
  describe(sample, counts) {
    const names = this.setup.classes.map(({ name }) => name);
    const drawn = counts.flatMap((count, i) => (count ? [`${names[i]} ${count} pixels`] : []));
    get("canvas").dataset.version = sample.answer?.version ?? ""; // of the answer on show, for whoever waits for it
    const found = sample.answer ? [...new Set(sample.answer.labels)].sort().map((i) => names[i]) : [];
    get("canvas").setAttribute("aria-label", [
      `Sample ${sample.number}.`,
      drawn.length ? `Drawn: ${drawn.join(", ")}.` : "Nothing is drawn.",
      found.length ? `The teacher's answer has ${found.join(", ")}.` : "There is no answer yet.",
    ].join(" "));
    const pixels = counts.reduce((sum, count) => sum + count, 0);
    const share = Math.round(100 * pixels / sample.mask.length);
    const { strokes, accepted } = sample.state;
    get("facts").textContent = accepted ? "accepted"
      : `${strokes} ${strokes === 1 ? "stroke" : "strokes"}, ${share} % drawn`;
  }

  // ---- what the server tells

  hear(event) {
    this.easel.hear(event);
    if (event.event === "open") this.arrived();
    if (event.event === "ready") this.ready(event);
    if (event.event === "sample") this.strip.refresh();
    if (event.event === "problem") trouble(event.text);
  }

  /** Connected, for the first time or again, perhaps to a server that was started anew. */
  async arrived() {
    if (this.isLost) {
      trouble(null);
      say("The server is back.");
    }
    this.isLost = false;
    const { ready, samples, problem } = await server.setup();
    if (problem) trouble(problem);
    this.ready({ samples: ready, of: samples });
    this.strip.answered(this.strip.numbers);
    this.easel.reload();
  }

  lost({ status, message }) {
    this.isLost = true;
    const count = this.easel.queue.acts.length;
    const waiting = count ? " What is not saved yet waits here and is sent when it is back." : "";
    trouble(status === 403
      ? "The server was started again with another address: open the one that it printed."
      : message + waiting);
  }

  ready({ samples, of }) {
    get("progress").hidden = samples >= of;
    Object.assign(get("drawn"), { value: samples, max: of });
    get("drawn-text").textContent = `${samples} of ${of} samples drawn`;
    this.strip.refresh();
    this.easel.grow(samples);
    if (!this.easel.sample) this.open(this.asked());
  }

  answered({ samples, seconds }) {
    this.strip.answered(samples.length ? samples : this.strip.numbers);
    if (seconds && this.easel.hasAsked && samples.includes(this.easel.sample?.number)) {
      this.easel.hasAsked = false; // later answers to the same strokes are nobody's waiting
      get("teacher").textContent = `The teacher answered in ${seconds.toFixed(1)} s.`;
    }
  }
}

try {
  new Page(await server.setup());
} catch (error) {
  trouble(error.message);
}
