// The files that a run gets: chosen or dropped, with their sizes, until they are taken away.

import { at, limits, make, makeButton, size } from "./dom.js";

const given = new Map();

export const anyFiles = () => given.size > 0;

// Return them as POST /run takes them. Throws an error if one can no longer be read.
export async function readFiles() {
  return Promise.all(
    [...given].map(async ([name, file]) => ({ name, content: await base64(file), encoding: "base64" })),
  );
}

function base64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(new Error(`${file.name} cannot be read any more: choose it again`));
    reader.readAsDataURL(file);
  });
}

function take(files) {
  const refused = [];
  for (const file of files) {
    const replaced = given.get(file.name)?.size ?? 0;
    if (given.size >= limits.files && !given.has(file.name)) refused.push(`${file.name}: more than ${limits.files} files`);
    else if (total() - replaced + file.size > limits.files_bytes) {
      refused.push(`${file.name} (${size(file.size)}): more than ${size(limits.files_bytes)} together`);
    } else given.set(file.name, file);
  }
  show(refused.length ? "Not taken: " + refused.join("; ") : "");
}

function total() {
  let bytes = 0;
  for (const file of given.values()) bytes += file.size;
  return bytes;
}

function show(complaint) {
  const items = [...given].map(([name, file]) => {
    const item = make("li");
    const remove = makeButton("Remove", () => {
      given.delete(name);
      show("");
      at("pick").focus();
    }, `Remove ${name}`);
    item.append(make("span", name, "name"), make("span", size(file.size), "faint"), remove);
    return item;
  });
  at("files-in").replaceChildren(...items);
  const few = `up to ${limits.files}, ${size(limits.files_bytes)} together`;
  at("files-limit").textContent = given.size ? `${size(total())} of ${size(limits.files_bytes)}` : `or drop them here: ${few}`;
  at("files-refused").textContent = complaint;
}

// A dropped folder has no bytes of its own.
function dropped(transfer) {
  const items = [...transfer.items].filter((item) => item.kind === "file");
  const folders = items.filter((item) => item.webkitGetAsEntry?.()?.isDirectory).length;
  const files = items.filter((item) => !item.webkitGetAsEntry?.()?.isDirectory).map((item) => item.getAsFile());
  take(files.filter(Boolean));
  if (folders) at("files-refused").textContent = "A folder is not taken: drop the files in it.";
}

export function openFiles() {
  show("");
  at("pick").addEventListener("click", () => at("picker").click());
  at("picker").addEventListener("change", () => {
    take(at("picker").files);
    at("picker").value = "";
  });
  const place = at("playground");
  const brings = (event) => event.dataTransfer?.types.includes("Files");
  // Anywhere on the page: a file that misses its place must not take the page's.
  addEventListener("dragover", (event) => {
    if (!brings(event)) return;
    event.preventDefault();
    const over = place.contains(event.target);
    event.dataTransfer.dropEffect = over ? "copy" : "none";
    place.classList.toggle("dropping", over);
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) place.classList.remove("dropping");
  });
  // Before the editor, which would take the text of a file for its own.
  addEventListener(
    "drop",
    (event) => {
      if (!brings(event)) return;
      event.preventDefault();
      event.stopPropagation();
      place.classList.remove("dropping");
      if (place.contains(event.target)) dropped(event.dataTransfer);
    },
    true,
  );
}
