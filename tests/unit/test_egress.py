"""Which addresses a guarded container must not reach."""

from __future__ import annotations

import ipaddress

import pytest

from pool.engine.egress import make_rules

# Every row of IANA's two special-purpose registries but loopback, what of IPv6's address space is
# not given out, and Azure's wire server.
SPECIAL = """
0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24
192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15
198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4
::ffff:0:0/96 64:ff9b::/96 64:ff9b:1::/48 100::/64 100:0:0:1::/64 2001::/23 2001::/32 2001:1::1/128
2001:1::2/128 2001:1::3/128 2001:2::/48 2001:3::/32 2001:4:112::/48 2001:10::/28 2001:20::/28
2001:30::/28 2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20 5f00::/16 fc00::/7 fe80::/10
100::/8 200::/7 400::/6 800::/5 1000::/4 4000::/3 6000::/3 8000::/3 a000::/3 c000::/3 e000::/4
f000::/5 f800::/6 fe00::/9 fec0::/10 ff00::/8
168.63.129.16/32
"""
PUBLIC = (
    "1.1.1.1 8.8.8.8 168.63.129.15 192.0.3.1 192.31.197.1 192.52.192.1 192.175.49.1 203.0.114.1 "
    "2606:4700::1111 2001:4860:4860::8888 2001:200::1 2620:4f:7fff::1 2620:4f:8001::1 3ffe::1 "
    "3fff:1000::1"
)


def is_blocked(address: str, networks: tuple[str, ...]) -> bool:
    return any(ipaddress.ip_address(address) in ipaddress.ip_network(one) for one in networks)


@pytest.mark.parametrize("network", SPECIAL.split())
def test_what_the_registries_keep_for_special_purposes_is_blocked(network: str) -> None:
    addresses = ipaddress.ip_network(network)
    blocked = tuple(make_rules([], [], []).blocked)
    for address in (addresses[0], addresses[addresses.num_addresses // 2], addresses[-1]):
        assert is_blocked(str(address), blocked)


@pytest.mark.parametrize("address", [*PUBLIC.split(), "127.0.0.1", "::1"])
def test_what_is_public_or_the_containers_own_is_not(address: str) -> None:
    assert not is_blocked(address, tuple(make_rules([], [], []).blocked))


def test_of_the_machines_addresses_the_public_ones_alone_are_told() -> None:
    blocked = make_rules(
        ["10.0.0.0/8"], ["9.8.7.6", "172.17.0.1", "10.0.0.5", "fe80::1"], []
    ).blocked
    assert "9.8.7.6/32" in blocked
    assert not {"172.17.0.1/32", "10.0.0.5/32", "fe80::1/128", "10.0.0.0/8"} & set(blocked)
