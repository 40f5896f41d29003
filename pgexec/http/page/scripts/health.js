// If the server answers, and what is said while it does not.

import { at } from "./dom.js";

const seen = { at: null };

export function showHealth(text, good) {
  const health = at("health");
  if (health.textContent !== text) health.textContent = text;
  health.classList.toggle("good", good);
}

export function showPresent(unready) {
  seen.at = new Date();
  at("gone").hidden = true;
  document.body.classList.remove("stale");
  showHealth(unready === null ? "ready" : unready, unready === null);
}

// The figures stay, in grey: they tell how things were, and when.
export function showGone() {
  showHealth("no answer from the server", false);
  document.body.classList.add("stale");
  const since = seen.at ? ` The figures are those of ${seen.at.toLocaleTimeString()}.` : "";
  const text = `The server does not answer; it may be restarting. The page asks it again every few seconds.${since}`;
  if (at("gone").textContent !== text) at("gone").textContent = text;
  at("gone").hidden = false;
}
