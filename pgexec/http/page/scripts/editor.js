// The field for the code: CodeMirror in the place of the text area, which stays if it did not load.

import { at, make } from "./dom.js";

const listeners = [];
const field = { editor: null };

export function onCode(changed) {
  listeners.push(changed);
}

export function readCode() {
  return field.editor ? field.editor.text : at("code").value;
}

export function writeCode(text) {
  if (field.editor) field.editor.text = text;
  else {
    at("code").value = text;
    tell();
  }
}

export function focusCode() {
  if (field.editor) field.editor.focus();
  else at("code").focus();
}

function tell() {
  for (const changed of listeners) changed();
}

export function openEditor() {
  const area = at("code");
  if (typeof pgexecEditor === "undefined") {
    area.addEventListener("input", tell);
    return;
  }
  const place = make("div");
  place.id = "code-editor";
  area.after(place);
  area.hidden = true;
  field.editor = pgexecEditor.mount(
    place,
    area.value,
    { "aria-labelledby": "code-title", "aria-describedby": "keys", tabindex: "0" },
    tell,
  );
  at("code-title").addEventListener("click", focusCode);
}
