#!/usr/bin/env bash
# aiodocker 0.27.0 (aiohttp 3.14.5): the first calls of a client at once, with api_version="auto", the default.
# Expected: one GET /version, for which the other calls wait.
# Seen: one GET /version for each call that began before the first answer.
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
    asked = []

    async def serve(reader, writer):
        while True:
            try:
                path = (await head(reader)).split()[1]
            except asyncio.IncompleteReadError:
                writer.close()
                return
            asked.append(path)
            await asyncio.sleep(0.2)
            writer.write(about('{"ApiVersion": "1.41"}'))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    docker = Docker(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    await asyncio.wait_for(asyncio.gather(*(docker.system.info() for _ in range(5))), 10)
    await docker.system.info()
    await docker.close()
    server.close()
    count = asked.count("/version")
    print("aiodocker", version("aiodocker"))
    print("5 calls at once and one later:", count, "x /version,", asked.count("/v1.41/info"), "x /info")
    assert (count, asked.count("/v1.41/info")) == (5, 6)


asyncio.run(main())
PY
