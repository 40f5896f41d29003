"""Close networks in gVisor, which takes `unreachable` routes without a word and does not keep them.

Its network stack has the packet filter of iptables: <linux/netfilter_ipv4/ip_tables.h>. A rule
holds for every packet that leaves, whatever socket it comes from.

Runs inside the container, in PID 1: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import _socket as socket
import struct
from typing import Iterable, Tuple

_REPLACE = 64
_HOOKS = 0b1110  # to this container, through it, and from it
_INPUT, _FORWARD, _OUTPUT = 1, 2, 3
_ACCEPT, _DROP = -2, -1
_TCP, _UDP = socket.IPPROTO_TCP, socket.IPPROTO_UDP
_DNS_PORT = 53

_HEAD = struct.Struct("=32sIII5I5IIQ")
_ENTRY = struct.Struct("=4s4s4s4s64xHBBIHHI16x")
_TARGET = struct.Struct("=H29sBi4x")
_ERROR = struct.Struct("=H29sB30s2x")
_MATCH = struct.Struct("=H29sB")
_PORTS = struct.Struct("=HHHH8x")

Network = Tuple[int, bytes, int]
"""Address family, address, prefix length."""


def close_off(
    resolvers: Iterable[bytes], allowed: Iterable[Network], blocked: Iterable[Network]
) -> None:
    """Let packets to `blocked` networks go only if they go to `allowed` ones, or ask a resolver.

    Raises `OSError`: `PermissionError` unless gVisor was started with `--net-raw`.
    """
    rules = [
        _entry((address, 32), _ACCEPT, protocol)
        for address in resolvers
        for protocol in (_UDP, _TCP)
    ]
    rules += [_entry(network[1:], _ACCEPT) for network in allowed if network[0] == socket.AF_INET]
    rules += [_entry(network[1:], _DROP) for network in blocked if network[0] == socket.AF_INET]
    policy = _entry((bytes(4), 0), _ACCEPT)
    end = _fixed((bytes(4), 0), 0, _ERROR.pack(_ERROR.size, b"ERROR", 0, b"ERROR"))
    entries = b"".join((policy, policy, *rules, policy, end))
    first, last = 2 * len(policy), len(entries) - len(end) - len(policy)
    starts, policies = [0] * 5, [0] * 5
    starts[_INPUT], starts[_FORWARD], starts[_OUTPUT] = 0, len(policy), first
    policies[_INPUT], policies[_FORWARD], policies[_OUTPUT] = 0, len(policy), last
    head = _HEAD.pack(b"filter", _HOOKS, len(rules) + 4, len(entries), *starts, *policies, 0, 0)
    table = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    try:
        table.setsockopt(socket.IPPROTO_IP, _REPLACE, head + entries)
    finally:
        table.close()


def _entry(network: tuple[bytes, int], verdict: int, protocol: int = 0) -> bytes:
    """Return a rule for packets to an IPv4 network; with a protocol, to its port of DNS alone."""
    match = b""
    if protocol:
        name = b"tcp" if protocol == _TCP else b"udp"
        match = _MATCH.pack(_MATCH.size + _PORTS.size, name, 0)
        match += _PORTS.pack(0, 0xFFFF, _DNS_PORT, _DNS_PORT)
    return _fixed(network, protocol, _TARGET.pack(_TARGET.size, b"", 0, verdict), match)


def _fixed(network: tuple[bytes, int], protocol: int, target: bytes, match: bytes = b"") -> bytes:
    address, length = network
    mask = struct.pack("!I", ~((1 << (32 - length)) - 1) & 0xFFFFFFFF)
    at = _ENTRY.size + len(match)
    address = bytes(a & m for a, m in zip(address, mask))
    head = _ENTRY.pack(
        bytes(4), address, bytes(4), mask, protocol, 0, 0, 0, at, at + len(target), 0
    )
    return head + match + target
