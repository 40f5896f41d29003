"""gVisor, as far as it needs no gVisor: limits, memory that runs out, and pipes with one mode."""

from __future__ import annotations

import errno
import gc
import ipaddress
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, cast

import pytest

from pgexec.backend.spec import installer_network
from pgexec.doctor import trials
from pgexec.settings import Settings
from pool.container import Container
from pool.engine.gvisor import guard_capabilities, is_gvisor
from pool.engine.spec import ContainerSpec, Limits, create_document, volume_document
from pool.errors import ContainerLost
from pool.inside import cgroup, fast_exit, guard, packet_filter, reset, traces
from pool.inside.child import Child
from pool.job import Job, Status
from tests.unit.fake_engine import FakeEngine

IN_GVISOR: dict[str, object] = {"gvisor": True}
PEAK_BYTES = 1 << 20  # of each run of a fake container


def document(runtime: str) -> dict[str, Any]:
    spec = ContainerSpec("image", prepared=True, runtime=runtime, limits=Limits(pids=64))
    return cast("dict[str, Any]", create_document(spec, labels={}, sequence=0))


async def started(
    runner: dict[str, object], memory: int = PEAK_BYTES
) -> tuple[Container, FakeEngine]:
    engine = FakeEngine()
    container = await Container.start(engine, {"HostConfig": {"Memory": memory}})
    container.runner = runner
    return container, engine


@pytest.mark.parametrize(("runtime", "it_is"), [("runsc", True), ("runsc-kvm", True), ("", False)])
def test_it_is_known_by_the_name_of_the_runtime(runtime: str, it_is: bool) -> None:  # noqa: FBT001
    assert is_gvisor(runtime) is it_is


def test_the_engine_leaves_room_for_its_threads_and_its_own_kernel_counts_processes() -> None:
    assert document("")["HostConfig"]["PidsLimit"] == 65
    in_gvisor = document("runsc")
    assert in_gvisor["HostConfig"]["PidsLimit"] > 4 * 65
    runner = next(one for one in in_gvisor["Env"] if one.startswith("PGEXEC_RUNNER="))
    assert json.loads(runner.partition("=")[2])["pids"] == 65


def test_the_guard_gets_the_right_to_filter_packets() -> None:
    assert guard_capabilities("", {}) == ("NET_ADMIN", "SETPCAP")
    assert guard_capabilities("runsc", {}) == ("NET_ADMIN", "SETPCAP", "NET_RAW")
    assert guard_capabilities("runsc", None) == ()


class Table:
    """Stands for a raw socket, and keeps the table that it is given."""

    def __init__(self, *_: int) -> None:
        self.table = b""
        tables.append(self)

    def setsockopt(self, level: int, option: int, table: bytes) -> None:
        assert (level, option) == (0, 64)
        self.table = table

    def close(self) -> None:
        pass


tables: list[Table] = []


def rules_of(table: bytes) -> list[tuple[str, int, int]]:
    """Return network, protocol and verdict of each rule, in order; check the offsets."""
    _, _, count, size, *starts, _, _ = packet_filter._HEAD.unpack_from(table)
    entries = table[packet_filter._HEAD.size :]
    assert len(entries) == size
    found: list[tuple[str, int, int]] = []
    at, places = 0, []
    while at < size:
        entry = packet_filter._ENTRY.unpack_from(entries, at)
        address, mask, protocol, target, length = (entry[place] for place in (1, 3, 4, 8, 9))
        verdict = packet_filter._TARGET.unpack_from(entries, at + target)[3]
        bits = int.from_bytes(mask, "big").bit_count()
        network = ipaddress.ip_network((address, bits))
        places.append(at)
        found.append((str(network), protocol, verdict))
        at += length
    assert len(found) == count
    assert starts[1:4] == places[:3], "input, forward, output"
    assert starts[6:9] == [*places[:2], places[-2]], "their policies"
    return found


def test_what_is_allowed_comes_before_what_is_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    tables.clear()
    monkeypatch.setattr("_socket.socket", Table)
    ten, one = (2, b"\x0a\1\2\3", 8), (2, b"\x0a\0\0\5", 32)
    packet_filter.close_off([b"\x0a\0\0\x35"], [one], [ten, (10, bytes(16), 8)])
    assert rules_of(tables[0].table)[2:-2] == [
        ("10.0.0.53/32", 17, -2),
        ("10.0.0.53/32", 6, -2),
        ("10.0.0.5/32", 0, -2),
        ("10.0.0.0/8", 0, -1),
    ]


@pytest.mark.parametrize(("has_ipv6", "remedy"), [(False, "--net-raw"), (True, "IPv6")])
def test_a_network_that_cannot_be_closed_is_refused_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
    has_ipv6: bool,  # noqa: FBT001
    remedy: str,
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    plan: dict[str, list[str]] = {"blocked": [], "allowed": [], "resolvers": []}
    monkeypatch.setattr(guard, "is_gvisor", lambda: True)
    monkeypatch.setattr(packet_filter, "close_off", refuse)
    monkeypatch.setattr(guard, "_has_ipv6", lambda: has_ipv6)
    monkeypatch.setattr(guard, "_look_around", lambda: (None, []))
    with pytest.raises(guard.Unguarded, match=f"{remedy}.*PGEXEC_NETWORK=none"):
        guard.close_off(plan)


@pytest.mark.parametrize(("strength", "counts"), [("filter", False), ("routes", True)])
def test_a_packet_that_was_sent_counts_where_no_filter_drops_it(
    strength: str,
    counts: bool,  # noqa: FBT001
) -> None:
    sent, answered = "10.0.0.1 by UDP (sent)", "10.0.0.1 by TCP (answered)"
    assert (sent in trials._arrived(strength, [sent, answered])) is counts
    assert answered in trials._arrived(strength, [sent, answered])


REFUSED = """
import ctypes, os, sys
from pool.inside import own_kernel
own_kernel._DEVICES = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
assert own_kernel.close_off()
for call in own_kernel._MAKERS[os.uname().machine]:
    ctypes.set_errno(0)
    print(libc.syscall(call, 0, 4096, 0o1600, 0), ctypes.get_errno())
os.close(os.memfd_create("allowed"))
"""


def test_what_would_outlive_its_process_is_refused_and_odd_devices_are_removed(
    tmp_path: Path,
) -> None:
    device = tmp_path / "device"
    device.touch()
    command = [sys.executable, "-c", REFUSED, str(device), str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"-1 {errno.EPERM}\n" * 4
    assert not device.exists()


def test_a_tcp_connection_counts_as_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    assert traces.Connections().count() == (), "a sysctl frees the port at once"
    monkeypatch.setattr(traces, "is_gvisor", lambda: True)
    connections = traces.Connections()
    before = connections.count()
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()
        server.accept()[0].close()
    assert connections.count() > before


def test_a_baseline_keeps_nothing_that_would_make_each_run_leave_slowly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each child inherits it: no end of a snippet would be certain, and each would take 50 ms."""
    for module in (reset, traces):
        monkeypatch.setattr(module, "is_gvisor", lambda: True)
    gc.collect()
    gc.freeze()  # as PID 1 does before it has a baseline
    try:
        baseline = reset.Baseline([])
        kinds = set(map(type, gc.get_objects()))
        assert reset.Baseline in kinds
        hiding = fast_exit._WITH_HIDDEN_ENDINGS
        assert hiding
        assert [kind for kind in kinds if issubclass(kind, hiding)] == []
    finally:
        gc.unfreeze()
        del baseline


def test_egress_is_the_engine_s_default_network_whose_resolvers_it_can_ask() -> None:
    for runtime, network in (("runsc", "bridge"), ("", "pgexec-egress")):
        settings = Settings.of(runtime=runtime, dependency_network="egress")
        assert installer_network(settings)[0] == network


def test_the_container_of_dependencies_is_not_in_it() -> None:
    spec = ContainerSpec("image", prepared=True, runtime="runsc")
    served: Any = volume_document(spec, "volume", command=("serve",), labels={})
    assert "Runtime" not in served["HostConfig"]


def test_the_number_of_processes_is_limited_where_the_container_may(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cgroup, "_ROOT", str(tmp_path))
    cgroup.limit_processes(65)
    assert list(tmp_path.iterdir()) == [], "it makes no file"
    (tmp_path / "pids").mkdir()
    (tmp_path / "pids/pids.max").write_text("")
    cgroup.limit_processes(65)
    assert (tmp_path / "pids/pids.max").read_text() == "65"


@pytest.mark.clock
@pytest.mark.parametrize("runner", [IN_GVISOR, {"gvisor": False}, {}])
async def test_a_sandbox_that_died_for_lack_of_memory_is_the_run_s_memory_limit(
    runner: dict[str, object],
) -> None:
    container, engine = await started(runner)
    engine.starved.add(container.id)
    if runner is not IN_GVISOR:
        with pytest.raises(ContainerLost):
            await container.run(Job(b"die"))
        return
    result = await container.run(Job(b"die"))
    assert (result.status, result.signal, result.oom_killed) == (Status.MEMORY_LIMIT, 9, True)
    assert container.lost


@pytest.mark.clock
async def test_a_sandbox_that_died_of_something_else_is_lost() -> None:
    container, _ = await started(IN_GVISOR)
    with pytest.raises(ContainerLost):
        await container.run(Job(b"die"))


@pytest.mark.clock
@pytest.mark.parametrize(
    ("code", "runner", "memory", "starved", "status"),
    [
        (b"error", IN_GVISOR, PEAK_BYTES, True, Status.MEMORY_LIMIT),
        (b"error", IN_GVISOR, PEAK_BYTES, False, Status.ERROR),
        (b"error", IN_GVISOR, 4 * PEAK_BYTES, True, Status.ERROR),
        (b"error", {"gvisor": False}, PEAK_BYTES, True, Status.ERROR),
        (b"ok", IN_GVISOR, PEAK_BYTES, True, Status.OK),
    ],
)
async def test_a_process_that_ends_without_a_word_is_asked_of_the_engine(
    code: bytes,
    runner: dict[str, object],
    memory: int,
    starved: bool,  # noqa: FBT001
    status: Status,
) -> None:
    container, engine = await started(runner, memory)
    if starved:
        engine.starved.add(container.id)
    assert (await container.run(Job(code))).status is status
    await container.destroy()


def test_pipes_whose_mode_is_fixed_belong_to_the_snippet_s_user(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(fd: int, mode: int) -> None:
        raise PermissionError

    def make() -> tuple[int, int]:
        made.append(len(users))
        return pipe()

    users: list[int] = []
    made: list[int] = []
    pipe = os.pipe
    monkeypatch.setattr("os.fchmod", refuse)
    monkeypatch.setattr("os.seteuid", users.append)
    monkeypatch.setattr("os.pipe", make)
    before = len(list(Path("/proc/self/fd").iterdir()))
    child = Child(1234)
    assert users == [1234, 0]
    assert made[-3:] == [1, 1, 1], "they are made as that user"
    for fd in (child.job_r, child.stdin_r, child.stdout_w, child.stderr_w):
        os.close(fd)
    child.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_what_a_run_made_of_the_priority_and_the_processors_of_process_1_is_undone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In gVisor any user may set both; here the lower number would need a capability."""
    priorities = {0: 0}
    monkeypatch.setattr(os, "getpriority", lambda _, who: priorities[who])
    monkeypatch.setattr(os, "setpriority", lambda _, who, value: priorities.update({who: value}))
    monkeypatch.setattr(reset, "is_gvisor", lambda: True)
    monkeypatch.setattr(reset, "reap_all", lambda _: True)
    processors = os.sched_getaffinity(0)
    baseline = reset.Baseline([])
    try:
        os.setpriority(os.PRIO_PROCESS, 0, 19)
        os.sched_setaffinity(0, {min(processors)})
        assert baseline.restore(time.monotonic() + 1) == ""
        assert priorities == {0: 0}
        assert os.sched_getaffinity(0) == processors
    finally:
        os.sched_setaffinity(0, processors)
