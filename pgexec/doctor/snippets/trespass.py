"""The doctor's attempts to reach addresses from within a container, by every kind of socket.

As with `inside`, the text of this file is the snippet. Standard library only, any CPython since
3.8.
"""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import json
import select
import socket
import struct
import time
from typing import Any, Callable, Dict, Iterator, List, Tuple

_WAIT_S = 1.0
_PKTINFO = 8  # IP_PKTINFO, which the socket module lacks
_GET_ADDRESS = 0x8915  # SIOCGIFADDR
_HTTP, _DISCARD = 80, 9
_REJECT = 0x200  # RTF_REJECT, of a route to nowhere
_ARRIVED = (errno.ECONNREFUSED, errno.ECONNRESET)

Option = Tuple[int, int, Any]
Attempt = Tuple[str, str, Callable[[], socket.socket]]
"""The way, the address, and a function that tries it. The function returns an open socket, or
raises `OSError` if it is refused."""


def trespass(addresses: List[str], allowed: List[str]) -> None:
    """Try every way to `addresses`, the gateway and the neighbours; print those not refused.

    A packet that leaves counts as much as an answer: the guard refuses it here, or not at all.
    """
    device, gateway, subnet = _route()
    neighbours = [str(subnet.network_address + number) for number in range(2, 6)]
    near = [gateway, str(subnet.broadcast_address), *neighbours]
    ourselves = _own_address(device)  # reachable by the loopback, which is allowed
    exceptions = [ipaddress.ip_network(text) for text in allowed]
    targets = [
        target
        for target in dict.fromkeys([*near, *addresses])
        if target != ourselves
        and not any(ipaddress.ip_address(target) in exception for exception in exceptions)
    ]
    attempts = [attempt for target in targets for attempt in _ways(target, device)]
    attempts += _broadcasts(device)
    through, pending = [], {}
    for way, target, attempt in attempts:
        try:
            connection = attempt()
        except OSError as error:
            if error.errno in _ARRIVED:
                through.append("%s by %s (answered)" % (target, way))
            continue
        if connection.type == socket.SOCK_DGRAM:
            connection.close()
            through.append("%s by %s (sent)" % (target, way))
        else:
            pending[connection] = "%s by %s" % (target, way)
    through += _outcomes(pending)
    print(json.dumps({"attempts": len(attempts), "through": through}))


def _route() -> Tuple[str, str, ipaddress.IPv4Network]:
    """Return the interface and the address of the default route, and the connected subnet."""
    device, gateway, subnet = "lo", "0.0.0.0", ipaddress.IPv4Network("127.0.0.0/8")  # noqa: S104
    for line in _routes():
        name, destination, via, flags, _, _, _, mask, *_ = line.split()
        if int(destination, 16) == 0 and int(via, 16):
            device, gateway = name, _dotted(via)
        elif not int(via, 16) and name != "*" and not int(flags, 16) & _REJECT:
            subnet = ipaddress.IPv4Network((_dotted(destination), bin(int(mask, 16)).count("1")))
    return device, gateway, subnet


def _own_address(device: str) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        name = struct.pack("=256s", device.encode())
        return socket.inet_ntoa(fcntl.ioctl(any_socket, _GET_ADDRESS, name)[20:24])


def _dotted(word: str) -> str:
    return socket.inet_ntoa(struct.pack("=I", int(word, 16)))


def _ways(target: str, device: str) -> Iterator[Attempt]:
    bind = (socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode() + b"\0")
    straight = (socket.SOL_SOCKET, socket.SO_DONTROUTE, 1)
    yield "TCP", target, lambda: _connect(target, device)
    yield "TCP with SO_DONTROUTE", target, lambda: _connect(target, device, straight)
    yield "TCP with SO_BINDTODEVICE", target, lambda: _connect(target, device, bind)
    yield "UDP", target, lambda: _send(target, device)
    yield "UDP with SO_DONTROUTE", target, lambda: _send(target, device, straight)
    yield "UDP with SO_BINDTODEVICE", target, lambda: _send(target, device, bind)
    if ":" not in target:
        yield "UDP with IP_PKTINFO", target, lambda: _send_by(target, device)


def _broadcasts(device: str) -> Iterator[Attempt]:
    loud = (socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    bind = (socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode() + b"\0")
    here = struct.pack("=4s4si", bytes(4), bytes(4), socket.if_nametoindex(device))
    group = (socket.IPPROTO_IP, socket.IP_MULTICAST_IF, here)
    everyone, names = "255.255.255.255", "224.0.0.251"
    yield "broadcast", everyone, lambda: _send(everyone, device, loud)
    yield "broadcast with SO_BINDTODEVICE", everyone, lambda: _send(everyone, device, loud, bind)
    yield "multicast", names, lambda: _send(names, device)
    yield "multicast with IP_MULTICAST_IF", names, lambda: _send(names, device, group)


def _socket(target: str, kind: int, options: Tuple[Option, ...]) -> socket.socket:
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    made = socket.socket(family, kind)
    try:
        made.setblocking(False)  # noqa: FBT003 - its only form
        if kind == socket.SOCK_DGRAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        for option in options:
            made.setsockopt(*option)
    except OSError:
        made.close()
        raise
    return made


def _address(target: str, port: int, device: str) -> Tuple[Any, ...]:
    if ":" not in target:
        return target, port
    scope = socket.if_nametoindex(device) if target.startswith("fe80") else 0
    return target, port, 0, scope


def _connect(target: str, device: str, *options: Option) -> socket.socket:
    made = _socket(target, socket.SOCK_STREAM, options)
    try:
        made.connect(_address(target, _HTTP, device))
    except BlockingIOError:
        pass
    except OSError:
        made.close()
        raise
    return made


def _send(target: str, device: str, *options: Option) -> socket.socket:
    made = _socket(target, socket.SOCK_DGRAM, options)
    try:
        made.sendto(b"", _address(target, _DISCARD, device))
    except OSError:
        made.close()
        raise
    return made


def _send_by(target: str, device: str) -> socket.socket:
    made = _socket(target, socket.SOCK_DGRAM, ())
    info = struct.pack("=i4s4s", socket.if_nametoindex(device), bytes(4), bytes(4))
    try:
        made.sendmsg([b""], [(socket.IPPROTO_IP, _PKTINFO, info)], 0, (target, _DISCARD))
    except OSError:
        made.close()
        raise
    return made


def _outcomes(pending: Dict[socket.socket, str]) -> List[str]:
    """Wait for answers to connections that were not refused at once."""
    outcomes = []
    deadline = time.monotonic() + _WAIT_S
    while pending and time.monotonic() < deadline:
        _, ready, _ = select.select([], list(pending), [], max(0, deadline - time.monotonic()))
        for connection in ready:
            error = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            answered = "answered" if error == 0 or error in _ARRIVED else "sent"
            outcomes.append("%s (%s)" % (pending.pop(connection), answered))
    return outcomes + ["%s (sent)" % way for way in pending.values()]


def _routes() -> List[str]:
    with open("/proc/net/route") as table:
        return table.read().splitlines()[1:]
