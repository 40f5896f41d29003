"""The store of layers on a virtual clock: who waits, who installs, what stays and what goes."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from pool.dependencies.layer import Layer, LayersConfig
from pool.dependencies.store import LayerStore
from pool.dependencies.turns import REMEMBERED, Turns
from pool.engine.spec import ContainerSpec
from pool.errors import (
    ContainerLost,
    EngineError,
    InstallError,
    InstallFailure,
    LeaseTimeout,
    PoolClosed,
    PoolSaturated,
)
from pool.observer import LayerObserver
from tests.unit.rig import quiet

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

pytestmark = pytest.mark.clock

SPEC = ContainerSpec("image", prepared=True, base_id="sha256:1")
KIB = 1024


class FakePublication:
    bytes: int

    async def write(self, data: Any) -> None:
        pass


@dataclass
class FakeVolume:
    """A volume in memory: layers by name, and what is known of each."""

    layers: dict[str, dict[str, Any]] = field(default_factory=dict)
    damaged: set[str] = field(default_factory=set)
    started: int = 0
    up: bool = False
    refuses: bool = False
    size: int = KIB
    used: dict[str, float] = field(default_factory=dict)

    def is_running(self) -> bool:
        return self.up

    async def load(self, spec: ContainerSpec) -> list[dict[str, Any]]:
        await asyncio.sleep(0.1)
        if self.refuses:
            raise EngineError("no such volume")
        self.started += 1
        self.up = True
        for name in self.damaged:
            self.layers.pop(name, None)
        return list(self.layers.values())

    async def check(self, name: str) -> bool:
        if not self.up:
            raise ContainerLost("gone")
        return name in self.layers and name not in self.damaged

    async def remove(self, *names: str) -> None:
        for name in names:
            self.layers.pop(name, None)

    async def note_use(self, used: Mapping[str, float]) -> None:
        self.used.update(used)

    @contextlib.asynccontextmanager
    async def publishing(
        self, name: str, about: Mapping[str, Any]
    ) -> AsyncIterator[FakePublication]:
        publication = FakePublication()
        yield publication
        publication.bytes = self.size
        self.layers[name] = {**about, "name": name, "bytes": self.size}

    async def close(self) -> None:
        self.up = False


class FakeInstaller:
    """Takes ten seconds, and may fail; counts what goes on at once."""

    def __init__(self) -> None:
        self.installed_sets: list[tuple[str, ...]] = []
        self.errors: list[Exception] = []
        self.now = 0
        self.most = 0
        self.left = 0

    @contextlib.asynccontextmanager
    async def installed(
        self,
        spec: ContainerSpec,
        requirements: tuple[str, ...],
        name: str,
        labels: Mapping[str, str],
        on_line: Callable[[str], None],
    ) -> AsyncIterator[FakeInstaller]:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            on_line(f"Collecting {requirements[0]}")
            await asyncio.sleep(10)
            on_line("Installing")
            if self.errors:
                raise self.errors.pop(0)
            self.installed_sets.append(requirements)
            yield self
        finally:
            self.now -= 1
            self.left += 1

    python = "3.13"

    async def settle(self) -> None:
        pass

    async def collect(self, on_data: Callable[[bytes], Awaitable[None]]) -> None:
        await on_data(b"layer")


class Seen(LayerObserver):
    def __init__(self) -> None:
        self.events: list[str] = []
        self.now = (0, 0)

    def hit(self) -> None:
        self.events.append("hit")

    def missed(self) -> None:
        self.events.append("miss")

    def installed(self, seconds: float) -> None:
        self.events.append("installed")

    def failed(self, failure: InstallFailure) -> None:
        self.events.append(f"failed {failure}")

    def evicted(self) -> None:
        self.events.append("evicted")

    def damaged(self) -> None:
        self.events.append("damaged")

    def kept(self, layers: int, size_bytes: int) -> None:
        self.now = (layers, size_bytes)


class Bench:
    def __init__(self, volume: FakeVolume | None = None, **config: Any) -> None:
        self.volume = volume or FakeVolume()
        self.installer = FakeInstaller()
        self.seen = Seen()
        self.store = LayerStore(
            self.volume,  # type: ignore[arg-type]
            self.installer,  # type: ignore[arg-type]
            LayersConfig(**config),
            dict,
            observer=self.seen,
        )

    async def name(self, *requirements: str, **options: Any) -> str:
        """Be a request: use a layer and let it go."""
        async with self.store.use(requirements, SPEC, **options) as layer:
            return layer.name

    async def client(self, *requirements: str, **options: Any) -> asyncio.Task[str]:
        task = asyncio.create_task(self.name(*requirements, **options))
        await quiet()
        return task

    @contextlib.asynccontextmanager
    async def holding(self, *requirements: str) -> AsyncIterator[Layer]:
        async with self.store.use(requirements, SPEC) as layer:
            yield layer


async def test_what_is_there_is_not_installed_again() -> None:
    bench = Bench()
    names = [await bench.name("a") for _ in range(3)]
    assert len(set(names)) == 1
    assert len(names[0]) == 32
    assert bench.installer.installed_sets == [("a",)]
    assert bench.seen.events == ["miss", "installed", "hit", "hit"]
    assert bench.seen.now == (1, KIB)


async def test_another_image_or_index_is_another_layer() -> None:
    bench = Bench()
    spec = ContainerSpec("image", prepared=True, base_id="sha256:2")
    assert bench.store.key(("a",), SPEC) != bench.store.key(("a",), spec)
    assert bench.store.key(("a",), SPEC) != Bench(about="index").store.key(("a",), SPEC)


async def test_concurrent_first_requests_install_once_and_hear_every_line() -> None:
    bench = Bench()
    heard: list[list[str]] = [[], []]
    first = await bench.client("a", on_line=heard[0].append)
    await asyncio.sleep(5)
    second = await bench.client("a", on_line=heard[1].append)
    assert await first == await second
    assert bench.installer.installed_sets == [("a",)]
    assert heard == [["Collecting a", "Installing"]] * 2


async def test_a_waiter_that_hangs_up_cancels_nothing_for_the_others() -> None:
    bench = Bench()
    first, second = await bench.client("a"), await bench.client("a")
    first.cancel()
    await quiet()
    assert len(await second) == 32
    assert bench.installer.installed_sets == [("a",)]


async def test_what_has_begun_comes_to_its_end_for_whoever_asks_next() -> None:
    bench = Bench()
    first = await bench.client("a")
    await asyncio.sleep(1)
    first.cancel()
    await asyncio.sleep(20)
    await bench.name("a")
    assert bench.seen.events == ["miss", "installed", "hit"]


async def test_what_only_waits_for_its_turn_is_dropped_with_its_last_waiter() -> None:
    bench = Bench(concurrency=1)
    running, queued = await bench.client("a"), await bench.client("b")
    queued.cancel()
    await quiet()
    again = await bench.client("b")
    await running
    await again
    assert bench.installer.installed_sets == [("a",), ("b",)]


async def test_only_so_many_installations_go_on_at_once() -> None:
    bench = Bench(concurrency=2)
    clients = [await bench.client(name) for name in "abcde"]
    await asyncio.gather(*clients)
    assert bench.installer.most == 2


async def test_tenants_take_turns_and_one_place_stays_for_another() -> None:
    bench = Bench(concurrency=2)
    greedy = [await bench.client(name, tenant="greedy") for name in "abcdefgh"]
    await asyncio.sleep(1)
    began = asyncio.get_running_loop().time()
    assert len(await bench.name("mine", tenant="other")) == 32
    assert asyncio.get_running_loop().time() - began < 11
    await asyncio.gather(*greedy)
    assert bench.installer.most == 2


async def test_a_tenant_waits_for_one_installation_of_each_other() -> None:
    bench = Bench(concurrency=1)
    clients = [await bench.client(name, tenant=name[0]) for name in ("a1", "a2", "a3", "b1", "c1")]
    await asyncio.gather(*clients)
    order = [name for (name,) in bench.installer.installed_sets]
    assert order == ["a1", "b1", "c1", "a2", "a3"]


async def test_a_place_that_was_given_to_a_task_that_is_cancelled_goes_to_the_next() -> None:
    turns = Turns(1)

    async def take() -> None:
        async with turns.of(["t"]):
            pass

    async with turns.of(["t"]):
        cancelled = asyncio.create_task(take())
        await quiet()
    cancelled.cancel()  # it has the place, and has not woken up
    await quiet()
    await asyncio.wait_for(take(), 1)


async def test_each_waits_within_its_own_time_and_the_installation_goes_on() -> None:
    bench = Bench(wait_s=8)
    first = await bench.client("a")
    await asyncio.sleep(4)
    second = await bench.client("a")
    with pytest.raises(LeaseTimeout, match=r"a could not be installed within 8 s"):
        await first
    assert len(await second) == 32


async def test_a_failure_is_each_waiters_own_and_is_remembered_for_a_while() -> None:
    bench = Bench(failure_ttl_s=30)
    bench.installer.errors = [
        InstallError("no such package", InstallFailure.NO_PACKAGE, log="ERROR")
    ]
    clients = [await bench.client("a"), await bench.client("a")]
    results = await asyncio.gather(*clients, return_exceptions=True)
    assert [type(one) for one in results] == [InstallError] * 2
    assert results[0] is not results[1]
    for _ in range(2):
        with pytest.raises(InstallError) as caught:
            await bench.name("a")
        assert (str(caught.value), caught.value.log) == ("no such package", "ERROR")
    assert bench.installer.left == 1
    await asyncio.sleep(31)
    assert len(await bench.name("a")) == 32
    assert "failed no_package" in bench.seen.events


async def test_a_network_that_fails_is_asked_again_soon() -> None:
    bench = Bench(failure_ttl_s=30)
    bench.installer.errors = [InstallError("away", InstallFailure.NO_NETWORK)]
    with pytest.raises(InstallError):
        await bench.name("a")
    await asyncio.sleep(3)
    assert len(await bench.name("a")) == 32


async def test_an_engine_that_fails_is_no_failure_of_the_requirements() -> None:
    bench = Bench(FakeVolume(refuses=True))
    for _ in range(2):
        with pytest.raises(EngineError):
            await bench.name("a")
    bench.volume.refuses = False
    assert len(await bench.name("a")) == 32


async def test_the_least_recently_used_goes_first_and_never_one_in_use() -> None:
    bench = Bench(limit_bytes=2 * KIB)
    async with bench.holding("a"):
        await bench.name("b")
        await bench.name("c")
        await quiet()
        assert {about["requirements"] for about in bench.volume.layers.values()} == {
            ("a",),
            ("c",),
        }
    await bench.name("a")
    await bench.name("d")
    await quiet()
    kept = {about["requirements"] for about in bench.volume.layers.values()}
    assert kept == {("a",), ("d",)}
    assert bench.seen.now == (2, 2 * KIB)


async def test_one_that_is_over_the_limit_by_itself_serves_those_who_wait_and_goes() -> None:
    bench = Bench(limit_bytes=0)
    clients = [await bench.client("a"), await bench.client("a")]
    assert len(set(await asyncio.gather(*clients))) == 1
    await quiet()
    assert bench.volume.layers == {}
    assert bench.store.layers == 0


async def test_their_number_is_bounded_as_well() -> None:
    bench = Bench(limit_layers=2)
    for name in "abc":
        await bench.name(name)
    await quiet()
    kept = {about["requirements"] for about in bench.volume.layers.values()}
    assert kept == {("b",), ("c",)}


async def test_what_is_preloaded_stays() -> None:
    bench = Bench(limit_bytes=KIB)
    layer = await bench.store.preload(("a",), SPEC)
    bench.volume.damaged.add(layer.name)
    assert await bench.store.is_damaged(layer)
    assert await bench.name("a") != layer.name  # made anew, it is to stay as well
    await bench.name("b")
    await quiet()
    assert {about["requirements"] for about in bench.volume.layers.values()} == {("a",)}


async def test_what_earlier_servers_left_is_used_and_of_twins_one() -> None:
    old = Bench()
    name = await old.name("a")
    await old.store.close()
    known = old.volume.layers[name]
    old.volume.layers["twin"] = {**known, "name": "twin", "used_at": 0.0}
    # As JSON has it.
    for about in old.volume.layers.values():
        about["requirements"] = list(about["requirements"])
    bench = Bench(old.volume)
    await bench.store.open(SPEC)
    assert bench.volume.up
    assert await bench.name("a") in {name, "twin"}
    assert bench.installer.left == 0
    assert len(bench.volume.layers) == 1


async def test_no_container_serves_a_volume_without_layers() -> None:
    bench = Bench()
    await bench.store.open(SPEC)
    assert (bench.volume.started, bench.volume.up) == (1, False)


async def test_a_damaged_layer_is_made_anew() -> None:
    bench = Bench()
    async with bench.holding("a") as layer:
        assert not await bench.store.is_damaged(layer)
        bench.volume.damaged.add(layer.name)
        assert await bench.store.is_damaged(layer)
    assert await bench.name("a") != layer.name
    await quiet()
    assert layer.name not in bench.volume.layers
    assert "damaged" in bench.seen.events


async def test_a_layer_in_use_is_looked_at_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(recheck_s=0)
    name = await bench.name("a")
    bench.volume.damaged.add(name)
    await bench.name("a")
    await quiet()
    assert await bench.name("a") != name


async def test_too_many_that_wait_are_refused_and_one_tenant_cannot_take_all() -> None:
    bench = Bench(max_pending=3, tenant_max_pending=2)
    tasks = [await bench.client(name, tenant="t") for name in "ab"]
    with pytest.raises(PoolSaturated):
        await bench.name("c", tenant="t")
    await tasks[0]
    tasks = [await bench.client(name, tenant=f"u{name}") for name in "xy"]
    with pytest.raises(PoolSaturated):
        await bench.name("d", tenant="v")
    await asyncio.sleep(30)
    assert len(await bench.name("d", tenant="v")) == 32


async def test_closing_ends_what_goes_on_and_notes_what_was_used() -> None:
    bench = Bench()
    name = await bench.name("a")
    waiting = await bench.client("b")
    await asyncio.sleep(1)
    await bench.store.close()
    with pytest.raises(PoolClosed):
        await waiting
    with pytest.raises(PoolClosed):
        await bench.name("c")
    assert bench.installer.now == 0
    assert set(bench.volume.used) == {name}
    assert not bench.volume.up


async def test_turns_of_ever_new_tenants_are_not_remembered_for_ever() -> None:
    turns = Turns(2)
    for number in range(REMEMBERED + 10):
        async with turns.of([f"front/{number}"]):
            pass
    assert len(turns._last_turn) == REMEMBERED
    assert not turns._running


async def test_the_users_of_a_tenant_take_its_turns_and_never_the_last_place() -> None:
    turns, order, ends = Turns(2), [], asyncio.Event()

    async def install(tenant: str) -> None:
        async with turns.of([tenant]):
            order.append(tenant)
            await ends.wait()

    names = ("a/x", "a/y", "a/z", "b", "b")
    tasks = [asyncio.create_task(install(tenant)) for tenant in names]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert order == ["a/x", "b"]
    ends.set()
    await asyncio.gather(*tasks)
    assert order == ["a/x", "b", "a/y", "b", "a/z"]


async def test_a_set_that_two_tenants_wait_for_has_the_turn_of_the_one_that_comes_first() -> None:
    bench = Bench(concurrency=2)
    slow = [await bench.client(f"slow{number}", tenant="a") for number in range(5)]
    slow.append(await bench.client("wanted", tenant="a"))
    await asyncio.sleep(1)
    began = asyncio.get_running_loop().time()
    await asyncio.wait_for(await bench.client("wanted", tenant="b"), 60)
    assert asyncio.get_running_loop().time() - began < 15
    await asyncio.gather(*slow)


async def test_tenants_that_fill_the_queue_make_room_for_one_that_has_nothing_in_it() -> None:
    bench = Bench(max_pending=8, tenant_max_pending=4, wait_s=1000)
    filling = [
        await bench.client(f"{tenant}{number}", tenant=tenant)
        for number in range(4)
        for tenant in "ab"
    ]
    await asyncio.sleep(1)
    newcomers = [await bench.client(f"c{number}", tenant="c") for number in range(2)]
    with pytest.raises(PoolSaturated, match="2 installations"):  # nobody has more, with this one
        await (await bench.client("d", tenant="c"))
    names = await asyncio.gather(*newcomers)
    assert len(set(names)) == 2
    results = await asyncio.gather(*filling, return_exceptions=True)
    gave_way = [number for number, one in enumerate(results) if isinstance(one, PoolSaturated)]
    assert gave_way == [6, 7]
