// Standard input opens where the code reads it, or the run has missed it.

import { at } from "./dom.js";
import { onCode, readCode } from "./editor.js";

const READS = /\binput\s*\(|\bsys\s*\.\s*stdin\b|\bfileinput\b|open\(\s*0\b/;
const state = { reads: false };

// Once for each time that the code begins to read, so that who closes it is left alone.
export function openStdinWhereRead() {
  const reads = READS.test(readCode().replace(/^\s*#.*$/gm, ""));
  if (reads && !state.reads) at("stdin-box").open = true;
  state.reads = reads;
}

export function missedStdin(sentence) {
  if (!/^EOFError\b/.test(sentence ?? "")) return false;
  at("stdin-box").open = true;
  return true;
}

export function watchStdin() {
  onCode(openStdinWhereRead);
  openStdinWhereRead();
}
