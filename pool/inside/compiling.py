"""Compile the sources that an installer has written, as many as a time limit allows.

Runs inside the installer's container: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import contextlib
import gc
import marshal
import os
import resource
import select
import signal
import time
import warnings
from importlib.util import MAGIC_NUMBER, cache_from_source, source_hash

BUDGET_S = 30.0
UNFINISHED = ".pyc.new"
"""How the names of files end that are not whole bytecode yet."""
_WORKERS = 2
_MEMORY_BYTES = 320 << 20
"""The memory that a worker may take beyond the interpreter's, so that a large source is a
`MemoryError` for itself, and not the end of the installer."""
_SKIPPED = ("test", "tests", "__pycache__")
"""Directories that are left out. Snippets hardly ever import the tests of a package. Of `pandas`
and its dependencies, these are 1377 of 1890 files."""


class Compilers:
    """Two processes that compile the sources below `base`, the largest first.

    They end after `BUDGET_S` seconds. A source without bytecode still runs, but is imported slower.
    """

    def __init__(self, base: str) -> None:
        sources = sorted(_sources(base), key=os.path.getsize, reverse=True)
        self._deadline = time.monotonic() + BUDGET_S
        self._pids = [self._fork(sources[number::_WORKERS]) for number in range(_WORKERS)]

    def wait(self) -> None:
        """Wait until all is compiled or the time is over."""
        for pid in self._pids:
            while os.waitpid(pid, os.WNOHANG) == (0, 0):
                if time.monotonic() > self._deadline:
                    os.kill(pid, signal.SIGKILL)
                select.select([], [], [], 0.005)

    def _fork(self, sources: list[str]) -> int:
        pid = os.fork()
        if pid:
            return pid
        gc.disable()
        # A source with very many warnings would take all the time to read them.
        warnings.simplefilter("ignore")
        with contextlib.suppress(OSError, ValueError):
            _limit_memory()
        for source in sources:
            # Skip a source that cannot be read, is not Python, or needs too much memory or depth.
            with contextlib.suppress(Exception):
                _compile(source)
        os._exit(0)


def _limit_memory() -> None:
    # If memory runs out all the same, the kernel is to kill this process and no other one.
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")
    with open("/proc/self/statm", encoding="ascii") as file:
        own = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (own + _MEMORY_BYTES,) * 2)


def _sources(base: str) -> list[str]:
    found = []
    for where, directories, names in os.walk(base):
        directories[:] = [name for name in directories if name not in _SKIPPED]
        paths = (os.path.join(where, name) for name in names if name.endswith(".py"))
        found += [path for path in paths if os.path.isfile(path) and not os.path.islink(path)]
    return found


def _compile(path: str) -> None:
    """Write bytecode that the interpreter uses without checking its source (PEP 552)."""
    with open(path, "rb") as file:
        source = file.read()
    code = compile(source, path, "exec", dont_inherit=True)
    target = cache_from_source(path)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    # Python's names for these flags are private: 1 means "by hash", 2 "check the source".
    head = MAGIC_NUMBER + (1).to_bytes(4, "little") + source_hash(source)
    # Not in place: a kill at the end of the time would leave half a file, which breaks imports.
    unfinished = target[: -len(".pyc")] + UNFINISHED
    with open(unfinished, "wb") as file:
        file.write(head + marshal.dumps(code))
    os.rename(unfinished, target)
