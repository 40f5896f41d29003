#!/usr/bin/env bash
# Make sure that the engine has the image that the settings name.
#   image.sh              import or pull it; if python:alpine cannot be had, a stand-in takes its place
#   image.sh --stand-in   build the stand-in only, for the tests, and leave the settings alone
#   image.sh --newest     build, for the tests, an image with the newest CPython of Debian's suites, and unpack
#                         its root with all CPythons of that suite into .tools/pythons
#   image.sh --each       make an image of each of those, too, and print the names of all test images
set -euo pipefail
. "$(dirname "$0")/lib.sh"

stock=python:alpine
stand_in=pgexec-python:debian
# The last two are in the official Debian-based images, so that wheels rely on them: numpy, for one.
stand_in_packages='python3 python3-pip ca-certificates libstdc++6 libgomp1'
stand_in_label="pgexec.stand-in=$stand_in_packages"
newest=pgexec-python:newest
newest_root=.tools/pythons/newest
# shellcheck disable=SC2016  # mmdebstrap's own $1
name_newest='cd "$1/usr/bin" && for name in python3 python; do
  ln -sf "$(printf "%s\n" python3.* | grep -x "python3\.[0-9]*" | sort -V | tail -n 1)" "$name"; done'
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

release() { (. /etc/os-release && echo "$VERSION_CODENAME"); }

# debian_root WORK SUITE PACKAGES OPTION…: write a root file system as a plain tar to stdout, of what
# WORK/sources.list names.
debian_root() {
  local work=$1 suite=$2 path
  # Proxies and certificates that the host's apt uses.
  apt-config dump --format '%f "%v";%n' Acquire | grep -E '^Acquire::https?::' >"$work/apt.conf" || true
  local options=(--mode=root --variant=essential --include="$3")
  for path in /usr/share/keyrings/{debian,ubuntu}-archive-keyring.gpg /etc/apt/trusted.gpg.d; do
    [[ ! -e $path ]] || options+=(--keyring="$path")
  done
  for path in /usr/share/{doc,man,info,locale,lintian}; do
    options+=(--dpkgopt="path-exclude=$path/*")
  done
  timeout 900 mmdebstrap "${options[@]}" --aptopt="$work/apt.conf" --format=tar "${@:4}" \
    "$suite" - "$work/sources.list"
}

# import_debian NAME CHANGE… <TAR
import_debian() {
  engine import "$1" 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
    'CMD ["python3"]' "${@:2}"
}

can_build() {
  can_install || { say "$1 can be built by root on Debian or Ubuntu only"; return 1; }
  type -P mmdebstrap >/dev/null || install_packages mmdebstrap
}

build_stand_in() {
  local work status=1
  can_build "$stand_in" || return 1
  say "building $stand_in from this system's packages (a minute or two)"
  work=$(mktemp -d)
  # As in the official images: `python` is there, and pip may install.
  # shellcheck disable=SC2016  # mmdebstrap's own $1
  host_sources "$(release)" >"$work/sources.list" &&
    debian_root "$work" "$(release)" "$stand_in_packages" \
      --customize-hook='ln -s python3 "$1/usr/bin/python"' \
      --customize-hook='rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED' >"$work/root.tar" &&
    import_debian "$stand_in" "LABEL \"${stand_in_label/=/\"=\"}\"" <"$work/root.tar" && status=0
  rm -rf "$work"
  return $status
}

# The suite comes from where the host's own release does. A mirror's Release of it may be past its
# date, which no test depends on; its signature counts.
build_newest() {
  local work suite=sid status=1
  can_build "$newest" || return 1
  [[ $(. /etc/os-release && echo "$ID") != ubuntu ]] || suite=devel
  say "building $newest from the packages of $suite (half a minute)"
  work=$(mktemp -d)
  host_sources "$(release)" | sed -n "s/ $(release) main$/ $suite main/p" >"$work/sources.list"
  rm -rf "$newest_root" && mkdir -p "$newest_root" &&
    debian_root "$work" "$suite" '^python3\.[0-9]+$ ca-certificates libstdc++6 libgomp1' \
      --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Check-Valid-Until "false"' \
      --customize-hook="$name_newest" >"$work/root.tar" &&
    import_debian "$newest" <"$work/root.tar" && tar -xpf "$work/root.tar" -C "$newest_root" && status=0
  ((status == 0)) || rm -rf "$newest_root"
  rm -rf "$work"
  return $status
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

if [[ ${1-} == --each ]]; then
  names=()
  for path in "$newest_root"/usr/bin/python3.*; do
    python=${path##*/}
    [[ $python =~ ^python3\.[0-9]+$ ]] || continue
    names+=("pgexec-python:${python#python}")
    engine has "${names[-1]}" || {
      ln -sf "$python" "$newest_root/usr/bin/python3" && ln -sf "$python" "$newest_root/usr/bin/python" &&
        tar -C "$newest_root" -c . | import_debian "${names[-1]}" >&2
    }
  done
  for name in "$stock" "$stand_in"; do
    ! engine has "$name" || names+=("$name")
  done
  (IFS=, && printf '%s\n' "${names[*]}")
  exit
fi

if [[ ${1-} == --newest ]]; then
  { engine has "$newest" && [[ -d $newest_root ]]; } || build_newest || say "the tests go on without $newest"
  exit
fi

image=$(setting PGEXEC_IMAGE "$stock")
! engine has "$image" || exit 0
case $image in
  "$stock") ensure_stock ;;
  "$stand_in") build_stand_in || die "$stand_in could not be built." ;;
  *) pull "$image" || die "the engine has no image $image and cannot pull it." ;;
esac
