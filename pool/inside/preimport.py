"""Import in PID 1 the modules that the operator names; refuse those that forks cannot share.

A child has no thread but its own, and none of PID 1's descriptors. Memory that is mapped shared
would carry the data of one snippet to the next. If an import leaves a thread, a process, an open
file or shared memory behind, the runner refuses its module by name (docs/adr/0008).

Runs inside the container: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import sys
import time
from typing import Any, Iterable, Iterator

from pool.inside import fast_exit, fonts, reseed, user_site

SETTLE_S = 0.2
"""A thread, or anything else that an import leaves behind, may take so many seconds to end."""
_REASON_LENGTH = 300


class PreimportError(Exception):
    """A module or layer cannot be shared. The text names it and gives the reason."""


def use_layer(directory: str) -> tuple[list[str], dict[str, list[str]]]:
    """Put a layer on the path; return its distributions as `name==version`, and their extras.

    Raises `PreimportError` if `directory` is not there, or is removed meanwhile.
    """
    missing = PreimportError("the layer of dependencies is not there")
    if not os.path.isdir(directory):
        raise missing
    user_site.put_on_path(directory)
    fonts.offer(directory)
    try:
        return user_site.installed(), user_site.extras()
    except FileNotFoundError:
        raise missing from None


def are_all_standard(names: Iterable[str]) -> bool:
    """Return True if all modules are of the standard library.

    Before CPython 3.10 the interpreter has no list of them: False then, unless `names` is empty.
    """
    known = getattr(sys, "stdlib_module_names", ())
    return all(name.partition(".")[0] in known for name in names)


def import_all(names: Iterable[str]) -> None:
    """Import the modules `names`, and find their generators of random numbers.

    Raises `PreimportError`.
    """
    traces = _Traces()
    for name in names:
        before = len(sys.modules)
        try:
            with _watching_threads() as starters:
                importlib.import_module(name)
        except BaseException as error:
            raise PreimportError(f"{name} cannot be pre-imported: {_reason(error)}") from error
        if len(sys.modules) != before:
            left = traces.left()
            if left:
                # The first thread: those seen late are counted to an outer module.
                inner = [starters[one] for one in sorted(_threads(), key=int) if one in starters]
                who = f"{inner[0]}, which it imports," if inner and inner[0] != name else "it"
                raise PreimportError(f"{name} cannot be pre-imported: {who} leaves {left}")
    try:
        reseed.prepare()
    except Exception as error:
        raise PreimportError(f"random numbers cannot be drawn anew: {_reason(error)}") from error


@contextlib.contextmanager
def standard_streams_aside() -> Iterator[None]:
    """Give imports an empty stdin, and stderr as their stdout.

    The frames travel on the real two: an import that prints would break the protocol.
    """
    stdin, stdout = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()  # else each child would print the text that is still in the buffer
        if fast_exit.fflush is not None:
            fast_exit.fflush(None)
        os.dup2(stdin, 0)
        os.dup2(stdout, 1)
        os.close(stdin)
        os.close(stdout)


@contextlib.contextmanager
def _watching_threads() -> Iterator[dict[str, str]]:
    """Give the name of the module that started each thread, by the thread's number.

    The innermost module whose code was running is the one: pandas starts none, but imports
    pyarrow, whose pyarrow.lib does.
    """
    starters: dict[str, str] = {}
    bootstrap: Any = importlib._bootstrap  # noqa: SLF001
    load = bootstrap._load_unlocked  # noqa: SLF001 - a loader's wrapper would stay in __spec__

    def watch(spec: Any) -> Any:  # noqa: ANN401
        before = _threads()
        try:
            return load(spec)
        finally:
            for thread in _threads() - before:
                starters.setdefault(thread, spec.name)

    bootstrap._load_unlocked = watch  # noqa: SLF001
    try:
        yield starters
    finally:
        bootstrap._load_unlocked = load  # noqa: SLF001


def _threads() -> set[str]:
    return set(os.listdir("/proc/self/task"))


class _Traces:
    """The open files and shared memory before an import, to compare with those after it."""

    def __init__(self) -> None:
        self._files = _files()
        self._memory = _shared_memory()

    def left(self) -> str:
        """Return a text for a thing that an import left behind and forks cannot share, or `""`."""
        if not self._find():
            return ""
        gc.collect()
        # A library may end its threads before each fork, and start them again in the child.
        _fork_once()
        deadline = time.monotonic() + SETTLE_S
        left = self._find()
        while left and time.monotonic() < deadline:
            time.sleep(0.002)
            left = self._find()
        return left

    def _find(self) -> str:
        threads = len(os.listdir("/proc/self/task")) - 1
        if threads:
            return "a thread running" if threads == 1 else f"{threads} threads running"
        if _has_children():
            return "a process running"
        for fd, file in _files().items():
            if self._files.get(fd) != file:
                return f"{file} open"
        if _shared_memory() - self._memory:
            return "memory that all runs would share"
        return ""


def _fork_once() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def _has_children() -> bool:
    """Return True if a child process still runs; reap those that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _files() -> dict[int, str]:
    """Return the file behind each open descriptor, as its link in /proc names it."""
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the descriptor by which the list was read is closed
            found[int(fd)] = os.readlink(f"/proc/self/fd/{fd}")
    return found


def _shared_memory() -> set[str]:
    """Return the address of each mapping that is shared and writable."""
    with open("/proc/self/maps") as maps:
        lines = [line.split(None, 2) for line in maps]
    return {place for place, rights, _ in lines if rights[1] == "w" and rights[3] == "s"}


def _reason(error: BaseException) -> str:
    """Return the first cause of an exception, in one line.

    Example: numpy wraps the cause of a failed import in a page of advice.
    """
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    kind = type(error).__name__
    return (kind + ": " + lines[0] if lines else kind)[:_REASON_LENGTH]
