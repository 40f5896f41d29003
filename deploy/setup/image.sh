#!/usr/bin/env bash
# Make sure that the engine has the image that the settings name.
#   image.sh              import or pull it; if python:alpine cannot be had, a stand-in takes its place
#   image.sh --stand-in   build the stand-in only, for the tests, and leave the settings alone
set -euo pipefail
. "$(dirname "$0")/lib.sh"

stock=python:alpine
stand_in=pgexec-python:debian
# The last two are in the official Debian-based images, so that wheels rely on them: numpy, for one.
stand_in_packages='python3 python3-pip ca-certificates libstdc++6 libgomp1'
stand_in_label="pgexec.stand-in=$stand_in_packages"
rootfs=${PGEXEC_ROOTFS:-../shared/images/python-alpine-rootfs.tar.xz}

unxz_file() {
  if type -P xz >/dev/null; then
    xz -dc -- "$1"
  else
    .venv/bin/python -c 'import lzma, shutil, sys
shutil.copyfileobj(lzma.open(sys.argv[1]), sys.stdout.buffer)' "$1"
  fi
}

import_rootfs() {
  say "importing $stock from $rootfs"
  unxz_file "$rootfs" | engine import "$stock" \
    'ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin' \
    'ENV PYTHON_VERSION=3.13.15' 'CMD ["python3"]'
}

pull() {
  say "pulling $1"
  engine pull "$1"
}

# The host's own package sources for its own release, third parties left out, as sources.list.
host_sources() {
  # shellcheck disable=SC2016  # apt-get's own variables
  apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
    sort -u | grep -E " $1(-updates|-security)? (main|universe)$"
}

# stand_in_root DIRECTORY: write a root file system as a plain tar to stdout.
stand_in_root() {
  local release work=$1 path
  release=$(. /etc/os-release && echo "$VERSION_CODENAME") &&
    host_sources "$release" >"$work/sources.list" || return 1
  # Proxies and certificates that the host's apt uses.
  apt-config dump --format '%f "%v";%n' Acquire | grep -E '^Acquire::https?::' >"$work/apt.conf" || true
  local options=(--mode=root --variant=essential --include="$stand_in_packages")
  for path in /usr/share/keyrings/{debian,ubuntu}-archive-keyring.gpg /etc/apt/trusted.gpg.d; do
    [[ ! -e $path ]] || options+=(--keyring="$path")
  done
  for path in /usr/share/{doc,man,info,locale,lintian}; do
    options+=(--dpkgopt="path-exclude=$path/*")
  done
  # As in the official images: `python` is there, and pip may install.
  # shellcheck disable=SC2016  # mmdebstrap's own $1
  timeout 900 mmdebstrap "${options[@]}" --aptopt="$work/apt.conf" --format=tar \
    --customize-hook='ln -s python3 "$1/usr/bin/python"' \
    --customize-hook='rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED' \
    "$release" - "$work/sources.list"
}

build_stand_in() {
  local work
  can_install || { say "$stand_in can be built by root on Debian or Ubuntu only"; return 1; }
  type -P mmdebstrap >/dev/null || install_packages mmdebstrap || return 1
  say "building $stand_in from this system's packages (a minute or two)"
  work=$(mktemp -d)
  stand_in_root "$work" >"$work/root.tar" && engine import "$stand_in" \
    'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
    'CMD ["python3"]' "LABEL \"${stand_in_label/=/\"=\"}\"" <"$work/root.tar" &&
    rm -rf "$work" && return
  rm -rf "$work"
  return 1
}

ensure_stock() {
  pull "$stock" && return
  [[ ! -r $rootfs ]] || { import_rootfs && return; }
  [[ -z ${PGEXEC_IMAGE-} ]] || die "$stock is not there and cannot be pulled."
  say "$stock cannot be pulled here; $stand_in will take its place"
  engine has "$stand_in" || build_stand_in || die "no image to run snippets in: let the engine pull" \
    "$stock, or name one that it has in settings.local.env (PGEXEC_IMAGE=…)."
  remember PGEXEC_IMAGE "$stand_in"
  say "wrote PGEXEC_IMAGE=$stand_in to settings.local.env; remove that line to try $stock again"
}

# A stand-in that an earlier version of this script made of other packages is built anew.
if [[ ${1-} == --stand-in ]]; then
  engine has "$stand_in" "$stand_in_label" || build_stand_in || say "the tests go on without $stand_in"
  exit
fi

image=$(setting PGEXEC_IMAGE "$stock")
! engine has "$image" || exit 0
case $image in
  "$stock") ensure_stock ;;
  "$stand_in") build_stand_in || die "$stand_in could not be built." ;;
  *) pull "$image" || die "the engine has no image $image and cannot pull it." ;;
esac
