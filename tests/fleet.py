"""Several engines of our own on one network, as so many machines would be.

Each engine is a node: it has a host name, an address, and namespaces of its own. Their network is a
bridge in a further namespace, the hub, where the tests have their sockets. The machine's own
network has no part of it.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import ClientSession, ClientTimeout, TCPConnector

from tests.private_engine import PrivateEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HUB = "10.213.0.254"
"""The tests' own address, as nodes and their containers reach it."""
_NODE = "10.213.0.{}"
_SOCKET = "/var/run/docker.sock"
_CLONE_NEWNET = 0x40000000
_HOLD = "import sys; print('up', flush=True); sys.stdin.read()"


@dataclass(frozen=True, slots=True)
class Node:
    """One machine of the fleet."""

    name: str
    address: str
    engine: PrivateEngine

    def docker(self, *arguments: str | Path, text: str = "") -> str:
        """Run the docker command against this node's engine, and return what it prints."""
        done = subprocess.run(
            ["docker", "--host", f"unix://{self.engine.socket}", *arguments],
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout.strip()


class Fleet:
    """Nodes, from `create` to `close`; `directory` must be short, since sockets are below it."""

    def __init__(self, directory: Path) -> None:
        self.nodes: list[Node] = []
        self._directory = directory
        self._holder: subprocess.Popen[bytes] | None = None
        self._pid = 0

    def create(self) -> None:
        """Make the hub."""
        self._holder = subprocess.Popen(
            ["unshare", "--net", sys.executable, "-S", "-c", _HOLD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"up\n"
        self._pid = self._holder.pid  # unshare without --fork becomes what it runs
        self._in_hub("ip", "link", "set", "lo", "up")
        self._in_hub("ip", "link", "add", "hub", "type", "bridge")
        self._in_hub("ip", "address", "add", f"{HUB}/24", "dev", "hub")
        self._in_hub("ip", "link", "set", "hub", "up")

    async def add(self) -> Node:
        """Start one more node. It has no way to anywhere but the hub and the other nodes."""
        number = len(self.nodes) + 1
        name, address = f"node{number}", _NODE.format(number)
        engine = PrivateEngine(self._directory / name)
        node = Node(name, address, engine)
        self.nodes.append(node)
        engine.create()
        self._plug(node)
        engine.start()
        await engine.answers()
        return node

    def _plug(self, node: Node) -> None:
        peer = ("type", "veth", "peer", "name", "eth0", "netns", str(node.engine.pid))
        self._in_hub("ip", "link", "add", node.name, *peer)
        self._in_hub("ip", "link", "set", node.name, "master", "hub", "up")
        for command in (
            ("hostname", node.name),
            ("ip", "address", "add", f"{node.address}/24", "dev", "eth0"),
            ("ip", "link", "set", "eth0", "up"),
        ):
            subprocess.run(node.engine.inside(*command), check=True)

    def close(self) -> None:
        """End all nodes and the hub."""
        for node in self.nodes:
            node.engine.close()
        if self._holder is not None:
            self._holder.communicate()

    # --- the tests' side ----------------------------------------------------------------------

    def listener(self) -> socket.socket:
        """Return a listening socket at a free port of the hub's address."""

        def listen() -> socket.socket:
            made = socket.socket()
            made.bind((HUB, 0))
            made.listen(128)
            made.setblocking(False)  # noqa: FBT003 - socket's own
            return made

        return self._within(listen)

    def session(self, *, timeout_s: float) -> ClientSession:
        """Return a client that reaches the nodes by their addresses."""

        def connected_from_hub(address: tuple[object, ...]) -> socket.socket:
            return self._within(socket.socket)

        connector = TCPConnector(socket_factory=connected_from_hub)
        return ClientSession(connector=connector, timeout=ClientTimeout(timeout_s))

    def _within(self, make: Callable[[], socket.socket]) -> socket.socket:
        """Return a socket that a thread makes in the hub: a socket stays where it was made."""
        made: list[socket.socket] = []

        def enter_and_make() -> None:
            with Path(f"/proc/{self._pid}/ns/net").open() as namespace:
                libc = ctypes.CDLL(None, use_errno=True)
                if libc.setns(namespace.fileno(), _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            made.append(make())

        thread = threading.Thread(target=enter_and_make)
        thread.start()
        thread.join()
        return made[0]

    def _in_hub(self, *command: str) -> None:
        enter = ("nsenter", "-t", str(self._pid), "--net", "--")
        subprocess.run([*enter, *command], check=True)


def give_socket(node: Node) -> None:
    """Put a node's socket where its containers expect it, in place of the machine's own.

    Without this, what mounts `/var/run/docker.sock` would have the engine that all share.
    """
    inside = node.engine.inside
    subprocess.run(inside("mount", "--bind", node.engine.socket, _SOCKET), check=True)
    asked = ["docker", "--host", f"unix://{_SOCKET}", "info", "--format", "{{.ID}}"]
    done = subprocess.run(inside(*asked), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == node.docker("info", "--format", "{{.ID}}")


async def swarm(nodes: Sequence[Node]) -> None:
    """Make a Swarm of nodes; the first manages it."""
    first, *others = nodes
    first.docker("swarm", "init", "--advertise-addr", first.address)
    for node in others:
        await asyncio.to_thread(join, first, node)


def join(manager: Node, node: Node) -> None:
    """Have a node join the Swarm of another."""
    token = manager.docker("swarm", "join-token", "--quiet", "worker")
    options = ("--token", token, "--advertise-addr", node.address)
    node.docker("swarm", "join", *options, f"{manager.address}:2377")
