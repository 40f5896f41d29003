#!/usr/bin/env bash
# aiodocker 0.27.0 (aiohttp 3.14.5): attach, read_out(), and an engine that goes away in the midst of a frame.
# Expected: an error, as aiohttp has for a body that is cut short.
# Seen: None, the same as for an output that ended well, and the half frame's bytes are gone. A protocol on
# this stream must carry an end of its own.
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


ENDS = {"a whole message": b"", "half of a head": b"\x01\x00\x00", "half of a message": b"\x01\x00\x00\x00\x00\x00\x00\x09half"}


async def ends(last):
    async def serve(reader, writer):
        while (await head(reader)).startswith("GET"):  # attach inspects the container first
            writer.write(about('{"Id": "one", "Config": {"Tty": false}}'))
        writer.write(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.2)  # after the client has taken the upgrade
        writer.write(b"\x01\x00\x00\x00\x00\x00\x00\x05whole" + last)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    docker = Docker(f"http://127.0.0.1:{port}", api_version="v1.41")
    container = docker.containers.container("one")
    stream = container.attach(stdout=True)
    seen = [await stream.read_out(), await stream.read_out()]
    await docker.close()
    server.close()
    return [one and one.data for one in seen]


async def main():
    print("aiodocker", version("aiodocker"))
    seen = {name: await asyncio.wait_for(ends(last), 10) for name, last in ENDS.items()}
    for name, result in seen.items():
        print(f"the stream ends with {name}:", result)
    assert all(result == [b"whole", None] for result in seen.values())


asyncio.run(main())
PY
