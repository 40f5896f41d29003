#!/usr/bin/env bash
# ground.sh GROUND [CHECK...]: bring up an engine of a Debian suite beside whatever runs here, try pgexec on it, and
# write its row of docs/engines.md. Root on Debian, with the packages mmdebstrap and slirp4netns; a suite takes a
# minute more the first time. It touches nothing of the machine's own engine or network: the engine has mount,
# network, process and IPC namespaces of its own, and all of it ends with this script.
#   GROUND        docker, docker-containerd, docker-crun, docker-rootless or podman, of Debian's next release;
#                 docker-26, podman-5.4 or gvisor (under Docker), of the present one; all of these; here,
#                 the engine that runs already; or vm-NAME, an engine in a virtual machine with systemd, cgroup v2 and
#                 AppArmor: vm-docker, vm-crun, vm-rootless (Docker's), vm-podman, vm-podman-rootless
#   CHECK         doctor, battery, leftovers, limits, escape, latency; all of them if none is named
#   GROUND_DIR    where roots, data and what was found are kept (default /var/tmp/pgexec-ground)
#   GROUND_ROOT   a root that has the packages already
#   KEEP_MACHINE  1 leaves the virtual machine running, for the next of its engines: its boot takes minutes.
#                 It does not see later changes of files here that it has read
set -euo pipefail
cd "$(dirname "$0")/../.."

ground=${1-} suite=forky engine_options='' left_out=''
case $ground in
  all)
    status=0
    for one in docker docker-26 docker-containerd docker-crun docker-rootless podman podman-5.4 gvisor; do
      "tests/grounds/${0##*/}" "$one" "${@:2}" || status=1
    done
    exit $status ;;
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
  vm-docker | vm-crun | vm-rootless | vm-podman | vm-podman-rootless) suite=trixie ;;
  *) sed -nE 's/^# ?//p' "$0" | head -n 15 >&2; exit 2 ;;
esac
case $ground in vm-podman*) left_out='inode' ;; esac
checks=("${@:2}")
((${#checks[@]})) || checks=(doctor battery leftovers limits escape latency)
work=${GROUND_DIR:-/var/tmp/pgexec-ground}
root=${GROUND_ROOT:-$work/$suite}
run=$work/run/$ground data=$work/data/$ground sockets=/run/pgexec-ground/$ground
socket=$sockets/engine.sock
packages=docker.io,containerd,runc,crun,podman,netavark,aardvark-dns,conmon,catatonit,iptables,nftables,iproute2,ca-certificates,runsc,rootlesskit,slirp4netns,uidmap
export PGEXEC_GENERATE_LOG_FILE=false
machine=$work/machine-$suite
case $ground in
  here) ;;
  vm-docker | vm-crun) socket=/run/docker.sock ;;
  vm-rootless) socket=/run/user/1000/docker.sock ;;
  vm-podman) socket=/run/podman/podman.sock ;;
  vm-podman-rootless) socket=/run/user/1000/podman/podman.sock ;;
esac
[[ $ground == here ]] || export PGEXEC_DOCKER_HOST=unix://$socket DOCKER_HOST=unix://$socket
# An emulated machine is slow, and has one processor.
[[ $ground != vm-* ]] || export PGEXEC_START_TIMEOUT_S=300 PGEXEC_LEASE_TIMEOUT_S=300 PGEXEC_POOL_MIN_IDLE=1 \
  PGEXEC_POOL_MAX_CONTAINERS=2

# Run a command where the ground is.
on_ground() {
  case $ground in
    vm-*) tests/grounds/machine.sh here "$machine" "$@" ;;
    *) "$@" ;;
  esac
}

mirror() { sed -nE 's/^URIs: //p' /etc/apt/sources.list.d/debian.sources | head -n 1; }

# A mirror's Release of a suite may be past its date, which nothing here depends on; its signature counts.
make_root() {
  [[ ! -x $root/usr/bin/runsc ]] || return 0
  [[ ! -x $root/usr/bin/podman || $ground == gvisor ]] || return 0  # made before there was gVisor here
  [[ ! -e $root ]] || { echo "remove $root: it has no runsc" >&2; return 1; }
  local mirror
  mirror=$(mirror)
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
  [[ $ground != vm-* || -n ${KEEP_MACHINE-} ]] || tests/grounds/machine.sh stop "$machine"
  for pid in "${engine-}" "${slirp-}"; do
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

# The engine of a virtual machine: as Debian starts it, or as its own page on rootless set-ups says.
start_machine() {
  [[ -e $machine/disk ]] || tests/grounds/machine.sh make "$machine" "$suite" "$(mirror)"
  tests/grounds/machine.sh start "$machine"
  local start='systemctl restart docker' user='setpriv --reuid=1000 --regid=1000 --init-groups env HOME=/home/rootless
    XDG_RUNTIME_DIR=/run/user/1000 DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/1000/bus'
  case $ground in
    vm-crun) start="echo '{\"default-runtime\": \"crun\", \"runtimes\": {\"crun\": {\"path\": \"/usr/bin/crun\"}}}' \
      >/etc/docker/daemon.json; $start" ;;
    vm-rootless) start="$user systemd-run --user --unit=docker --property=Delegate=yes --setenv=PATH=/usr/sbin:/usr/bin \
      /usr/share/docker.io/contrib/dockerd-rootless.sh" ;;
    vm-podman) start='systemctl start podman.socket' ;;
    vm-podman-rootless) start="$user systemctl --user start podman.socket" ;;
  esac
  # Where AppArmor has a profile for crun, no run could be ended: pgexec refuses to start until this, its remedy.
  case $ground in vm-crun | vm-podman*) start="apparmor_parser -R /etc/apparmor.d/crun || true; $start" ;; esac
  tests/grounds/machine.sh do "$machine" "mkdir -p /etc/docker; rm -f /etc/docker/daemon.json; ${start//$'\n'/ }
    for _ in {1..300}; do [ ! -S $socket ] || exit 0; sleep 1; done; journalctl -n 20 >&2; exit 1"
  # Made here, by the engine that runs already: there it would take ten minutes.
  env -u DOCKER_HOST -u PGEXEC_DOCKER_HOST deploy/setup/image.sh
  env -u DOCKER_HOST -u PGEXEC_DOCKER_HOST .venv/bin/python -m tests.grounds.carry >"$run/images.tar"
  on_ground curl -sSf --unix-socket "$socket" -X POST -H Content-Type:application/x-tar -T - \
    http://engine/images/load <"$run/images.tar" >&2
}

try_doctor() { on_ground .venv/bin/pgexec doctor || true; }

try_battery() { on_ground .venv/bin/python -m tests.grounds.battery || true; }

# From the network of the engine's bridges, where its gateways are.
try_abuse() {
  local among=${engine-}
  [[ $ground != docker-rootless ]] || among=$(pgrep --ns "$engine" --nslist pid -x dockerd | head -n 1)
  [[ $ground != vm-rootless ]] || among=$(tests/grounds/machine.sh do "$machine" pgrep -x dockerd | head -n 1)
  # shellcheck disable=SC2086  # several words, or none
  on_ground ${among:+nsenter -t $among --net --} .venv/bin/pytest -q -rfE -o console_output_style=classic \
    "tests/abuse/test_$1.py" ${left_out:+-k "not $left_out"} 2>&1 || true
}

try_latency() { on_ground .venv/bin/python -m bench latency 2>&1 || true; }

trap stop EXIT
mkdir -p "$run"
case $ground in
  here) ;;
  vm-*) start_machine ;;
  *) make_root; start_engine ;;
esac
[[ $ground == vm-* ]] || on_ground deploy/setup/image.sh
[[ -n ${*:2} ]] || rm -f "$run"/*.found
on_ground .venv/bin/python -m tests.grounds.table >"$run/engine.found"
for check in "${checks[@]}"; do
  case $check in
    doctor | battery | latency) "try_$check" >"$run/$check.found" ;;
    leftovers | limits | escape) try_abuse "$check" >"$run/$check.found" ;;
    *) echo "there is no check $check" >&2; exit 2 ;;
  esac
done
.venv/bin/python -m tests.grounds.table "$ground" "$run" ${left_out:+"of tests, those of an $left_out table"}
