// The fields survive a reload, in this browser's storage: never a key, never files. A link shows
// its code and runs nothing; the visitor's own code is kept until he changes that of the link.

import { at } from "./dom.js";
import { onFields, readFields, writeFields } from "./fields.js";
import { makeFragment, readFragment } from "./link.js";

const MINE = "pgexec-code";
const BEFORE = "pgexec-code-before";
const SAVE_MS = 300;
const state = { timer: 0, writing: false, linked: false };

function stored(name) {
  try {
    const found = JSON.parse(localStorage.getItem(name));
    return typeof found?.code === "string" ? found : null;
  } catch {
    return null; // not ours, or storage is closed
  }
}

function store(name, texts) {
  try {
    localStorage.setItem(name, JSON.stringify(texts));
  } catch {
    // Full or closed: the page works without.
  }
}

function save() {
  clearTimeout(state.timer);
  state.timer = 0;
  store(MINE, readFields());
}

function changed() {
  if (state.writing) return;
  if (state.linked) keepLinked();
  at("link-said").textContent = "";
  dropFragment();
  if (!state.timer) state.timer = setTimeout(save, SAVE_MS);
}

// From the first change on, the code of a link is the visitor's.
function keepLinked() {
  state.linked = false;
  const before = stored(MINE);
  if (before) store(BEFORE, before);
}

function dropFragment() {
  if (location.hash) history.replaceState(null, "", location.pathname + location.search);
}

function show(texts) {
  state.writing = true;
  writeFields(texts);
  state.writing = false;
}

async function openLink() {
  if (!location.hash) return;
  const texts = await readFragment(location.hash);
  if (!texts) {
    at("linked").textContent = "The link is damaged: there is no code to be had from it.";
    at("from-link").hidden = false;
    at("back").hidden = true;
    return;
  }
  if (state.timer) save();
  show(texts);
  state.linked = true;
  at("linked").textContent = "This code came with the link. Nothing has run.";
  at("from-link").hidden = false;
  at("back").hidden = !stored(MINE);
}

function goBack() {
  const before = (state.linked && stored(MINE)) || stored(BEFORE);
  state.linked = false;
  if (before) show(before);
  dropFragment();
  save();
  at("from-link").hidden = true;
}

async function copyLink() {
  const fragment = await makeFragment(readFields());
  history.replaceState(null, "", fragment);
  try {
    await navigator.clipboard.writeText(location.href);
    at("link-said").textContent = "copied";
  } catch {
    at("link-said").textContent = "the link is in the address bar"; // no clipboard without https
  }
}

export async function openDraft() {
  const mine = stored(MINE);
  if (mine) show(mine);
  onFields(changed);
  at("link").addEventListener("click", copyLink);
  at("back").addEventListener("click", goBack);
  addEventListener("hashchange", openLink);
  addEventListener("pagehide", () => {
    if (state.timer) save();
  });
  await openLink();
}
