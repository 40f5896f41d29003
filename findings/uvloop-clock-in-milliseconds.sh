#!/usr/bin/env bash
# uvloop 0.23.0: what loop.time() is good for.
# Expected: asyncio's loop, a monotonic clock of nanoseconds.
# Seen: whole milliseconds only, so that most waits below 1 ms measure as 0 by it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" --quiet --disable-pip-version-check install uvloop==0.23.0
cd "$work"
timeout 60 "$work/venv/bin/python" - <<'PY'
import asyncio
import time
from importlib.metadata import version

import uvloop


async def differences():
    """Tell how many of 200 times, each 0.2 ms after the last one, are no whole milliseconds."""
    loop = asyncio.get_running_loop()
    times = []
    for _ in range(200):
        time.sleep(0.0002)
        times.append(loop.time() * 1000)
    return sum(abs(one - round(one)) > 1e-5 for one in times)


ours, plain = uvloop.run(differences()), asyncio.run(differences())
print("uvloop", version("uvloop"))
print("times of 200 that are no whole milliseconds: uvloop", ours, "asyncio", plain)
assert ours == 0 and plain > 150
PY
