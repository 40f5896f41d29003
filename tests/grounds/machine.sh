#!/usr/bin/env bash
# machine.sh VERB DIR ...: a virtual machine of a Debian suite, with systemd, cgroup v2 and AppArmor, for ground.sh.
#   make DIR SUITE MIRROR   write its disk, kernel and key into DIR; some minutes
#   start DIR               boot it, and wait until it answers
#   do DIR COMMAND          run a command of bash in it
#   here DIR COMMAND        run one in it that sees this machine's files, read-only: this tree, its Pythons
#   stop DIR
# It is emulated, so that it needs nothing of the processor and of the kernel around it, and is some twenty times as
# slow. It has one processor, and gives way to all else.
set -euo pipefail

packages=linux-image-amd64,initramfs-tools,systemd,systemd-sysv,systemd-resolved,dbus,dbus-user-session,libpam-systemd
packages+=,udev,openssh-server,docker.io,docker-cli,containerd,runc,crun,runsc,apparmor,podman,netavark,aardvark-dns,conmon
packages+=,catatonit,passt,uidmap,slirp4netns,rootlesskit,fuse-overlayfs,iptables,nftables,iproute2,procps,kmod
packages+=,ca-certificates,util-linux
MEMORY_MIB=4096
BOOT_S=900

make_disk() {
  local dir=$1 suite=$2 mirror=$3 root=$1/root
  mkdir -p "$dir"
  [[ -e $dir/key ]] || ssh-keygen -q -t ed25519 -N '' -f "$dir/key"
  cat >"$dir/hook" <<'HOOK'
#!/bin/sh
set -eu
echo ground >"$1/etc/hostname"
echo 127.0.0.1 localhost ground >"$1/etc/hosts"
echo '/dev/vda / ext4 defaults 0 1' >"$1/etc/fstab"
mkdir -p -m 700 "$1/root/.ssh" "$1/host"
cp "${0%/*}/key.pub" "$1/root/.ssh/authorized_keys"
printf '[Match]\nName=e*\n[Network]\nDHCP=yes\n' >"$1/etc/systemd/network/80-ethernet.network"
# As Docker's and Podman's pages on rootless set-ups ask for it.
mkdir -p "$1/etc/systemd/system/user@.service.d"
printf '[Service]\nDelegate=cpu cpuset io memory pids\n' >"$1/etc/systemd/system/user@.service.d/delegate.conf"
chroot "$1" useradd --create-home --shell /bin/bash rootless
mkdir -p "$1/var/lib/systemd/linger"
touch "$1/var/lib/systemd/linger/rootless"
chroot "$1" systemctl enable systemd-networkd systemd-resolved ssh
chroot "$1" systemctl disable docker.service docker.socket containerd.service podman.socket
HOOK
  chmod +x "$dir/hook"
  mmdebstrap --mode=root --variant=minbase --aptopt='APT::Install-Recommends "false"' \
    --aptopt='Acquire::Check-Valid-Until "false"' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt=force-unsafe-io \
    --include=$packages --customize-hook="$dir/hook" "$suite" "$root" "deb $mirror $suite main"
  cp "$root"/boot/vmlinuz-* "$dir/vmlinuz"
  cp "$root"/boot/initrd.img-* "$dir/initrd"
  truncate -s 12G "$dir/disk.new"
  mkfs.ext4 -q -F -d "$root" "$dir/disk.new"
  rm -rf --one-file-system "$root"
  mv "$dir/disk.new" "$dir/disk"
}

# Whatever a ground leaves on the disk is gone with it: it runs on a copy that only differs where it is written.
start() {
  local dir=$1 port until=$((SECONDS + BOOT_S))
  ! kill -0 "$(cat "$dir/pid" 2>/dev/null || echo -)" 2>/dev/null || return 0
  port=$(python3 -c 'import socket; print(socket.create_server(("127.0.0.1", 0)).getsockname()[1])')
  echo "$port" >"$dir/port"
  setsid nice -n 10 qemu-system-x86_64 -accel tcg,thread=multi,tb-size=1024 -cpu max \
    -smp 2 -m $MEMORY_MIB -M q35 -nodefaults -no-reboot -kernel "$dir/vmlinuz" -initrd "$dir/initrd" \
    -append 'root=/dev/vda rw console=ttyS0 quiet mitigations=off' \
    -drive "file=$dir/disk,if=virtio,format=raw,cache=unsafe,snapshot=on" \
    -virtfs local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap \
    -netdev "user,id=n,hostfwd=tcp:127.0.0.1:$port-:22" -device virtio-net-pci,netdev=n -device virtio-rng-pci \
    -display none -serial "file:$dir/console" >"$dir/log" 2>&1 </dev/null &
  echo $! >"$dir/pid"
  until run "$dir" 'systemctl is-system-running --wait >/dev/null || true'; do
    ((SECONDS < until)) && kill -0 "$(<"$dir/pid")" || { tail -n 5 "$dir/log" "$dir/console" >&2; return 1; }
    sleep 2
  done
  # /tmp, /run and what the kernel shows are the machine's own.
  run "$dir" 'mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose host /host
    for name in dev proc sys run; do mount --rbind /$name /host/$name; done
    for name in tmp var/tmp; do mount -t tmpfs tmpfs /host/$name; done
    modprobe -a overlay br_netfilter 2>/dev/null || true'
}

run() {
  local dir=$1
  shift
  ssh -F none -o LogLevel=ERROR -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ConnectTimeout=120 -o ConnectionAttempts=3 \
    -o ServerAliveInterval=30 -o ServerAliveCountMax=20 -i "$dir/key" -p "$(<"$dir/port")" root@127.0.0.1 "$@"
}

here() {
  local dir=$1 settings
  shift
  settings=$(export -p | grep -E '^declare -x (PGEXEC_[A-Z_]*|DOCKER_HOST|PATH|LANG|PYTHON[A-Z]*)=' || true)
  run "$dir" "$settings
    exec chroot /host bash -c $(printf '%q' "cd ${PWD@Q} && $*")"
}

stop() {
  local pid
  pid=$(cat "$1/pid" 2>/dev/null) || return 0
  rm "$1/pid"
  kill "$pid" 2>/dev/null || return 0
  for _ in {1..60}; do kill -0 "$pid" 2>/dev/null || return 0; sleep 0.5; done
}

case $1 in
  make) make_disk "${@:2}" ;;
  do) run "${@:2}" ;;
  *) "$@" ;;
esac
