# Sourced by the set-up scripts: where things are, how to say something, how to read settings.
# shellcheck shell=bash

cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit

say() { printf 'pgexec: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# setting NAME [DEFAULT]: the value that the server would use. The environment wins, then
# settings.local.env, then settings.env; an empty value counts as none.
setting() {
  local value=${!1-} file
  for file in settings.local.env settings.env; do
    [[ -n $value || ! -r $file ]] || value=$(sed -nE "s/^$1=//p" "$file" | tail -n 1)
  done
  value=${value%\"} value=${value#\"}
  printf '%s' "${value:-${2-}}"
}

# remember NAME VALUE: keep it in settings.local.env, whose other lines stay.
remember() {
  local others=''
  [[ ! -r settings.local.env ]] || others=$(grep -v "^$1=" settings.local.env || true)
  printf '%s\n' ${others:+"$others"} "$1=$2" >settings.local.env
}

# engine VERB …: see engine_api.py.
engine() {
  local host
  host=$(setting PGEXEC_DOCKER_HOST "${DOCKER_HOST-}")
  DOCKER_HOST=$host timeout 900 .venv/bin/python deploy/setup/engine_api.py "$@"
}

# can_install: root on a Debian or a child of it, where apt-get may add packages.
can_install() { ((EUID == 0)) && [[ -r /etc/debian_version ]] && type -P apt-get >/dev/null; }

install_packages() {
  local apt=(env DEBIAN_FRONTEND=noninteractive timeout 900 apt-get -q -o DPkg::Lock::Timeout=120)
  say "installing $* with apt-get"
  # A source that fails (some third party's, say) need not be the one that we need.
  "${apt[@]}" update >&2 || say "apt-get update had errors; going on with what it has"
  "${apt[@]}" install -y --no-install-recommends "$@" >&2
}
