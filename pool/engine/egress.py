"""The rules for a guarded network: which addresses a container on it must not reach.

Pure, but for reading the machine's own addresses and resolvers. `pool/inside/guard.py` puts the
rules into effect, inside each container.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# IANA's special-purpose registries: private, shared, link-local (cloud metadata), benchmarking,
# documentation, multicast, reserved and given up, and those for which whoever is near may answer
# (AS112, AMT). Of IPv6 also what carries IPv4 addresses within, and from 100:: on all that is not
# in 2000::/3, since nothing else is given out. Loopback is missing: it is the container's own.
# Besides, the address at which Azure serves its machines, which is public by its number alone.
NOT_PUBLIC = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "168.63.129.16/32",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "192.175.48.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::ffff:0:0/96",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "100::/8",
    "200::/7",
    "400::/6",
    "800::/5",
    "1000::/4",
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "2620:4f:8000::/48",
    "3fff::/20",
    "4000::/2",
    "8000::/2",
    "c000::/3",
    "e000::/4",
    "f000::/5",
    "f800::/6",
    "fc00::/7",
    "fe00::/9",
    "fe80::/65",
    "fe80:0:0:0:8000::/65",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
)

_RESOLV_CONF = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")


@dataclass(frozen=True, slots=True)
class EgressRules:
    """Which addresses a guarded container may reach.

    `blocked` and `allowed` are networks in CIDR notation. An address in neither is public, and
    allowed. `resolvers` are blocked addresses on which port 53 stays open, for DNS.
    """

    blocked: Sequence[str]
    allowed: Sequence[str]
    resolvers: Sequence[str]

    def document(self) -> dict[str, object]:
        """Return the rules as JSON for the runner (`guard.close_off`)."""
        return asdict(self)


def make_rules(
    allowed: Iterable[str], addresses: Iterable[str], resolvers: Iterable[str]
) -> EgressRules:
    """Block all networks that are not public, and `addresses`, except the `allowed` networks.

    `addresses` are this machine's own. Example: with `allowed=["10.0.0.0/8"]`, a container
    reaches the whole of that network, and still not 192.168.0.0/16.
    """
    return _rules(tuple(allowed), tuple(addresses), tuple(resolvers))


@lru_cache(maxsize=16)
def _rules(
    allowed: tuple[str, ...], addresses: tuple[str, ...], resolvers: tuple[str, ...]
) -> EgressRules:
    """Remember the last ones: a server asks twice a second, and at each start of a container."""
    exceptions = [ipaddress.ip_network(text, strict=False) for text in allowed]
    special = [ipaddress.ip_network(text) for text in NOT_PUBLIC]
    own = [ipaddress.ip_network(text) for text in addresses]
    # Those within a special range are closed with it, and need not be told to any snippet.
    own = [one for one in own if not any(_covers(network, one) for network in special)]
    networks = [*special, *own]
    blocked = [
        str(network)
        for network in dict.fromkeys(networks)
        if not any(_covers(exception, network) for exception in exceptions)
    ]
    return EgressRules(tuple(blocked), tuple(map(str, exceptions)), resolvers)


def own_addresses() -> list[str]:
    """Return the addresses of this machine's interfaces, without loopback."""
    found = re.findall(r"\|-- (\S+)\n\s+/32 host LOCAL", _read("/proc/net/fib_trie"))
    for line in _read("/proc/net/if_inet6").splitlines():
        digits = line.split()[0]
        found.append(str(ipaddress.IPv6Address(int(digits, 16))))
    addresses = map(ipaddress.ip_address, dict.fromkeys(found))
    return [str(address) for address in addresses if not address.is_loopback]


def own_resolvers() -> list[str]:
    """Return the IPv4 resolvers that the engine gives to containers: those outside loopback."""
    for path in _RESOLV_CONF:
        names = re.findall(r"^\s*nameserver\s+([0-9.]+)\s*$", _read(path), re.MULTILINE)
        usable = [name for name in names if not ipaddress.ip_address(name).is_loopback]
        if usable:
            return usable
    return []


def _covers(outer: Network, inner: Network) -> bool:
    return outer.version == inner.version and inner.subnet_of(outer)  # type: ignore[arg-type]


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
