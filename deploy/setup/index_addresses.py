"""Print those addresses of the package index that the network guard closes, with commas."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
import subprocess
import sys
from urllib.parse import urlsplit

from pgexec.settings import load_settings
from pool.engine.egress import NOT_PUBLIC

CLOSED = [ipaddress.ip_network(network) for network in NOT_PUBLIC]
OF_PIP = "from pip._internal.models.index import PyPI; print(PyPI.netloc, PyPI.file_storage_domain)"


def hosts() -> list[str]:
    """Return the hosts of the configured index, else of the one that pip goes to by itself."""
    if configured := load_settings()[0].dependency_index_url:
        return [urlsplit(url).hostname or "" for url in configured]
    for python in (sys.executable, "python3"):  # an environment made by uv has no pip
        asked = subprocess.run([python, "-c", OF_PIP], check=False, capture_output=True, text=True)  # noqa: S603  # an interpreter of ours
        if asked.returncode == 0 and re.fullmatch(r"\S+ \S+\n", asked.stdout):
            return asked.stdout.split()
    return []


def closed_addresses(names: list[str]) -> list[str]:
    """Return the addresses of these hosts that are not public, each once."""
    found: dict[str, None] = {}
    for name in names:
        with contextlib.suppress(OSError):
            for *_, address in socket.getaddrinfo(name, 443, type=socket.SOCK_STREAM):
                one = ipaddress.ip_address(str(address[0]).partition("%")[0])
                if not one.is_loopback and any(one in network for network in CLOSED):
                    found[str(one)] = None
    return list(found)


if __name__ == "__main__":
    print(",".join(closed_addresses(hosts())))
