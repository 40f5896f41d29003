# ruff: noqa: E501 - the snippets are written as an attacker would
"""What containers that live at the same time must not share, and must not be told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from pool.engine.egress import make_rules, own_addresses
from tests.abuse.sandbox import Sandbox

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
