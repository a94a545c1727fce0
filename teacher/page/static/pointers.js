// Mouse, pen and fingers on the canvas. One pointer draws; two fingers, the wheel, the middle button, or the
// space bar with any button move and zoom.

const WHEEL = 0.0018; // of zoom for one step of the wheel
const [MIDDLE, RIGHT, PEN_ERASER] = [1, 2, 5]; // buttons

export class Pointers {
  /** @param tool function that gives the tool in hand */
  constructor(view, tool) {
    Object.assign(this, { view, tool });
    this.canvas = view.canvas;
    this.touches = new Map(); // where each finger is
    this.drawing = this.panning = null; // numbers of pointers
    this.isPinch = this.hasSpace = false;
    const on = (type, handle) => this.canvas.addEventListener(type, (event) => handle.call(this, event));
    on("pointerdown", this.down);
    on("pointermove", this.move);
    on("pointerup", this.up);
    on("pointercancel", this.cancel);
    on("lostpointercapture", this.cancel);
    on("pointerleave", () => this.tool().hover(null));
    on("contextmenu", (event) => event.preventDefault()); // the right button erases
    this.canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
  }

  down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    const isTouch = event.pointerType === "touch";
    if (isTouch) this.touches.set(event.pointerId, this.at(event));
    if (this.touches.size > 1) this.startPinch();
    else if (event.button === MIDDLE || this.hasSpace) this.panning = { id: event.pointerId, at: this.at(event) };
    else if (this.drawing === null && !this.isPinch) {
      this.drawing = event.pointerId;
      this.tool().hover(isTouch ? null : this.place(event));
      this.tool().begin(this.place(event), [RIGHT, PEN_ERASER].includes(event.button));
    }
    if (event.button === MIDDLE) event.preventDefault(); // no scrolling by itself
    this.point();
  }

  move(event) {
    const { pointerId } = event;
    if (this.isPinch && this.touches.has(pointerId)) return this.pinch(pointerId, this.at(event));
    if (this.touches.has(pointerId)) this.touches.set(pointerId, this.at(event)); // a pinch may begin there
    if (this.panning?.id === pointerId) return this.pan(this.at(event));
    if (event.pointerType !== "touch") this.tool().hover(this.place(event));
    if (this.drawing !== pointerId) return;
    const events = event.getCoalescedEvents?.() ?? [];
    this.tool().move((events.length ? events : [event]).map((one) => this.place(one)));
  }

  up(event) {
    if (this.drawing === event.pointerId) {
      this.drawing = null;
      this.tool().end();
    }
    this.forget(event.pointerId);
  }

  /** The browser took the pointer away, or another finger came: what it began is dropped. */
  cancel(event) {
    if (this.drawing === event.pointerId) this.drop();
    this.forget(event.pointerId);
  }

  drop() {
    if (this.drawing === null) return;
    this.drawing = null;
    this.tool().cancel();
  }

  forget(pointerId) {
    this.touches.delete(pointerId);
    if (this.panning?.id === pointerId) this.panning = null;
    if (!this.touches.size) this.isPinch = false; // the finger that is left of two does not draw
    this.point();
  }

  // ---- moving and zooming

  startPinch() {
    this.drop();
    this.isPinch = true;
  }

  pinch(pointerId, at) {
    const other = [...this.touches].find(([id]) => id !== pointerId)?.[1];
    const before = this.touches.get(pointerId);
    this.touches.set(pointerId, at);
    if (!other) return;
    const middle = (a) => [(a[0] + other[0]) / 2, (a[1] + other[1]) / 2];
    const distance = (a) => Math.max(1, Math.hypot(a[0] - other[0], a[1] - other[1]));
    const [x, y] = middle(at), [oldX, oldY] = middle(before);
    this.view.moveBy(x - oldX, y - oldY);
    this.view.zoom(distance(at) / distance(before), x, y);
  }

  pan(at) {
    this.view.moveBy(at[0] - this.panning.at[0], at[1] - this.panning.at[1]);
    this.panning.at = at;
  }

  wheel(event) {
    event.preventDefault();
    const pixels = event.deltaY * (event.deltaMode ? 33 : 1);
    // A pinch on a touchpad comes as a wheel with Ctrl, in smaller steps.
    this.view.zoom(Math.exp(-pixels * WHEEL * (event.ctrlKey ? 5 : 1)), ...this.at(event));
  }

  holdSpace(isHeld) {
    this.hasSpace = isHeld;
    this.point();
  }

  point() {
    this.canvas.classList.toggle("moves", this.hasSpace || this.panning !== null);
  }

  // ---- places

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  place(event) {
    return this.view.toSample(...this.at(event));
  }
}
