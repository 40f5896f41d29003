// The fields in the fragment of an address, which a browser sends to no server.

const PREFIX = "#code=";
const MAX_BYTES = 4 << 20;
const TEXTS = ["code", "dependencies", "args", "timeout", "stdin"];

async function through(bytes, transform) {
  const reader = new Blob([bytes]).stream().pipeThrough(transform).getReader();
  const parts = [];
  let length = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return new Uint8Array(await new Blob(parts).arrayBuffer());
    length += value.length;
    if (length > MAX_BYTES) {
      await reader.cancel();
      throw new Error("the link holds too much");
    }
    parts.push(value);
  }
}

export async function makeFragment(texts) {
  const filled = Object.fromEntries(Object.entries(texts).filter(([, text]) => text));
  const json = new TextEncoder().encode(JSON.stringify(filled));
  const packed = await through(json, new CompressionStream("deflate-raw"));
  let text = "";
  for (const byte of packed) text += String.fromCharCode(byte);
  return PREFIX + btoa(text).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

// Return the texts of a fragment, or null if it is none of ours or damaged.
export async function readFragment(fragment) {
  if (!fragment.startsWith(PREFIX)) return null;
  try {
    const text = atob(fragment.slice(PREFIX.length).replaceAll("-", "+").replaceAll("_", "/"));
    const packed = Uint8Array.from(text, (char) => char.charCodeAt(0));
    const json = await through(packed, new DecompressionStream("deflate-raw"));
    const found = JSON.parse(new TextDecoder().decode(json));
    const texts = TEXTS.map((name) => [name, typeof found[name] === "string" ? found[name] : ""]);
    return typeof found.code === "string" ? Object.fromEntries(texts) : null;
  } catch {
    return null;
  }
}
