// The containers of each pool, by state.

import { at, make } from "./dom.js";

const STATES = ["idle", "leased", "session", "resetting", "starting", "destroying"];
const pools = new Map();

function makePool(name) {
  const pool = { whole: make("div"), bar: make("div", undefined, "bar"), parts: {}, counts: {} };
  const list = make("dl");
  pool.bar.setAttribute("role", "img");
  for (const state of [...STATES, "waiting"]) {
    const entry = make("div", undefined, state);
    pool.counts[state] = make("dd");
    pool.counts[state].dataset.state = state;
    entry.append(make("dt", state === "waiting" ? "requests waiting" : state), pool.counts[state]);
    list.append(entry);
    if (state !== "waiting") pool.bar.append((pool.parts[state] = make("span", undefined, state)));
  }
  pool.heading = make("h3", name);
  pool.whole.append(pool.heading, pool.bar, list);
  at("pool-list").append(pool.whole);
  return pool;
}

export function showPools(found) {
  const names = Object.keys(found);
  for (const [name, pool] of pools) {
    if (!(name in found)) {
      pool.whole.remove();
      pools.delete(name);
    }
  }
  for (const name of names) {
    if (!pools.has(name)) pools.set(name, makePool(name));
    const pool = pools.get(name);
    pool.heading.hidden = names.length < 2;
    for (const [state, count] of Object.entries(pool.counts)) count.textContent = found[name][state];
    for (const [state, part] of Object.entries(pool.parts)) part.style.flexGrow = found[name][state];
    pool.bar.setAttribute("aria-label", STATES.map((s) => `${found[name][s]} ${s}`).join(", "));
  }
}
