"""The speculative child's side: import ahead, answer if a job fits, and become its script.

Package code runs before the job comes, as it would in the run itself. So all that is done here
afterwards uses functions that no package has replaced, or the child is of no use.

Runs inside the container: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import builtins
import os
import select
import signal
import site
import sys
import threading
import time
from os import _exit, read, write
from typing import Any

from pool.inside import fast_exit, fonts, leading, preimport, snippet, user_site
from pool.inside.child import JOB, Child

SAYS_READY, SAYS_FITS = b"\0", b"\1"
"""What the child writes to its stdout: once it has imported all, and when a job fits."""
_UNFIT = 71
_CHANGING = ("environ", "USER_BASE", "USER_SITE", "ENABLE_USER_SITE", "__warningregistry__")
_STREAMS = ("stdin", "stdout", "stderr", "excepthook", "displayhook", "exit")


def serve(child: Child, script: str, layers: str, layer: str, statements: list[str]) -> None:
    """Import ahead and wait. Returns once the child has a job that fits, and its script.

    Ends the process if it is of no use.
    """
    directory = os.path.join(layers, layer)
    if not os.path.isdir(directory) or leading.leading_imports(_joined(statements)) != statements:
        _exit(_UNFIT)
    before = _Before()
    user_site.put_on_path(directory)
    fonts.offer(directory)
    user_site.open_home()
    snippet.forget_own_modules()
    main = fast_exit.new_main()
    try:
        _import(statements, script, main)
    except BaseException:  # noqa: BLE001 - the script will meet it, and show it
        _exit(_UNFIT)
    own = site.USER_SITE or ""
    _tidy(own)
    if before.differs():
        _exit(_UNFIT)
    fast_exit.trust_packages()
    write(1, SAYS_READY)
    head = JOB.unpack(snippet.receive(child.job_r, JOB.size))
    layer_size, code_size, stamp_ns = head[0], head[1], head[-1]
    code = snippet.receive(child.job_r, layer_size + code_size)[layer_size:]
    begins = leading.leading_imports(code)[: len(statements)]
    if begins != statements or not os.path.isdir(directory):
        _exit(_UNFIT)
    write(1, SAYS_FITS)
    if read(child.job_r, 1):  # PID 1 closes the pipe when it has chosen this child
        _exit(_UNFIT)
    run = fast_exit.begin(script, main)
    run.farewell = child.farewell
    snippet.write_script(script, code, stamp_ns)
    os.close(child.job_r)
    fonts.offer(directory)
    user_site.fill_home(own)
    for path in (os.path.dirname(script), own):
        finder: Any = sys.path_importer_cache.get(path)
        if finder is not None:
            finder.invalidate_caches()  # its directory may have changed within a tick of the clock
    leading.note(code, child.farewell)
    if "logging" in sys.modules:
        _begin_log(sys.modules["logging"])
    run.read(code)


def _joined(statements: list[str]) -> bytes:
    return "\n".join(statements).encode()


def _import(statements: list[str], script: str, main: dict[str, Any]) -> None:
    """Make the imports as the script would: what they warn of is its line, and its module."""
    home = os.path.dirname(script)
    sys.path.insert(0, home)
    main["__file__"] = script
    names = {"__name__": "__main__", "__file__": script, "__builtins__": builtins}
    for statement in statements:
        exec(compile(statement, script, "exec"), names)
    del main["__file__"]
    if sys.path.pop(0) != home:
        raise ImportError("the interpreter would put the script's directory elsewhere")


def _tidy(own: str) -> None:
    """End what a fork ends (ADR 8), and remove or write out what is to be removed or written."""
    if len(os.listdir("/proc/self/task")) > 1:
        preimport.fork_once()
    fonts.withdraw()
    user_site.clear_home(own)
    sys.stdout.flush()
    sys.stderr.flush()
    if fast_exit.fflush is not None:
        fast_exit.fflush(None)


def _begin_log(logging: Any) -> None:  # noqa: ANN401 - the module
    """Set the time that `relativeCreated` counts from."""
    start = getattr(logging, "_startTime", None)
    if type(start) in (int, float):
        logging._startTime = time.time_ns() if type(start) is int else time.time()  # noqa: SLF001


class _Before:
    """What must be the same after the imports, so that this module can do its work."""

    def __init__(self) -> None:
        self._state = self._look()

    def differs(self) -> bool:
        """Return True if an import has left something open, or replaced something."""
        return self._state != self._look() or threading.active_count() != 1

    def _look(self) -> list[object]:
        modules: tuple[Any, ...] = (builtins, os, site, select, time)
        return [
            [{**vars(one), **dict.fromkeys(_CHANGING)} for one in modules],
            [getattr(sys, name) for name in _STREAMS],
            [signal.getsignal(number) for number in range(1, signal.NSIG)],
            signal.getitimer(signal.ITIMER_REAL),
            signal.getitimer(signal.ITIMER_PROF),
            signal.getitimer(signal.ITIMER_VIRTUAL),
            os.getcwd(),
            sorted(os.listdir("/proc/self/fd")),
        ]
