"""Close in gVisor, a container's own kernel, what the engine closes elsewhere.

gVisor has none of the sysctls that switch off System V objects and message queues, and does not
take the engine's seccomp profile. Its `/dev` has devices that no runtime was asked for.

Runs inside the container, in PID 1: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct

from pool.inside.callbacks import ctypes

_DEVICES = ("/dev/fuse", "/dev/net/tun")
_MAKERS = {"x86_64": (29, 64, 68, 240), "aarch64": (194, 190, 186, 180)}
"""The numbers of `shmget`, `semget`, `msgget` and `mq_open`: what these make outlives processes."""
_INSTRUCTION = struct.Struct("=HBBI")
_PROGRAM = struct.Struct("=H6xQ")
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _MODE_FILTER = 22, 38, 2


def close_off() -> bool:
    """Remove the devices, and refuse the calls by EPERM, in this process and all its forks.

    Returns False if the kernel takes no filter of calls.
    """
    for path in _DEVICES:
        with contextlib.suppress(OSError):
            os.unlink(path)
    makers = _MAKERS.get(os.uname().machine)
    return makers is not None and ctypes is not None and _refuse(makers)


def _refuse(calls: tuple[int, ...]) -> bool:
    fail = _INSTRUCTION.pack(_RETURN, 0, 0, _FAIL | errno.EPERM)
    code = _INSTRUCTION.pack(_LOAD, 0, 0, 0)  # the number of the call
    for call in calls:
        code += _INSTRUCTION.pack(_JUMP_IF_EQUAL, 0, 1, call) + fail
    code += _INSTRUCTION.pack(_RETURN, 0, 0, _ALLOW)
    kept = ctypes.create_string_buffer(code, len(code))
    program = _PROGRAM.pack(len(code) // _INSTRUCTION.size, ctypes.addressof(kept))
    prctl = ctypes.CDLL(None).prctl
    # Without it, only who has CAP_SYS_ADMIN may set a filter.
    prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return bool(prctl(_PR_SET_SECCOMP, _MODE_FILTER, program) == 0)
