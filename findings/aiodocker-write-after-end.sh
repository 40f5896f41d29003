#!/usr/bin/env bash
# aiodocker 0.27.0 (aiohttp 3.14.5): write_in() to a container that has ended and closed the stream.
# Expected: a ConnectionError or a DockerError.
# Seen: AssertionError without a text, which looks like a bug of the caller, and of which no documented class of
# errors is a base.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" --quiet --disable-pip-version-check install aiodocker==0.27.0 aiohttp==3.14.5
cd "$work"
timeout 60 "$work/venv/bin/python" - <<'PY'
import asyncio
from importlib.metadata import version

from aiodocker import Docker


async def head(reader):
    return (await reader.readuntil(b"\r\n\r\n")).decode()


def about(text):
    body = text.encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
        len(body), body)



async def main():
    async def serve(reader, writer):
        while (await head(reader)).startswith("GET"):  # attach inspects the container first
            writer.write(about('{"Id": "one", "Config": {"Tty": false}}'))
        writer.write(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.2)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    docker = Docker(f"http://127.0.0.1:{port}", api_version="v1.41")
    stream = docker.containers.container("one").attach(stdin=True, stdout=True)
    assert await asyncio.wait_for(stream.read_out(), 10) is None
    error = None
    try:
        await stream.write_in(b"more")
    except Exception as raised:
        error = raised
    print("aiodocker", version("aiodocker"))
    print("write_in after the end:", repr(error))
    assert type(error) is AssertionError and not error.args
    await docker.close()
    server.close()


asyncio.run(main())
PY
