#!/usr/bin/env bash
# Make sure that the tests of deploy/docker find Docker Compose: the plugin of the docker command,
# or a program of its own, which is Debian's.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

! docker compose version >/dev/null 2>&1 || exit 0
! type -P docker-compose >/dev/null || exit 0
! can_install || { install_packages docker-compose && exit 0; }
say "the tests of deploy/docker are skipped: install Docker Compose to have them"
