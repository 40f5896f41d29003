#!/usr/bin/env bash
# Where TLS is intercepted, containers must trust the interceptor's CA as this system does.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

# An empty value is a choice, too, where somebody wrote it by hand.
[[ -z ${PGEXEC_CA_BUNDLE+set} && -z $(setting PGEXEC_CA_BUNDLE) ]] || exit 0
! grep -qs '^PGEXEC_CA_BUNDLE=' settings.local.env || exit 0

bundle=''
for name in PIP_CERT REQUESTS_CA_BUNDLE CURL_CA_BUNDLE SSL_CERT_FILE; do
  if [[ -z $bundle && -f ${!name-} && -r ${!name} ]]; then bundle=${!name}; fi
done
system=/etc/ssl/certs/ca-certificates.crt
if [[ -z $bundle && -r $system ]] && compgen -G '/usr/local/share/ca-certificates/*.crt' >/dev/null; then
  bundle=$system
fi
[[ -n $bundle ]] || exit 0

remember PGEXEC_CA_BUNDLE "$bundle"
say "containers will trust the certificates in $bundle (PGEXEC_CA_BUNDLE in settings.local.env)"
