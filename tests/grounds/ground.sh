#!/usr/bin/env bash
# ground.sh podman|docker: bring up that engine of Debian's next release beside whatever runs here, and try
# pgexec on it: doctor, battery, leftovers. Root on Debian, with the packages mmdebstrap and slirp4netns; the
# first time takes two minutes more. It touches nothing of the machine's own engine or network: the engine has
# mount, network, process and IPC namespaces of its own, and all of it ends with this script. What it prints
# last is a row for docs/engines.md.
#   GROUND_DIR    where the engine's root and data are kept (default /var/tmp/pgexec-ground)
#   GROUND_ROOT   a root that has the packages already
set -euo pipefail
cd "$(dirname "$0")/../.."

ground=${1-} port=18480
work=${GROUND_DIR:-/var/tmp/pgexec-ground}
root=${GROUND_ROOT:-$work/root}
run=$work/run/$ground data=$work/data/$ground sockets=/run/pgexec-ground
packages=docker.io,containerd,runc,crun,podman,netavark,aardvark-dns,conmon,catatonit,iptables,nftables,iproute2,ca-certificates
case $ground in
  # Its tmpfs has no limit on inodes: filling them ends as memory_limit, and the container is replaced.
  podman) leftovers='not inode' ;;
  docker) leftovers='' ;;
  *) sed -nE 's/^# ?//p' "$0" | head -n 8 >&2; exit 2 ;;
esac
socket=$sockets/$ground.sock
export PGEXEC_DOCKER_HOST=unix://$socket DOCKER_HOST=unix://$socket PGEXEC_GENERATE_LOG_FILE=false

make_root() {
  [[ ! -x $root/usr/bin/podman ]] || return 0
  local mirror
  mirror=$(sed -nE 's/^URIs: //p' /etc/apt/sources.list.d/debian.sources | head -n 1)
  mmdebstrap --mode=root --variant=minbase --aptopt='APT::Install-Recommends "false"' \
    --include=$packages forky "$root" "deb ${mirror:?apt names no Debian mirror here} forky main"
}

# Runs as process 1 of the engine's namespaces, and becomes the engine.
inside() {
  mount --make-rprivate /
  # Podman and crun refuse a hybrid of cgroup v1 and v2; here only, its v2 half is hidden.
  [[ $ground == docker ]] || umount /sys/fs/cgroup/unified 2>/dev/null || true
  mount --bind "$root" "$root"
  mount -t proc proc "$root/proc"
  mount -t sysfs sysfs "$root/sys"
  mount --rbind /sys/fs/cgroup "$root/sys/fs/cgroup"
  mount --rbind /dev "$root/dev"
  mount -t tmpfs -o mode=755 tmpfs "$root/run"
  mount -t tmpfs tmpfs "$root/tmp"
  mkdir -p "$root/run/data" "$root/run/sockets" "$root/etc/containers/networks"
  mount --bind "$data" "$root/run/data"
  mount --bind "$sockets" "$root/run/sockets"
  mount -t tmpfs tmpfs "$root/etc/containers/networks"
  touch "$root/etc/resolv.conf"
  mount --bind /etc/resolv.conf "$root/etc/resolv.conf"
  ip link set lo up
  echo 1 >/proc/sys/net/ipv4/ip_forward || true
  # Not chroot: an exec would then enter a container's mount namespace with the machine's root.
  cd "$root"
  mkdir -p .old
  pivot_root . .old
  umount -l .old
  case $ground in
    podman) exec catatonit -- podman --root /run/data/root --runroot /run/podman --cgroup-manager cgroupfs \
      system service --time=0 "unix:///run/sockets/$ground.sock" ;;
    docker) exec catatonit -- dockerd --data-root /run/data/docker --exec-root /run/docker \
      --cgroup-parent /pgexec-ground -H "unix:///run/sockets/$ground.sock" ;;
  esac
}

stop() {
  local pid
  for pid in "${server-}" "${engine-}" "${slirp-}"; do
    [[ -z $pid ]] || kill "$pid" 2>/dev/null || continue
    for _ in {1..60}; do kill -0 "$pid" 2>/dev/null || break; sleep 0.5; done
  done
}

start_engine() {
  local holder
  mkdir -p "$run" "$data" "$sockets"
  export -f inside
  export ground root data sockets
  setsid unshare --mount --net --pid --ipc --fork --kill-child bash -euc inside >"$run/log" 2>&1 </dev/null &
  holder=$!
  sleep 1
  engine=$(pgrep -P "$holder" | head -n 1)
  setsid slirp4netns --configure --mtu=65520 "$engine" tap0 >"$run/slirp.log" 2>&1 </dev/null &
  slirp=$!
  for _ in {1..60}; do
    ! .venv/bin/python deploy/setup/engine_api.py ping >/dev/null 2>&1 || return 0
    sleep 0.5
  done
  tail -n 15 "$run/log" >&2
  return 1
}

try_doctor() {
  .venv/bin/pgexec doctor >"$run/doctor" || true
  grep -v '^ok' "$run/doctor" >&2 || true
  echo "$(grep -c '^ok' "$run/doctor") ok, $(grep -c '^warn' "$run/doctor") warn, $(grep -cE '^(fail|skip)' "$run/doctor") fail"
}

try_battery() {
  PGEXEC_HOST=127.0.0.1 PGEXEC_PORT=$port .venv/bin/pgexec serve >"$run/server.log" 2>&1 </dev/null &
  server=$!
  .venv/bin/python -m tests.grounds.battery "http://127.0.0.1:$port" >"$run/battery" || true
  kill "$server" && wait "$server" || true
  server=''
  grep -v '^ok' "$run/battery" >&2 || true
  echo "$(grep -c '^ok' "$run/battery") of $(wc -l <"$run/battery")"
}

try_leftovers() {
  nsenter -t "$engine" --net -- .venv/bin/pytest -q tests/abuse/test_leftovers.py -k "$leftovers" >"$run/leftovers" 2>&1 || true
  grep '^FAILED' "$run/leftovers" >&2 || true
  tail -n 1 "$run/leftovers"
}

trap stop EXIT
make_root
start_engine
deploy/setup/image.sh
doctor=$(try_doctor)
version=$(sed -nE 's/^[a-z]+ +engine +([^,]+),.*/\1/p' "$run/doctor")
echo "| $ground $version | $doctor | $(try_battery) | $(try_leftovers) | $(date +%F) |"
