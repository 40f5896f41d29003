"""What the doctor tries from within a container, as any snippet could.

This file's text is the snippet; the doctor adds a call of one of these functions, each of
which prints a JSON document. Standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import ctypes
import errno
import ipaddress
import json
import mmap
import os
import select
import signal
import socket
import ssl
import struct
import subprocess
import time
from typing import Any, Callable, Dict, Iterator, List, Tuple

_WAIT_S = 1.0
_STEP = 4 << 20
_PKTINFO = 8  # IP_PKTINFO, which the socket module lacks
_HTTP, _DISCARD = 80, 9
_ARRIVED = (errno.ECONNREFUSED, errno.ECONNRESET)
_SYSTEM_DIRECTORIES = ("/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin")

Attempt = Tuple[str, str, Callable[[], socket.socket]]
"""The way, the address, and what tries it: an open socket, or an `OSError` if refused."""


def report(sysctls: List[str]) -> None:
    """Say what this process is, may do, and sees."""
    lines = [line.partition(":") for line in _read("/proc/self/status").splitlines()]
    status = {name: value.strip() for name, _, value in lines}
    document = {
        "uid": os.getuid(),
        "capabilities": [status.get(name, "") for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")],
        "seccomp": int(status.get("Seccomp", "0")),
        "kernel": [name for name, attack in _INTO_KERNEL if _succeeds(attack)],
        "no_new_privileges": status.get("NoNewPrivs") == "1",
        "setuid": _try_setuid_program(),
        "confinement": _confinement(),
        "uid_map": _read("/proc/self/uid_map").split(),
        "sysctls": {name: _sysctl(name) for name in sysctls},
        "root_read_only": bool(os.statvfs("/").f_flag & os.ST_RDONLY),
        "against_runner": [name for name, attack in _AGAINST_RUNNER if _succeeds(attack)],
        "cpus": _cpu_quota(),
        "interfaces": [name for _, name in socket.if_nameindex()],
        "certificates": _certificates(),
    }
    print(json.dumps(document))


def leave_behind(path: str) -> None:
    """Leave a file and a process for the next run to find."""
    with open(path, "w") as file:
        file.write("left behind")
    if os.fork() == 0:
        os.setsid()
        time.sleep(60)
        os._exit(0)
    print(json.dumps({"uid": os.getuid()}))


def look_around(path: str) -> None:
    """Say whether a run can be seen that was here before."""
    pids = [name for name in os.listdir("/proc") if name.isdigit()]
    others = sorted(set(pids) - {"1", str(os.getpid())})
    print(json.dumps({"uid": os.getuid(), "file": os.path.exists(path), "processes": others}))


def allocate(size: int) -> None:
    """Fill memory up to a size in bytes; a limit below it does not let this return."""
    hoard = []
    for _ in range(0, size, _STEP):
        area = mmap.mmap(-1, _STEP)
        for page in range(0, _STEP, mmap.PAGESIZE):
            area[page] = 1
        hoard.append(area)
    print(json.dumps(len(hoard) * _STEP))


def multiply(count: int) -> None:
    """Fork that many processes, or as many as there may be, and say how many there were."""
    children = []
    try:
        for _ in range(count):
            pid = os.fork()
            if pid == 0:
                signal.pause()
            children.append(pid)
    except OSError:
        pass
    print(json.dumps(len(children) + 1))


def reach(name: str, port: int) -> None:
    """Resolve a name and connect to what it stands for."""
    address, refusal = "", ""
    try:
        address = str(socket.getaddrinfo(name, port, socket.AF_INET)[0][4][0])
        socket.create_connection((address, port), timeout=3).close()
    except OSError as error:
        refusal = str(error) or type(error).__name__
    print(json.dumps({"address": address, "refusal": refusal}))


def trespass(addresses: List[str], allowed: List[str]) -> None:
    """Try every way to addresses, the gateway and the neighbours; say which were not refused.

    A packet that leaves counts as much as an answer: what was refused, was refused here.
    """
    device, gateway, subnet = _route()
    own = [gateway, str(subnet.broadcast_address), str(subnet.network_address + 5)]
    exceptions = [ipaddress.ip_network(text) for text in allowed]
    targets = [
        target
        for target in dict.fromkeys([*own, *addresses])
        if not any(ipaddress.ip_address(target) in exception for exception in exceptions)
    ]
    attempts = [attempt for target in targets for attempt in _ways(target, device)]
    attempts += _broadcasts(device)
    through, pending = [], {}
    for way, target, attempt in attempts:
        try:
            connection = attempt()
        except OSError as error:
            if error.errno in _ARRIVED:
                through.append("%s by %s (answered)" % (target, way))
            continue
        if connection.type == socket.SOCK_DGRAM:
            connection.close()
            through.append("%s by %s (sent)" % (target, way))
        else:
            pending[connection] = "%s by %s" % (target, way)
    through += _outcomes(pending)
    print(json.dumps({"attempts": len(attempts), "through": through}))


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        return ""


def _sysctl(name: str) -> str:
    return " ".join(_read("/proc/sys/" + name.replace(".", "/")).split())


def _confinement() -> str:
    for path in ("/proc/self/attr/apparmor/current", "/proc/self/attr/current"):
        text = _read(path).strip("\0\n ")
        if text:
            return text
    return ""


def _cpu_quota() -> float:
    """Return the processors that the cgroup allows, 0 for all of them, -1 where none tells."""
    quota = _read("/sys/fs/cgroup/cpu.max").split()
    if not quota:
        base = "/sys/fs/cgroup/cpu/cpu.cfs_"
        quota = [_read(base + "quota_us").strip(), _read(base + "period_us").strip()]
    if not quota[0]:
        return -1.0
    return 0.0 if quota[0] in ("max", "-1") else int(quota[0]) / int(quota[1])


def _certificates() -> int:
    """Return how many CA certificates are trusted, -1 where no file is named or it is bad."""
    try:
        path = os.environ["SSL_CERT_FILE"]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(path)
    except (KeyError, OSError):
        return -1
    return len(context.get_ca_certs())


def _try_setuid_program() -> str:
    """Run a setuid program: `gained`, `refused`, or `none` where the image has no such.

    Its standard streams are full pipes and it is asked for help, so that it is still there,
    waiting to write, when we look whose it is.
    """
    for directory in _SYSTEM_DIRECTORIES:
        for name in sorted(os.listdir(directory)) if os.path.isdir(directory) else ():
            about = os.lstat(os.path.join(directory, name))
            if about.st_mode & 0o104001 == 0o104001 and about.st_uid == 0:
                return _run_setuid(os.path.join(directory, name))
    return "none"


def _run_setuid(path: str) -> str:
    _, full = os.pipe()
    os.set_blocking(full, False)
    try:
        while os.write(full, b"x" * 4096):
            pass
    except BlockingIOError:
        os.set_blocking(full, True)
    try:
        program = subprocess.Popen([path, "--help"], stdin=full, stdout=full, stderr=full)  # noqa: S603
    except OSError:
        return "refused"
    users = ["0"]
    deadline = time.monotonic() + _WAIT_S
    while time.monotonic() < deadline:
        lines = _read("/proc/%d/status" % program.pid).splitlines()
        users = next((line.split()[1:] for line in lines if line.startswith("Uid:")), users)
        if "0" in users or program.poll() is not None:
            break
        time.sleep(0.02)
    program.kill()
    program.wait()
    return "gained" if "0" in users else "refused"


def _succeeds(attack: Callable[[], object]) -> bool:
    try:
        attack()
    except (OSError, AttributeError):
        return False
    return True


def _open(path: str) -> Callable[[], object]:
    return lambda: os.close(os.open(path, os.O_RDONLY))


_AGAINST_RUNNER: List[Tuple[str, Callable[[], object]]] = [
    ("signal it", lambda: os.kill(1, 0)),
    ("become its user", lambda: os.setuid(0)),
    ("read its memory", _open("/proc/1/mem")),
    ("read its environment", _open("/proc/1/environ")),
    ("open its streams", _open("/proc/1/fd/1")),
    ("look into its root", _open("/proc/1/root")),
]


def _call(name: str, *arguments: int) -> Callable[[], object]:
    def attack() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if getattr(libc, name)(*arguments) == -1:
            raise OSError(ctypes.get_errno(), name)

    return attack


_INTO_KERNEL: List[Tuple[str, Callable[[], object]]] = [
    ("a user namespace", _call("unshare", 0x10000000)),
    ("ptrace", _call("ptrace", 0, 0, 0, 0)),
    ("AF_VSOCK", lambda: socket.socket(40, socket.SOCK_STREAM).close()),
    ("AF_ALG", lambda: socket.socket(38, socket.SOCK_SEQPACKET).close()),
    ("a raw socket", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close()),
]


def _route() -> Tuple[str, str, ipaddress.IPv4Network]:
    """Return the interface and the address of the default route, and the connected subnet."""
    device, gateway, subnet = "lo", "0.0.0.0", ipaddress.IPv4Network("127.0.0.0/8")  # noqa: S104
    for line in _read("/proc/net/route").splitlines()[1:]:
        name, destination, via, flags, _, _, _, mask, *_ = line.split()
        if int(destination, 16) == 0 and int(via, 16):
            device, gateway = name, _dotted(via)
        elif not int(via, 16) and name != "*" and not int(flags, 16) & 0x200:
            subnet = ipaddress.IPv4Network((_dotted(destination), bin(int(mask, 16)).count("1")))
    return device, gateway, subnet


def _dotted(word: str) -> str:
    return socket.inet_ntoa(struct.pack("=I", int(word, 16)))


def _ways(target: str, device: str) -> Iterator[Attempt]:
    bind = (socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode() + b"\0")
    straight = (socket.SOL_SOCKET, socket.SO_DONTROUTE, 1)
    yield "TCP", target, lambda: _connect(target, device)
    yield "TCP with SO_DONTROUTE", target, lambda: _connect(target, device, straight)
    yield "TCP with SO_BINDTODEVICE", target, lambda: _connect(target, device, bind)
    yield "UDP", target, lambda: _send(target, device)
    yield "UDP with SO_DONTROUTE", target, lambda: _send(target, device, straight)
    yield "UDP with SO_BINDTODEVICE", target, lambda: _send(target, device, bind)
    if ":" not in target:
        yield "UDP with IP_PKTINFO", target, lambda: _send_by(target, device)


def _broadcasts(device: str) -> Iterator[Attempt]:
    loud = (socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    bind = (socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode() + b"\0")
    here = struct.pack("=4s4si", bytes(4), bytes(4), socket.if_nametoindex(device))
    group = (socket.IPPROTO_IP, socket.IP_MULTICAST_IF, here)
    everyone, names = "255.255.255.255", "224.0.0.251"
    yield "broadcast", everyone, lambda: _send(everyone, device, loud)
    yield "broadcast with SO_BINDTODEVICE", everyone, lambda: _send(everyone, device, loud, bind)
    yield "multicast", names, lambda: _send(names, device)
    yield "multicast with IP_MULTICAST_IF", names, lambda: _send(names, device, group)


def _socket(target: str, kind: int, options: Tuple[Any, ...]) -> socket.socket:
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    made = socket.socket(family, kind)
    try:
        made.setblocking(False)
        if kind == socket.SOCK_DGRAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        for option in options:
            made.setsockopt(*option)
    except OSError:
        made.close()
        raise
    return made


def _address(target: str, port: int, device: str) -> Tuple[Any, ...]:
    if ":" not in target:
        return target, port
    scope = socket.if_nametoindex(device) if target.startswith("fe80") else 0
    return target, port, 0, scope


def _connect(target: str, device: str, *options: Any) -> socket.socket:
    made = _socket(target, socket.SOCK_STREAM, options)
    try:
        made.connect(_address(target, _HTTP, device))
    except BlockingIOError:
        pass
    except OSError:
        made.close()
        raise
    return made


def _send(target: str, device: str, *options: Any) -> socket.socket:
    made = _socket(target, socket.SOCK_DGRAM, options)
    try:
        made.sendto(b"", _address(target, _DISCARD, device))
    except OSError:
        made.close()
        raise
    return made


def _send_by(target: str, device: str) -> socket.socket:
    made = _socket(target, socket.SOCK_DGRAM, ())
    info = struct.pack("=i4s4s", socket.if_nametoindex(device), bytes(4), bytes(4))
    try:
        made.sendmsg([b""], [(socket.IPPROTO_IP, _PKTINFO, info)], 0, (target, _DISCARD))
    except OSError:
        made.close()
        raise
    return made


def _outcomes(pending: Dict[socket.socket, str]) -> List[str]:
    """Wait for answers to connections that were not refused at once."""
    outcomes = []
    deadline = time.monotonic() + _WAIT_S
    while pending and time.monotonic() < deadline:
        _, ready, _ = select.select([], list(pending), [], max(0, deadline - time.monotonic()))
        for connection in ready:
            error = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            answered = "answered" if error == 0 or error in _ARRIVED else "sent"
            outcomes.append("%s (%s)" % (pending.pop(connection), answered))
    return outcomes + ["%s (sent)" % way for way in pending.values()]
