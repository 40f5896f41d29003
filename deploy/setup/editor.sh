#!/usr/bin/env bash
# Fetch what the page's editor is bundled from, and axe, which the tests hold against the page:
# editor/package-lock.json names each with its hash. Nothing of it is needed to run pgexec.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

cd editor
[[ ! node_modules/.package-lock.json -nt package-lock.json ]] || exit 0
if ! type -P npm >/dev/null; then
  say "the tests of the page with axe, and of its bundled editor, are skipped: install npm to have them"
  exit "${1:-0}"
fi
say "fetching the parts of the page's editor"
timeout 300 npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2
touch node_modules/.package-lock.json
