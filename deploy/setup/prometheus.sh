#!/usr/bin/env bash
# Make sure that the tests find prometheus and promtool: those of the system, else Debian's, which
# are unpacked into .tools and not installed, because the package would start a service.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

tools=.tools/prometheus

there() { type -P "$1" >/dev/null || [[ -x $tools/$1 ]]; }

# unpack DIRECTORY: fetch the package there and take its two programs.
unpack() {
  (cd "$1" && timeout 300 apt-get -q download prometheus >&2) &&
    dpkg-deb --extract "$1"/prometheus_*.deb "$1/root" &&
    mkdir -p "$tools" && mv "$1"/root/usr/bin/{prometheus,promtool} "$tools"
}

! { there prometheus && there promtool; } || exit 0
give_up="the tests of deploy/prometheus are skipped: install Prometheus and promtool to have them"
type -P apt-get dpkg-deb >/dev/null || { say "$give_up"; exit 0; }
say "unpacking prometheus and promtool into $tools"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if ! unpack "$work" 2>/dev/null; then
  # The lists of packages may be old, or not there yet; only root may renew them.
  ((EUID != 0)) || timeout 900 apt-get -q -o DPkg::Lock::Timeout=120 update >&2 || true
  unpack "$work" || say "$give_up"
fi
