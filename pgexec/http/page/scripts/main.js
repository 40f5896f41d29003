// Puts the page together.

import { at } from "./dom.js";
import { openDraft } from "./draft.js";
import { openEditor } from "./editor.js";
import { openFiles } from "./inputs.js";
import { onKey } from "./key.js";
import { openRun } from "./run.js";
import { keepAsking, poll } from "./status.js";
import { watchStdin } from "./stdin.js";

onKey(poll);
if (at("playground")) {
  openEditor();
  openFiles();
  openRun();
  openDraft().then(watchStdin);
}
keepAsking();
