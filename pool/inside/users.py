"""The user ids of a container's runs: no two containers that live have one in common.

Limits, keyrings and counters that the kernel keeps by user would else be shared between tenants.
The server cannot see to it, for others may use the same engine. The kernel does: it numbers the
PID namespaces that live, and each container has one.

Runs inside the container: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import os

_FIRST_NAMESPACE = 0xF0000000  # where the kernel's numbers of namespaces begin
_FIRST, _END = 1_879_048_192, 2_147_352_576
"""What systemd's table of user ids says that nobody uses; 262,016 containers have room in it."""
_BLOCK = 1024
_FIRST_OF_FEW, _BLOCK_OF_FEW = 10_000, 4
"""Where the engine maps but 65,536 users into its containers, 13,884 containers have room."""


def own_block(sequence: int) -> range:
    """Return this container's user ids, to be used in turn.

    `sequence`, the container's number on its server, stands in for the namespace's number where a
    runtime shows none: such a runtime has a kernel for each container.
    """
    try:
        number = os.stat("/proc/self/ns/pid").st_ino - _FIRST_NAMESPACE
    except OSError:
        number = sequence
    try:
        with open("/proc/self/uid_map", encoding="ascii") as uid_map:
            return block(number, uid_map.read())
    except FileNotFoundError:  # a kernel without user namespaces
        return block(number, f"0 0 {1 << 32}")


def block(number: int, uid_map: str) -> range:
    """Return the block with a number, of the users that `uid_map` has, in the form of /proc.

    Example: `block(3, "0 100000 65536")` is `range(10012, 10016)`.
    """
    lines = (map(int, line.split()) for line in uid_map.splitlines())
    end = max(inside + count for inside, _, count in lines)
    first, size = _FIRST, _BLOCK
    if end < _END:
        first, size = min(_FIRST_OF_FEW, max(end - _BLOCK_OF_FEW, 0)), _BLOCK_OF_FEW
    rooms = max(1, (min(end, _END) - first) // size)
    start = first + number % rooms * size
    return range(start, start + size)
