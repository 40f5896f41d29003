#!/usr/bin/env bash
# Make sure that the tests of `pgexec mcp` find clients besides the SDK that it is made with: the SDK
# of 1.x, unpacked into .tools and not installed, and npm's client, for a Node.js of 20 or newer.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

sdk=.tools/mcp-sdk1
npm=.tools/mcp-npm
sdk_package=mcp==1.30.0
npm_package=@modelcontextprotocol/client@2.4.0

get_sdk() {
  local pip=(.venv/bin/python -m pip -qq --disable-pip-version-check)
  ! uv --version >/dev/null 2>&1 || pip=(uv --quiet pip)
  "${pip[@]}" install --only-binary :all: --target "$1" "$sdk_package"
}

get_npm() {
  type -P npm >/dev/null || { can_install && install_packages nodejs npm; } || return 1
  [[ $(node --version) =~ ^v([0-9]+) ]] && ((BASH_REMATCH[1] >= 20)) || return 1
  timeout 300 npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$1" "$npm_package"
}

# get PACKAGE FOLDER NAME: what is there in half is not there.
get() {
  [[ ! -d $2 ]] || return 0
  say "unpacking $1 into $2"
  rm -rf "$2.part" && mkdir -p "$2.part"
  if "get_$3" "$2.part"; then
    mv "$2.part" "$2"
  else
    rm -rf "$2.part"
    say "the tests of pgexec mcp with $1 are skipped: it cannot be had here"
  fi
}

get "$sdk_package" "$sdk" sdk
get "$npm_package" "$npm" npm
