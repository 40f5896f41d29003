"""Choose the user ids of a container's runs: no two living containers share one.

Otherwise tenants would share the limits, keyrings and counters that the kernel keeps by user. The
server cannot choose them, because other servers may use the same engine. The kernel can: it numbers
the living PID namespaces, and each container has one.

Runs inside the container: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import os

_FIRST_NAMESPACE = 0xF0000000  # the kernel's lowest number of a namespace
_FIRST, _END = 1_879_048_192, 2_147_352_576
"""In systemd's table of user ids, nobody uses this range; it has room for 262,016 containers."""
_BLOCK = 1024
_FIRST_OF_FEW, _BLOCK_OF_FEW = 10_000, 4
"""For engines that map only 65,536 users into a container; 13,884 containers have room. Of still
fewer users, the upper half is used."""


def own_block(sequence: int) -> range:
    """Return this container's user ids; each run takes the next one.

    If the runtime shows no namespace, `sequence` replaces its number: the container's number on its
    server. Such a runtime has a kernel for each container.
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


def become_user(uid: int) -> None:
    """Give the process the rights of a run's user, and let the kernel kill it before the runner."""
    score = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
    os.write(score, b"1000")
    os.close(score)
    # The groups first: once the user has changed, the kernel would refuse to change them.
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def block(number: int, uid_map: str) -> range:
    """Return the block `number` of the users in `uid_map`, a text in the form of /proc.

    Beyond the last block, the first comes again. Example: `block(3, "0 100000 65536")` is
    `range(10012, 10016)`.
    """
    first, size, rooms = _rooms(uid_map)
    start = first + number % rooms * size
    return range(start, start + size)


def rooms(uid_map: str) -> int:
    """Return how many blocks there are."""
    return _rooms(uid_map)[2]


def _rooms(uid_map: str) -> tuple[int, int, int]:
    """Return the first user, the size of a block, and the number of blocks."""
    lines = (map(int, line.split()) for line in uid_map.splitlines())
    end = max(inside + count for inside, _, count in lines)
    first, size = _FIRST, _BLOCK
    if end < _END:
        first, size = max(1, min(_FIRST_OF_FEW, end // 2)), _BLOCK_OF_FEW
    return first, size, max(1, (min(end, _END) - first) // size)
