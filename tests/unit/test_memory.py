"""The server's memory after long outputs."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

OUTPUTS = """
import os, sys
if sys.argv[1:]:
    from pgexec.process.limits import fix_malloc_thresholds
    fix_malloc_thresholds()
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
first = bytes(24 << 20)
del first
before = resident()
outputs, kept = [], []
for _ in range(40):
    outputs.append(b"x" * (1 << 20))
    kept.append(b"y" * 1000)  # lies above the output, where that lies on the heap
    kept += [bytearray(600) for _ in range(100)]
outputs.clear()
print(resident() - before)
"""


PIECES = """
import resource
from pgexec.process.limits import fix_malloc_thresholds
fix_malloc_thresholds()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for number in range(200):
    if number == 100:
        before = faults()
    pieces = [b"x" * (256 << 10) for _ in range(4)]
    del pieces
print(faults() - before)
"""


def kept_bytes(*arguments: str) -> int:
    """Return by how much a process has grown when its long outputs are gone."""
    command = [sys.executable, "-c", OUTPUTS, *arguments]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library's allocator")
def test_what_long_outputs_took_is_given_back() -> None:
    assert kept_bytes() > 20 << 20  # or this test shows nothing
    assert kept_bytes("fixed") < 5 << 20


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library's allocator")
def test_the_pieces_of_a_long_body_take_no_new_pages() -> None:
    command = [sys.executable, "-c", PIECES]
    faults = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert faults < 1000  # one of the 400 pieces has 64 pages


def test_what_was_loaded_at_start_is_collected_no_more() -> None:
    code = (
        "import gc, pgexec.app, pgexec.process.limits\n"
        "before = len(gc.get_objects())\n"
        "pgexec.process.limits.freeze_garbage_collector()\n"
        "print(gc.get_freeze_count() > before * 0.9, len(gc.get_objects()) < before * 0.1)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]
