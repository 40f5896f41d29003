// A run, from the button to the verdict.

import { at, duration } from "./dom.js";
import { readCode } from "./editor.js";
import { readRequest } from "./fields.js";
import { anyFiles, readFiles } from "./inputs.js";
import { clearOutput, flush, write } from "./output.js";
import { clearResults, showFile, showOmitted } from "./results.js";
import { poll } from "./status.js";
import { missedStdin } from "./stdin.js";
import { runEvents } from "./stream.js";

const CALM = matchMedia("(prefers-reduced-motion: reduce)");
const TICK_MS = 100;
const CALM_TICK_MS = 1000;
const state = { running: null };

async function run() {
  if (state.running || !readCode().trim()) return;
  const mine = (state.running = new AbortController());
  const began = performance.now();
  const tick = () => {
    const seconds = (performance.now() - began) / 1000;
    at("elapsed").textContent = seconds.toFixed(CALM.matches ? 0 : 1) + " s";
  };
  const ticking = setInterval(tick, CALM.matches ? CALM_TICK_MS : TICK_MS);
  setRunning(true);
  clearOutput();
  clearResults();
  verdict("running");
  tick();
  try {
    const request = readRequest();
    if (anyFiles()) request.files = await readFiles();
    for await (const [name, data] of runEvents(request, mine.signal)) hear(name, data, began);
  } catch (error) {
    const took = duration((performance.now() - began) / 1000);
    verdict(mine.signal.aborted ? `stopped after ${took}` : error.message, "bad");
  } finally {
    clearInterval(ticking);
    at("elapsed").textContent = at("installing").textContent = "";
    flush();
    state.running = null;
    setRunning(false);
    poll();
  }
}

function hear(name, data, began) {
  if (name !== "install") at("installing").textContent = "";
  if (name === "stdout" || name === "stderr") {
    verdict("running");
    write(data.text, name);
  } else if (name === "install") {
    verdict("installing dependencies");
    at("installing").textContent = data.line;
  } else if (name === "queue") verdict(`waiting, number ${data.position} in the queue`);
  else if (name === "file") showFile(data);
  else if (name === "error") verdict(data.error, "bad");
  else if (name === "result") end(data, duration((performance.now() - began) / 1000));
}

function end(data, took) {
  const said = data.error === null ? "ok" : data.error;
  const memory = (data.peak_memory_bytes / (1 << 20)).toFixed(1);
  const hint = missedStdin(data.error) ? " · the code reads standard input, see below it" : "";
  verdict(
    `${said}${hint} · snippet ${duration(data.duration_s)}, CPU ${duration(data.cpu_s)}, ` +
      `whole request ${took} · ${memory} MiB`,
    data.error === null ? "good" : "bad",
  );
  showOmitted(data.files_omitted);
}

function verdict(text, kind = "busy") {
  const shown = at("verdict");
  if (shown.textContent !== text) shown.textContent = text; // else it would be read out again
  shown.className = kind;
}

function setRunning(is) {
  const focused = document.activeElement;
  const [from, to] = is ? [at("run"), at("stop")] : [at("stop"), at("run")];
  to.disabled = false;
  if (focused === from) to.focus(); // a disabled button would lose it
  from.disabled = true;
  at("playground").classList.toggle("running", is);
}

export function openRun() {
  at("editor").addEventListener("submit", (event) => {
    event.preventDefault();
    run();
  });
  at("stop").addEventListener("click", () => state.running?.abort());
  addEventListener("keydown", (event) => {
    if (event.key === "Escape") state.running?.abort();
    const inside = event.target instanceof Element && at("playground").contains(event.target);
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && inside) {
      event.preventDefault();
      run();
    }
  });
}
