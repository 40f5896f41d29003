// Latencies, refusals, sessions, and the last runs.

import { at, duration, make } from "./dom.js";

const shown = { newest: "" };

export function showLatency(found) {
  at("window").textContent = found.runs
    ? `${found.runs === 1 ? "the only run" : `last ${found.runs} runs`} of ${found.window_s / 60} minutes`
    : `no runs in ${found.window_s / 60} minutes`;
  for (const name of ["queue", "install", "run", "total"]) {
    const cells = at("latency-" + name).querySelectorAll("td");
    cells[0].textContent = duration(found[name]?.p50);
    cells[1].textContent = duration(found[name]?.p99);
  }
}

function showCounts(id, found) {
  const entries = Object.entries(found).map(([name, count]) => {
    const entry = make("div");
    entry.append(make("dt", name.replaceAll("_", " ")), make("dd", count));
    return entry;
  });
  at(id).hidden = !entries.length;
  at(id).replaceChildren(...entries);
  return entries.length > 0;
}

export function showRefused(found) {
  at("unrefused").hidden = showCounts("refused", found);
}

export function showSessions({ idle, busy, ended }) {
  showCounts("living", { idle, busy });
  const some = showCounts("ended", ended);
  at("unended").hidden = some;
  at("sessions").hidden = !some && !idle && !busy;
}

export function showRecent(found, ran) {
  at("ran").textContent = `${ran} since the start`;
  const last = found.length ? ran + found[0].request_id : "none";
  if (last === shown.newest) return; // keeps what the visitor has selected
  shown.newest = last;
  const rows = found.map((run) => {
    const row = make("tr");
    row.append(
      make("td", new Date(run.time * 1000).toLocaleTimeString()),
      make("td", run.status.replaceAll("_", " "), ...(run.status === "ok" ? [] : ["bad"])),
      make("td", duration(run.queue_s), "number"),
      make("td", duration(run.install_s), "number"),
      make("td", duration(run.run_s), "number"),
      make("td", duration(run.total_s), "number"),
      make("td", run.language),
      make("td", run.container, "code"),
      make("td", run.request_id, "code"),
    );
    row.lastChild.title = run.request_id;
    return row;
  });
  if (!rows.length) {
    const cell = make("td", "none yet", "faint");
    cell.colSpan = 9;
    rows.push(make("tr"));
    rows[0].append(cell);
  }
  at("recent").tBodies[0].replaceChildren(...rows);
}
