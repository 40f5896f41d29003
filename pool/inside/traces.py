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
from pool.inside.kernel import is_gvisor

# Not an object of `socket`: it has a finaliser, and each child inherits it. No end of a snippet
# would be certain any more (`fast_exit.Teardown`), and each run would take 5 ms longer, in gVisor
# 50 ms. So what `ctypes` makes is made here, before all that PID 1 has is frozen.
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
_GROUP = b"\xff\x02"


class Connections:
    """Counts what TCP has received, where a closed connection keeps its port: if nothing, no port.

    So gVisor does, for a minute: the next run would find the port taken, and could read there what
    ports this one has chosen. An attempt that nobody answered keeps none.
    """

    def __init__(self) -> None:
        self._statistics = -1
        if is_gvisor():
            with contextlib.suppress(OSError):
                self._statistics = os.open("/proc/net/snmp", os.O_RDONLY | os.O_CLOEXEC)

    def count(self) -> tuple[int, ...]:
        """Return the number of segments; `()` where a port is free at once."""
        if self._statistics < 0:
            return ()
        lines = os.pread(self._statistics, 1 << 14, 0).splitlines()
        names, values = (line.split() for line in lines if line.startswith(b"Tcp:"))
        return (int(values[names.index(b"InSegs")]),)


class Traces:
    """Counts flow labels and neighbours. Holds two descriptors, or fewer on an odd kernel."""

    def __init__(self) -> None:
        self._labels = -1
        self._kernel = -1
        with contextlib.suppress(OSError):  # a kernel without IPv6
            self._labels = os.open("/proc/net/ip6_flowlabel", os.O_RDONLY | os.O_CLOEXEC)
        if _open_socket is not None:  # -1 where it is refused: gVisor has but a part of netlink
            self._kernel = _open_socket(_NETLINK, _RAW, _ROUTE)
        self._usual = _usual_neighbours()
        self._first = self._neighbours()

    def count(self) -> tuple[int, int]:
        """Return the number of flow labels, and of neighbours that a run has chosen.

        Neighbours that were there at first do not count: one of them may go, and the number would
        stay the same although a run has left another.
        """
        labels = 0
        if self._labels >= 0:
            labels = os.pread(self._labels, 4096, 0).count(b"\n")
        chosen = self._neighbours() - self._usual - self._first
        if chosen:  # an address or a router that the network has given to the container meanwhile
            self._usual = _usual_neighbours()
        return labels, len(chosen - self._usual)

    def _neighbours(self) -> set[bytes]:
        """Return the addresses of all neighbours that do not call themselves routers."""
        found: set[bytes] = set()
        if self._kernel < 0:
            return found
        body = _NEIGHBOUR.pack(0, 0, 0, 0, 0, 0, 0)
        size = _HEADER.size + len(body)
        os.write(self._kernel, _HEADER.pack(size, _GET_NEIGHBOURS, _REQUEST | _DUMP, 0, 0) + body)
        while True:
            answer = os.read(self._kernel, _ANSWER_BYTES)
            at = 0
            while at < len(answer):
                size, kind, *_ = _HEADER.unpack_from(answer, at)
                if kind in (_DONE, _ERROR):
                    return found
                found.update(_address(answer[at + _HEADER.size : at + size]))
                at += (size + 3) & ~3


def _address(entry: bytes) -> list[bytes]:
    """Return a neighbour's address, or nothing for a router."""
    flags = _NEIGHBOUR.unpack_from(entry)[-2]
    at = _NEIGHBOUR.size
    while at + _ATTRIBUTE.size <= len(entry) and not flags & _ROUTER:
        size, kind = _ATTRIBUTE.unpack_from(entry, at)
        if kind == _DESTINATION:
            return [entry[at + _ATTRIBUTE.size : at + size]]
        at += max(_ATTRIBUTE.size, (size + 3) & ~3)
    return []


def _usual_neighbours() -> set[bytes]:
    """Return the addresses of which the kernel makes neighbours by itself.

    Those are loopback, the gateways, and the groups by which IPv6 finds routers and neighbours. Of
    the groups that follow from an address, only those of the container and its gateways count:
    with any other, a run could leave three bytes of its choice.
    """
    gateways = {struct.pack("=I", int(row[2], 16)) for row in _table("/proc/net/route")[1:]}
    routers = {bytes.fromhex(row[4]) for row in _table("/proc/net/ipv6_route")}
    own = {bytes.fromhex(row[0]) for row in _table("/proc/net/if_inet6")}
    groups = {_GROUP + bytes(13) + bytes([last]) for last in (1, 2, 0x16)}
    solicited = {_GROUP + bytes(9) + b"\x01\xff" + one[-3:] for one in own | routers}
    return {bytes(4), bytes(16), bytes(15) + b"\1"} | gateways | routers | groups | solicited


def _table(path: str) -> list[list[str]]:
    try:
        with open(path, encoding="ascii") as table:
            return [line.split() for line in table]
    except OSError:
        return []
