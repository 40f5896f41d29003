"""Whatever a snippet and its children do to the pipes that PID 1 reads and feeds, answers come.

A container whose runner does not answer within `GRACE_S` of the limit raises
`RunnerProtocolError`, which is a 502 to a client: so each run below is a test by itself.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from pool.job import Status

if TYPE_CHECKING:
    from tests.abuse.sandbox import Sandbox

pytestmark = pytest.mark.asyncio(loop_scope="module")

BEGIN = """
import array, ctypes, fcntl, os, select, signal, socket, subprocess, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
def again(fd, flags):
    return os.open(f"/proc/self/fd/{fd}", flags)
def forked(work, times=1):
    for _ in range(times):
        if os.fork() == 0:
            try:
                while True: work()
            except BaseException:
                os._exit(0)
def add_flag(fd, flag):
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | flag)
"""

MEDDLERS = {
    "thieves of a pipe that holds much": """
fd = again(1, os.O_RDONLY)
fcntl.fcntl(1, 1031, 1 << 20)  # F_SETPIPE_SZ
forked(lambda: os.read(fd, 4096), 3)
time.sleep(0.01)
os.write(1, bytes(900_000))
""",
    "thieves of both that wait for bytes": """
for stream in (1, 2):
    fd = again(stream, os.O_RDONLY)
    forked(lambda: os.read(fd, 7), 2)
""",
    "a thief that puts back": """
fd = again(1, os.O_RDWR | os.O_NONBLOCK)
def move():
    try: os.write(fd, os.read(fd, 100))
    except BlockingIOError: pass
forked(move, 2)
""",
    "a thief by splice": """
fd, (r, w) = again(1, os.O_RDONLY | os.O_NONBLOCK), os.pipe()
def steal():
    libc.splice(fd, None, w, None, 4096, 2)
    os.read(r, 4096)
forked(steal)
""",
    "a thief in another process that got the pipe by a socket": """
a, b = socket.socketpair()
fd = again(1, os.O_RDONLY | os.O_NONBLOCK)
socket.send_fds(a, [b"x"], [fd])
def steal():
    try: os.read(got, 1)
    except BlockingIOError: pass
_, (got, *_), _, _ = socket.recv_fds(b, 1, 1)
os.close(fd)
forked(steal, 2)
""",
    "a program that reads it": """
subprocess.Popen(["cat"], stdin=again(1, os.O_RDONLY), stdout=subprocess.DEVNULL)
""",
    "tee and vmsplice": """
fd, (r, w) = again(1, os.O_RDONLY | os.O_NONBLOCK), os.pipe()
class Vector(ctypes.Structure): _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]
page = ctypes.create_string_buffer(b"v" * 4096)
def mix():
    libc.tee(fd, w, 4096, 2)
    libc.vmsplice(1, ctypes.byref(Vector(ctypes.addressof(page), 4096)), 1, 2 | 8)
    ctypes.memset(page, 87, 4096)
forked(mix)
""",
    "pipes that grow and shrink": """
def resize():
    for size in (4096, 1 << 20):
        for fd in (0, 1, 2):
            try: fcntl.fcntl(fd, 1031, size)
            except OSError: pass
forked(resize, 2)
""",
    "pipes that do not block": "for fd in (0, 1, 2): add_flag(fd, os.O_NONBLOCK)",
    "pipes that signal": """
for fd in (0, 1, 2):
    for owner in (1, -1, os.getpid()):
        try: fcntl.fcntl(fd, fcntl.F_SETOWN, owner)
        except OSError: pass
    try: fcntl.fcntl(fd, 10, 17)  # F_SETSIG, SIGCHLD
    except OSError: pass
    add_flag(fd, os.O_ASYNC)
signal.signal(17, signal.SIG_IGN)
signal.signal(29, signal.SIG_IGN)
""",
    "pipes of packets": """
for fd in (1, 2): add_flag(fd, os.O_DIRECT)
def write():
    for fd in (1, 2):
        try: os.write(fd, b"p")
        except OSError: pass
for fd in (1, 2): add_flag(fd, os.O_NONBLOCK)
forked(write, 2)
""",
    "readers of stdin": """
for flags in (os.O_RDONLY, os.O_RDONLY | os.O_NONBLOCK):
    fd = again(0, flags)
    def read():
        try: os.read(fd, 3)
        except BlockingIOError: pass
    forked(read, 2)
""",
    "a writer to stdin": """
fd = again(0, os.O_WRONLY | os.O_NONBLOCK)
def write():
    try: os.write(fd, b"w" * 4096)
    except BlockingIOError: pass
forked(write)
""",
    "streams that are each other": """
for fd in (0, 1, 2):
    spare = again(fd, os.O_RDWR)
    os.dup2(spare, {0: 1, 1: 2, 2: 0}[fd])
""",
    "locks on its pipes": """
for fd in (0, 1, 2):
    try: fcntl.flock(again(fd, os.O_RDWR), fcntl.LOCK_EX)
    except OSError: pass
""",
    "orphans that end without end": """
def orphan():
    if os.fork() == 0:
        if os.fork(): os._exit(0)
        os._exit(0)
    os.wait()
forked(orphan, 8)
""",
}
ENDS = (
    "os._exit(0)",
    "time.sleep(0.01)",
    "time.sleep(0.02); os._exit(0)",
    "os.kill(os.getpid(), 9)",
)


@pytest.mark.parametrize("meddler", MEDDLERS)
async def test_the_answer_comes_when_the_snippet_has_ended(sandbox: Sandbox, meddler: str) -> None:
    code = BEGIN + MEDDLERS[meddler] + "\n"
    for end in ENDS:
        outcome = await sandbox.run(code + end, stdin=b"i" * 300_000, timeout_s=2.0)
        assert outcome.status not in (Status.ERROR, Status.MEMORY_LIMIT), outcome.result
        assert outcome.tidy, outcome.report
    await sandbox.attack("print(1)")


@pytest.mark.parametrize("meddler", MEDDLERS)
async def test_the_answer_comes_at_the_time_limit(sandbox: Sandbox, meddler: str) -> None:
    code = BEGIN + MEDDLERS[meddler] + "\nwhile True: time.sleep(1)"
    outcome = await sandbox.attack(code, stdin=b"i" * 300_000, timeout_s=0.5)
    assert outcome.status in (Status.TIMEOUT, Status.OUTPUT_LIMIT)
    assert outcome.result.signal == signal.SIGKILL
    assert outcome.result.duration_s < 3
    assert outcome.tidy, outcome.report
