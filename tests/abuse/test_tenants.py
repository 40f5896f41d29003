# ruff: noqa: E501 - the snippets are written as an attacker would
"""What containers that live at the same time must not share, and must not be told."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pool.engine.egress import make_rules, own_addresses
from tests.abuse.sandbox import Sandbox
from tests.abuse.syscalls import PRELUDE
from tests.integration.server import EngineClient

if TYPE_CHECKING:
    from pool.engine.image import Image

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("max_uses", [1, 10_000, 10_000_000])
async def test_no_user_is_in_two_containers(image: Image, max_uses: int) -> None:
    """Each sandbox numbers its containers from one, as a server and each of its pools does."""
    sandboxes = [Sandbox(image, max_uses=max_uses) for _ in range(5)]

    async def users(sandbox: Sandbox) -> list[int]:
        runs = [await sandbox.run("import os; print(os.getuid(), os.getgid())") for _ in range(3)]
        ids = [set(map(int, run.text.split())) for run in runs]
        assert [len(one) for one in ids] == [1, 1, 1]
        return [one.pop() for one in ids]

    try:
        found = await asyncio.gather(*map(users, sandboxes))
    finally:
        for sandbox in sandboxes:
            await sandbox.close()
    assert len(set().union(*found)) == 15, found
    around = [set(range(min(one), min(one) + 1024)) for one in found]
    assert len(set().union(*around)) == sum(map(len, around)), "what later runs would have"


async def test_what_the_runner_is_told_shows_nowhere(image: Image) -> None:
    """Neither in the environment, nor in what else keeps the environment, nor in memory."""
    rules = make_rules(["172.17.0.0/16"], [*own_addresses(), "198.18.0.77"], ["10.11.12.13"])
    sandbox = Sandbox(image, network="bridge", guard=rules.document())
    try:
        outcome = await sandbox.run("""
import gc, os, posix, re
for name in ("environ", "cmdline"):
    with open("/proc/self/" + name, "rb") as file: print(file.read().replace(b"\\0", b" "))
print(posix.environ, os.environ, os.popen("env").read())
print(sum(type(held) is dict and "".join(["block", "ed"]) in held for held in gc.get_objects()))
with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
    for line in maps.read().splitlines():
        if line.split()[1].startswith("rw"):
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            memory.seek(start)
            print(re.findall(rb'"guar[d]":.{1,30}|blocke[d]":.{1,30}|198.18.0.7[7]', memory.read(end - start)) or "", end="")
""")
    finally:
        await sandbox.close()
    for secret in ("PGEXEC_RUNNER", "PYTHONPATH", "guard", "blocked", "198.18.0.77", "10.11.12.13"):
        assert secret not in outcome.text, outcome.text
    assert "PATH=" in outcome.text
    assert outcome.text.endswith("\n0\n")


def of_the_host() -> list[str]:
    """Return the names of the machine's disks, and the number of its boot."""
    disks = [line.split()[3] for line in Path("/proc/partitions").read_text().splitlines()[2:]]
    return [*disks, Path("/proc/sys/kernel/random/boot_id").read_text().strip()]


async def test_what_the_hosts_disks_and_memory_do_shows_nowhere(image: Image) -> None:
    """But for mountinfo and its kin, which name where the engine keeps its layers."""
    host = of_the_host()
    sandbox = Sandbox(image)
    try:
        outcome = await sandbox.run(
            f"""
import os, re
words = re.compile("|".join({host!r}).encode())
for path in ("diskstats", "vmstat", "config.gz", "locks", "partitions", "zoneinfo", "buddyinfo", "swaps", "schedstat", "softirqs"):
    path = "/proc/" + path
    if os.path.exists(path) and open(path, "rb").read(): print(path)
for path in ("/proc/fs", "/proc/bus", "/proc/irq", "/proc/driver", "/sys/fs/ext4", "/sys/block", "/sys/dev", "/sys/bus"):
    if os.path.exists(path) and os.listdir(path): print(path)
for top in ("/proc", "/sys"):
    for folder, folders, files in os.walk(top):
        folders[:] = [name for name in folders if name not in ("task", "net", "self", "thread-self", "fd", "map_files")]
        for name in files:
            path = os.path.join(folder, name)
            try:
                fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
                if words.search(os.read(fd, 1 << 18)) and name not in ("mountinfo", "mounts", "mountstats"): print(path)
                os.close(fd)
            except OSError: pass
        if words.search(" ".join(folders).encode()) and not folder.startswith("/sys/class"): print(folder)
""",
        )
    finally:
        await sandbox.close()
    assert outcome.text == ""


WATCH = (
    PRELUDE
    + """
import fcntl, struct
NUMBERS |= {"inotify_init1": (294, 26), "inotify_add_watch": (254, 27), "preadv2": (327, 286), "mincore": (27, 232), "cachestat": (451, 451), "fanotify_mark": (301, 263), "fcntl": (72, 25)}
shared = "/opt/layers/layer"
file = os.open(shared + "/shared.py", os.O_RDONLY)
folder = os.open(shared, os.O_RDONLY)
buffer = address(bytes(4096))
for call in (
    ("inotify_init1", 0), ("inotify_add_watch", 0, address(shared.encode()), 0xfff), ("fanotify_init", 0, 0),
    ("fanotify_mark", 0, 1, 0x20, -100, address(shared.encode())), ("fcntl", folder, 1026, 0x8000003f),
    ("preadv2", file, address(struct.pack("PN", buffer, 64)), 1, 0, 0, 8), ("mincore", buffer & ~4095, 4096, buffer),
    ("cachestat", file, buffer, buffer, 0),
):
    print(call[0], attempt(syscall, *call))
before = os.stat(shared + "/shared.py").st_atime_ns
print(before)
"""
)


async def test_a_tenant_does_not_see_what_another_reads_of_a_shared_layer(image: Image) -> None:
    volume, client = f"pgexec-abuse-{uuid.uuid4().hex[:12]}", EngineClient()
    fill = "mkdir /volume/layer; echo 'x = 7' >/volume/layer/shared.py; touch -a -d 2001-01-01 /volume/layer/*"
    await client.output("python:alpine", ["sh", "-c", fill], volume)
    one, other = Sandbox(image, layers=volume), Sandbox(image, layers=volume)
    try:
        first = await one.run(WATCH)
        used = await other.run(
            "import sys; sys.path.append('/opt/layers/layer'); import shared; print(shared.x)"
        )
        second = await one.run(WATCH)
    finally:
        await one.close()
        await other.close()
        await client.call("DELETE", f"/volumes/{volume}")
    assert used.text == "7\n"
    assert second.text == first.text, "the time of its last use, too"
    assert "SUCCEEDED" not in first.text
    assert len(first.text.splitlines()) == 9, first.text
