// Strokes on their way to the server, one after another. They wait in the browser's storage, so that neither a
// reload nor a server that is gone loses one.

import { act } from "./server.js";

const AGAIN = 2000; // milliseconds until a stroke that could not be saved is tried again
// The server took the stroke for what it is, and does not want it. All else may be better the next time.
const FINAL = [400, 413];

export class Queue {
  /**
   * @param folder where the strokes are saved: those of another folder wait elsewhere
   * @param samples how many there are at most; a stroke on another one is given up
   * @param told functions: `saved(act, state)`, `refused(act, error)`, `waits(number of acts, error)`
   */
  constructor(folder, samples, told) {
    this.samples = samples;
    this.prefix = `threeshot ${folder} `;
    this.name = this.prefix + crypto.randomUUID();
    this.told = told;
    this.acts = []; // { sample, what, name }: what is a stroke, "undo" or "redo"
    this.kept = true;
    this.waking = () => {};
    addEventListener("beforeunload", (event) => {
      if (!this.kept && this.acts.length) event.preventDefault();
    });
  }

  /** Take over what tabs that are closed have left, and begin. */
  async start() {
    if (navigator.locks) await this.adopt();
    this.run();
  }

  add(sample, what) {
    this.acts.push({ sample, what, name: crypto.randomUUID() });
    this.keep();
    this.wake();
  }

  /** What is not saved yet of a sample. */
  of(sample) {
    return this.acts.filter((act) => act.sample === sample).map((act) => act.what);
  }

  /** Try again now. */
  wake() {
    this.waking();
  }

  async run() {
    for (;;) {
      if (!this.acts.length) await this.sleep();
      else await this.send(this.acts[0]);
    }
  }

  async send(first) {
    try {
      const state = await act(first.sample, first.what, first.name);
      this.drop();
      this.told.saved(first, state);
    } catch (error) {
      if (FINAL.includes(error.status) || first.sample >= this.samples) {
        this.drop();
        this.told.refused(first, error);
      } else {
        this.told.waits(this.acts.length, error);
        await this.sleep(AGAIN);
      }
    }
  }

  drop() {
    this.acts.shift();
    this.keep();
  }

  sleep(most) {
    return new Promise((resolve) => {
      this.waking = resolve;
      if (most) setTimeout(resolve, most);
    });
  }

  keep() {
    try {
      if (this.acts.length) localStorage.setItem(this.name, JSON.stringify(this.acts));
      else localStorage.removeItem(this.name);
      this.kept = true;
    } catch {
      this.kept = false; // no room: then the browser asks before it closes the page
    }
  }

  // Every tab holds a lock of its queue's name as long as it lives; a queue without one has lost its tab.
  async adopt() {
    const names = Object.keys(localStorage).filter((name) => name.startsWith(this.prefix));
    for (const name of names) {
      await navigator.locks.request(name, { ifAvailable: true }, (lock) => {
        if (!lock) return;
        this.acts.push(...JSON.parse(localStorage.getItem(name) ?? "[]"));
        localStorage.removeItem(name);
        this.keep();
      });
    }
    await new Promise((held) => {
      navigator.locks.request(this.name, () => {
        held();
        return new Promise(() => {});
      });
    });
  }
}
