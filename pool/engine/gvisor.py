"""What differs if gVisor (`runsc`) runs the containers: it is a kernel of its own for each of them.

The engine's limits hold for the whole sandbox then, gVisor's own threads and memory included, and
only the engine's machine sees that memory ran out.
"""

from __future__ import annotations

_NAMES = ("runsc", "gvisor")
_OWN_THREADS = 256
_THREADS_A_PROCESS = 4
"""Each process of the sandbox is one of the machine, too, with threads that carry its own."""


def is_gvisor(runtime: str) -> bool:
    """Return True if an engine's runtime is gVisor by its name, such as `runsc-kvm`."""
    return any(name in runtime.lower() for name in _NAMES)


def engine_pids(runtime: str, pids: int) -> int:
    """Return the limit that the engine is to set where a container may have `pids` processes."""
    return _THREADS_A_PROCESS * pids + _OWN_THREADS if is_gvisor(runtime) else pids


def guard_capabilities(runtime: str, plan: object) -> tuple[str, ...]:
    """Return what the runner needs for `plan` while it boots; `pool/inside/guard.py` drops it."""
    if plan is None:
        return ()
    return ("NET_ADMIN", "SETPCAP", *(["NET_RAW"] if is_gvisor(runtime) else []))
