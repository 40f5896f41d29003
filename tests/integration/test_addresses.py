"""Addresses that the machine gets after the start of its server are out of reach, too."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from typing import TYPE_CHECKING

from tests.integration.server import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.server import StartServer

ADDRESS = "151.77.66.55"  # public by its number
CONNECT = """
import errno, socket
try: print(socket.create_connection(({address!r}, {port}), 2) and "reached")
except TimeoutError: print("timeout")
except OSError as error: print(errno.errorcode[error.errno])
"""


@contextlib.contextmanager
def address() -> Iterator[None]:
    """Give the machine an address."""
    subprocess.run(["ip", "addr", "add", f"{ADDRESS}/32", "dev", "lo"], check=True)
    try:
        yield
    finally:
        subprocess.run(["ip", "addr", "del", f"{ADDRESS}/32", "dev", "lo"], check=True)


async def test_an_address_that_comes_later_is_closed_in_what_is_idle_and_what_is_recycled(
    start: StartServer,
) -> None:
    server = await start(POOL_MIN_IDLE=2, POOL_MAX_CONTAINERS=2, NETWORK="egress")
    await server.ready()
    await server.works()
    before = await server.containers()
    with address(), socket.create_server((ADDRESS, 0)) as listener:
        code = CONNECT.format(address=ADDRESS, port=listener.getsockname()[1])

        async def renewed() -> bool:
            return not set(before) & set(await server.containers())

        await until(renewed, "containers of before the address are gone")
        for _ in range(4):
            assert await server.output(code) == "EHOSTUNREACH\n"
