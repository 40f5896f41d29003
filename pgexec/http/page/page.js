"use strict";

// Whatever comes from the server is put in as text, never as HTML; the policy enforces it.

const POLL_MS = 1000;
const AWAY_POLL_MS = 4000;
const KEY = "pgexec-key";
const MAX_PIECES = 10000;
const STATES = ["idle", "leased", "session", "resetting", "starting", "destroying"];

const at = (id) => document.getElementById(id);

function make(tag, text, ...classes) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  element.classList.add(...classes);
  return element;
}

function duration(seconds) {
  if (typeof seconds !== "number") return "–";
  if (seconds >= 10) return seconds.toFixed(1) + " s";
  if (seconds >= 1) return seconds.toFixed(2) + " s";
  return (seconds * 1000).toFixed(seconds < 0.1 ? 1 : 0) + " ms";
}

// --- the API key --------------------------------------------------------------------------------

const keyed = document.documentElement.dataset.keyed === "true";
let key = keyed ? sessionStorage.getItem(KEY) || "" : "";

function withKey(headers) {
  return key ? { ...headers, Authorization: "Bearer " + key } : headers;
}

function askForKey(reason) {
  key = "";
  sessionStorage.removeItem(KEY);
  at("content").hidden = at("forget").hidden = true;
  at("door").hidden = false;
  at("refusal").textContent = reason;
  showHealth("locked", false);
  at("key").focus();
}

at("door").addEventListener("submit", (event) => {
  event.preventDefault();
  // What no header can carry is no key of anybody's.
  key = at("key").value.trim().replace(/[^\x21-\x7e]/g, "?");
  at("key").value = "";
  sessionStorage.setItem(KEY, key);
  poll();
});

at("forget").addEventListener("click", () => askForKey(""));

// --- the state of things ------------------------------------------------------------------------

let timer = 0;
let polling = false;
let newest = "";

async function poll() {
  if (polling) return;
  clearTimeout(timer);
  if (keyed && !key) {
    askForKey("");
    return;
  }
  polling = true;
  let pause = POLL_MS;
  const used = key;
  try {
    const answer = await fetch("/status", { headers: withKey({}), cache: "no-store" });
    const found = await answer.json();
    if (key !== used) return; // forgotten, or another one, meanwhile
    if (answer.status === 401) {
      askForKey("This key is not known.");
      return;
    }
    if (!answer.ok) throw new Error(found.error);
    at("door").hidden = true;
    at("content").hidden = false;
    at("forget").hidden = !keyed;
    show(found);
  } catch (error) {
    showHealth("no answer from the server", false);
    pause = AWAY_POLL_MS;
  } finally {
    polling = false;
    if (!keyed || key) timer = setTimeout(poll, document.hidden ? 60 * AWAY_POLL_MS : pause);
  }
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) poll();
});

function showHealth(text, good) {
  const health = at("health");
  if (health.textContent !== text) health.textContent = text;
  health.classList.toggle("good", good);
}

function show(found) {
  showHealth(found.unready === null ? "ready" : found.unready, found.unready === null);
  showPools(found.pools);
  showLatency(found.latency);
  showRefused(found.refused);
  showRecent(found.recent, found.ran);
  if (at("language")) showLanguages(found.languages);
}

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

function showPools(found) {
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

function showLatency(found) {
  at("window").textContent = found.runs
    ? `${found.runs === 1 ? "the only run" : `last ${found.runs} runs`} of ${found.window_s / 60} minutes`
    : `no runs in ${found.window_s / 60} minutes`;
  for (const name of ["queue", "run", "total"]) {
    const cells = at("latency-" + name).querySelectorAll("td");
    cells[0].textContent = duration(found[name]?.p50);
    cells[1].textContent = duration(found[name]?.p99);
  }
}

function showRefused(found) {
  const entries = Object.entries(found).map(([reason, count]) => {
    const entry = make("div");
    entry.append(make("dt", reason.replaceAll("_", " ")), make("dd", count));
    return entry;
  });
  at("refused").replaceChildren(...(entries.length ? entries : [make("div", "none", "faint")]));
}

function showRecent(found, ran) {
  at("ran").textContent = `${ran} since the start`;
  const last = found.length ? ran + found[0].request_id : "none";
  if (last === newest) return; // keeps what the visitor has selected
  newest = last;
  const rows = found.map((run) => {
    const row = make("tr");
    row.append(
      make("td", new Date(run.time * 1000).toLocaleTimeString()),
      make("td", run.status.replaceAll("_", " "), ...(run.status === "ok" ? [] : ["bad"])),
      make("td", duration(run.queue_s), "number"),
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
    cell.colSpan = 8;
    rows.push(make("tr"));
    rows[0].append(cell);
  }
  at("recent").tBodies[0].replaceChildren(...rows);
}

function showLanguages(found) {
  const select = at("language");
  at("choice").hidden = found.length < 2;
  if (select.options.length !== found.length) {
    select.replaceChildren(...found.map((name) => make("option", name)));
  }
}

// --- the playground -----------------------------------------------------------------------------

let running = null;

async function run() {
  if (running || !at("code").value.trim()) return;
  const mine = (running = new AbortController());
  setRunning(true);
  at("output").replaceChildren();
  verdict("running");
  const began = performance.now();
  try {
    const answer = await fetch("/run", {
      method: "POST",
      headers: withKey({ "Content-Type": "application/json", Accept: "text/event-stream" }),
      body: JSON.stringify({
        language: at("language").value || "python",
        code: at("code").value,
        stdin: at("stdin").value,
      }),
      signal: mine.signal,
    });
    if (answer.status === 401) askForKey("This key is not known.");
    const stream = (answer.headers.get("Content-Type") || "").startsWith("text/event-stream");
    if (!stream) throw new Error((await answer.json()).error);
    let ended = false;
    for await (const [name, data] of events(answer.body)) {
      ended = hear(name, data, began) || ended;
    }
    if (!ended) throw new Error("the stream broke off");
  } catch (error) {
    const stopped = mine.signal.aborted;
    verdict(stopped ? `stopped after ${duration((performance.now() - began) / 1000)}` : error.message, true);
  } finally {
    flush();
    running = null;
    setRunning(false);
    poll();
  }
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const parts = /^event: (.+)\ndata: (.+)$/.exec(block);
      if (parts) yield [parts[1], JSON.parse(parts[2])];
    }
  }
}

function hear(name, data, began) {
  const took = duration((performance.now() - began) / 1000);
  if (name === "stdout" || name === "stderr") write(data.text, name);
  else if (name === "install") write(data.line + "\n", "note");
  else if (name === "queue") verdict(`waiting, number ${data.position} in the queue`);
  else if (name === "error") verdict(data.error, true);
  else if (name === "result") {
    const said = data.error === null ? "ok" : data.error;
    const memory = (data.peak_memory_bytes / (1 << 20)).toFixed(1);
    verdict(
      `${said} · snippet ${duration(data.duration_s)}, CPU ${duration(data.cpu_s)}, ` +
        `whole request ${took} · ${memory} MiB`,
      data.error !== null,
    );
  }
  return name === "result" || name === "error";
}

let unwritten = [];

function write(text, kind) {
  if (!unwritten.length) requestAnimationFrame(flush); // to lay it out once a frame, not once a line
  unwritten.push([text, kind]);
}

function flush() {
  const output = at("output");
  const follow = output.scrollHeight - output.scrollTop - output.clientHeight < 8;
  for (const [text, kind] of unwritten) {
    const last = output.lastElementChild;
    // A browser takes seconds to draw more pieces; all of the text is there nevertheless.
    const merged = last && (last.className === kind || output.childElementCount >= MAX_PIECES);
    if (merged) last.firstChild.appendData(text);
    else output.append(make("span", text, kind));
  }
  unwritten = [];
  if (follow) output.scrollTop = output.scrollHeight;
}

function verdict(text, bad = false) {
  at("verdict").textContent = text;
  at("verdict").classList.toggle("bad", bad);
}

function setRunning(is) {
  const focused = document.activeElement;
  const [from, to] = is ? [at("run"), at("stop")] : [at("stop"), at("run")];
  to.disabled = false;
  if (focused === from) to.focus(); // a disabled button would lose it
  from.disabled = true;
}

function typed(event) {
  const code = event.currentTarget;
  const { selectionStart: start, selectionEnd: end } = code;
  if (event.key === "Tab" && !event.shiftKey && !code.dataset.leaving) {
    event.preventDefault();
    insert(code, "    ");
  } else if (event.key === "Enter" && !event.ctrlKey && !event.metaKey && start === end) {
    const line = code.value.slice(code.value.lastIndexOf("\n", start - 1) + 1, start);
    const indent = /^[ \t]*/.exec(line)[0] + (line.trimEnd().endsWith(":") ? "    " : "");
    if (indent) {
      event.preventDefault();
      insert(code, "\n" + indent);
    }
  }
  if (event.key === "Escape") code.dataset.leaving = "yes";
  else delete code.dataset.leaving;
}

function insert(area, text) {
  // The one way of inserting that can be undone.
  if (document.execCommand("insertText", false, text)) return;
  area.setRangeText(text, area.selectionStart, area.selectionEnd, "end");
}

if (at("playground")) {
  at("editor").addEventListener("submit", (event) => {
    event.preventDefault();
    run();
  });
  at("editor").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      run();
    }
  });
  at("code").addEventListener("keydown", typed);
  at("stop").addEventListener("click", () => running?.abort());
}

poll();
