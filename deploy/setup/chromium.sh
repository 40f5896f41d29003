#!/usr/bin/env bash
# Make sure that the tests of the page find a browser: one that is there, else Debian's chromium.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

for name in chromium chromium-browser google-chrome; do
  ! type -P "$name" >/dev/null || exit 0
done
# Ubuntu's package of that name is an empty one that asks for snapd.
if can_install && ! grep -qi '^ID=ubuntu' /etc/os-release; then
  install_packages chromium && exit 0
fi
say "the tests of the page in a browser are skipped: install chromium to have them"
