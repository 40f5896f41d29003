"""How the server's process deals with its memory."""

from __future__ import annotations

import ctypes
import gc

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGE_BYTES = 128 << 10


def return_large_blocks() -> None:
    """Fix what glibc takes for large; a C library without `mallopt` is left as it is.

    By itself it raises that size whenever a larger block is freed, up to 32 MiB. After the
    first long output all others would come from the heap, where what lies above them keeps
    them from being returned: the server would seem to leak.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
    mallopt(_M_TRIM_THRESHOLD, _LARGE_BYTES)


def spare_the_collector() -> None:
    """Have the garbage collector look no more at what has been loaded until now.

    All that lasts as long as the server: a full collection went through it each time, and every
    answer that came meanwhile waited for that.
    """
    gc.collect()
    gc.freeze()
