// The classes: names, colours, keys, and how much of each is drawn on the sample on show.

import { isLight } from "./paint.js";

const TOGETHER = 900; // milliseconds between the two keys of a number

export class Legend {
  /** @param take function that takes a class in hand */
  constructor(list, classes, take) {
    Object.assign(this, { classes, take });
    this.rows = classes.map((one, i) => this.row(one, i));
    list.replaceChildren(...this.rows);
    this.typed = "";
  }

  row({ name, colour }, i) {
    const row = document.createElement("button");
    row.type = "button";
    row.className = "class";
    row.append(part("swatch", String(i + 1)), part("name", name), part("count", ""));
    const [swatch] = row.children;
    swatch.style.background = colour;
    swatch.style.color = isLight(colour) ? "#000" : "#fff";
    row.addEventListener("click", () => this.take(i));
    return row;
  }

  show(label, counts) {
    this.rows.forEach((row, i) => {
      row.setAttribute("aria-pressed", String(i === label));
      row.lastChild.textContent = counts[i] ? counts[i].toLocaleString("en") : "";
      row.title = `${this.classes[i].name}: ${counts[i]} pixels drawn on this sample`;
    });
  }

  /** A digit takes a class; two digits soon after each other one above nine. Gives whether it meant one. */
  type(digit) {
    const number = Number(this.typed + digit);
    const isKnown = number >= 1 && number <= this.classes.length;
    if (!isKnown && this.typed) {
      this.typed = "";
      return this.type(digit);
    }
    this.typed = number * 10 <= this.classes.length ? String(number) : "";
    clearTimeout(this.forgetting);
    this.forgetting = setTimeout(() => { this.typed = ""; }, TOGETHER);
    if (isKnown) this.take(number - 1);
    return isKnown;
  }
}

function part(className, textContent) {
  return Object.assign(document.createElement("span"), { className, textContent });
}
