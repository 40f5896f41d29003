"""The child's side: become an unprivileged process, and wait for the job.

The child returns from the runner's path hook, and the interpreter then opens and runs the script
by itself. This module prepares the rest: privileges, standard streams, and a quick exit
(`fast_exit`).

Runs inside the container: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import builtins
import gc
import io
import os
import select
import signal
import sys
import termios
import traceback
from fcntl import ioctl
from os import fstat
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from pool.inside import at_fork, fast_exit, fonts, reseed
from pool.inside.child import FAREWELL, JOB, NO_LAYER, NO_ROOM, WRITTEN, Child
from pool.inside.input_files import write_all
from pool.inside.surroundings import surround
from pool.inside.user_site import open_home, put_on_path, watch
from pool.inside.users import become_user

if TYPE_CHECKING:
    from pool.inside.ahead import Idle

# `_Turn.write` below runs in the midst of the snippet, which may have replaced builtins, and
# also after the interpreter has torn down its modules. So it uses a copy of them.
__builtins__: Any = dict(vars(builtins))  # type: ignore[no-redef]

_PR_SET_DUMPABLE = 4
_READER_TIMEOUT_S = 1.0
_BUSY_MS = 30
"""A child warms up only if no job comes for so many milliseconds. If jobs come faster, the
warm-up would take processor time from other runs."""

WARM_UP = """
import sys
class Warm:
    def method(self, *args, **kwargs):
        return [str(arg) for arg in args] + sorted(kwargs)
try:
    warm = {i: Warm().method(i, "x", key=1.5) for i in range(3)}
    text = f"{warm!r:>10} {len(warm):d} %s" % (1,)
    raise ValueError(text)
except ValueError as error:
    print("", end="")
"""
"""Each child runs this before its job comes, so that the kernel copies the usual memory pages
then, and not during the run."""


class _Turn:
    """One of the two output streams, with the rule that keeps their order.

    The runner reads two pipes and cannot tell which of them was written first. A process that
    changes from one stream to the other therefore waits until the runner has read the first.
    Example: `print(1)`, then `print(2, file=sys.stderr)`: the second `print` waits until the
    pipe of stdout is empty. Only the stream that is not being used has this `write`: a snippet
    that writes to one stream alone uses the interpreter's own `write`.
    """

    def __init__(self, raw: io.FileIO) -> None:
        self.raw: Any = raw
        self.attributes: dict[str, object] = raw.__dict__
        self.fd = raw.fileno()
        self.pipe = 0
        self.other = self

    def end(self) -> None:
        """Make the stream wait before its next write."""
        self.attributes["write"] = self.write

    def write(self, data: Any) -> Any:  # noqa: ANN401 - whatever the snippet passes
        """Wait for the other stream, make it wait in turn from now on, and write `data`."""
        self.attributes.pop("write", None)
        if self.other.was_read():
            self.other.end()
        if type(data) is memoryview and data.obj is None:
            return 0  # type: ignore[unreachable] # BufferedWriter tries again, now past us
        return self.raw.write(data)

    def was_read(self) -> bool:
        """Wait until the pipe is empty. Returns False if it is not after `_READER_TIMEOUT_S`."""
        deadline = monotonic() + _READER_TIMEOUT_S
        try:
            if fstat(self.fd).st_ino == self.pipe:
                while any(ioctl(self.fd, termios.FIONREAD, b"\0\0\0\0")):
                    if monotonic() > deadline:
                        return False
                    sleep(0.00002)
        except OSError:
            pass  # the snippet has closed the stream: there is no order to keep
        return True


_turns: list[_Turn] = []
_own_modules: list[str] = []


def prepare(warm_ups: int) -> None:
    """Prepare in PID 1 what every child inherits: standard streams and warm pages.

    `warm_ups` is the number of rounds of the warm-up.
    """
    streams: list[Any] = [sys.stdout, sys.stderr]
    for stream in streams:
        stream.reconfigure(line_buffering=True)
        _turns.append(_Turn(stream.buffer.raw))
    stdout, stderr = _turns
    stdout.other, stderr.other = stderr, stdout
    stderr.end()
    home = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    for path in [path for path in sys.path_importer_cache if path.startswith(home)]:
        del sys.path_importer_cache[path]
    # Listed here: if each child searched `sys.modules`, it would write to (and so copy) the
    # page of every module's name.
    _own_modules.extend(name for name in sys.modules if name.partition(".")[0] == "pool")
    watch()
    fast_exit.prepare()
    gc.freeze()  # else each round would look at every object of the interpreter
    for _ in range(warm_ups):
        _warm_up()
        try:
            _turns[2]
        except IndexError:
            traceback.print_exc(file=io.StringIO())


def new_stream(name: str, encoding: str, errors: str) -> io.TextIOWrapper:
    """Return a stream like the interpreter's own `stdout` or `stderr`, in place of a closed one."""
    turn = _turns[name == "stderr"]
    turn.raw = raw = io.FileIO(turn.fd, "w", closefd=False)
    turn.attributes = raw.__dict__
    turn.end()
    buffer = io.BufferedWriter(raw)
    stream = io.TextIOWrapper(buffer, encoding, errors, newline="\n", line_buffering=True)
    raw.name, stream.mode = f"<{name}>", "w"  # type: ignore[misc]
    return stream


def _warm_up() -> None:
    exec(compile(WARM_UP, "<warm>", "exec"), {"__name__": "warm"})
    fast_exit.warm_up()


def become(uid: int, child: Child) -> None:
    """Turn the forked process into the snippet's: its own user, session and descriptors."""
    # Before the descriptors are closed: else each signal that the snippet handles would write a
    # byte to whatever file has the number of the runner's pipe by then.
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # These replace the server's streams: else the snippet could send frames of its own.
    os.dup2(child.stdin_r, 0)
    os.dup2(child.stdout_w, 1)
    os.dup2(child.stderr_w, 2)
    # All but the job's pipe, by number: PID 1 has none above `highest`. With `stdin_w` open in the
    # child itself, its stdin would never end; from `wake` it could read the bytes that wake PID 1.
    os.closerange(3, child.job_r)
    os.closerange(child.job_r + 1, child.highest + 1)
    os.setsid()
    become_user(uid)
    if fast_exit.prctl is not None:
        # The change of user gave /proc/self to root. A process may read its own entries.
        fast_exit.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
    for turn in _turns:
        turn.pipe = fstat(turn.fd).st_ino
    at_fork.in_child()
    reseed.seed()
    gc.enable()


def _receive(fd: int, size: int) -> bytearray:
    """Read `size` bytes from the job's pipe; end the process if PID 1 closes it before."""
    data = bytearray()
    while len(data) < size:
        piece = os.read(fd, size - len(data))
        if not piece:
            os._exit(71)
        data += piece
    return data


def _take_files(fd: int, size: int, stamp_ns: int) -> None:
    """Write the input files, say so, and wait until PID 1 lets the script begin.

    Only then does the time of the run begin to count.
    """
    written = write_all(fd, size, stamp_ns)
    os.write(1, WRITTEN if written else NO_ROOM)
    if os.read(fd, 1) or not written:
        os._exit(71)


def _use_time(job_r: int, idle: Idle) -> None:
    """Prepare for the job, as long as it does not come."""
    waiting = select.poll()
    waiting.register(job_r, select.POLLIN)
    if not waiting.poll(_BUSY_MS):
        _warm_up()
        idle.use(waiting)


def await_job(child: Child, script: str, layers: str, preload: str, idle: Idle) -> None:
    """Wait for the job, write its script, and remove the runner's own modules.

    Meanwhile do what `idle` says. Ends the process if PID 1 closes the job's pipe too early, or if
    the job's layer is missing.
    """
    _use_time(child.job_r, idle)
    if preload:
        fonts.offer(os.path.join(layers, preload))
    run = fast_exit.begin(script)
    run.farewell = child.farewell
    head = JOB.unpack(os.read(child.job_r, JOB.size))
    layer_size, code_size, strings_size, args, files_size, stamp_ns = head
    job = _receive(child.job_r, layer_size + code_size)
    if strings_size:
        surround(bytes(_receive(child.job_r, strings_size)), args)
    code = job[layer_size:] if layer_size else job
    target = os.open(script, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    unwritten = memoryview(code)
    while unwritten:
        unwritten = unwritten[os.write(target, unwritten) :]
    if stamp_ns:
        os.utime(target, ns=(stamp_ns, stamp_ns))
    os.close(target)
    if files_size:
        _take_files(child.job_r, files_size, stamp_ns + 1)
    os.close(child.job_r)
    if layer_size:
        where = os.path.join(layers, job[:layer_size].decode())
        if not os.path.isdir(where):
            FAREWELL.pack_into(child.farewell, 0, NO_LAYER, 0, 0)
            os._exit(0)
        put_on_path(where)
        fonts.offer(where)
    open_home()
    for name in _own_modules:
        del sys.modules[name]
    run.read(code)
