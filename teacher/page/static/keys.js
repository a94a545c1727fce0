// The keyboard: one table of what keys do, which the help shows as well.

const HELD = 350; // milliseconds after which a key was held, not pressed

/** What each key does. `label` is for people, `keys` for the browser. */
export function keyTable(does) {
  return [
    ["Draw", [
      { keys: ["b"], label: "B", text: "Brush", run: () => does.choose("brush") },
      { keys: ["e"], label: "E", text: "Eraser", run: () => does.choose("eraser") },
      { keys: ["l"], label: "L", text: "Lasso", run: () => does.choose("lasso") },
      { keys: ["g"], label: "G", text: "Polygon: click its corners", run: () => does.choose("polygon") },
      { keys: ["f"], label: "F", text: "Fill: click a region of the answer that is right", run: () => does.choose("fill") },
      { keys: ["["], label: "[", text: "Smaller brush", run: () => does.resize(-1) },
      { keys: ["]"], label: "]", text: "Larger brush", run: () => does.resize(1) },
      { keys: [], label: "1 – 9", text: "Take a class; two digits for one above nine" },
      { keys: ["Enter"], label: "Enter", text: "Close the polygon; a double click does as well", run: () => does.close() },
      { keys: ["Backspace"], label: "Backspace", text: "Take the polygon's last corner back", run: () => does.takeBack() },
      { keys: ["Escape"], label: "Esc", text: "Drop what is being drawn", run: () => does.drop() },
      { keys: [], label: "Right button", text: "Erase with brush, lasso or polygon" },
    ]],
    ["Decide", [
      { keys: ["ctrl+z"], label: "Ctrl Z", text: "Undo", run: () => does.undo() },
      { keys: ["ctrl+shift+z", "ctrl+y"], label: "Ctrl Y", text: "Redo; Ctrl Shift Z as well", run: () => does.redo() },
      { keys: ["a"], label: "A", text: "Accept the whole answer", run: () => does.accept() },
      { keys: ["n"], label: "N", text: "The sample most worth a stroke", run: () => does.next() },
      { keys: ["p"], label: "P", text: "Back to the sample shown before", run: () => does.back() },
      { keys: ["ArrowLeft"], label: "←", text: "The sample before by number", run: () => does.step(-1) },
      { keys: ["ArrowRight"], label: "→", text: "The sample after by number", run: () => does.step(1) },
    ]],
    ["Look", [
      {
        keys: ["h"], label: "H", text: "Hide all that is drawn; hold it for a look",
        run: () => does.toggle("hidden"), after: () => does.toggle("hidden"),
      },
      { keys: ["d"], label: "D", text: "Show or hide the doubt", run: () => does.toggle("doubt") },
      { keys: ["s"], label: "S", text: "Smooth the image, or show its pixels", run: () => does.toggle("smooth") },
      { keys: ["+", "="], label: "+", text: "Zoom in; the wheel does as well", run: () => does.zoom(1.25) },
      { keys: ["-"], label: "−", text: "Zoom out", run: () => does.zoom(0.8) },
      { keys: ["0"], label: "0", text: "Fit the sample to the window", run: () => does.fit() },
      { keys: [], label: "Space", text: "Hold it and drag to move" },
      { keys: ["?"], label: "?", text: "This help", run: () => does.help() },
    ]],
  ];
}

export class Keys {
  /** @param does what keys may do, with `type(digit)` and `holdSpace(isHeld)` */
  constructor(does) {
    this.does = does;
    this.table = keyTable(does);
    this.actions = new Map();
    for (const action of this.table.flatMap(([, actions]) => actions)) {
      for (const key of action.keys) this.actions.set(key, action);
    }
    this.since = new Map(); // when a key went down
    addEventListener("keydown", (event) => this.down(event));
    addEventListener("keyup", (event) => this.up(event));
    addEventListener("blur", () => does.holdSpace(false));
  }

  down(event) {
    if (document.querySelector("dialog[open]") || isTyping(event)) return;
    if (event.key === " " && !isButton(event.target)) {
      event.preventDefault();
      return this.does.holdSpace(true);
    }
    if (/^[0-9]$/.test(event.key) && !hasModifier(event) && this.does.type(event.key)) return;
    const action = this.actions.get(nameOf(event));
    if (!action?.run || (event.key === "Enter" && isButton(event.target))) return;
    event.preventDefault();
    if (event.repeat && action.after) return;
    this.since.set(event.key, event.timeStamp);
    action.run();
  }

  up(event) {
    if (event.key === " ") this.does.holdSpace(false);
    const action = this.actions.get(nameOf(event));
    const held = event.timeStamp - (this.since.get(event.key) ?? event.timeStamp);
    this.since.delete(event.key);
    if (action?.after && held > HELD) action.after();
  }

  /** The table as elements, for the help. */
  help() {
    return this.table.map(([title, actions]) => {
      const section = document.createElement("section");
      section.append(element("h3", title));
      const list = document.createElement("dl");
      for (const { label, text } of actions) {
        const row = document.createElement("div");
        const term = document.createElement("dt");
        term.append(element("kbd", label));
        row.append(term, element("dd", text));
        list.append(row);
      }
      section.append(list);
      return section;
    });
  }
}

const element = (tag, textContent) => Object.assign(document.createElement(tag), { textContent });
const hasModifier = (event) => event.ctrlKey || event.metaKey || event.altKey;
const isButton = (target) => target.closest?.("button, summary, a, input") != null;

/** A slider keeps its own keys. */
function isTyping({ target, key }) {
  return target.type === "range" && /^(Arrow|Page|Home|End)/.test(key);
}

function nameOf(event) {
  if (event.altKey) return "";
  if (!event.ctrlKey && !event.metaKey) return event.key.length === 1 ? event.key.toLowerCase() : event.key;
  return `ctrl+${event.shiftKey ? "shift+" : ""}${event.key.toLowerCase()}`;
}
