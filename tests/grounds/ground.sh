#!/usr/bin/env bash
# ground.sh GROUND [CHECK...]: bring up an engine of a Debian suite beside whatever runs here, try pgexec on it, and
# write its row of docs/engines.md. Root on Debian, with the packages mmdebstrap and slirp4netns; a suite takes a
# minute more the first time. It touches nothing of the machine's own engine or network: the engine has mount,
# network, process and IPC namespaces of its own, and all of it ends with this script.
#   GROUND        docker, docker-containerd, docker-crun, docker-rootless or podman, of Debian's next release;
#                 docker-26, podman-5.4 or gvisor (under Docker), of the present one; or here, the engine
#                 that runs already
#   CHECK         doctor, battery, leftovers, limits, escape, latency; all of them if none is named
#   GROUND_DIR    where roots, data and what was found are kept (default /var/tmp/pgexec-ground)
#   GROUND_ROOT   a root that has the packages already
set -euo pipefail
cd "$(dirname "$0")/../.."

ground=${1-} suite=forky engine_options='' left_out=''
case $ground in
  docker | here) ;;
  docker-26) suite=trixie ;;
  docker-containerd) engine_options='--feature containerd-snapshotter=true' ;;
  docker-crun) engine_options='--add-runtime crun=/usr/bin/crun --default-runtime crun' ;;
  docker-rootless) ;;
  # Of the present release: what the next one builds from the same sources, with a later Go, panics.
  gvisor) suite=trixie engine_options='--add-runtime runsc=/mnt/runsc'; export PGEXEC_RUNTIME=runsc ;;
  # Its tmpfs has no limit on inodes: filling them ends as memory_limit, and the container is replaced.
  podman) left_out='inode' ;;
  podman-5.4) suite=trixie left_out='inode' ;;
  *) sed -nE 's/^# ?//p' "$0" | head -n 12 >&2; exit 2 ;;
esac
checks=("${@:2}")
((${#checks[@]})) || checks=(doctor battery leftovers limits escape latency)
work=${GROUND_DIR:-/var/tmp/pgexec-ground}
root=${GROUND_ROOT:-$work/$suite}
run=$work/run/$ground data=$work/data/$ground sockets=/run/pgexec-ground/$ground
socket=$sockets/engine.sock
packages=docker.io,containerd,runc,crun,podman,netavark,aardvark-dns,conmon,catatonit,iptables,nftables,iproute2,ca-certificates,runsc,rootlesskit,slirp4netns,uidmap
export PGEXEC_GENERATE_LOG_FILE=false
[[ $ground == here ]] || export PGEXEC_DOCKER_HOST=unix://$socket DOCKER_HOST=unix://$socket

# A mirror's Release of a suite may be past its date, which nothing here depends on; its signature counts.
make_root() {
  [[ ! -x $root/usr/bin/runsc ]] || return 0
  [[ ! -x $root/usr/bin/podman || $ground == gvisor ]] || return 0  # made before there was gVisor here
  [[ ! -e $root ]] || { echo "remove $root: it has no runsc" >&2; return 1; }
  local mirror
  mirror=$(sed -nE 's/^URIs: //p' /etc/apt/sources.list.d/debian.sources | head -n 1)
  mmdebstrap --mode=root --variant=minbase --aptopt='APT::Install-Recommends "false"' \
    --aptopt='Acquire::Check-Valid-Until "false"' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --include=$packages "$suite" "$root" "deb ${mirror:?apt names no Debian mirror here} $suite main"
}

# A rootless engine on cgroup version 1 limits nothing, not even a fork bomb: here all of it together is limited.
confine() {
  local limits=/sys/fs/cgroup
  [[ -d $limits/pids ]] || return 0
  mkdir -p $limits/{pids,memory}/pgexec-"$ground"
  echo 1000 >"$limits/pids/pgexec-$ground/pids.max"
  echo 3G >"$limits/memory/pgexec-$ground/memory.limit_in_bytes"
  echo 0 >"$limits/pids/pgexec-$ground/cgroup.procs"
  echo 0 >"$limits/memory/pgexec-$ground/cgroup.procs"
}

# As the user rootless, who has what Docker's own set-up tool asks for.
start_rootless() {
  id rootless >/dev/null 2>&1 || useradd --create-home rootless
  grep -q rootless /etc/subuid || echo rootless:100000:65536 | tee -a /etc/subuid >>/etc/subgid
  mkdir -p /run/user/rootless
  chown rootless: /run/user/rootless /mnt /run/sockets
  mknod -m 666 /run/tun c 10 200
  mount --bind /run/tun /dev/net/tun
  exec catatonit -- setpriv --reuid=rootless --regid=rootless --clear-groups env HOME=/home/rootless \
    XDG_RUNTIME_DIR=/run/user/rootless /usr/share/docker.io/contrib/dockerd-rootless.sh \
    --data-root /mnt/docker -H unix:///run/sockets/engine.sock
}

# This runsc of 2024 takes every network namespace for the machine's own if it sees a file that kernels of
# today show in each: it gets its network where that file is hidden. The guard needs --net-raw.
write_runsc() {
  cat >"$data/runsc" <<'RUNSC'
#!/bin/sh
case " $* " in
  *" start "*) exec unshare --mount --propagation private sh -c \
    'mount -t tmpfs tmpfs /proc/sys/net; exec /usr/bin/runsc --net-raw "$@"' sh "$@" ;;
esac
exec /usr/bin/runsc --net-raw "$@"
RUNSC
  chmod +x "$data/runsc"
}

# Runs as process 1 of the engine's namespaces, and becomes the engine.
inside() {
  mount --make-rprivate /
  [[ $ground != docker-rootless ]] || confine
  case $ground in
    # Podman and crun refuse a hybrid of cgroup v1 and v2; here only, its v2 half is hidden.
    podman* | docker-crun | gvisor) umount /sys/fs/cgroup/unified 2>/dev/null || true ;;
  esac
  mount --bind "$root" "$root"
  mount -t proc proc "$root/proc"
  mount -t sysfs sysfs "$root/sys"
  mount --rbind /sys/fs/cgroup "$root/sys/fs/cgroup"
  mount --rbind /dev "$root/dev"
  mount -t tmpfs -o mode=755 tmpfs "$root/run"
  mount -t tmpfs tmpfs "$root/tmp"
  mkdir -p "$root/run/sockets" "$root/etc/containers/networks"
  mount --bind "$data" "$root/mnt"
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
    podman*) exec catatonit -- podman --root /mnt/root --runroot /run/podman --cgroup-manager cgroupfs \
      system service --time=0 unix:///run/sockets/engine.sock ;;
    docker-rootless) start_rootless ;;
    # shellcheck disable=SC2086  # several options
    *) exec catatonit -- dockerd --data-root /mnt/docker --exec-root /run/docker \
      --cgroup-parent "/pgexec-$ground" -H unix:///run/sockets/engine.sock $engine_options ;;
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
  [[ $ground != gvisor ]] || write_runsc
  export -f inside confine start_rootless
  export ground root data sockets engine_options
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

try_doctor() { .venv/bin/pgexec doctor || true; }

try_battery() {
  local port
  port=$(.venv/bin/python -c 'import socket; print(socket.create_server(("127.0.0.1", 0)).getsockname()[1])')
  PGEXEC_HOST=127.0.0.1 PGEXEC_PORT=$port .venv/bin/pgexec serve >"$run/server.log" 2>&1 </dev/null &
  server=$!
  .venv/bin/python -m tests.grounds.battery "http://127.0.0.1:$port" || true
  kill "$server" && wait "$server" || true
  server=''
}

# From the network of the engine's bridges, where its gateways are.
try_abuse() {
  local among=${engine-}
  [[ $ground != docker-rootless ]] || among=$(pgrep --ns "$engine" --nslist pid -x dockerd | head -n 1)
  ${among:+nsenter -t "$among" --net --} .venv/bin/pytest -q -rfE -o console_output_style=classic \
    "tests/abuse/test_$1.py" -k "${left_out:+not $left_out}" 2>&1 || true
}

try_latency() { .venv/bin/python -m bench latency 2>&1 || true; }

trap stop EXIT
mkdir -p "$run"
[[ $ground == here ]] || { make_root; start_engine; }
deploy/setup/image.sh
[[ -n ${*:2} ]] || rm -f "$run"/*.found
for check in "${checks[@]}"; do
  case $check in
    doctor | battery | latency) "try_$check" >"$run/$check.found" ;;
    leftovers | limits | escape) try_abuse "$check" >"$run/$check.found" ;;
    *) echo "there is no check $check" >&2; exit 2 ;;
  esac
done
.venv/bin/python -m tests.grounds.table "$ground" "$run" ${left_out:+"of tests, those of an $left_out table"}
