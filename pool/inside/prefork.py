"""Make each fork of PID 1 cost fewer page faults; once, before the first one.

A run's processor time is mostly the kernel's. It copies each page that a child or PID 1 writes to,
and looks up each page of a library that a child reads (docs/adr/0016). `pack` moves the code that
runs for each job into pages of its own, because the interpreter writes to code that it executes: it
keeps its counters in it (PEP 659). `inherit_libraries` makes a fork copy the page tables of the
libraries, too.

Runs inside the container: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import posixpath
import signal
import sys
import threading
from types import CodeType, FunctionType
from typing import Any, Iterable

from pool.inside.callbacks import ctypes
from pool.inside.immortal import count_of_immortals, immortalize

_MODULES = (
    "allowance",
    "at_fork",
    "cgroup",
    "child",
    "fast_exit",
    "outbox",
    "protocol",
    "relay",
    "reseed",
    "reset",
    "runner",
    "snippet",
    "traces",
    "user_site",
    "users",
)
_SIZE_AT = 16
"""An object that varies in size has its number of items after its count and its class."""
_ALIGNMENT = 16
_LARGE_BYTES = 256 << 10
"""A child faults a smaller mapping in at a few places only, for which each fork would pay."""


def make_forks_cheap(mortal: set[int]) -> None:
    """Take all measures, `immortalize` among them, to which `mortal` goes."""
    hot = hot_functions()
    if count := count_of_immortals():
        pack(hot, count)
    immortalize(mortal, hot)
    inherit_libraries()


def hot_functions() -> list[FunctionType]:
    """Return the functions that run for each job, in PID 1 or in a child."""
    shutdown: Any = getattr(threading, "_shutdown", None)
    found = _functions((contextlib.suppress, posixpath.join, signal.signal, shutdown))
    for name in _MODULES:
        full_name = "pool.inside." + name
        parts = vars(sys.modules[full_name]).values()
        found += _functions(one for one in parts if getattr(one, "__module__", None) == full_name)
    return list(dict.fromkeys(found))  # a class may have one under two names


def _functions(things: Iterable[object]) -> list[FunctionType]:
    """Return the functions among `things`, and those of the classes among them."""
    found = []
    for thing in things:
        for part in vars(thing).values() if isinstance(thing, type) else (thing,):
            inner: Any = getattr(part, "fget", None) or getattr(part, "__func__", part)
            inner = getattr(inner, "__wrapped__", inner)
            if type(inner) is FunctionType:
                found.append(inner)
    return found


def pack(functions: Iterable[FunctionType], immortal: int) -> None:
    """Move the code of functions into pages of its own.

    `immortal` is the count that stands in an immortal object. Both the code and its copy get it,
    because they share all to which they refer. A frame that runs goes on in the old code.
    """
    codes = {id(one.__code__): one.__code__ for one in functions}
    sizes = {key: _size(code) for key, code in codes.items()}
    # Private: a child could change the code of PID 1 in a shared mapping.
    area = mmap.mmap(-1, sum(sizes.values()), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for one in (area, *codes.values()):
        ctypes.c_uint32.from_address(id(one)).value = immortal
    at = ctypes.addressof(ctypes.c_char.from_buffer(area))
    copies: dict[int, Any] = {}
    for key, size in sizes.items():
        ctypes.memmove(at, key, size)
        copies[key] = ctypes.cast(at, ctypes.py_object).value
        at += size
    for function in functions:
        function.__code__ = copies[id(function.__code__)]


def _size(code: CodeType) -> int:
    """Return the bytes of a code object, in whole units of alignment."""
    items: int = ctypes.c_ssize_t.from_address(id(code) + _SIZE_AT).value
    size = CodeType.__basicsize__ + items * CodeType.__itemsize__
    return (size + _ALIGNMENT - 1) // _ALIGNMENT * _ALIGNMENT


def inherit_libraries() -> None:
    """Make a fork copy the page tables of the large files that are mapped, too.

    The kernel leaves out the mapping of a file if the process has no page of its own in it, and the
    child then faults its pages in, 16 at once. So this writes the first byte of each mapping once
    more, which gives PID 1 such a page; the file stays as it is. Where the kernel does not let a
    process write to its memory in this way, nothing changes.
    """
    with contextlib.suppress(OSError), open("/proc/self/maps", "rb") as maps:
        memory = os.open("/proc/self/mem", os.O_RDWR | os.O_CLOEXEC)
        try:
            for line in maps.read().splitlines():
                span, mode, _, _, inode, *_ = line.split()
                begin, end = (int(one, 16) for one in span.split(b"-"))
                if mode[:2] == b"r-" and inode != b"0" and end - begin >= _LARGE_BYTES:
                    os.pwrite(memory, os.pread(memory, 1, begin), begin)
        finally:
            os.close(memory)
