// Elements, and figures as people read them. All that comes from the server is put in as text,
// never as HTML; the policy enforces it.

export const at = (id) => document.getElementById(id);

export function make(tag, text, ...classes) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  element.classList.add(...classes);
  return element;
}

export function makeButton(text, pressed, label = text) {
  const button = make("button", text);
  button.type = "button";
  button.setAttribute("aria-label", label);
  button.addEventListener("click", pressed);
  return button;
}

export function duration(seconds) {
  if (typeof seconds !== "number") return "–";
  if (seconds >= 10) return seconds.toFixed(1) + " s";
  if (seconds >= 1) return seconds.toFixed(2) + " s";
  return (seconds * 1000).toFixed(seconds < 0.1 ? 1 : 0) + " ms";
}

export function size(bytes) {
  if (bytes < 1024) return bytes + (bytes === 1 ? " byte" : " bytes");
  if (bytes < 1 << 20) return (bytes / 1024).toFixed(1).replace(/\.0$/, "") + " KiB";
  return (bytes / (1 << 20)).toFixed(1).replace(/\.0$/, "") + " MiB";
}

export const limits = JSON.parse(document.documentElement.dataset.limits);
