// POST /run, as a stream of events; and why there is none, in words that are not the browser's.

import { askForKey, withKey } from "./key.js";

// Yield [name, data] of each event until the last one. Throws an error with our sentence.
export async function* runEvents(request, signal) {
  const answer = await told("no answer from the server: it is not known if anything ran", () =>
    fetch("/run", {
      method: "POST",
      headers: withKey({ "Content-Type": "application/json", Accept: "text/event-stream" }),
      body: JSON.stringify(request),
      signal,
    }),
  );
  if (answer.status === 401) askForKey("This key is not known.");
  const stream = (answer.headers.get("Content-Type") || "").startsWith("text/event-stream");
  if (!stream) throw new Error(await refusal(answer));
  for await (const block of blocks(answer.body)) {
    const parts = /^event: (.+)\ndata: (.+)$/.exec(block);
    if (!parts) continue;
    yield [parts[1], JSON.parse(parts[2])];
    if (parts[1] === "result" || parts[1] === "error") return;
  }
  throw new Error("the connection to the server broke off before the end of the run");
}

async function told(sentence, attempt) {
  try {
    return await attempt();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error(sentence);
  }
}

async function refusal(answer) {
  const wait = answer.headers.get("Retry-After");
  const again = wait ? `; try again in ${wait} s` : "";
  try {
    return (await answer.json()).error + again;
  } catch {
    return `what answered is not pgexec: it said ${answer.status}`;
  }
}

// Yield what stands between two empty lines. A file may be one block of many megabytes, so each
// piece is looked at once.
async function* blocks(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let begun = [];
  for (;;) {
    const { done, value } = await told("the connection to the server broke off before the end of the run", () =>
      reader.read(),
    );
    if (done) return;
    let text = value;
    if (text.startsWith("\n") && begun.at(-1)?.endsWith("\n")) text = begun.pop() + text;
    const parts = text.split("\n\n");
    for (const part of parts.slice(0, -1)) {
      yield begun.join("") + part;
      begun = [];
    }
    if (parts.at(-1)) begun.push(parts.at(-1));
  }
}
