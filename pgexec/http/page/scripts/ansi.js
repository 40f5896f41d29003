// Colours and weights as terminals have them (ECMA-48, SGR), as names of classes. Whatever else a
// program says to a terminal is left out: this one has no title, no cursor, no links, no answers.

const ESCAPE =
  /\x1b(?:\[([0-9:;<=>?]*)[ -/]*([@-~])|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-OQ-WYZ\\`-~])/g;
const BEGUN = /\x1b(?:\[[0-9:;<=>?]*[ -/]*|[\]PX^_][^\x07\x1b]*\x1b?|[ -/]*)$/;
const MAX_BEGUN = 256;
const MAX_NUMBERS = 64;
const WEIGHTS = { 1: "bold", 2: "dim", 3: "italic", 4: "underline", 7: "inverse", 9: "struck" };
const LEVELS = [0, 95, 135, 175, 215, 255];
const SIXTEEN = [
  [0, 0, 0], [205, 0, 0], [0, 205, 0], [205, 205, 0], [0, 0, 238], [205, 0, 205], [0, 205, 205], [229, 229, 229],
  [127, 127, 127], [255, 0, 0], [0, 255, 0], [255, 255, 0], [92, 92, 255], [255, 0, 255], [0, 255, 255], [255, 255, 255],
];

function nearest(colour) {
  const far = SIXTEEN.map((one) => one.reduce((sum, part, n) => sum + (part - colour[n]) ** 2, 0));
  return far.indexOf(Math.min(...far));
}

function indexed(number) {
  if (number < 16) return number;
  if (number > 231) return nearest(Array(3).fill(8 + 10 * (number - 232)));
  const cube = number - 16;
  return nearest([LEVELS[Math.floor(cube / 36)], LEVELS[Math.floor(cube / 6) % 6], LEVELS[cube % 6]]);
}

// One stream of text, which comes in pieces that may end anywhere.
export class Terminal {
  #begun = "";
  #style = {};

  // Return [text, classes] for each piece of one look.
  read(text) {
    const whole = this.#begun + text;
    const rest = BEGUN.exec(whole.slice(-MAX_BEGUN))?.[0] ?? "";
    this.#begun = rest;
    const ready = whole.slice(0, whole.length - rest.length);
    const pieces = [];
    let from = 0;
    const push = (to) => {
      const plain = ready.slice(from, to).replaceAll("\x1b", "");
      if (plain) pieces.push([plain, this.#classes()]);
    };
    for (const found of ready.matchAll(ESCAPE)) {
      push(found.index);
      if (found[2] === "m") this.#apply(found[1]);
      from = found.index + found[0].length;
    }
    push(ready.length);
    return pieces;
  }

  #apply(parameters) {
    const numbers = parameters.split(/[;:]/, MAX_NUMBERS).map(Number);
    let style = this.#style;
    for (let n = 0; n < numbers.length; n++) {
      const number = numbers[n];
      if (number === 0) style = {};
      else if (number === 38 || number === 48) {
        const short = numbers[n + 1] === 5; // 5;n of 256 colours, 2;r;g;b of all
        const colour = short ? indexed(numbers[n + 2]) : nearest(numbers.slice(n + 2, n + 5));
        if (colour >= 0) style[number === 38 ? "fg" : "bg"] = colour;
        n += short ? 2 : 4;
      } else if (number >= 30 && number <= 37) style.fg = number - 30;
      else if (number >= 90 && number <= 97) style.fg = number - 82;
      else if (number >= 40 && number <= 47) style.bg = number - 40;
      else if (number >= 100 && number <= 107) style.bg = number - 92;
      else if (number === 39) delete style.fg;
      else if (number === 49) delete style.bg;
      else if (number === 22) style.bold = style.dim = false;
      else if (number in WEIGHTS) style[WEIGHTS[number]] = true;
      else if (number - 20 in WEIGHTS) style[WEIGHTS[number - 20]] = false;
    }
    this.#style = style;
  }

  #classes() {
    const { fg, bg, ...weights } = this.#style;
    const names = Object.keys(weights).filter((name) => weights[name]);
    if (fg !== undefined) names.push("fg" + fg);
    if (bg !== undefined) names.push("bg" + bg);
    return names.join(" ");
  }
}
