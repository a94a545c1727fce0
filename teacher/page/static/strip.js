// All samples that are drawn, small, with the teacher's answer on them.

import { colourTable, newCanvas, paintLabels } from "./paint.js";
import * as server from "./server.js";

const SHARP = 128; // pixels of a side that a small image needs
const PATIENCE = 200; // milliseconds in which several changes become one request

export class Strip {
  /** @param open function that puts a sample on show */
  constructor(list, setup, open) {
    Object.assign(this, { list, open });
    this.table = colourTable(setup.classes);
    this.every = Math.max(1, Math.floor(setup.resolution / SHARP));
    this.side = Math.ceil(setup.resolution / this.every);
    this.items = new Map(); // by sample
    this.seen = new Set(); // samples that are in view
    this.current = null;
    this.observer = new IntersectionObserver((entries) => this.see(entries), { root: list, rootMargin: "40px" });
    this.refresh = soon(() => this.fetch());
    this.want = soon(() => this.sendWanted());
  }

  async fetch() {
    const rows = await server.overview().catch(() => []);
    for (const row of rows) {
      if (!this.items.has(row.sample)) this.add(row.sample);
      this.describe(row);
    }
    this.mark();
  }

  get numbers() {
    return [...this.items.keys()].sort((a, b) => a - b);
  }

  add(number) {
    const button = document.createElement("button");
    const image = Object.assign(new Image(), { alt: "", loading: "lazy", src: server.imageAddress(number) });
    const canvas = newCanvas(this.side);
    const note = Object.assign(document.createElement("span"), { className: "note" });
    Object.assign(button, { type: "button", className: "thumb" });
    button.dataset.sample = number;
    button.append(image, canvas, note);
    button.addEventListener("click", () => this.open(number));
    this.items.set(number, { button, canvas, note, isAsking: false, isOld: true });
    const after = this.numbers[this.numbers.indexOf(number) + 1];
    this.list.insertBefore(button, this.items.get(after)?.button ?? null);
    this.observer.observe(button);
  }

  describe({ sample, strokes, doubt, accepted }) {
    const { button, note } = this.items.get(sample);
    const told = [`Sample ${sample}`];
    if (strokes) told.push(strokes === 1 ? "1 stroke" : `${strokes} strokes`);
    if (accepted) told.push("accepted");
    if (doubt !== null) told.push(`doubt ${Math.round(100 * doubt)} %`);
    button.title = told.join(", ");
    button.setAttribute("aria-label", button.title);
    note.textContent = accepted ? "✓" : strokes || "";
    note.hidden = !note.textContent;
  }

  /** Mark the sample on show, and bring it into view. */
  show(number) {
    this.current = number;
    this.mark();
    const button = this.items.get(number)?.button;
    if (button) {
      const middle = button.offsetLeft + button.offsetWidth / 2 - this.list.clientWidth / 2;
      this.list.scrollTo({ left: middle, behavior: this.isCalm() ? "auto" : "smooth" });
    }
    this.want();
  }

  isCalm() {
    return matchMedia("(prefers-reduced-motion: reduce)").matches;
  }

  mark() {
    for (const [number, { button }] of this.items) {
      if (number === this.current) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
  }

  see(entries) {
    for (const { target, isIntersecting } of entries) {
      const number = Number(target.dataset.sample);
      if (isIntersecting) this.seen.add(number);
      else this.seen.delete(number);
      if (isIntersecting) this.paint(number);
    }
    this.want();
  }

  sendWanted() {
    if (this.current === null) return;
    const others = [...this.seen].filter((number) => number !== this.current).sort((a, b) => a - b);
    server.want([this.current, ...others]).catch(() => {}); // asked again by the next change
  }

  /** There are new answers; those in view are painted now, the others when they come into view. */
  answered(numbers) {
    for (const number of numbers) {
      const item = this.items.get(number);
      if (!item) continue;
      item.isOld = true;
      if (this.seen.has(number)) this.paint(number);
    }
    this.refresh();
  }

  async paint(number) {
    const item = this.items.get(number);
    if (item.isAsking || !item.isOld) return;
    item.isAsking = true;
    item.isOld = false;
    try {
      const answer = await server.answer(number, this.every);
      item.canvas.hidden = !answer;
      if (answer) paintLabels(item.canvas, answer.labels, this.table);
    } catch {
      item.isOld = true;
      return; // the next answer, or the next look, asks again
    } finally {
      item.isAsking = false;
    }
    if (item.isOld && this.seen.has(number)) this.paint(number);
  }
}

/** A function that runs once, a moment after it was called last. */
function soon(run) {
  let timer;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(run, PATIENCE);
  };
}
