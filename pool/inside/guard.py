"""Close the ways from a container's network to everything but the public internet.

The server names the forbidden ranges (`pool/engine/egress.py`). This module sets `unreachable`
routes for them in the container's own network namespace, and then drops the capability to change
them. Routes do not stop multicast, broadcast, or a socket that names its interface
(SO_BINDTODEVICE, IP_PKTINFO): if the kernel finds no route, it assumes that the address is on the
link. So IPsec policies close the same ranges, too: they hold for every packet.

This needs nothing on the host, neither iptables nor privileges of the server. It happens before
any foreign code runs: rtnetlink(7), and `XFRM_MSG_UPDPOLICY` of <linux/xfrm.h>.

Runs inside the container, in PID 1: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import _socket as socket  # the rest of `socket` would cost each start 2 ms
import contextlib
import errno
import os
import struct
from typing import Tuple

from pool.inside import packet_filter
from pool.inside.callbacks import ctypes
from pool.inside.kernel import is_gvisor
from pool.inside.resolvers import resolvers

_NEW_ROUTE, _NEW_RULE = 24, 32
_ERROR = 2
_REQUEST_ACK_CREATE_OR_REPLACE = 0x1 | 0x4 | 0x400 | 0x100
_UNICAST, _UNREACHABLE = 1, 7
_MAIN_TABLE, _DNS_TABLE = 254, 53
_STATIC = 4
_SCOPE_HOST = 254
_DST, _GATEWAY = 1, 5  # attributes of a route; the first also of a rule
_RULE_PRIORITY, _RULE_PROTOCOL, _RULE_PORTS = 6, 22, 24
_DNS_PORT = 53
_WHOLE = 32
_TO_TABLE = 1

_NETLINK_XFRM = 6
_UPDATE_POLICY = 0x19
_OUT = 1
_ALLOW, _BLOCK = 0, 1
_ANY_PROTOCOL = 0
_TRANSPORTS = (6, 17, 33, 132, 136)  # TCP, UDP, DCCP, SCTP, UDP-Lite
_UNLIMITED = b"\xff" * 32 + bytes(32)

_CAP_SETPCAP, _CAP_NET_ADMIN, _CAP_NET_RAW = 8, 12, 13
_GUARDS_OWN = (_CAP_NET_ADMIN, _CAP_NET_RAW, _CAP_SETPCAP)
_PR_CAPBSET_DROP = 24
_CAPABILITY_VERSION_3 = 0x20080522

Network = Tuple[int, bytes, int]
"""Address family, address, prefix length."""


class Unguarded(Exception):  # noqa: N818 - a fact about the runtime
    """The guard cannot close this container's network; the text gives a remedy."""


def close_off(plan: dict[str, list[str]]) -> str:
    """Set routes and policies, and drop the capabilities that this needs. Raises `OSError`.

    `plan` has the `blocked` networks, the `allowed` exceptions, and the addresses of `resolvers`,
    on which port 53 alone is open. Returns `policies`, or `routes` if the kernel has no IPsec, or
    `filter` in gVisor. Raises `Unguarded` if gVisor was not started as the filter needs it.
    """
    named = resolvers()
    if named is not None:  # the engine's word counts before the server's guess
        plan = {**plan, "resolvers": named}
    gateway, subnets = _look_around()
    has_ipv6 = _has_ipv6()
    blocked = [
        network
        for network in map(_parse, plan["blocked"])
        if network[0] == socket.AF_INET or has_ipv6
    ]
    if is_gvisor():
        _filter(plan, [*blocked, *subnets], has_ipv6=has_ipv6)
        _drop_capabilities()
        return "filter"
    _set_routes(plan, blocked, gateway, subnets)
    own = subnets if gateway is None else [*subnets, (socket.AF_INET, gateway, _WHOLE)]
    # A second policy for the same network would replace the first: an allowed one would be blocked.
    allowed = set(map(_parse, plan["allowed"]))
    own = [network for network in own if network not in allowed]
    try:
        kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_XFRM)
    except OSError as error:
        if error.errno != errno.EPROTONOSUPPORT:
            raise
        strength = "routes"  # a kernel without IPsec
    else:
        with contextlib.closing(kernel):
            kernel.bind((0, 0))
            _set_policies(kernel, plan, [*own, *blocked])
        strength = "policies"
    _drop_capabilities()
    return strength


def _filter(plan: dict[str, list[str]], blocked: list[Network], *, has_ipv6: bool) -> None:
    if has_ipv6:
        raise Unguarded("the network guard knows no IPv6 in gVisor: set PGEXEC_NETWORK=none")
    servers = list(map(socket.inet_aton, plan["resolvers"]))
    try:
        packet_filter.close_off(servers, map(_parse, plan["allowed"]), blocked)
    except PermissionError as error:
        raise Unguarded(
            "the network guard needs gVisor's packet filter: register runsc with --net-raw among "
            "its runtimeArgs (the guard drops that right again), or set PGEXEC_NETWORK=none"
        ) from error


def _set_routes(
    plan: dict[str, list[str]],
    blocked: list[Network],
    gateway: bytes | None,
    subnets: list[Network],
) -> None:
    kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    with contextlib.closing(kernel):
        kernel.bind((0, 0))
        if gateway is not None:
            itself = (socket.AF_INET, gateway, _WHOLE)
            allowed = [one for one in map(_parse, plan["allowed"]) if one[0] == socket.AF_INET]
            # First the routes through the gateway: later the gateway is not reachable any more,
            # and the kernel would refuse them.
            for network in allowed:
                if network not in subnets:  # the route of a subnet leads to the gateway itself
                    _add_route(kernel, network, gateway)
            _add_route(kernel, (socket.AF_INET, bytes(4), 0), gateway, table=_DNS_TABLE)
            for address in plan["resolvers"]:
                for protocol in (socket.IPPROTO_UDP, socket.IPPROTO_TCP):
                    _add_dns_rule(kernel, socket.inet_aton(address), protocol)
            is_allowed = any(_holds(network, gateway) for network in allowed)
            _add_route(kernel, itself, gateway if is_allowed else None)
            for subnet in subnets:
                for half in _halves(subnet):
                    _add_route(kernel, half, None)
        for network in blocked:
            _add_route(kernel, network, None)


def _set_policies(
    kernel: socket.socket, plan: dict[str, list[str]], blocked: list[Network]
) -> None:
    for address in plan["resolvers"]:
        resolver = (socket.AF_INET, socket.inet_aton(address), 32)
        for protocol in (socket.IPPROTO_UDP, socket.IPPROTO_TCP):
            _add_policy(kernel, resolver, _ALLOW, priority=1, to=(protocol, _DNS_PORT))
    for network in map(_parse, plan["allowed"]):
        _add_policy(kernel, network, _ALLOW, priority=2)
    for network in blocked:
        # Not every protocol of IPv6: without neighbour discovery, which is ICMPv6, none works.
        protocols = (_ANY_PROTOCOL,) if network[0] == socket.AF_INET else _TRANSPORTS
        for protocol in protocols:
            _add_policy(kernel, network, _BLOCK, priority=3, to=(protocol, 0))


def _look_around() -> tuple[bytes | None, list[Network]]:
    """Return the default gateway's address, if there is one, and the connected subnets."""
    gateway: bytes | None = None
    subnets: list[Network] = []
    with open("/proc/net/route", encoding="ascii") as table:
        for line in table.readlines()[1:]:
            _, destination, via, _, _, _, _, mask, *_ = line.split()
            if int(destination, 16) == 0 and int(via, 16):
                gateway = struct.pack("=I", int(via, 16))
            elif not int(via, 16):
                length = bin(int(mask, 16)).count("1")
                address = struct.pack("=I", int(destination, 16))
                subnets.append((socket.AF_INET, address, length))
    return gateway, subnets


def _has_ipv6() -> bool:
    """Return True if an interface other than the loopback has an IPv6 address."""
    try:
        with open("/proc/net/if_inet6", encoding="ascii") as addresses:
            return any(line.split()[-1] != "lo" for line in addresses)
    except FileNotFoundError:
        return False


def _parse(text: str) -> Network:
    address, _, length = text.partition("/")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return family, socket.inet_pton(family, address), int(length)


def _holds(network: Network, address: bytes) -> bool:
    """Return True if the IPv4 `network` contains `address`."""
    _, start, length = network
    (low,), (number,) = struct.unpack("!I", start), struct.unpack("!I", address)
    return bool(low >> (32 - length) == number >> (32 - length))


def _halves(network: Network) -> list[Network]:
    """Split a connected network in two: routes to its halves win over the route to the whole."""
    family, address, length = network
    if length >= _WHOLE:
        return [network]
    (number,) = struct.unpack("!I", address)
    upper = struct.pack("!I", number | 1 << (31 - length))
    return [(family, address, length + 1), (family, upper, length + 1)]


def _add_route(
    kernel: socket.socket, network: Network, gateway: bytes | None, table: int = _MAIN_TABLE
) -> None:
    family, address, length = network
    kind = _UNREACHABLE if gateway is None else _UNICAST
    # The narrowest scope: else sockets with SO_DONTROUTE would ignore the unreachable routes.
    scope = _SCOPE_HOST if gateway is None and family == socket.AF_INET else 0
    head = struct.pack("=8BI", family, length, 0, 0, table, _STATIC, scope, kind, 0)
    attributes = _attribute(_DST, address) if length else b""
    if gateway is not None:
        attributes += _attribute(_GATEWAY, gateway)
    _request(kernel, _NEW_ROUTE, head + attributes)


def _add_dns_rule(kernel: socket.socket, resolver: bytes, protocol: int) -> None:
    head = struct.pack("=8BI", socket.AF_INET, 32, 0, 0, _DNS_TABLE, 0, 0, _TO_TABLE, 0)
    ports = struct.pack("=HH", _DNS_PORT, _DNS_PORT)
    attributes = (
        _attribute(_DST, resolver)
        + _attribute(_RULE_PRIORITY, struct.pack("=I", 100))
        + _attribute(_RULE_PROTOCOL, bytes([protocol]))
        + _attribute(_RULE_PORTS, ports)
    )
    _request(kernel, _NEW_RULE, head + attributes)


def _add_policy(
    kernel: socket.socket,
    network: Network,
    action: int,
    priority: int,
    to: tuple[int, int] = (_ANY_PROTOCOL, 0),
) -> None:
    """Allow or block packets to a network; `to` is a protocol and a port, 0 for any."""
    family, address, length = network
    protocol, port = to
    ports = struct.pack("!HHHH", port, 0xFFFF if port else 0, 0, 0)
    selector = address.ljust(16, b"\0") + bytes(16) + ports
    selector += struct.pack("=HBBB3xiI", family, length, 0, protocol, 0, 0)
    info = selector + _UNLIMITED + bytes(32)
    info += struct.pack("=IIBBBB4x", priority, 0, _OUT, action, 0, 0)
    _request(kernel, _UPDATE_POLICY, info)


def _attribute(kind: int, value: bytes) -> bytes:
    padding = bytes(-len(value) % 4)
    return struct.pack("=HH", 4 + len(value), kind) + value + padding


def _request(kernel: socket.socket, kind: int, body: bytes) -> None:
    header = struct.pack("=IHHII", 16 + len(body), kind, _REQUEST_ACK_CREATE_OR_REPLACE, 0, 0)
    kernel.send(header + body)
    answer = kernel.recv(65536)
    answer_kind, (code,) = (
        struct.unpack_from("=4xH", answer)[0],
        struct.unpack_from("=i", answer, 16),
    )
    if answer_kind == _ERROR and code != 0:
        raise OSError(-code, os.strerror(-code))


def _drop_capabilities() -> None:
    """Drop the capabilities that only the guard needs, for ever: from the bounding set, too."""
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in _GUARDS_OWN:
        if libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "cannot drop from the bounding set")
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    sets = ctypes.create_string_buffer(24)
    if libc.capget(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    lost = ~sum(1 << capability for capability in _GUARDS_OWN) & 0xFFFFFFFF
    words = struct.unpack("=6I", sets.raw)
    kept = [*(word & lost for word in words[:3]), *words[3:]]  # the lower words come first
    if libc.capset(header, struct.pack("=6I", *kept)) != 0:
        raise OSError(ctypes.get_errno(), "capset")
