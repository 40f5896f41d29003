// Fields of one line, as lists.

// Requirements stand apart by spaces or commas; a comma or a space inside one does not part it:
// `numpy>=2, <3 requests[socks, use_chardet_on_py3]` is two.
export function splitRequirements(text) {
  const found = [];
  for (const line of text.split(/\n/)) {
    let rest = line.trim();
    while (rest) {
      const one = REQUIREMENT.exec(rest)?.[0] ?? rest;
      found.push(one.trim().replace(/,$/, "").trim());
      rest = rest.slice(one.length).replace(/^[\s,]+/, "");
    }
  }
  return found.filter(Boolean);
}

const VERSION = /(?:[<>=!~]=?=?\s*[^\s,;<>=!~]+)/.source;
const REQUIREMENT = new RegExp(
  `^[^\\s,;\\[<>=!~]+(?:\\s*\\[[^\\]]*\\])?(?:\\s*${VERSION}(?:\\s*,\\s*${VERSION})*)?(?:\\s*;.*)?`,
);

// Arguments as a shell parts them: by spaces, but for those in quotes or after a backslash.
export function splitArguments(text) {
  const found = [];
  let word = null;
  let quote = "";
  for (let n = 0; n < text.length; n++) {
    const char = text[n];
    if (char === "\\" && quote !== "'" && n + 1 < text.length) word = (word ?? "") + text[++n];
    else if (quote) {
      if (char === quote) quote = "";
      else word += char;
    } else if (char === "'" || char === '"') {
      quote = char;
      word ??= "";
    } else if (/\s/.test(char)) {
      if (word !== null) found.push(word);
      word = null;
    } else word = (word ?? "") + char;
  }
  if (quote) throw new Error(`the arguments have a ${quote} too few`);
  if (word !== null) found.push(word);
  return found;
}
