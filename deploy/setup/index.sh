#!/usr/bin/env bash
# Where this machine reaches the package index by an address that is not public (a mirror, an
# intercepting proxy), the network guard must let containers reach it, too.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

# An empty value is a choice, too, where somebody wrote it by hand.
[[ -z ${PGEXEC_NETWORK_ALLOW+set} && -z $(setting PGEXEC_NETWORK_ALLOW) ]] || exit 0
! grep -qs '^PGEXEC_NETWORK_ALLOW=' settings.local.env || exit 0

addresses=$(timeout 20 .venv/bin/python deploy/setup/index_addresses.py || true)
[[ -n $addresses ]] || exit 0

remember PGEXEC_NETWORK_ALLOW "$addresses"
say "containers may reach the package index at $addresses (PGEXEC_NETWORK_ALLOW in settings.local.env)"
