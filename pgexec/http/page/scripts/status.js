// Asks for the figures once a second, and shows them.

import { at, make } from "./dom.js";
import { showLatency, showRecent, showRefused, showSessions } from "./figures.js";
import { showGone, showPresent } from "./health.js";
import { askForKey, currentKey, keyed, withKey } from "./key.js";
import { showPools } from "./pools.js";

const POLL_MS = 1000;
const AWAY_POLL_MS = 4000;
const ANSWER_MS = 10000;
const HIDDEN_POLL_MS = 240000;
const state = { timer: 0, polling: false };

export async function poll() {
  if (state.polling) return;
  clearTimeout(state.timer);
  if (keyed && !currentKey()) {
    askForKey("");
    return;
  }
  state.polling = true;
  let pause = POLL_MS;
  const used = currentKey();
  try {
    const answer = await fetch("/status", {
      headers: withKey({}),
      cache: "no-store",
      signal: AbortSignal.timeout(ANSWER_MS),
    });
    const found = await answer.json();
    if (currentKey() !== used) return; // forgotten, or another one, meanwhile
    if (answer.status === 401) {
      askForKey("This key is not known.");
      return;
    }
    if (!answer.ok) throw new Error(found.error);
    at("door").hidden = true;
    at("content").hidden = false;
    at("forget").hidden = !keyed;
    show(found);
  } catch {
    if (currentKey() !== used) return;
    showGone();
    pause = AWAY_POLL_MS;
  } finally {
    state.polling = false;
    if (!keyed || currentKey()) state.timer = setTimeout(poll, document.hidden ? HIDDEN_POLL_MS : pause);
  }
}

function show(found) {
  showPresent(found.unready);
  showPools(found.pools);
  showSessions(found.sessions);
  showLatency(found.latency);
  showRefused(found.refused);
  showRecent(found.recent, found.ran);
  if (at("language")) showLanguages(found.languages);
}

function showLanguages(found) {
  const select = at("language");
  at("choice").hidden = found.length < 2;
  if (select.options.length !== found.length) {
    select.replaceChildren(...found.map((name) => make("option", name)));
  }
}

export function keepAsking() {
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) poll();
  });
  addEventListener("online", poll);
  poll();
}
