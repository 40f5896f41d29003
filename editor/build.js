// Bundles the editor into the page's folder, with the licences of all that is in it beside it.
// `make page` runs it, after `npm ci`; the same sources and lock give the same bytes.

import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const target = process.argv[2] ?? join(here, "../pgexec/http/page");
const inputs = ["package.json", "package-lock.json", "entry.js", "build.js"];

// style-mod makes a <style> element, which the page's policy does not let in. Where a root has no
// head (a shadow root) it makes a constructable style sheet, which needs no leave; so it shall here.
const FROM = "!root.head && root.adoptedStyleSheets";
const TO = "root.adoptedStyleSheets";
const constructableStyles = {
  name: "constructable styles",
  setup(bundler) {
    bundler.onLoad({ filter: /node_modules\/style-mod\/src\/style-mod\.js$/ }, ({ path }) => {
      const parts = readFileSync(path, "utf8").split(FROM);
      if (parts.length !== 2) throw new Error("style-mod has changed: look at it again");
      return { contents: parts.join(TO), loader: "js" };
    });
  },
};

const { metafile, outputFiles } = await build({
  absWorkingDir: here,
  entryPoints: ["entry.js"],
  bundle: true,
  minify: true,
  write: false,
  metafile: true,
  format: "iife",
  globalName: "pgexecEditor",
  target: "es2022",
  charset: "utf8",
  legalComments: "none", // all licences are in the file beside
  plugins: [constructableStyles],
});

const names = new Set();
for (const path of Object.keys(metafile.inputs)) {
  const found = /^node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path);
  if (found) names.add(found[1]);
}
const licences = [...names].sort().map((name) => {
  const folder = join(here, "node_modules", name);
  const { version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  return `${name} ${version} (${license})\n\n${readFileSync(join(folder, "LICENSE"), "utf8").trim()}\n`;
});

const digest = createHash("sha256");
for (const name of inputs) digest.update(readFileSync(join(here, name)));
const head =
  `/* CodeMirror 6, bundled from editor/ (sha256 of its files: ${digest.digest("hex")}).\n` +
  " * MIT, each part of it: see codemirror.LICENSES.txt. */\n";
writeFileSync(join(target, "codemirror.js"), head + outputFiles[0].text);
writeFileSync(join(target, "codemirror.LICENSES.txt"), licences.join(`\n${"-".repeat(80)}\n\n`));
