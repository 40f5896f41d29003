"""Compile what an installer writes, as much as a time limit allows, and while pip still works.

Runs inside the installer's container: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import contextlib
import gc
import glob
import marshal
import os
import resource
import select
import signal
import sysconfig
import time
import warnings
import zipfile
import zlib
from importlib.util import MAGIC_NUMBER, cache_from_source, source_hash

BUDGET_S = 30.0
UNFINISHED = ".pyc.new"
"""How the names of files end that are not whole bytecode yet."""
_WORKERS = 2
_MEMORY_BYTES = 320 << 20
"""The memory that a worker may take beyond the interpreter's, so that a large source is a
`MemoryError` for itself, and not the end of the installer."""
_MAX_AHEAD_BYTES = 32 << 20
_SKIPPED = ("test", "tests", "__pycache__")
"""Directories that are left out. Snippets hardly ever import the tests of a package. Of `pandas`
and its dependencies, these are 1377 of 1890 files."""


class Compilers:
    """Two processes that compile the sources below `base`, the largest first.

    The sources are there once the file `ready` is: until then they compile, for later, what the
    wheels in `downloads` hold. They end `BUDGET_S` seconds after `wait` was called. A source
    without bytecode still runs, but is imported slower.
    """

    def __init__(self, base: str, downloads: str, ready: str) -> None:
        self._base, self._downloads, self._ready = base, downloads, ready
        self._ahead: dict[str, bytes] = {}
        self._pids = [self._fork(number) for number in range(_WORKERS)]

    def wait(self) -> None:
        """Wait until all is compiled or the time is over."""
        deadline = time.monotonic() + BUDGET_S
        for pid in self._pids:
            while os.waitpid(pid, os.WNOHANG) == (0, 0):
                if time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
                select.select([], [], [], 0.005)

    def _fork(self, number: int) -> int:
        pid = os.fork()
        if pid:
            return pid
        gc.disable()
        # A source with very many warnings would take all the time to read them.
        warnings.simplefilter("ignore")
        with contextlib.suppress(Exception):
            _limit_memory()
            self._look_ahead(number)
        with contextlib.suppress(Exception):
            sources = [path for path in _sources(self._base) if _worker(path) == number]
            for source in sorted(sources, key=os.path.getsize, reverse=True):
                # Skip one that cannot be read, is not Python, or needs too much memory or depth.
                with contextlib.suppress(Exception):
                    self._compile(source)
        os._exit(0)

    def _look_ahead(self, number: int) -> None:
        seen: set[str] = set()
        while not os.path.exists(self._ready):
            for wheel in glob.glob(f"{glob.escape(self._downloads)}/pip-unpack-*/*.whl"):
                if wheel not in seen:
                    with contextlib.suppress(zipfile.BadZipFile):  # not whole yet
                        self._open(wheel, number)
                        seen.add(wheel)
            select.select([], [], [], 0.02)

    def _open(self, wheel: str, number: int) -> None:
        """Compile a worker's part of what is in a wheel."""
        where = sysconfig.get_path("purelib", "posix_user", {"userbase": self._base})
        with zipfile.ZipFile(wheel) as archive:
            for member in sorted(archive.infolist(), key=lambda one: one.file_size, reverse=True):
                path = os.path.join(where, member.filename)
                skipped = set(_SKIPPED).intersection(member.filename.split("/"))
                if not path.endswith(".py") or skipped or _worker(path) != number:
                    continue
                if os.path.exists(self._ready) or member.file_size > _MAX_AHEAD_BYTES:
                    continue
                if sum(map(len, self._ahead.values())) > _MAX_AHEAD_BYTES:
                    return
                with contextlib.suppress(Exception):
                    self._ahead[path] = _bytecode(archive.read(member), path)

    def _compile(self, path: str) -> None:
        with open(path, "rb") as file:
            source = file.read()
        bytecode = self._ahead.get(path, b"")
        if not bytecode.startswith(_head(source)):
            bytecode = _bytecode(source, path)
        target = cache_from_source(path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        # Not in place: a kill at the end of the time would leave half a file, which breaks imports.
        unfinished = target[: -len(".pyc")] + UNFINISHED
        with open(unfinished, "wb") as file:
            file.write(bytecode)
        os.rename(unfinished, target)


def _worker(path: str) -> int:
    """Return the number of the process that compiles a source, ahead or later."""
    return zlib.crc32(os.fsencode(path)) % _WORKERS


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


def _head(source: bytes) -> bytes:
    """Return how bytecode starts that the interpreter uses without a look at `source` (PEP 552)."""
    # Python's names for these flags are private: 1 means "by hash", 2 "check the source".
    return MAGIC_NUMBER + (1).to_bytes(4, "little") + source_hash(source)


def _bytecode(source: bytes, path: str) -> bytes:
    return _head(source) + marshal.dumps(compile(source, path, "exec", dont_inherit=True))
