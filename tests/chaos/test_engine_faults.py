"""What befalls the engine and its containers, for real, while one server goes on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
from typing import TYPE_CHECKING

import pytest

from tests.integration.server import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.chaos.bed import Bed

LIVE = "--live-restore"
SHIM = "containerd-shim-runc-v2"
TIMES = 3


async def away(bed: Bed) -> None:
    """See that /readyz tells that the engine is away, and let it be away for a while."""
    await bed.watch.says(ready=False)
    await asyncio.sleep(bed.hold_s)


async def dockerd_ends(bed: Bed, number: signal.Signals, *options: str) -> None:
    if options:
        # Live-restore is for the next end to heed.
        bed.engine.reload(live_restore=True)
    bed.injected()
    ending = asyncio.create_task(bed.engine.end(number))
    await away(bed)
    await ending
    bed.engine.start()
    await bed.engine.answers()
    if options:
        bed.engine.reload(live_restore=False)


async def dockerd_is_stopped(bed: Bed) -> None:
    await dockerd_ends(bed, signal.SIGTERM)


async def dockerd_is_stopped_with_live_restore(bed: Bed) -> None:
    await dockerd_ends(bed, signal.SIGTERM, LIVE)


async def dockerd_is_killed(bed: Bed) -> None:
    await dockerd_ends(bed, signal.SIGKILL)


async def dockerd_is_killed_with_live_restore(bed: Bed) -> None:
    await dockerd_ends(bed, signal.SIGKILL, LIVE)


async def dockerd_freezes(bed: Bed) -> None:
    bed.injected()
    bed.engine.freeze()
    try:
        await away(bed)
    finally:
        bed.engine.thaw()


async def containerd_is_killed(bed: Bed) -> None:
    bed.injected()
    killed = bed.engine.pids("containerd")
    assert bed.engine.send("containerd", signal.SIGKILL)

    async def another() -> bool:
        return bool(set(bed.engine.pids("containerd")) - set(killed))

    await until(another, "dockerd starts another containerd")  # it takes its time: ten seconds


async def a_shim_is_killed(bed: Bed) -> None:
    for _ in range(TIMES):
        pids = bed.engine.pids(SHIM)
        if pids:
            bed.injected()
            bed.engine.send_to(random.choice(pids), signal.SIGKILL)
        await asyncio.sleep(0.3)
    if await bed.engine.stuck():
        # Seen once: Docker 20.10 held a container's lock for ever after. Its operator restarts it.
        await dockerd_ends(bed, signal.SIGKILL)


async def befall(bed: Bed, happens: Callable[[str], Awaitable[object]]) -> None:
    """Let something happen to containers: to all of an idle server, to one at a time under load."""
    for _ in range(1 if bed.load is None else TIMES):
        victims = list(await bed.server.containers())
        if bed.load is not None:
            victims = random.sample(victims, min(1, len(victims)))
        bed.injected(len(victims))
        await asyncio.gather(*map(happens, victims))
        await asyncio.sleep(0.3)


async def a_container_is_removed(bed: Bed) -> None:
    await befall(bed, bed.engine.client.remove)


async def a_container_is_stopped(bed: Bed) -> None:
    async def stop(one: str) -> None:
        await bed.engine.client.call("POST", f"/containers/{one}/stop?t=1")

    await befall(bed, stop)


async def a_container_is_paused(bed: Bed) -> None:
    async def pause(one: str) -> None:
        await bed.engine.client.call("POST", f"/containers/{one}/pause")

    async def replaced() -> bool:
        return "paused" not in (await bed.server.containers()).values()

    await befall(bed, pause)
    await until(replaced, "what is paused is replaced", within_s=10)


async def a_runner_is_out_of_memory(bed: Bed) -> None:
    async def exhaust(one: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # it may just have gone
            bed.engine.expose(one)
            await bed.engine.client.exec(one, "python3", "-c", "bytearray(1 << 30)")

    await befall(bed, exhaust)


async def the_image_is_deleted(bed: Bed) -> None:
    bed.injected()
    base = bed.settings["IMAGE"]
    wanted = json.dumps({"label": [f"pgexec.base={base}"]})
    _, images = await bed.engine.client.call("GET", f"/images/json?filters={wanted}")
    names = [name for image in images for name in image["RepoTags"] or ()]
    assert names
    for name in names:
        await bed.engine.client.call("DELETE", f"/images/{name}?force=1")
    await befall(bed, bed.engine.client.remove)


async def the_disk_is_full(bed: Bed) -> None:
    async def remove(one: str) -> None:
        await bed.engine.client.remove(one)
        bed.engine.fill_disk()  # what one leaves would do for another

    bed.engine.fill_disk()
    try:
        await befall(bed, remove)
        if bed.load is None:
            while await bed.server.containers():  # one may have been quicker
                await befall(bed, remove)
            await bed.watch.says(ready=False)
        await asyncio.sleep(bed.hold_s)
    finally:
        bed.engine.free_disk()


FAULTS: tuple[Callable[[Bed], Awaitable[None]], ...] = (
    dockerd_is_stopped,
    dockerd_is_stopped_with_live_restore,
    dockerd_is_killed,
    dockerd_is_killed_with_live_restore,
    dockerd_freezes,
    containerd_is_killed,
    a_shim_is_killed,
    a_container_is_removed,
    a_container_is_stopped,
    a_container_is_paused,
    a_runner_is_out_of_memory,
    the_image_is_deleted,
    the_disk_is_full,
)
LONG_FORM_ONLY = {
    containerd_is_killed,  # dockerd takes ten seconds to start another
    dockerd_is_stopped_with_live_restore,
    dockerd_is_killed_with_live_restore,
}
"""On an idle server, for the short form's sake."""
TAKES_ALL = {
    a_container_is_removed,
    a_container_is_stopped,
    a_container_is_paused,
    the_image_is_deleted,
    the_disk_is_full,
}
"""On an idle server, where no session outlives them."""


@pytest.mark.parametrize("clients", [0, 5], ids=["idle", "under_load"])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_the_engine(bed: Bed, fault: Callable[[Bed], Awaitable[None]], clients: int) -> None:
    if not (clients or bed.long) and fault in LONG_FORM_ONLY:
        pytest.skip("in the long form only")
    await bed.suffers(fault.__name__.replace("_", " "), fault, clients=clients)
    assert bed.sessions.ended["lost"] or clients or fault not in TAKES_ALL
