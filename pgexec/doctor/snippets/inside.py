"""The attempts of the doctor from within a container, as any snippet could make them.

The text of this file is the snippet. The doctor adds a call of one of these functions; each prints
a JSON document. Standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import signal
import socket
import ssl
import subprocess
import time
from typing import Callable, List, Tuple

_WAIT_S = 1.0
_STEP = 4 << 20
_SETUID_AND_EXECUTABLE = 0o104001
_SYSTEM_DIRECTORIES = ("/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin")


def report(sysctls: List[str], masked: List[str]) -> None:
    """Print the facts about this process: its rights, its limits, and the files that it sees."""
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
        "unmasked": [path for path in masked if _shows(path)],
        "root_read_only": bool(os.statvfs("/").f_flag & os.ST_RDONLY),
        "against_runner": [name for name, attack in _AGAINST_RUNNER if _succeeds(attack)],
        "cpus": _cpu_quota(),
        "interfaces": [name for _, name in socket.if_nameindex()],
        "certificates": _certificates(),
    }
    print(json.dumps(document))


def hold_in_sockets(connections: int) -> None:
    """Print how many bytes connections hold that nobody reads from, at both ends."""
    held, kept = 0, []
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen(connections)
    for _ in range(connections):
        ends = socket.create_connection(server.getsockname()), server.accept()[0]
        kept.append(ends)
        for end in ends:
            end.setblocking(False)  # noqa: FBT003 - its only form
            try:
                while True:
                    held += end.send(bytes(1 << 16))
            except BlockingIOError:
                pass
    print(held)


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
    """Print if this run can see traces of an earlier one."""
    pids = [name for name in os.listdir("/proc") if name.isdigit()]
    others = sorted(set(pids) - {"1", str(os.getpid())})
    print(json.dumps({"uid": os.getuid(), "file": os.path.exists(path), "processes": others}))


def allocate(size: int) -> None:
    """Fill `size` bytes of memory. With a lower limit, this does not return."""
    hoard = []
    for _ in range(0, size, _STEP):
        area = mmap.mmap(-1, _STEP)
        for page in range(0, _STEP, mmap.PAGESIZE):
            area[page] = 1
        hoard.append(area)
    print(json.dumps(len(hoard) * _STEP))


def multiply(count: int) -> None:
    """Fork `count` processes, or as many as the limit allows, and print their number."""
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
    """Resolve `name`, and connect to its address."""
    address, refusal = "", ""
    try:
        address = str(socket.getaddrinfo(name, port, socket.AF_INET)[0][4][0])
        socket.create_connection((address, port), timeout=3).close()
    except OSError as error:
        refusal = str(error) or type(error).__name__
    print(json.dumps({"address": address, "refusal": refusal}))


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        return ""


def _shows(path: str) -> bool:
    """Return True if a path shows anything. A masked one is an empty directory, or /dev/null."""
    try:
        if os.path.isdir(path):
            return bool(os.listdir(path))
        with open(path, "rb", buffering=0) as file:
            return bool(file.read(1))
    except OSError:
        return False


def _sysctl(name: str) -> str:
    return " ".join(_read("/proc/sys/" + name.replace(".", "/")).split())


def _confinement() -> str:
    for path in ("/proc/self/attr/apparmor/current", "/proc/self/attr/current"):
        text = _read(path).strip("\0\n ")
        if text:
            return text
    return ""


def _cpu_quota() -> float:
    """Return the number of processors that the cgroup allows; 0 for all, -1 if unknown."""
    quota = _read("/sys/fs/cgroup/cpu.max").split()
    if not quota:
        base = "/sys/fs/cgroup/cpu/cpu.cfs_"
        quota = [_read(base + "quota_us").strip(), _read(base + "period_us").strip()]
    if not quota[0]:
        return -1.0
    return 0.0 if quota[0] in ("max", "-1") else int(quota[0]) / int(quota[1])


def _certificates() -> int:
    """Return the number of trusted CA certificates; -1 if no file is named, or it is bad."""
    try:
        path = os.environ["SSL_CERT_FILE"]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(path)
    except (KeyError, OSError):
        return -1
    return len(context.get_ca_certs())


def _try_setuid_program() -> str:
    """Run a setuid program. Returns `gained`, `refused`, or `none` if the image has none.

    The program is asked for its help, and its standard streams are full pipes. So it waits to
    write, and still runs when this function looks at its user.
    """
    for directory in _SYSTEM_DIRECTORIES:
        for name in sorted(os.listdir(directory)) if os.path.isdir(directory) else ():
            about = os.lstat(os.path.join(directory, name))
            if ~about.st_mode & _SETUID_AND_EXECUTABLE == 0 and about.st_uid == 0:
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
    """Attack from a process of its own: a successful attack could spoil the later checks."""
    pid = os.fork()
    if pid == 0:
        failed = 1
        try:
            attack()
            failed = 0
        finally:
            os._exit(failed)
    return os.waitpid(pid, 0)[1] == 0


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
