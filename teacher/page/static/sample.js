// The sample on show: its image, what the person drew, and the teacher's answer.

import { NOTHING, put } from "./raster.js";
import * as server from "./server.js";

export class Sample {
  /** @param unsaved function that gives the acts on this sample that are not saved yet */
  constructor(number, side, unsaved) {
    Object.assign(this, { number, side, unsaved });
    this.image = null;
    this.saved = new Uint8Array(side * side).fill(NOTHING); // what the server has
    this.mask = this.saved; // and what it will have
    this.edition = -1; // of the saved mask
    this.state = { strokes: 0, pixels: 0, undo: false, redo: false, accepted: false };
    this.answer = null;
    this.answerTurn = 0;
  }

  async load() {
    await Promise.all([this.fetchImage(), this.fetchMask(), this.fetchAnswer()]);
  }

  async fetchImage() {
    const image = new Image();
    image.src = server.imageAddress(this.number);
    await image.decode().catch(() => {
      throw new server.ServerError(0, `The image of sample ${this.number} cannot be had.`);
    });
    this.image = image;
  }

  async fetchMask() {
    const [state, { edition, mask }] = await Promise.all([
      server.state(this.number), server.mask(this.number),
    ]);
    Object.assign(this, { state, edition, saved: mask });
    this.compose();
  }

  /** Gives whether there is a new one. */
  async fetchAnswer() {
    const turn = ++this.answerTurn;
    const answer = await server.answer(this.number);
    if (turn !== this.answerTurn) return false; // a later request is on its way
    const isNew = answer?.version !== this.answer?.version;
    this.answer = answer;
    return isNew;
  }

  /** An act of this page is saved, or an event tells of a change; gives whether the mask must be fetched. */
  follow(state, stroke) {
    if (state.edition <= this.edition) return false;
    this.state = state;
    if (typeof stroke === "object" && state.edition === this.edition + 1) {
      put(this.saved, stroke, this.side);
      this.edition = state.edition;
    }
    return state.edition > this.edition;
  }

  /** The mask as it will be when all that is on its way is saved. */
  compose() {
    this.mask = this.saved.slice();
    for (const stroke of this.strokesOnTheirWay()) put(this.mask, stroke, this.side);
  }

  // An undo takes back a stroke that is on its way as well; one that reaches further is seen when it is saved.
  strokesOnTheirWay() {
    const done = [], undone = [];
    for (const what of this.unsaved()) {
      if (what === "undo") undone.push(...done.splice(-1));
      else if (what === "redo") done.push(...undone.splice(-1));
      else done.push(what);
    }
    return done;
  }

  /** Whether there is something to undo, or to redo, when all on its way is saved. */
  can(what) {
    const last = this.unsaved().at(-1);
    if (last === undefined) return this.state[what];
    return typeof last === "object" ? what === "undo" : true;
  }

  /** Pixels of each class that are drawn. */
  counts(classes) {
    const counts = new Array(classes).fill(0);
    for (const label of this.mask) if (label !== NOTHING) counts[label]++;
    return counts;
  }
}
