// The files that a run gives back: images as images, the beginning of texts, all to be saved. What
// is in a file, or what it is called, never makes more of it than an image or bytes.

import { at, make, makeButton, size } from "./dom.js";

const IMAGES = {
  png: "image/png", jpg: "image/jpeg", jpeg: "image/jpeg", gif: "image/gif", webp: "image/webp",
  avif: "image/avif", bmp: "image/bmp", svg: "image/svg+xml",
};
const MAX_IMAGE_CHARS = 12 << 20;
const MAX_IMAGES = 20;
const MAX_TEXT_CHARS = 2000;

export function clearResults() {
  at("files-out").replaceChildren();
  at("given").hidden = true;
  at("files-omitted").textContent = "";
}

export function showFile(file) {
  at("given").hidden = false;
  const item = make("li");
  item.append(make("span", file.name, "name"), make("span", size(file.size_bytes), "faint"));
  if (file.omitted) item.append(make("span", file.omitted, "bad"));
  else {
    item.append(makeButton("Save", () => save(file), `Save ${file.name}`));
    const view = look(file);
    if (view) item.append(view);
  }
  at("files-out").append(item);
}

export function showOmitted(sentence) {
  if (!sentence) return;
  at("given").hidden = false;
  at("files-omitted").textContent = sentence;
}

function look(file) {
  const type = IMAGES[/\.(\w+)$/.exec(file.name)?.[1].toLowerCase()];
  if (type) {
    const shown = at("files-out").querySelectorAll("img").length;
    if (shown >= MAX_IMAGES || file.content.length > MAX_IMAGE_CHARS) return null;
    const image = make("img");
    image.alt = file.name;
    image.addEventListener("error", () => image.replaceWith(make("span", "this is no image", "faint")));
    // As the source of an image, SVG has neither script nor addresses that would be asked for.
    image.src = file.encoding === "base64"
      ? `data:${type};base64,${file.content}`
      : `data:${type};charset=utf-8,${encodeURIComponent(file.content)}`;
    return image;
  }
  if (file.encoding !== "utf8" || !file.content) return null;
  const cut = file.content.length > MAX_TEXT_CHARS;
  const text = make("pre", file.content.slice(0, MAX_TEXT_CHARS) + (cut ? "…" : ""));
  text.tabIndex = 0;
  text.setAttribute("role", "region");
  text.setAttribute("aria-label", `Beginning of ${file.name}`);
  return text;
}

function bytes(file) {
  if (file.encoding === "utf8") return new TextEncoder().encode(file.content);
  return Uint8Array.from(atob(file.content), (char) => char.charCodeAt(0));
}

function save(file) {
  const link = make("a");
  // Bytes, whatever they are: no browser opens these as a page of ours.
  link.href = URL.createObjectURL(new Blob([bytes(file)], { type: "application/octet-stream" }));
  link.download = file.name.split("/").at(-1);
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
