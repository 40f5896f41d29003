"""Count what a run can leave in the network namespace besides sockets: addresses that it chose.

An IPv6 flow label outlives its process by up to a minute, with the address that it was made for. A
neighbour entry lives until the machine's table is full. Anybody can list both: they are a letter to
the next run.

Runs inside the container: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import contextlib
import os
import struct
from typing import Any

from pool.inside.callbacks import ctypes

# Not an object of `socket`: it has a finaliser, and each child inherits it. No end of a snippet
# would be certain any more (`fast_exit.Teardown`), and each run would take 5 ms longer.
_open_socket: Any = ctypes.CDLL(None).socket if ctypes is not None else None
_NETLINK, _RAW, _ROUTE = 16, 3 | os.O_CLOEXEC, 0
_GET_NEIGHBOURS, _ERROR, _DONE = 30, 2, 3
_REQUEST, _DUMP = 0x1, 0x300
_HEADER = struct.Struct("=IHHII")
_NEIGHBOUR = struct.Struct("=BBHiHBB")
_ATTRIBUTE = struct.Struct("=HH")
_ROUTER = 0x80
_DESTINATION = 1
_ANSWER_BYTES = 1 << 16


class Traces:
    """Counts flow labels and neighbours. Holds two descriptors, or fewer on an odd kernel."""

    def __init__(self) -> None:
        self._labels = -1
        self._kernel = -1
        with contextlib.suppress(OSError):  # a kernel without IPv6
            self._labels = os.open("/proc/net/ip6_flowlabel", os.O_RDONLY | os.O_CLOEXEC)
        if _open_socket is not None:  # -1 where it is refused: gVisor has but a part of netlink
            self._kernel = _open_socket(_NETLINK, _RAW, _ROUTE)
        self._gateways = _gateways()

    def count(self) -> tuple[int, int]:
        """Return the number of flow labels, and of neighbours that are no gateway."""
        labels = 0
        if self._labels >= 0:
            labels = os.pread(self._labels, 4096, 0).count(b"\n")
        return labels, self._count_neighbours()

    def _count_neighbours(self) -> int:
        if self._kernel < 0:
            return 0
        body = _NEIGHBOUR.pack(0, 0, 0, 0, 0, 0, 0)
        size = _HEADER.size + len(body)
        os.write(self._kernel, _HEADER.pack(size, _GET_NEIGHBOURS, _REQUEST | _DUMP, 0, 0) + body)
        found = 0
        while True:
            answer = os.read(self._kernel, _ANSWER_BYTES)
            at = 0
            while at < len(answer):
                size, kind, *_ = _HEADER.unpack_from(answer, at)
                if kind in (_DONE, _ERROR):
                    return found
                found += self._is_a_trace(answer[at + _HEADER.size : at + size])
                at += (size + 3) & ~3

    def _is_a_trace(self, entry: bytes) -> bool:
        """Whether a neighbour is there because a run chose to send something to it."""
        flags = _NEIGHBOUR.unpack_from(entry)[-2]
        at = _NEIGHBOUR.size
        while at + _ATTRIBUTE.size <= len(entry):
            size, kind = _ATTRIBUTE.unpack_from(entry, at)
            if kind == _DESTINATION:
                address = entry[at + _ATTRIBUTE.size : at + size]
                return not (flags & _ROUTER or address in self._gateways or _is_usual(address))
            at += max(_ATTRIBUTE.size, (size + 3) & ~3)
        return False


def _gateways() -> set[bytes]:
    """Return the addresses of the IPv4 gateways, in the order of the network."""
    try:
        with open("/proc/net/route", encoding="ascii") as table:
            return {struct.pack("=I", int(line.split()[2], 16)) for line in table.readlines()[1:]}
    except OSError:
        return set()


def _is_usual(address: bytes) -> bool:
    """Whether the kernel makes a neighbour of an address by itself.

    Those are the loopback's, and the groups by which IPv6 finds routers and neighbours.
    """
    if not any(address[:-1]) and (len(address) == 16 or not address[-1]):  # noqa: PLR2004
        return True
    groups = (b"\xff\x02" + bytes(13) + bytes([last]) for last in (1, 2, 0x16))
    return address in groups or address.startswith(b"\xff\x02" + bytes(9) + b"\x01\xff")
