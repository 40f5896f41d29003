# ruff: noqa: E501 - the snippets are written as an attacker would
"""Every way out of the sandbox is tried, and ends in the error that it should end in."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import uuid
from typing import TYPE_CHECKING

import pytest

from pool.engine.address import find_engine
from pool.engine.docker import DockerEngine
from pool.engine.egress import make_rules, own_addresses, own_resolvers
from pool.engine.spec import LABEL
from pool.job import Status
from tests.abuse.sandbox import IN_GVISOR, Sandbox
from tests.abuse.syscalls import PRELUDE
from tests.integration.server import EngineClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from pool.engine.image import Image

pytestmark = pytest.mark.asyncio(loop_scope="module")

# What is tried, as a Python expression, and the errors in which it may end.
SYSTEM_CALLS = {
    "tracing the runner": ("syscall('ptrace', 16, 1, 0, 0)", {"EPERM"}),
    "seizing the runner": ("syscall('ptrace', 0x4206, 1, 0, 0)", {"EPERM"}),
    "asking to be traced": ("syscall('ptrace', 0, 0, 0, 0)", {"EPERM"}),
    "reading the runner's memory": ("syscall('process_vm_readv', 1, IOV, 1, IOV, 1, 0)", {"EPERM"}),
    "writing the runner's memory": (
        "syscall('process_vm_writev', 1, IOV, 1, IOV, 1, 0)",
        {"EPERM"},
    ),
    "reading its own memory so": (
        "syscall('process_vm_readv', os.getpid(), IOV, 1, IOV, 1, 0)",
        {"EPERM"},
    ),
    "taking a descriptor of the runner's": ("syscall('pidfd_getfd', PIDFD, 0, 0)", {"EPERM"}),
    "advising the runner's memory": ("syscall('process_madvise', PIDFD, IOV, 1, 4, 0)", {"EPERM"}),
    "reaping the runner's memory": ("syscall('process_mrelease', PIDFD, 0)", {"EPERM"}),
    "comparing descriptors with the runner's": (
        "syscall('kcmp', 1, os.getpid(), 0, 0, 0)",
        {"EPERM"},
    ),
    "moving the runner's pages": ("syscall('move_pages', 1, 0, 0, 0, 0, 0)", {"EPERM"}),
    "entering the runner's namespaces": ("syscall('setns', PIDFD, 0x7C020000)", {"EPERM"}),
    "unsharing users": ("syscall('unshare', 0x10000000)", {"EPERM"}),
    "unsharing mounts": ("syscall('unshare', 0x00020000)", {"EPERM"}),
    "unsharing users and all else": ("syscall('unshare', 0x7E020000)", {"EPERM"}),
    "unsharing even its own descriptors": ("syscall('unshare', 0x400)", {"EPERM"}),
    "cloning into a user namespace": ("syscall('clone', 0x10000011, 0, 0, 0, 0)", {"EPERM"}),
    "cloning into a network namespace": ("syscall('clone', 0x40000011, 0, 0, 0, 0)", {"EPERM"}),
    "clone3, whose flags no filter sees": ("syscall('clone3', BUFFER, 88)", {"ENOSYS"}),
    "mounting a tmpfs": ("syscall('mount', TMPFS, TMP, TMPFS, 0, 0)", {"EPERM"}),
    "mounting proc": ("syscall('mount', PROC, TMP, PROC, 0, 0)", {"EPERM"}),
    "remounting the root": ("syscall('mount', 0, ROOT, 0, 32, 0)", {"EPERM"}),
    "binding the root": ("syscall('mount', ROOT, TMP, 0, 4096, 0)", {"EPERM"}),
    "unmounting what masks": ("syscall('umount2', FIRMWARE, 2)", {"EPERM"}),
    "pivoting the root": ("syscall('pivot_root', ROOT, TMP)", {"EPERM"}),
    "changing the root": ("os.chroot('/tmp')", {"EPERM"}),
    "opening a file system": ("syscall('fsopen', TMPFS, 0)", {"EPERM"}),
    "opening a tree": ("syscall('open_tree', -100, ROOT, 1)", {"EPERM"}),
    "moving a mount": ("syscall('move_mount', 0, ROOT, 0, TMP, 0)", {"EPERM"}),
    "opening by handle": ("syscall('open_by_handle_at', -100, BUFFER, 0)", {"EPERM"}),
    "making a handle": ("syscall('name_to_handle_at', -100, ROOT, BUFFER, BUFFER, 0)", {"EPERM"}),
    "quotas": ("syscall('quotactl', 0x80000700, 0, 0, 0)", {"EPERM"}),
    "bpf": ("syscall('bpf', 0, BUFFER, 128)", {"EPERM"}),
    "io_uring": ("syscall('io_uring_setup', 4, BUFFER)", {"EPERM"}),
    "registering with io_uring": ("syscall('io_uring_register', 0, 0, 0, 0)", {"EPERM"}),
    "userfaultfd": ("syscall('userfaultfd', 1)", {"EPERM"}),
    "perf_event_open": ("syscall('perf_event_open', BUFFER, 0, -1, -1, 0)", {"EPERM"}),
    "fanotify": ("syscall('fanotify_init', 0, 0)", {"EPERM"}),
    "secret memory": ("syscall('memfd_secret', 0)", {"EPERM"}),
    "a landlock": ("syscall('landlock_create_ruleset', 0, 0, 1)", {"EPERM"}),
    "a seccomp filter with a listener": ("syscall('seccomp', 1, 8, BUFFER)", {"EPERM"}),
    "another personality": ("syscall('personality', 0x0040000)", {"EPERM"}),
    "loading a module": ("syscall('init_module', BUFFER, 64, BUFFER)", {"EPERM"}),
    "loading a module's file": ("syscall('finit_module', 0, BUFFER, 0)", {"EPERM"}),
    "unloading a module": ("syscall('delete_module', BUFFER, 0)", {"EPERM"}),
    "loading a kernel": ("syscall('kexec_load', 0, 0, 0, 0)", {"EPERM"}),
    "loading a kernel's file": ("syscall('kexec_file_load', 0, 0, 0, 0, 0)", {"EPERM"}),
    "adding a key": ("syscall('add_key', USER, BUFFER, BUFFER, 1, -3)", {"EPERM"}),
    "asking for a key": ("syscall('request_key', USER, BUFFER, 0, -3)", {"EPERM"}),
    "joining a session keyring": ("syscall('keyctl', 1, BUFFER)", {"EPERM"}),
    "reading the kernel's log": ("syscall('syslog', 3, BUFFER, 64)", {"EPERM"}),
    "rebooting": ("syscall('reboot', 0xfee1dead, 672274793, 0x1234567, 0)", {"EPERM"}),
    "swapping": ("syscall('swapon', TMP, 0)", {"EPERM"}),
    "not swapping": ("syscall('swapoff', TMP)", {"EPERM"}),
    "accounting": ("syscall('acct', TMP)", {"EPERM"}),
    "setting the time of day": ("syscall('settimeofday', BUFFER, 0)", {"EPERM"}),
    "setting a clock": ("syscall('clock_settime', 0, BUFFER)", {"EPERM"}),
    "slewing the clock": ("syscall('adjtimex', BUFFER)", {"EPERM"}),
    "renaming the host": ("syscall('sethostname', BUFFER, 1)", {"EPERM"}),
    "renaming the domain": ("syscall('setdomainname', BUFFER, 1)", {"EPERM"}),
    "hanging up": ("syscall('vhangup')", {"EPERM"}),
    "flushing the host's disk": ("syscall('syncfs', os.open('/', os.O_RDONLY))", {"EPERM"}),
    "kernel AIO": ("syscall('io_setup', 1, BUFFER)", {"EPERM"}),
}

FILES = {
    "the root": ("open('/left', 'w')", {"EROFS", "EACCES"}),
    "a password file": ("open('/etc/passwd', 'a')", {"EACCES", "EROFS"}),
    "the runner": ("open('/opt/pgexec/pool/inside/runner.py', 'a')", {"EACCES", "EROFS"}),
    "the interpreter": (
        "open(os.path.realpath(sys.executable), 'r+b')",
        {"EACCES", "EROFS", "ETXTBSY"},
    ),
    "the host's name": ("open('/etc/hostname', 'w')", {"EACCES", "EROFS"}),
    "root's home": ("os.listdir('/root')", {"EACCES"}),
    "the runner's memory": ("open('/proc/1/mem', 'rb')", {"EACCES"}),
    "the runner's environment": ("open('/proc/1/environ')", {"EACCES"}),
    "the runner's map": ("open('/proc/1/maps')", {"EACCES"}),
    "the runner's descriptors": ("os.listdir('/proc/1/fd')", {"EACCES"}),
    "the runner's stream": ("open('/proc/1/fd/1', 'wb')", {"EACCES"}),
    "the runner's stdin": ("open('/proc/1/fd/0', 'rb')", {"EACCES"}),
    "the runner's root": ("os.listdir('/proc/1/root/')", {"EACCES"}),
    "the runner's directory": ("os.listdir('/proc/1/cwd/')", {"EACCES"}),
    "the runner's namespaces": ("os.readlink('/proc/1/ns/mnt')", {"EACCES"}),
    "the runner's stack": ("open('/proc/1/stack').read()", {"EACCES", "EPERM", "ENOENT"}),
    "a console": ("os.open('/dev/console', os.O_WRONLY)", {"ENOENT", "EACCES"}),
    "a terminal": ("os.open('/dev/tty', os.O_WRONLY)", {"ENXIO"}),
    "a pseudo-terminal": ("os.open('/dev/pts/0', os.O_WRONLY)", {"ENOENT"}),
    "the kernel's log": ("os.open('/dev/kmsg', os.O_WRONLY)", {"ENOENT"}),
    "physical memory": ("open('/dev/mem', 'rb')", {"ENOENT"}),
    "ports": ("open('/dev/port', 'rb')", {"ENOENT"}),
    "a disk": ("open('/dev/vda', 'rb')", {"ENOENT"}),
    "fuse": ("open('/dev/fuse', 'rb')", {"ENOENT"}),
    "kvm": ("open('/dev/kvm', 'rb')", {"ENOENT"}),
    "a tunnel": ("open('/dev/net/tun', 'rb')", {"ENOENT"}),
    "the hypervisor": ("open('/dev/vsock', 'rb')", {"ENOENT"}),
    "a core pattern": ("open('/proc/sys/kernel/core_pattern', 'w')", {"EROFS", "EACCES"}),
    "a helper for modules": (
        "open('/proc/sys/kernel/modprobe', 'w')",
        {"EROFS", "EACCES", "ENOENT"},
    ),
    "its sysctls": ("open('/proc/sys/kernel/shmmni', 'w')", {"EROFS", "EACCES"}),
    "overcommit": ("open('/proc/sys/vm/overcommit_memory', 'w')", {"EROFS", "EACCES"}),
    "forwarding": ("open('/proc/sys/net/ipv4/ip_forward', 'w')", {"EROFS", "EACCES"}),
    "the magic key": ("open('/proc/sysrq-trigger', 'w')", {"EROFS", "EACCES", "ENOENT"}),
    "kernel memory": ("open('/proc/kcore', 'rb')", {"ENOENT", "EACCES"}),
    "an interrupt": ("open('/proc/irq/default_smp_affinity', 'w')", {"EROFS", "EACCES", "ENOENT"}),
    "a map of users": ("open('/proc/self/uid_map', 'wb', 0).write(b'0 0 1')", {"EPERM", "EACCES"}),
    "a uevent helper": ("open('/sys/kernel/uevent_helper', 'w')", {"EROFS", "EACCES", "ENOENT"}),
    "hibernation": ("open('/sys/power/state', 'w')", {"EROFS", "EACCES", "ENOENT"}),
    "a block device": (
        "open('/sys/block/vda/queue/nr_requests', 'w')",
        {"EROFS", "EACCES", "ENOENT"},
    ),
    "a release agent": (
        "open('/sys/fs/cgroup/memory/release_agent', 'w')",
        {"EROFS", "EACCES", "ENOENT"},
    ),
    "its memory limit": (
        "open(first('/sys/fs/cgroup/memory.max', '/sys/fs/cgroup/memory/memory.limit_in_bytes'), 'w')",
        {"EROFS", "EACCES"},
    ),
    "its processes' limit": (
        "open(first('/sys/fs/cgroup/pids.max', '/sys/fs/cgroup/pids/pids.max'), 'w')",
        {"EROFS", "EACCES"},
    ),
    "leaving its cgroup": (
        "open(first('/sys/fs/cgroup/cgroup.procs', '/sys/fs/cgroup/pids/cgroup.procs'), 'w')",
        {"EROFS", "EACCES"},
    ),
    "a cgroup of its own": (
        "os.mkdir(os.path.dirname(first('/sys/fs/cgroup/pids.max', '/sys/fs/cgroup/pids/pids.max')) + '/x')",
        {"EROFS", "EACCES", "EPERM"},
    ),
    "a character device": ("os.mknod('/tmp/mem', 0o20666, os.makedev(1, 1))", {"EPERM"}),
    "a block special file": ("os.mknod('/tmp/vda', 0o60666, os.makedev(254, 0))", {"EPERM"}),
    "the engine's socket": ("unix('/var/run/docker.sock')", {"ENOENT"}),
    "the engine's other socket": ("unix('/run/docker.sock')", {"ENOENT"}),
    "containerd's socket": ("unix('/run/containerd/containerd.sock')", {"ENOENT"}),
    "containerd's shim": ("unix('\\0/containerd-shim/moby.sock')", {"ECONNREFUSED"}),
    "the host's bus": ("unix('/run/dbus/system_bus_socket')", {"ENOENT"}),
    "systemd's socket": ("unix('/run/systemd/private')", {"ENOENT"}),
}

USERS = {
    "becoming root": ("os.setuid(0)", {"EPERM"}),
    "becoming root effectively": ("os.seteuid(0)", {"EPERM"}),
    "becoming root's group": ("os.setgid(0)", {"EPERM"}),
    "becoming the last run's user": ("os.setresuid(*[os.getuid() - 1] * 3)", {"EPERM"}),
    "becoming the next run's user": ("os.setresuid(*[os.getuid() + 1] * 3)", {"EPERM"}),
    "joining a group": ("os.setgroups([0])", {"EPERM"}),
    "giving a file away": ("os.chown('/home/code/Main.py', 0, 0)", {"EPERM"}),
    "a capability for a file": (
        "os.setxattr('/home/code/Main.py', 'security.capability', b'\\1\\0\\0\\2' + b'\\xff' * 16)",
        {"EPERM"},
    ),
    "renicing the runner": ("os.setpriority(os.PRIO_PROCESS, 1, 19)", {"EPERM"}),
    "a better priority": ("os.setpriority(os.PRIO_PROCESS, 0, -20)", {"EPERM", "EACCES"}),
    "limits of the runner": ("resource.prlimit(1, resource.RLIMIT_NOFILE, (1, 1))", {"EPERM"}),
    "more open files": (
        "resource.setrlimit(resource.RLIMIT_NOFILE, (2048, 2048))",
        {"not allowed to raise maximum limit"},
    ),
    "core dumps": (
        "resource.setrlimit(resource.RLIMIT_CORE, (1, 1))",
        {"not allowed to raise maximum limit"},
    ),
    "the runner's session": ("os.setpgid(0, 1)", {"EPERM"}),
}

SOCKETS = {
    "a packet socket": ("socket.socket(17, 3, 0x300)", {"EPERM"}),
    "a raw socket": ("socket.socket(2, 3, 1)", {"EPERM"}),
    "a raw IPv6 socket": ("socket.socket(10, 3, 58)", {"EPERM"}),
    "a ping socket": ("socket.socket(2, 2, 1)", {"EPERM"}),
    "the hypervisor's socket": ("socket.socket(40, 1, 0)", {"EPERM"}),
    "the kernel's ciphers": ("socket.socket(38, 5, 0)", {"EPERM"}),
    "netfilter": ("socket.socket(16, 3, 12)", {"EPERM"}),
    "audit": ("socket.socket(16, 3, 9)", {"EPERM"}),
    "uevents": ("socket.socket(16, 3, 15)", {"EPERM"}),
    "generic netlink": ("socket.socket(16, 3, 16)", {"EPERM"}),
    "SCTP": ("socket.socket(2, 1, 132)", {"EPERM"}),
    "multipath TCP": ("socket.socket(2, 1, 262)", {"EPERM"}),
    "an express data path": ("socket.socket(44, 3, 0)", {"EPERM"}),
    "bluetooth": ("socket.socket(31, 3, 1)", {"EPERM"}),
    "TIPC": ("socket.socket(30, 1, 0)", {"EPERM"}),
    "RDS": ("socket.socket(21, 5, 0)", {"EPERM"}),
    "the internet, where there is no network": (
        "socket.create_connection(('1.1.1.1', 53), 3)",
        {"ENETUNREACH"},
    ),
    "a cloud's metadata": ("socket.create_connection(('169.254.169.254', 80), 3)", {"ENETUNREACH"}),
    "the bridge's gateway": ("socket.create_connection(('172.17.0.1', 22), 3)", {"ENETUNREACH"}),
    "an address for the loopback device": (
        "__import__('fcntl').ioctl(socket.socket(), 0x8916, b'lo'.ljust(40, b'\\0'))",
        {"EPERM"},
    ),
}

ATTEMPT = (
    PRELUDE
    + """
import resource, struct
BUFFER, TMPFS, PROC, TMP, ROOT, FIRMWARE, USER = map(address, (
    bytes(4096), b"tmpfs", b"proc", b"/tmp", b"/", b"/sys/firmware", b"user"))
IOV = address(struct.pack("PN", BUFFER, 64))
try: PIDFD = os.pidfd_open(1) if hasattr(os, "pidfd_open") else -1
except OSError: PIDFD = -1  # gVisor has none
def first(*paths):
    return [path for path in paths if os.path.exists(path)][0]
def unix(path):
    socket.socket(socket.AF_UNIX).connect(path)
"""
)


@pytest.mark.parametrize(
    "group", [SYSTEM_CALLS, FILES, USERS, SOCKETS], ids=["calls", "files", "users", "sockets"]
)
@pytest.mark.parametrize("recycled", [False, True], ids=["fresh", "recycled"])
async def test_no_attempt_gets_further_than_its_error(
    sandbox: Sandbox,
    group: dict[str, tuple[str, set[str]]],
    recycled: bool,  # noqa: FBT001
) -> None:
    if recycled:
        await sandbox.run("print(1)")
    else:
        await sandbox.renew()
    tries = "".join(
        f"said[{name!r}] = attempt(lambda: {what})\n" for name, (what, _) in group.items()
    )
    outcome = await sandbox.attack(ATTEMPT + "said = {}\n" + tries + "print(json.dumps(said))")
    assert outcome.status is Status.OK, outcome.text
    said = json.loads(outcome.text.splitlines()[-1])
    assert said.keys() == group.keys()
    assert not {name: error for name, error in said.items() if error not in group[name][1]}
    assert outcome.tidy, outcome.report


async def test_a_snippet_has_no_privileges_at_all(sandbox: Sandbox) -> None:
    outcome = await sandbox.attack("""
import json
status = dict(line.rstrip().split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({key: value.strip() for key, value in status.items()}))
""")
    status = json.loads(outcome.text)
    for name in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
        assert int(status.get(name, "0") if IN_GVISOR else status[name], 16) == 0, name
    # DAC_OVERRIDE, FOWNER, KILL, SETGID, SETUID: out of reach behind no-new-privileges.
    assert int(status["CapBnd"], 16) == 1 << 1 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 7
    assert (status["Seccomp"], status["Groups"]) == ("2", "")
    assert status.get("NoNewPrivs") == (None if IN_GVISOR else "1"), "it does not tell"
    ids = {*status["Uid"].split(), *status["Gid"].split()}
    assert len(ids) == 1
    assert int(ids.pop()) >= 10_000


async def test_programs_that_are_set_to_run_as_root_run_as_the_snippet(sandbox: Sandbox) -> None:
    """Whatever the image has of them; a copy of its own with the bit set, too."""
    outcome = await sandbox.attack(
        PRELUDE
        + """
import shutil, stat, subprocess
found = []
for top, folders, files in os.walk("/"):
    folders[:] = [name for name in folders if (top, name) not in (("/", "proc"), ("/", "sys"))]
    for name in files:
        path = os.path.join(top, name)
        if os.lstat(path).st_mode & (stat.S_ISUID | stat.S_ISGID) and os.path.isfile(path):
            found.append(path)
own = shutil.copy(shutil.which("id"), "/tmp/id")
os.chmod(own, 0o6755)
said = subprocess.run([own, "-u"], stdout=subprocess.PIPE).stdout.decode().strip()
print(said == str(os.getuid()) or said)
for command in (["su", "-c", "id -u"], ["mount", "-t", "tmpfs", "x", "/tmp"],
                ["unshare", "-Ur", "id", "-u"], ["chroot", "/", "id", "-u"], ["nsenter", "-t", "1", "-m", "id", "-u"]):
    if shutil.which(command[0]):
        ran = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if ran.returncode == 0:
            print(command, ran.stdout)
for path in found:
    try:
        subprocess.run([path, "-u"], stdin=-3, stdout=-3, stderr=-3, timeout=0.5)
    except (OSError, subprocess.TimeoutExpired): pass
with open("/proc/self/status") as status:
    print([line.split()[1] for line in status if line.startswith("NoNewPrivs")])
"""
    )
    assert outcome.text == ("True\n[]\n" if IN_GVISOR else "True\n['1']\n")


async def test_system_calls_through_a_foreign_table_are_refused(sandbox: Sandbox) -> None:
    """Programs of 32 bits, and on x86-64 `int 0x80` and the x32 numbers, use tables of their own.

    They would bypass a filter that knows one table. The kernel ends them with SIGSYS.
    """
    outcome = await sandbox.attack(
        PRELUDE
        + """
import mmap, struct
# A program of 32 bits: its header, one segment, and the code, which calls exit(0).
number, code = {
    # xor ebx, ebx; xor eax, eax; inc eax; int 0x80
    "x86_64": (3, b"\\x31\\xdb\\x31\\xc0\\x40\\xcd\\x80"),
    # mov r0, #0; mov r7, #1; svc 0
    "aarch64": (40, struct.pack("<3I", 0xe3a00000, 0xe3a07001, 0xef000000)),
}.get(platform.machine(), (0, b""))
base, size, flags = 0x10000, 84 + len(code), 0x5000000 if number == 40 else 0
head = b"\\x7fELF\\1\\1\\1" + bytes(9)
head += struct.pack("<2H5I6H", 2, number, 1, base + 84, 52, 0, flags, 52, 32, 1, 40, 0, 0)
head += struct.pack("<8I", 1, 0, base, base, size, size, 5, 0x1000)
with open("/tmp/program", "wb") as file: file.write(head + code)
os.chmod("/tmp/program", 0o755)
def program():
    os.execv("/tmp/program", ["program"])
# mov eax, 20 (getpid); int 0x80; ret
code = b"\\xb8\\x14\\0\\0\\0\\xcd\\x80\\xc3"
area = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
area.write(code)
call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(area)))
def x32():  # getpid
    return _libc.syscall(ctypes.c_long(0x40000000 + 39))
for way in (program, call, x32) if platform.machine() == "x86_64" else (program,):
    child = os.fork()
    if child == 0:
        try: os._exit(0 if way() > 0 else 1)
        except OSError as error: os._exit(error.errno)
    ended = os.waitpid(child, 0)[1]
    print(signal.Signals(ended).name if 0 < ended < 128 else errno.errorcode.get(ended >> 8, "SUCCEEDED"))
"""
    )
    program, *others = outcome.text.split()
    # gVisor has no such tables: a call that returns no number ends its process with 1, as EPERM is.
    assert set(others) <= ({"SIGSYS", "EPERM"} if IN_GVISOR else {"SIGSYS"})
    if program == "ENOEXEC":
        pytest.skip("the other tables were refused; this machine runs no programs of 32 bits")
    assert program == "SIGSYS"


FORGERIES = {
    "an EXIT": (19, b"\\0\\0\\0\\1" + b"\\0" * 30),
    "an EXIT of the right size": (19, b"\\0\\0\\0\\x01\\0\\0\\0\\0\\0\\0" + b"\\0" * 24),
    "a CLEAN": (20, b"0.1 ms"),
    "a READY": (16, b"{}"),
    "a JOB": (1, b"\\0" * 64),
    "a frame of 4 GiB": (17, b""),
}


@pytest.mark.parametrize(("kind", "payload"), FORGERIES.values(), ids=FORGERIES.keys())
async def test_a_forged_frame_is_only_output(sandbox: Sandbox, kind: int, payload: bytes) -> None:
    """Written wherever a snippet can write: it comes out as text, if at all."""
    size = "0xffffffff" if not payload else "len(payload)"
    outcome = await sandbox.attack(
        PRELUDE
        + f"""
import struct, time
payload = b"{payload.decode()}"
frame = struct.pack("!BI", {kind}, {size}) + payload
places = [f"/proc/{{pid}}/fd/{{fd}}" for pid in ("1", "self", os.getppid()) for fd in range(32)]
places += ["/dev/console", "/dev/tty", "/dev/tty0", "/dev/pts/0", "/dev/ptmx", "/dev/kmsg"]
wrote, own = [], [os.fstat(number)[1:3] for number in range(3)]
for place in places:
    try:
        fd = os.open(place, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
        mine = os.fstat(fd)[1:3] in own  # gVisor shows these among the runner's, too
        os.write(fd, frame); os.close(fd)
        mine or wrote.append(place)
    except OSError: pass
for fd in range(3, 1024):
    try:
        os.write(fd, frame)
        wrote.append(fd)
    except OSError: pass
ours = {{f"/proc/{{pid}}/fd/{{fd}}" for pid in ("self",) for fd in range(32)}} | {{"/dev/ptmx"}}
os.write(1, repr([place for place in wrote if place not in ours]).encode())
os._exit(3)
"""
    )
    assert (outcome.status, outcome.result.exit_code) == (Status.ERROR, 3)
    assert outcome.result.stdout.endswith(b"[]")
    assert outcome.tidy, outcome.report


async def test_a_snippet_holds_no_descriptor_but_its_standard_streams(sandbox: Sandbox) -> None:
    outcome = await sandbox.attack("""
import os
held = []
for fd in range(1024):
    try:
        os.fstat(fd)
        held.append(fd)
    except OSError: pass
print(held, [os.readlink(f"/proc/self/fd/{fd}").split(":")[0] for fd in held])
""")
    assert outcome.text == "[0, 1, 2] ['pipe', 'pipe', 'pipe']\n"


async def test_a_snippet_cannot_feed_itself_another_runs_pipes(sandbox: Sandbox) -> None:
    """Its own pipes it may open, as any process may; they are gone with the run."""
    first = await sandbox.run(
        "import os; print(*map(os.readlink, ['/proc/self/fd/%d' % n for n in range(3)]))"
    )
    second = await sandbox.run(
        "import os; print(*map(os.readlink, ['/proc/self/fd/%d' % n for n in range(3)]))"
    )
    assert not set(first.text.split()) & set(second.text.split())


async def test_there_is_no_secret_where_the_runner_lives(sandbox: Sandbox) -> None:
    outcome = await sandbox.attack("""
import os
print(sorted({os.path.splitext(name)[1] for _, _, files in os.walk("/opt") for name in files}))
print([key for key in os.environ if "PGEXEC" in key or "KEY" in key or "TOKEN" in key])
""")
    assert outcome.text == "['.py', '.pyc']\n[]\n"


async def test_what_tells_of_the_host_is_masked(sandbox: Sandbox) -> None:
    outcome = await sandbox.attack("""
import os
for path in ("/proc/cmdline", "/proc/kallsyms", "/proc/modules", "/proc/interrupts", "/proc/keys",
             "/proc/timer_list", "/proc/sched_debug"):
    if os.path.exists(path):
        print(path, open(path).read()) if open(path).read() else None
for path in ("/sys/firmware", "/sys/kernel", "/sys/module", "/proc/scsi", "/proc/acpi", "/proc/pressure"):
    if os.path.exists(path) and os.listdir(path):
        print(path)
""")
    shown = re.sub(r"^/proc/cmdline .*-gvisor quiet\n\n", "", outcome.text)  # none of the machine's
    assert shown == ""


# --- what an ordinary snippet does goes on working -------------------------------------------

ORDINARY = {
    "threads": "import threading\nt = threading.Thread(target=print, args=('ok',)); t.start(); t.join()",
    "multiprocessing": """
import multiprocessing
def square(n): return n * n
if __name__ == "__main__":
    for method in ("fork", "spawn"):
        context = multiprocessing.get_context(method)
        queue = context.Queue()
        child = context.Process(target=queue.put, args=(7,))
        child.start(); assert queue.get() == 7; child.join()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        print("ok" if pool.map(square, range(5)) == [0, 1, 4, 9, 16] else "no")
""",
    "shared memory": """
from multiprocessing import shared_memory
area = shared_memory.SharedMemory(create=True, size=1 << 20)
area.buf[0] = 1; area.close(); area.unlink(); print("ok")
""",
    "process pools": """
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
if __name__ == "__main__":
    for kind in (ProcessPoolExecutor, ThreadPoolExecutor):
        with kind(2) as pool: assert list(pool.map(abs, [-1, 2])) == [1, 2]
    print("ok")
""",
    "subprocesses": """
import os, subprocess
assert subprocess.run("echo a | cat; exit 3", shell=True, stdout=subprocess.PIPE).stdout == b"a\\n"
assert os.popen("echo b").read() == "b\\n"
assert os.posix_spawnp("true", ["true"], os.environ) > 0
os.wait(); print("ok")
""",
    "sockets": """
import socket, threading
for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
    try:
        server = socket.create_server((address, 0), family=family)
    except OSError:
        assert family == socket.AF_INET6
        continue
    client = socket.create_connection(server.getsockname()[:2]); client.send(b"x"); peer, _ = server.accept()
    assert peer.recv(1) == b"x"
socket.getaddrinfo("127.0.0.1", 80); socket.if_nameindex()
a, b = socket.socketpair(); a.send(b"y"); assert b.recv(1) == b"y"
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(("127.0.0.1", 0)); print("ok")
""",
    "a web server": """
import http.server, socket, threading, urllib.request
socket.getfqdn = str  # there is nobody to ask for a name
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
server.RequestHandlerClass.log_message = lambda *a: None
threading.Thread(target=server.serve_forever, daemon=True).start()
assert urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/").status == 200
print("ok")
""",
    "asyncio": """
import asyncio, sys
async def main():
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", "print(1)", stdout=-1)
    assert await child.communicate() == (b"1\\n", None)
    await asyncio.to_thread(abs, 1)
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    await asyncio.open_connection(*server.sockets[0].getsockname())
    print("ok")
asyncio.run(main())
""",
    "signals": """
import os, signal, time
got = []
signal.signal(signal.SIGALRM, lambda n, f: got.append(n)); signal.setitimer(signal.ITIMER_REAL, 0.01)
while not got: time.sleep(0.005)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1]); os.kill(os.getpid(), signal.SIGUSR1)
assert signal.sigwait([signal.SIGUSR1]) == signal.SIGUSR1
assert signal.sigtimedwait([signal.SIGUSR1], 0.01) is None; print("ok")
""",
    "memory maps": """
import mmap, os, tempfile
with tempfile.TemporaryFile() as file:
    file.truncate(1 << 24)
    area = mmap.mmap(file.fileno(), 0); area[:4] = b"abcd"; area.flush(); area.madvise(mmap.MADV_WILLNEED)
    area.resize(1 << 25)
private = mmap.mmap(-1, 1 << 26, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
private[::4096] = b"x" * (1 << 14); private.madvise(mmap.MADV_HUGEPAGE); print("ok")
""",
    "files": """
import os, pathlib, shutil, tempfile
top = pathlib.Path(tempfile.mkdtemp()); (top / "a").write_text("x" * 100000)
shutil.copy2(top / "a", top / "b"); shutil.copytree(top, top.with_name("t2")); os.link(top / "a", top / "c")
os.symlink("a", top / "d"); os.rename(top / "b", top / "e"); os.chmod(top / "e", 0o600); os.utime(top / "e")
os.mkfifo(top / "f"); os.truncate(top / "a", 5); os.statvfs(top); os.sync()
with open(top / "a", "rb+") as file: os.fsync(file); os.posix_fallocate(file.fileno(), 0, 4096); os.pread(file.fileno(), 1, 0)
fd = os.memfd_create("m"); os.sendfile(fd, os.open(top / "a", 0), 0, 5)
shutil.make_archive(str(top / "z"), "gztar", top / ".."); shutil.rmtree(top); print("ok")
""",
    "descriptors": """
import fcntl, os, select, selectors
r, w = os.pipe(); os.write(w, b"x"); e = select.epoll(); e.register(r, 1); assert e.poll(1)
assert select.select([r], [], [], 1)[0]; p = select.poll(); p.register(r); assert p.poll(100)
selectors.DefaultSelector().register(r, 1); os.dup2(r, 77); fcntl.flock(r, fcntl.LOCK_EX) if 0 else None
hasattr(os, "eventfd") and os.eventfd(1); hasattr(os, "pidfd_open") and os.pidfd_open(os.getpid()); print("ok")
""",
    "a terminal": "import os, pty\na, b = pty.openpty(); os.write(b, b'x'); assert os.read(a, 1) == b'x'; print('ok')",
    "resources": """
import os, resource, time
resource.setrlimit(resource.RLIMIT_AS, (1 << 32, 1 << 33)); resource.getrusage(resource.RUSAGE_SELF)
os.nice(1); os.sched_setaffinity(0, os.sched_getaffinity(0)); os.getloadavg(); os.times(); os.cpu_count()
time.clock_gettime(time.CLOCK_MONOTONIC); time.process_time(); os.urandom(8); os.getrandom(8); os.uname(); print("ok")
""",
    "sqlite": """
import sqlite3
db = sqlite3.connect("/tmp/db"); db.execute("pragma journal_mode=wal"); db.execute("create table t (x)")
db.execute("insert into t values (1)"); db.commit(); print("ok" if db.execute("select x from t").fetchall() else "no")
""",
}


@pytest.mark.parametrize("code", ORDINARY.values(), ids=ORDINARY.keys())
async def test_an_ordinary_snippet_notices_nothing_of_the_walls(
    sandbox: Sandbox, code: str
) -> None:
    outcome = await sandbox.attack(code)
    if "No module named '_sqlite3'" in outcome.text:
        pytest.skip("this image's Python has no sqlite")
    assert (outcome.status, outcome.text) == (Status.OK, "ok\n"), outcome.text


# --- the network -----------------------------------------------------------------------------

CONNECT = """
import errno, socket
for address in {addresses!r}:
    try:
        socket.create_connection(address, 2)
        print("SUCCEEDED", address)
    except TimeoutError:
        print("timeout")
    except OSError as error:
        print(errno.errorcode[error.errno])
"""


@pytest.fixture
async def bridge() -> AsyncIterator[str]:
    """Make a bridge network like the pool's own, without traffic between containers."""
    engine = DockerEngine(find_engine(""), streams=1)
    name = f"pgexec-abuse-{uuid.uuid4().hex[:12]}"
    await engine.ensure_network(name, LABEL)
    yield name
    await (await engine.docker.networks.get(name)).delete()
    await engine.close()


def listen_at(gateway: str) -> socket.socket:
    """Listen at a bridge's own address, also before Podman has made the bridge."""
    server = socket.socket()
    server.setsockopt(socket.SOL_IP, 15, 1)  # IP_FREEBIND
    server.bind((gateway, 0))
    server.listen()
    return server


@contextlib.contextmanager
def listener() -> Iterator[tuple[str, int]]:
    """Something to reach on the loopback interface of the host."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()


async def test_the_hosts_loopback_is_out_of_reach(sandbox: Sandbox) -> None:
    with listener() as address:
        outcome = await sandbox.attack(CONNECT.format(addresses=[address]))
    assert outcome.text == "ECONNREFUSED\n"


@pytest.mark.parametrize("by", ["engine", "guard"])
async def test_containers_on_our_bridge_do_not_reach_each_other(
    image: Image, bridge: str, by: str
) -> None:
    """The engine alone keeps them apart, which Podman does not, and the guard alone would."""
    rules = make_rules([], own_addresses(), own_resolvers()).document() if by == "guard" else None
    one, other = (Sandbox(image, network=bridge, guard=rules) for _ in range(2))
    try:
        serving = """
import socket, sys, time
server = socket.create_server(("0.0.0.0", 4242))
own = socket.gethostbyname(socket.gethostname())
socket.create_connection((own, 4242)).close()
print(own, flush=True)
time.sleep(6)
"""
        server = asyncio.create_task(other.run(serving))
        # The first two addresses of a bridge that nobody else is on, after its gateway.
        gateway = (
            await one.run(
                "print(socket.inet_ntoa(bytes.fromhex([l.split()[2] for l in open('/proc/net/route')"
                " if l.split()[1] == '00000000' and int(l.split()[2], 16)][0])[::-1])) if (socket := __import__('socket')) else 0"
            )
        ).text.strip()
        prefix = gateway.rpartition(".")[0]
        own = (
            await one.run("import socket; print(socket.gethostbyname(socket.gethostname()))")
        ).text.strip()
        targets = [(f"{prefix}.{last}", 4242) for last in (2, 3) if f"{prefix}.{last}" != own]
        with listener() as (_, port):
            loopback = await one.run(CONNECT.format(addresses=[(gateway, port)]))
        tried = await one.run(CONNECT.format(addresses=targets))
        served = (await server).text.strip()
        assert (served, 4242) in targets
        assert loopback.text == ("ECONNREFUSED\n" if by == "engine" else "EHOSTUNREACH\n")
        assert tried.text in ("timeout\n", "EHOSTUNREACH\n")
    finally:
        await one.close()
        await other.close()


@pytest.mark.parametrize("exception", ["", "Gateway", "Subnet"])
async def test_the_gateway_is_out_of_reach_unless_it_is_an_exception(
    image: Image, bridge: str, exception: str
) -> None:
    """By itself or as one of its network, of which the others stay out of reach."""
    _, network = await EngineClient().call("GET", f"/networks/{bridge}")
    (about,) = network["IPAM"]["Config"]
    gateway = about["Gateway"]
    rules = make_rules([about[exception]] if exception else [], own_addresses(), own_resolvers())
    sandbox = Sandbox(image, network=bridge, guard=rules.document())
    with listen_at(gateway) as server:
        targets = [server.getsockname(), (gateway.rpartition(".")[0] + ".77", 80)]
        try:
            tried = await sandbox.run(CONNECT.format(addresses=targets))
        finally:
            await sandbox.close()
    refused = "timeout\n" if IN_GVISOR else "EHOSTUNREACH\n"  # its filter drops what is closed
    reached = f"SUCCEEDED {targets[0]}\n" if exception else refused
    assert tried.text == f"{reached}{refused}"


async def test_an_unfinished_connection_of_the_last_run_is_nobodys_next(
    image: Image, bridge: str
) -> None:
    """What its far end does not take, the kernel goes on offering, and it shows to whom."""
    _, network = await EngineClient().call("GET", f"/networks/{bridge}")
    gateway = network["IPAM"]["Config"][0]["Gateway"]
    sandbox = Sandbox(image, network=bridge)
    with listen_at(gateway) as server:
        address = server.getsockname()
        try:
            left = await sandbox.run(f"""
import socket
connection = socket.create_connection({address!r})
connection.setblocking(False)
try:
    while True: connection.send(bytes(65536))
except BlockingIOError: print("full")
""")
            assert left.text == "full\n"
            seen = await sandbox.run("print(open('/proc/net/tcp').read())")
        finally:
            await sandbox.close()
    assert f":{address[1]:04X} " not in seen.text
    found = ("sockets: ", "TCP segments received: ")
    assert left.report.clean or left.report.detail.startswith(found), left.report
