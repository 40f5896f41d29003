"""Which addresses a guarded container must not reach."""

from __future__ import annotations

import ipaddress

import pytest

from pool.engine.egress import make_rules

SPECIAL = (
    "168.63.129.16 192.0.2.1 192.88.99.1 198.51.100.9 203.0.113.255 169.254.169.254 10.1.2.3 "
    "100::1 100:0:0:1::1 2001::1 2001:2::1 2001:10::1 2001:20::1 2001:db8::1 2002::1 3fff::1 "
    "5f00::1 64:ff9b::1 fc00::1 fd00:ec2::254 fe80::1 fec0::1 ff02::1"
)
PUBLIC = "1.1.1.1 8.8.8.8 168.63.129.15 192.0.3.1 203.0.114.1 2606:4700::1111 2001:4860:4860::8888"


def is_blocked(address: str, networks: tuple[str, ...]) -> bool:
    return any(ipaddress.ip_address(address) in ipaddress.ip_network(one) for one in networks)


@pytest.mark.parametrize("address", SPECIAL.split())
def test_what_the_registries_keep_for_special_purposes_is_blocked(address: str) -> None:
    assert is_blocked(address, tuple(make_rules([], [], []).blocked))


@pytest.mark.parametrize("address", PUBLIC.split())
def test_what_is_public_is_not(address: str) -> None:
    assert not is_blocked(address, tuple(make_rules([], [], []).blocked))


def test_of_the_machines_addresses_the_public_ones_alone_are_told() -> None:
    blocked = make_rules(
        ["10.0.0.0/8"], ["9.8.7.6", "172.17.0.1", "10.0.0.5", "fe80::1"], []
    ).blocked
    assert "9.8.7.6/32" in blocked
    assert not {"172.17.0.1/32", "10.0.0.5/32", "fe80::1/128", "10.0.0.0/8"} & set(blocked)
