#!/usr/bin/env bash
# Create .venv from requirements.lock, every package checked against its hash.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

stamp=.venv/.pgexec-stamp

# What the environment was made from, and where: a moved one has wrong paths in its scripts.
fingerprint() { pwd; cat requirements.lock pyproject.toml | cksum; }

# find_python [MODULE]: a Python >= 3.11 that really starts (a pyenv shim may be there and not).
find_python() {
  local name
  for name in python3 python3.14 python3.13 python3.12 python3.11 python; do
    if "$name" -c "import sys, ${1:-sys}; sys.exit(sys.version_info < (3, 11))" 2>/dev/null; then
      type -P "$name"
      return
    fi
  done
  return 1
}

# The lock is the only authority: a constraint from somebody's configuration has no say. Wheels
# only, and the project itself with the locked build backend, so that nothing comes unhashed.
install_with_uv() {
  local uv=(uv --quiet --no-config)
  uv --version >/dev/null 2>&1 || return 1
  "${uv[@]}" venv --clear --python "$(find_python || echo '>=3.11')" .venv &&
    "${uv[@]}" pip install --python .venv --require-hashes --only-binary :all: -r requirements.lock &&
    "${uv[@]}" pip install --python .venv --no-deps --no-build-isolation -e .
}

install_with_pip() {
  local python pip=(.venv/bin/python -m pip -qq --disable-pip-version-check)
  if ! python=$(find_python ensurepip) && can_install; then
    install_packages python3 python3-venv
    python=$(find_python ensurepip) || true
  fi
  [[ -n $python ]] || die "Python 3.11 or newer with its venv module is needed and was not found:" \
    "install it (Debian, Ubuntu: apt install python3-venv) or uv, and try again."
  export PIP_CONSTRAINT=/dev/null
  "$python" -m venv --clear .venv
  "${pip[@]}" install --require-hashes --only-binary :all: -r requirements.lock
  "${pip[@]}" install --no-deps --no-build-isolation -e .
}

if [[ -r $stamp && $(<"$stamp") == "$(fingerprint)" ]] && .venv/bin/python -c '' 2>/dev/null; then
  exit
fi
say "creating .venv from requirements.lock"
install_with_uv || install_with_pip
fingerprint >"$stamp"
