#!/usr/bin/env bash
# Make sure that a container engine answers: use the one that is there, else install and start one.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

log=/var/log/pgexec-dockerd.log
wait_s=60

# runs PID NAME: is this process alive and that program? A stale pid file may name another.
runs() { [[ $1 =~ ^[0-9]+$ && -r /proc/$1/comm && $(<"/proc/$1/comm") == "$2" ]]; }

# listening SOCKET: does anybody accept connections there?
listening() {
  .venv/bin/python - "$1" 2>/dev/null <<'PY'
import socket, sys
socket.socket(socket.AF_UNIX).connect(sys.argv[1])
PY
}

# A killed engine leaves pid files, which the next one believes as soon as any process has that
# number, and a system containerd leaves its socket, on which dockerd then waits for nobody.
remove_leftovers() {
  local file=/var/run/docker.pid
  [[ ! -e $file ]] || runs "$(<"$file")" dockerd || rm -f "$file"
  for file in /var/run/docker/containerd/{docker-,}containerd.pid; do
    [[ ! -e $file ]] || runs "$(<"$file")" containerd || rm -f "$file"
  done
  file=/run/containerd/containerd.sock
  [[ ! -S $file ]] || listening "$file" || rm -f "$file"
}

# Without an init system nobody may have mounted control groups: v2 if it has what containers
# need, else one v1 hierarchy for each controller that an engine uses. No more than those: a v1
# hierarchy is the whole kernel's, and one that another engine has not mounted confuses that engine.
mount_cgroups() {
  local name root=/sys/fs/cgroup
  ! grep -qE ' cgroup2? ' /proc/mounts || return 0
  if mount -t cgroup2 cgroup2 "$root" 2>/dev/null; then
    ! grep -qw memory "$root/cgroup.controllers" || return 0
    umount "$root"
  fi
  mount -t tmpfs -o mode=755 cgroup "$root"
  for name in cpuset cpu cpuacct memory devices freezer blkio pids; do
    mkdir "$root/$name"
    mount -t cgroup -o "$name" cgroup "$root/$name" || rmdir "$root/$name"
  done
}

start_directly() {
  mount_cgroups || say "control groups could not be mounted; the engine may refuse to start"
  remove_leftovers
  [[ ! -e /var/run/docker.pid ]] || return 0 # a live dockerd that does not answer yet
  say "starting dockerd; its log is $log"
  setsid nohup dockerd >>"$log" 2>&1 </dev/null &
  dockerd_pid=$!
}

start_engine() {
  if [[ -d /run/systemd/system ]]; then
    log='journalctl -u docker'
    say "starting docker.service; its log: $log"
    systemctl enable --now docker.service || true
  else
    start_directly
  fi
}

log_tail() {
  if [[ -r $log ]]; then tail -n 15 "$log"; else journalctl -u docker -n 15 --no-pager; fi >&2 || true
}

await_engine() {
  local deadline=$((SECONDS + wait_s))
  until engine ping >/dev/null 2>&1; do
    if ((SECONDS >= deadline)) || { [[ -n $dockerd_pid ]] && ! kill -0 "$dockerd_pid" 2>/dev/null; }; then
      log_tail
      die "dockerd did not come up; above are the last lines of its log ($log)."
    fi
    sleep 0.5
  done
}

dockerd_pid=''
! reason=$(engine ping 2>&1) || exit 0

host=$(setting PGEXEC_DOCKER_HOST "${DOCKER_HOST-}")
case ${host:-default} in
  default | unix:///var/run/docker.sock | unix:///run/docker.sock) ;;
  *) die "no container engine answers at the configured address: $reason." ;;
esac
((EUID == 0)) || die "no container engine answers ($reason): install and start Docker or Podman" \
  "(on Debian or Ubuntu: apt install docker.io), or run this once as root, or set DOCKER_HOST."
if ! type -P dockerd >/dev/null; then
  can_install || die "no container engine answers ($reason): install Docker, start it, and try again."
  install_packages docker.io iptables ca-certificates
fi
engine ping >/dev/null 2>&1 || start_engine # the package may have started it
await_engine
say "the container engine answers"
