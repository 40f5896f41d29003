// The API key: in this tab alone, never among what is kept for longer.

import { at } from "./dom.js";
import { showHealth } from "./health.js";

const KEY = "pgexec-key";
export const keyed = document.documentElement.dataset.keyed === "true";
const held = { key: keyed ? sessionStorage.getItem(KEY) || "" : "" };

export const currentKey = () => held.key;

export function withKey(headers) {
  return held.key ? { ...headers, Authorization: "Bearer " + held.key } : headers;
}

export function askForKey(reason) {
  held.key = "";
  sessionStorage.removeItem(KEY);
  at("content").hidden = at("forget").hidden = true;
  at("door").hidden = false;
  at("refusal").textContent = reason;
  showHealth("locked", false);
  at("key").focus();
}

export function onKey(given) {
  at("door").addEventListener("submit", (event) => {
    event.preventDefault();
    // What no header can carry is no key of anybody's.
    held.key = at("key").value.trim().replace(/[^\x21-\x7e]/g, "?");
    at("key").value = "";
    sessionStorage.setItem(KEY, held.key);
    given();
  });
  at("forget").addEventListener("click", () => askForKey(""));
}
