"""Give a snippet its arguments and the variables of its environment.

Runs inside the container: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import os
import posix
import sys
import time


def surround(strings: bytes, args: int) -> None:
    """Add the arguments to `sys.argv` and the variables to the environment.

    Each of the `strings` ends with a NUL: first `args` arguments, then `NAME=value`. What an
    interpreter reads at its own start, such as PYTHONHASHSEED, counts for those only that the
    snippet starts.
    """
    given = strings.split(b"\0")[:-1]
    arguments = [os.fsdecode(one) for one in given[:args]]
    sys.argv += arguments
    if sys.version_info >= (3, 10):
        sys.orig_argv += arguments
    for one in given[args:]:
        name, _, value = one.partition(b"=")
        os.environb[name] = posix.environ[name] = value
        if name == b"TZ":
            time.tzset()
