"""The child's side: become an unprivileged process, wait for the job, and leave fast.

The child returns from the runner's path hook into an interpreter that then opens and runs
the script by itself. What is left to do here is what surrounds that: privileges, standard
streams, and a quick way out where finalising the interpreter could show nothing.

Runs inside the container: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import fcntl
import gc
import io
import os
import signal
import site
import struct
import sys
import termios
import time
import traceback
import types
import weakref
from typing import Any, Dict, List, Optional

from pool.child import JOB, Child

try:
    import ctypes

    _libc: Optional[ctypes.CDLL] = ctypes.CDLL(None)
except (ImportError, OSError):
    _libc = None

_PR_SET_DUMPABLE = 4
_TPFLAGS_HAVE_GC = 1 << 14
_MANY_OBJECTS = 20_000
_DRAIN_TIMEOUT_S = 0.2

_MAIN: Dict[str, Any] = sys.modules["__main__"].__dict__
_STREAMS: List[io.TextIOWrapper] = []

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
"""Run by each child before its job comes, to have the usual pages of memory of its own."""


class _Ordered(io.FileIO):
    """A standard stream that lets the other one's output be read before it writes.

    The runner reads two pipes and cannot tell which was written first. A process that
    alternates between them therefore waits at each change until the other pipe is empty.
    """

    last = 1

    def write(self, data: Any) -> Any:
        fd = self.fileno()
        if _Ordered.last != fd:
            if _Ordered.last:
                _await_drained(_Ordered.last)
            _Ordered.last = fd
        return super().write(data)


_Ordered.__name__ = _Ordered.__qualname__ = "FileIO"
_Ordered.__module__ = "_io"


def _await_drained(fd: int) -> None:
    """Wait until nothing is left in a pipe; give up for good where nobody reads it."""
    deadline = time.monotonic() + _DRAIN_TIMEOUT_S
    unread = b"\0\0\0\0"
    try:
        while struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, unread))[0]:
            if time.monotonic() > deadline:
                return
            time.sleep(0.00002)
    except OSError:
        return


def prepare() -> None:
    """Set up in PID 1 what every child will inherit: its standard streams and warm pages."""
    for name, fd in (("stdout", 1), ("stderr", 2)):
        old = getattr(sys, name)
        raw = _Ordered(fd, "w", closefd=False)
        raw.name = f"<{name}>"
        new = io.TextIOWrapper(
            io.BufferedWriter(raw),
            encoding=old.encoding,
            errors=old.errors,
            newline="\n",
            line_buffering=True,
        )
        new.mode = "w"  # type: ignore[misc]
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)
        _STREAMS.append(new)
    for _ in range(20):  # often enough for the interpreter to specialise what it runs
        _warm_up()
        try:
            {}["key"]
        except KeyError:
            traceback.print_exc(file=io.StringIO())


def _warm_up() -> None:
    exec(compile(WARM_UP, "<warm>", "exec"), {"__name__": "warm"})
    _has_finalizers()


def become(uid: int, child: Child) -> None:
    """Turn the forked process into the snippet's: its own user, session and descriptors."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(child.stdin_r, 0)
    os.dup2(child.stdout_w, 1)
    os.dup2(child.stderr_w, 2)
    os.closerange(3, child.job_r)
    os.closerange(child.job_r + 1, 256)
    os.setsid()
    with open("/proc/self/oom_score_adj", "wb", 0) as score:
        score.write(b"1000")  # out of memory takes the snippet and not the runner
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    if _libc is not None:
        # Changing the user made /proc/self root's; a process may read its own entries.
        _libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
    gc.enable()


def await_job(child: Child, script: str, layer: str) -> None:
    """Wait for the job and put its script in place; what the runner left behind goes."""
    _warm_up()
    if sys.version_info >= (3, 12):
        _MainReturn.watch(script)
    layered, size = JOB.unpack(os.read(child.job_r, JOB.size))
    code = bytearray()
    while len(code) < size:
        data = os.read(child.job_r, size - len(code))
        if not data:
            os._exit(71)
        code += data
    os.close(child.job_r)
    target = os.open(script, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    unwritten = memoryview(code)
    while unwritten:
        unwritten = unwritten[os.write(target, unwritten) :]
    os.close(target)
    if layered:
        site.addsitedir(layer)
        os.environ["PYTHONPATH"] = layer
        os.environ["PATH"] = f"{layer}/bin:{os.environ.get('PATH', os.defpath)}"
    for name in [name for name in sys.modules if name == "pool" or name.startswith("pool.")]:
        del sys.modules[name]


def finish() -> None:
    """Leave at once where finalising the interpreter would change nothing that shows.

    Runs as the last `atexit` callback, after the interpreter has joined the threads.
    Wherever this returns, the ordinary way out is taken, which costs 2 to 5 ms more.
    """
    if _ended_normally():
        status = 0
    elif _died_of_last_exception():
        status = 1
    else:
        return  # most likely SystemExit, whose status only the interpreter knows
    if [sys.stdout, sys.stderr] != _STREAMS or _has_finalizers():
        return
    try:
        for stream in _STREAMS:
            stream.flush()
    except (OSError, ValueError):
        return
    if _libc is not None:
        _libc.fflush(None)
    os._exit(status)


class _MainReturn:
    """Notices that the script's own code returned, where the interpreter can tell (3.12)."""

    TOOL = 4
    seen = False

    @classmethod
    def watch(cls, script: str) -> None:
        """Look out for the start of the script, and then for nothing but its return."""
        monitoring = sys.monitoring
        events = monitoring.events

        def on_start(code: Any, offset: int) -> None:
            if code.co_filename == script and code.co_name == "<module>":
                monitoring.set_events(cls.TOOL, events.NO_EVENTS)
                monitoring.set_local_events(cls.TOOL, code, events.PY_RETURN)

        def on_return(code: Any, offset: int, value: Any) -> None:
            cls.seen = True
            monitoring.free_tool_id(cls.TOOL)

        monitoring.use_tool_id(cls.TOOL, "pgexec")
        monitoring.register_callback(cls.TOOL, events.PY_START, on_start)
        monitoring.register_callback(cls.TOOL, events.PY_RETURN, on_return)
        monitoring.set_events(cls.TOOL, events.PY_START)


def _ended_normally() -> bool:
    """Whether the script ran to its end.

    Before 3.12, the interpreter deletes `__file__` and `__cached__` after a script that
    returned or died, but not when it leaves by SystemExit.
    """
    if sys.version_info >= (3, 12):
        return _MainReturn.seen
    unbound = "__file__" not in _MAIN and "__cached__" not in _MAIN and "__name__" in _MAIN
    return unbound and not hasattr(sys, "last_value")


def _died_of_last_exception() -> bool:
    """Whether `sys.last_value` ended the script, and was not put there by it."""
    trace = getattr(sys, "last_traceback", None)
    if trace is None or issubclass(sys.last_type, (KeyboardInterrupt, SystemExit)):
        return False
    frame = trace.tb_frame
    return frame.f_globals is _MAIN and frame.f_lasti == trace.tb_lasti


def _has_finalizers() -> bool:
    """Whether anything the snippet made might run code, or write, when it is torn down."""
    objects = gc.get_objects()
    if len(objects) > _MANY_OBJECTS:
        return True
    if any(hasattr(kind, "__del__") for kind in set(map(type, objects))):
        return True
    return any(
        (isinstance(thing, weakref.ref) and not _is_harmless(thing.__callback__))
        or (
            isinstance(thing, type)
            and not thing.__flags__ & _TPFLAGS_HAVE_GC
            and hasattr(thing, "__del__")
        )
        for thing in objects
    )


def _is_harmless(callback: Any) -> bool:
    """Whether a weak reference has no callback, or the one that cleans the caches of ABCs."""
    return callback is None or (
        isinstance(callback, types.BuiltinFunctionType)
        and callback.__name__ == "_destroy"
        and isinstance(callback.__self__, weakref.ref)
    )
