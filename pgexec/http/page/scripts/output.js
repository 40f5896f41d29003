// The output of a run: text as it comes, each stream in its colours.

import { Terminal } from "./ansi.js";
import { at, make } from "./dom.js";

const MAX_PIECES = 10000;
const state = { terminals: {}, unwritten: [] };

export function clearOutput() {
  state.terminals = { stdout: new Terminal(), stderr: new Terminal() };
  state.unwritten = [];
  at("output").replaceChildren();
}

export function write(text, stream) {
  if (!state.unwritten.length) requestAnimationFrame(flush); // to lay it out once a frame, not once a line
  for (const [piece, classes] of state.terminals[stream].read(text)) {
    state.unwritten.push([piece, classes ? stream + " " + classes : stream]);
  }
}

export function flush() {
  const output = at("output");
  const follow = output.scrollHeight - output.scrollTop - output.clientHeight < 8;
  for (const [text, kind] of state.unwritten) {
    const last = output.lastElementChild;
    // A browser takes seconds to draw more pieces; all of the text is there nevertheless.
    const merged = last && (last.className === kind || output.childElementCount >= MAX_PIECES);
    if (merged) last.firstChild.appendData(text);
    else output.append(make("span", text, ...kind.split(" ")));
  }
  state.unwritten = [];
  if (follow) output.scrollTop = output.scrollHeight;
}
