# ruff: noqa: E501 - the snippets are written as an attacker would
"""System calls that do nothing, do not exist, or take only some of their arguments."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from pool.job import Status
from tests.abuse.syscalls import PRELUDE

if TYPE_CHECKING:
    from tests.abuse.sandbox import Sandbox

pytestmark = pytest.mark.asyncio(loop_scope="module")

CALLS = (
    PRELUDE
    + """
import fcntl, mmap, struct
x86 = platform.machine() == "x86_64"
NUMBERS |= {
    "cachestat": (451, 451), "mseal": (462, 462), "setxattrat": (463, 463), "future": (600, 600),
    "pkey_alloc": (330, 289), "inotify_init1": (294, 26), "inotify_add_watch": (254, 27), "mincore": (27, 232),
    "preadv2": (327, 286), "fadvise64": (221, 223), "readahead": (187, 213), "sync_file_range": (277, 84),
    "fsync": (74, 82), "fdatasync": (75, 83), "msync": (26, 227), "mmap": (9, 222), "fcntl": (72, 25),
    "memfd_create": (319, 279), "setsockopt": (54, 208), "sendto": (44, 206), "sendmsg": (46, 211), "sendmmsg": (307, 269),
}
file = os.open(os.__file__, os.O_RDONLY)
folder = os.open(os.path.dirname(os.__file__), os.O_RDONLY)
BUFFER = address(bytes(4096))
IOV = address(struct.pack("PN", BUFFER, 64))
ONE = address(struct.pack("i", 1))
HIGH = 1 << 32  # above an int, which the kernel does not read
area = mmap.mmap(file, 4096, mmap.MAP_SHARED, mmap.PROT_READ)
private = mmap.mmap(-1, 4096)
AREA = ctypes.addressof(ctypes.c_char.from_buffer(private))
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
tcp = socket.socket()
six = attempt(socket.socket, 10, 2) == "SUCCEEDED" and socket.socket(10, 2) or udp
TO = address(struct.pack("=H2B4B8x", 2, 0, 9, 127, 0, 0, 1))
MESSAGE = address(struct.pack("PI4xPNPNi4x", TO, 16, IOV, 1, 0, 0, 0))
"""
)

ABSENT = {
    "a call of a later kernel": "syscall('mseal', 0, 0, 0)",
    "another one": "syscall('setxattrat', 0, 0, 0, 0, 0, 0)",
    "one that no kernel has": "syscall('future')",
    "what the page cache has of a file": "syscall('cachestat', file, BUFFER, BUFFER, 0)",
    "what memory has of a file": "syscall('mincore', AREA, 4096, BUFFER)",
    "protection keys": "syscall('pkey_alloc', 0, 0)",
    "a watch": "syscall('inotify_init1', 0)",
    "a watch of a directory": "syscall('inotify_add_watch', 0, BUFFER, 0xfff)",
}

REFUSED = {
    "reading only what is cached": "syscall('preadv2', file, IOV, 1, 0, 0, 8)",
    "reading so with a long": "syscall('preadv2', file, IOV, 1, 0, 0, 8 | HIGH)",
    "a notification": "syscall('fcntl', folder, 1026, 0x8000003f)",
    "a notification with a long": "syscall('fcntl', folder, 1026 | HIGH, 0x8000003f)",
    "huge pages": "syscall('mmap', 0, 1 << 21, 3, 0x40022, -1, 0)",
    "gigantic pages": "syscall('mmap', 0, 1 << 30, 3, 0x40022 | 30 << 26, -1, 0)",
    "a huge memfd": "syscall('memfd_create', BUFFER, 4)",
    "a gigantic memfd": "syscall('memfd_create', BUFFER, 4 | 30 << 26 | HIGH)",
    "huge shared memory": "syscall('shmget', 0, 1 << 21, 0o4600 | 0o1000)",
    "no route": "udp.sendto(b'x', 4, ('127.0.0.1', 9))",
    "no route, with a long": "syscall('sendto', udp.fileno(), BUFFER, 1, 4 | HIGH, TO, 16)",
    "no route for a message": "syscall('sendmsg', udp.fileno(), MESSAGE, 4)",
    "no route for messages": "syscall('sendmmsg', udp.fileno(), MESSAGE, 1, 4)",
    "no route for a socket": "udp.setsockopt(1, 5, 1)",
    "no route for one, with longs": "syscall('setsockopt', udp.fileno(), 1 | HIGH, 5 | HIGH, ONE, 4)",
    "a source route": "udp.setsockopt(0, 4, b'\\x89\\x07\\x04\\x7f\\0\\0\\1\\0')",
    "a flow label": "six.setsockopt(41, 32, bytes(15) + b'\\1' + b'\\0\\0\\0\\x09\\0\\1\\1\\0' + bytes(8))",
    "a flow label, with longs": "syscall('setsockopt', six.fileno(), 41 | HIGH, 32 | HIGH, BUFFER, 32)",
    "the options of a filter": "udp.setsockopt(0, 64, bytes(64))",
}

IDLE = {
    "fsync": "os.fsync(file)",
    "fsync of a folder": "os.fsync(folder)",
    "fdatasync": "os.fdatasync(file)",
    "sync_file_range": "syscall('sync_file_range', file, 0, 0, 7)",
    "sync": "os.sync()",
    "msync": "area.flush() if sys.version_info >= (3, 13) else syscall('msync', AREA, 4096, 4)",
    "advice": "os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)",
    "readahead": "syscall('readahead', file, 0, 4096)",
    "a larger send buffer": "tcp.setsockopt(1, 7, 1 << 20)",
    "a larger receive buffer": "udp.setsockopt(1, 8, 1 << 20)",
    "reading at a place": "os.preadv(file, [bytearray(9)], 0)",
    "a duplicate": "os.close(fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, 50))",
    "a lock": "fcntl.lockf(os.open('/tmp/x', 66), fcntl.LOCK_EX)",
    "a pipe's size": "fcntl.fcntl(os.pipe()[0], 1032)",
    "anonymous memory": "mmap.mmap(-1, 1 << 22)",
    "a memfd": "os.memfd_create('x', os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)",
    "a seal": "fcntl.fcntl(os.memfd_create('x', 2), 1033, 8)",
    "keepalive": "tcp.setsockopt(1, socket.SO_KEEPALIVE, 1)",
    "an address in use": "tcp.setsockopt(1, socket.SO_REUSEADDR, 1)",
    "no delay": "tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)",
    "a time to live": "udp.setsockopt(0, socket.IP_TTL, 9)",
    "both families": "six is udp or six.setsockopt(41, 26, 0)",
    "a datagram": "udp.sendto(b'x', ('127.0.0.1', 9))",
    "whether memory is there": "syscall('msync', AREA, 4096, 1)",
}


async def said_to(sandbox: Sandbox, group: dict[str, str]) -> dict[str, str]:
    tries = "".join(f"said[{name!r}] = attempt(lambda: {what})\n" for name, what in group.items())
    outcome = await sandbox.attack(CALLS + "said = {}\n" + tries + "print(json.dumps(said))")
    assert outcome.status is Status.OK, outcome.text
    said: dict[str, str] = json.loads(outcome.text.splitlines()[-1])
    assert said.keys() == group.keys()
    return said


async def test_what_a_snippet_must_do_without_is_as_on_an_older_kernel(sandbox: Sandbox) -> None:
    said = await said_to(sandbox, ABSENT)
    assert set(said.values()) == {"ENOSYS"}, said


async def test_arguments_of_calls_are_refused_whatever_is_above_them(sandbox: Sandbox) -> None:
    said = await said_to(sandbox, REFUSED)
    assert set(said.values()) == {"EPERM"}, said


async def test_what_would_reach_the_hosts_disk_succeeds_and_so_does_the_rest(
    sandbox: Sandbox,
) -> None:
    said = await said_to(sandbox, IDLE)
    assert set(said.values()) == {"SUCCEEDED"}, said


async def test_memory_that_is_not_mapped_is_told_as_such(sandbox: Sandbox) -> None:
    said = await said_to(sandbox, {"unmapped": "syscall('msync', 4096, 4096, 1)"})
    assert said == {"unmapped": "ENOMEM"}


async def test_a_buffer_stays_as_it_is(sandbox: Sandbox) -> None:
    outcome = await sandbox.attack("""
import socket
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    s = socket.socket(socket.AF_INET, kind)
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        before = s.getsockopt(socket.SOL_SOCKET, option)
        s.setsockopt(socket.SOL_SOCKET, option, 1 << 24)
        print(s.getsockopt(socket.SOL_SOCKET, option) == before)
""")
    assert outcome.text == "True\n" * 4
