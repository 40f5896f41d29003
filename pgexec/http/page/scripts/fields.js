// What the visitor has typed: the code and the fields around it, as one value of texts.

import { at, limits } from "./dom.js";
import { onCode, readCode, writeCode } from "./editor.js";
import { splitArguments, splitRequirements } from "./words.js";

export const NAMES = ["dependencies", "args", "timeout", "stdin"];

export function readFields() {
  return { code: readCode(), ...Object.fromEntries(NAMES.map((name) => [name, at(name).value])) };
}

export function writeFields(texts) {
  for (const name of NAMES) at(name).value = texts[name] ?? "";
  writeCode(texts.code);
}

export function onFields(changed) {
  at("timeout").placeholder = `up to ${limits.timeout_s}`;
  onCode(changed);
  for (const name of NAMES) at(name).addEventListener("input", changed);
}

// Return the fields as POST /run takes them. Throws an error with our sentence.
export function readRequest() {
  const { code, dependencies, args, timeout, stdin } = readFields();
  const request = { language: at("language").value || "python", code, stdin, collect: ["**"] };
  if (dependencies.trim()) request.dependencies = splitRequirements(dependencies);
  if (args.trim()) request.args = splitArguments(args);
  if (timeout.trim()) {
    request.timeout_s = Number(timeout);
    if (!(request.timeout_s > 0 && request.timeout_s <= limits.timeout_s)) {
      throw new Error(`the time limit must be above 0 and at most ${limits.timeout_s} seconds`);
    }
  }
  return request;
}
