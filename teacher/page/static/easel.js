// The sample on show under the person's hand: tools and undo on one side, queue and events on the other.

import { runsOf } from "./raster.js";
import { Queue } from "./queue.js";
import { Sample } from "./sample.js";
import * as server from "./server.js";
import { Brush, Eraser, Fill, Lasso, Polygon } from "./tools.js";

export class Easel {
  /**
   * @param setup what the server says of the session
   * @param told functions: `changed()` when buttons and legend may look different, `opened()` for another
   *   sample, `say(sentence)`, `trouble(sentence or null)`, `answered(sample numbers)`
   */
  constructor(setup, view, told) {
    Object.assign(this, { view, told, side: setup.resolution, classes: setup.classes });
    this.sizes = brushSizes(this.side);
    this.size = this.sizes.find((size) => size >= this.side / 16);
    this.label = Math.min(1, this.classes.length - 1);
    this.sample = null;
    this.ready = setup.ready; // samples that are drawn
    this.isBehind = false; // the sample on show could not be fetched again
    this.hasAsked = false; // something that the teacher has not answered yet
    this.before = []; // numbers of the samples shown before
    this.tools = {
      brush: new Brush(this), eraser: new Eraser(this), lasso: new Lasso(this),
      polygon: new Polygon(this), fill: new Fill(this),
    };
    this.toolName = "brush";
    view.above = (context, unit) => this.tool.draw(context, unit);
    this.queue = new Queue(setup.folder, setup.samples, {
      saved: (act, state) => this.saved(act, state),
      refused: (act, error) => this.refused(act, error),
      waits: (count, error) => this.waits(count, error),
    });
    this.queue.start();
  }

  // ---- what tools ask for

  get tool() {
    return this.tools[this.toolName];
  }

  get answer() {
    return this.sample?.answer;
  }

  get mask() {
    return this.sample.mask;
  }

  colourOf(label) {
    return this.classes[label]?.colour ?? "#fff";
  }

  say(sentence) {
    this.told.say(sentence);
  }

  changed() {
    this.view.refresh();
    this.told.changed();
  }

  commit(stroke) {
    this.do(stroke);
  }

  // ---- what the person does

  choose(name) {
    this.tool.drop();
    this.toolName = name;
    this.changed();
  }

  take(label) {
    if (label >= this.classes.length) return;
    this.label = label;
    if (this.toolName === "eraser" || this.toolName === "fill") this.choose("brush");
    this.changed();
  }

  /** Another brush, so many sizes larger. */
  resize(steps) {
    const at = this.sizes.indexOf(this.size) + steps;
    this.size = this.sizes[Math.min(this.sizes.length - 1, Math.max(0, at))];
    this.changed();
  }

  undo() {
    if (this.sample?.can("undo")) this.do("undo");
  }

  redo() {
    if (this.sample?.can("redo")) this.do("redo");
  }

  accept() {
    if (!this.answer) return this.say("The teacher has no answer to accept yet; draw a stroke first.");
    this.do({ kind: "agreed", runs: runsOf(this.answer.labels, () => true) });
    this.say("Accepted: all of the answer counts as drawn. Correct what is wrong in it by strokes.");
  }

  do(what) {
    if (!this.sample) return;
    this.queue.add(this.sample.number, what);
    this.hasAsked = true;
    this.say("");
    this.showMask();
  }

  // ---- another sample

  async open(number, reason = "") {
    if (number === this.sample?.number) return;
    if (number >= this.ready) return this.say(`Sample ${number} is not drawn yet.`);
    const left = this.sample?.number;
    const sample = new Sample(number, this.side, () => this.queue.of(number));
    this.opening = sample;
    this.tool.drop();
    try {
      await sample.load();
    } catch (error) {
      if (this.opening === sample) this.say(error.message);
      return;
    }
    if (this.opening !== sample) return; // another was asked for meanwhile
    if (left !== undefined) this.before.push(left);
    this.sample = sample;
    this.showAll();
    this.view.fit();
    this.told.opened();
    this.say(reason ? `Sample ${number}: ${reason}.` : this.hint());
  }

  hint() {
    return this.answer ? "" : "Draw a few strokes, of several classes: the teacher answers after each.";
  }

  back() {
    const number = this.before.pop();
    if (number === undefined) return this.say("This is the first sample that was shown.");
    return this.open(number).then(() => this.before.pop());
  }

  async next() {
    try {
      const { sample, why } = await server.next(this.sample.number);
      if (sample === this.sample.number) this.say(`This sample is the one: ${why}`);
      else await this.open(sample, why);
    } catch (error) {
      this.say(error.message);
    }
  }

  // ---- what the server tells

  saved({ sample, what }, state) {
    const isShown = sample === this.sample?.number;
    if (!this.isWaiting) return isShown && this.follow(state, what);
    this.arrive();
    if (isShown) this.sample.state = state;
    this.reload(); // the server may be another one, which counts editions anew
  }

  waits(count, error) {
    this.isWaiting = true;
    this.told.trouble(unsaved(count, error));
  }

  /** The server takes strokes again. */
  arrive() {
    this.isWaiting = false;
    this.told.trouble(null);
    if (!this.queue.acts.length) this.say("All that waited is saved.");
  }

  refused({ sample }, error) {
    if (this.isWaiting) this.arrive();
    this.say(`The stroke on sample ${sample} was not taken: ${error.message}`);
    if (sample === this.sample?.number) this.reload();
  }

  /** A change of the sample on show, made here (then with the stroke) or in another tab. */
  async follow(state, stroke) {
    const { sample } = this;
    if (sample.follow(state, stroke)) await this.fetch(() => sample.fetchMask());
    if (sample === this.sample) this.showMask();
  }

  hear(event) {
    const { sample } = this;
    if (event.event === "answer") {
      this.told.answered(event);
      // None are named when there are no answers any more, as after the last undo.
      const isMeant = !event.samples.length || event.samples.includes(sample?.number);
      if (sample && isMeant) this.fetchAnswer();
    }
    // A change of our own is told twice; the reply to the request comes with the stroke.
    const isOurs = sample && this.queue.of(sample.number).length;
    if (event.event === "sample" && event.state.sample === sample?.number && !isOurs) {
      this.follow(event.state);
    }
  }

  async fetchAnswer() {
    const { sample } = this;
    const isNew = await this.fetch(() => sample.fetchAnswer());
    if (isNew && sample === this.sample) {
      this.view.showAnswer(sample.answer);
      this.told.changed();
    }
  }

  /** Fetch the sample on show again: the server may be another one than before. */
  async reload() {
    const { sample } = this;
    this.queue.wake();
    if (!sample) return;
    this.isBehind = sample.number >= this.ready;
    if (this.isBehind) return;
    await this.fetch(() => Promise.all([sample.fetchMask(), sample.fetchAnswer()]));
    if (sample === this.sample) this.showAll();
  }

  /** So many samples are drawn. */
  grow(ready) {
    this.ready = ready;
    if (this.isBehind) this.reload();
  }

  /** Do without what cannot be had now: an event, or the server's return, asks for it again. */
  async fetch(read) {
    try {
      return await read();
    } catch (error) {
      return this.say(error.message);
    }
  }

  // ---- what is seen of it

  showAll() {
    this.view.show(this.sample.image);
    this.view.showAnswer(this.sample.answer);
    this.showMask();
  }

  showMask() {
    this.sample.compose();
    this.view.showMask(this.sample.mask);
    this.told.changed();
  }
}

/** Diameters of the brush: fine steps first, up to half of the sample. */
function brushSizes(side) {
  const sizes = [1];
  while (sizes.at(-1) < side / 2) {
    const last = sizes.at(-1);
    sizes.push(Math.min(side / 2, last < 4 ? last + 1 : Math.round(last * 1.3)));
  }
  return sizes;
}

function unsaved(count, error) {
  const strokes = count === 1 ? "One stroke is" : `${count} strokes are`;
  return `${strokes} not saved yet and will be sent again. ${error.message}`;
}
