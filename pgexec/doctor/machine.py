"""Checks that start no container: of the settings, this machine, and the engine's answers."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pgexec.doctor.findings import Observation, fail, ok, warn
from pgexec.doctor.versions import (
    CONTAINERD_FIXES,
    DEADLOCK_FIXES,
    RUNC_FIXES,
    has_fix,
    open_escapes,
    parse,
)
from pgexec.telemetry.log import FILE_BYTES, FILES_KEPT
from pool.engine.spec import Limits

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pgexec.doctor.facts import Info, Version
    from pgexec.settings import Settings

OLDEST_KERNEL = (5, 10)
"""The oldest branch that kernel.org still maintains: https://kernel.org/category/releases.html."""
OPEN_FILES = Limits().open_files
_MOST_PTYS = 1 << 20  # no kernel has more
_PTY = "/proc/sys/kernel/pty/max"
_NEIGHBOURS = "/proc/sys/net/ipv4/neigh/default/gc_thresh3"
SLOW_STORAGE = ("vfs", "devicemapper")


@dataclass(frozen=True, slots=True)
class Machine:
    """The subject of the first checks: settings, their warnings, and the engine's answer."""

    settings: Settings
    warnings: Sequence[str]
    url: str


@dataclass(frozen=True, slots=True)
class EngineReport:
    """The answers of an engine about itself."""

    settings: Settings
    url: str
    version: Version
    info: Info


async def settings(machine: Machine) -> Observation:
    """Name unknown and doubtful settings. A wrong value has ended the program before this check."""
    if machine.warnings:
        return warn("; ".join(machine.warnings), "correct or remove these settings")
    return ok("every name is known and every value is allowed")


async def exposure(machine: Machine) -> Observation:
    """Check if anyone on the network may run code without a key."""
    settings = machine.settings
    if settings.exposed:
        return warn(
            f"anyone who can reach {settings.host}:{settings.port} may run code here",
            "set PGEXEC_API_KEYS, or PGEXEC_HOST=127.0.0.1",
        )
    keys = "with" if settings.api_keys else "without"
    return ok(f"listens on {settings.host}:{settings.port} {keys} API keys")


async def canary(machine: Machine) -> Observation:
    """Check if the server will repeat the checks of the isolation while it runs."""
    if interval_s := machine.settings.canary_interval_s:
        return ok(f"a server probes its isolation every {interval_s:g} s, see pgexec_canary_ok")
    return warn(
        "a server does not probe its isolation while it runs", "set PGEXEC_CANARY_INTERVAL_S=900"
    )


async def log_disk(machine: Machine) -> Observation:
    """Check that the disk has room for the log file and its rotated copies."""
    settings = machine.settings
    if not settings.generate_log_file:
        return ok("no log file is asked for")
    directory = _log_directory(settings)
    wanted = FILE_BYTES * (FILES_KEPT + 1)
    if not os.access(directory, os.W_OK):
        return fail(f"{directory} is not a directory that can be written", "set PGEXEC_LOG_FILE")
    free = (await asyncio.to_thread(shutil.disk_usage, directory)).free
    finding = f"{free >> 20} MiB are free in {directory}, of which the log may take {wanted >> 20}"
    return ok(finding) if free > wanted else warn(finding, "make room, or set PGEXEC_LOG_FILE")


async def ca_bundle(machine: Machine) -> Observation:
    """Read the CA certificates: with a bad file, containers would trust no server."""
    path = machine.settings.ca_bundle
    if not path:
        return ok("none is configured: containers trust what their image does")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        await asyncio.to_thread(context.load_verify_locations, path)
    except OSError as error:
        finding = f"{path} holds no certificates that can be read: {error.strerror or error}"
        return fail(finding, "set PGEXEC_CA_BUNDLE to a file of PEM certificates")
    return ok(f"{path} holds {len(context.get_ca_certs())} CA certificates")


async def engine(report: EngineReport) -> Observation:
    """Name the engine, and check if it answers to anyone on the network."""
    version, info = report.version, report.info
    finding = (
        f"{version.version}, API {version.api_version}, storage {info.driver}, at {report.url}"
    )
    if report.url.startswith(("tcp://", "http://")):
        remedy = "use its Unix socket or https://: who reaches its port owns its machine"
        return warn(f"{finding}, without TLS", remedy)
    if info.driver in SLOW_STORAGE:
        return warn(finding, "configure the engine to use overlay2, which starts containers faster")
    return ok(finding)


async def libnetwork(report: EngineReport) -> Observation:
    """Warn of engines that may lock up when containers come and go."""
    version = report.version.version
    if report.version.component("podman") is not None:
        return ok(
            "networks are Podman's own, which ignores enable_icc: the network guard alone keeps "
            "containers apart"
        )
    if report.settings.network == "none":
        return ok("containers have no network to join or to leave")
    if has_fix(version, DEADLOCK_FIXES):
        return ok(f"{version}, no known deadlock")
    return warn(
        f"{version or 'an unknown version'} may lock up when many containers join and leave a "
        "network at once (moby issue 46661), unless your distribution has backported the fix",
        "update Docker to 23 or newer (20.10.27 has the fix, too), or set PGEXEC_NETWORK=none",
    )


async def runc(report: EngineReport) -> Observation:
    """Compare the program that starts containers with the known escapes."""
    runtime = report.settings.runtime
    if runtime and "runc" not in runtime:
        return ok(f"containers are started by {runtime}, not by runc")
    component = report.version.component("runc")
    if component is None:
        runtimes = [one.name for one in report.version.components if "untime" in one.name]
        names = ", ".join(runtimes) or report.info.default_runtime or "nothing"
        return ok(f"the engine names no runc, but {names}")
    return _escapes("runc", component.package, RUNC_FIXES)


async def containerd(report: EngineReport) -> Observation:
    """Compare the program that manages containers with the known escapes."""
    component = report.version.component("containerd")
    if component is None:
        return ok("the engine has no containerd")
    return _escapes("containerd", component.package, CONTAINERD_FIXES)


async def kernel(report: EngineReport) -> Observation:
    """Check that the kernel, which all containers share, still gets security fixes."""
    release = report.info.kernel_version or report.version.kernel_version
    version = parse(release)
    finding = f"{release}, {report.info.operating_system}"
    if version is None or version[:2] < OLDEST_KERNEL:
        return warn(finding, "update to a kernel that still gets security fixes")
    return ok(finding)


async def cgroup(report: EngineReport) -> Observation:
    """Check which limits the kernel can enforce, according to the engine."""
    info = report.info
    finding = f"version {info.cgroup_version}"
    limits = {"memory": info.memory_limit, "pids": info.pids_limit, "CPU": info.cpu_cfs_quota}
    missing = [name for name, there in limits.items() if not there]
    if missing:
        remedy = "enable these cgroup controllers (for memory: boot with cgroup_enable=memory)"
        if len(missing) == len(limits) and info.cgroup_version == "1":
            remedy = (
                "boot with cgroup version 2 (systemd.unified_cgroup_hierarchy=1): a rootless "
                "engine limits nothing on version 1"
            )
        return fail(f"{finding}, without limits on {_and(missing)}", remedy)
    if not info.swap_limit:
        finding += ", without swap accounting: snippets may swap past their memory limit"
        return warn(finding, "boot with swapaccount=1, or switch swap off")
    return ok(f"{finding}, with limits on memory, swap, pids and CPU")


async def memory(report: EngineReport) -> Observation:
    """Compare the memory limit of all containers together with the memory of the machine."""
    profiles = [profile.settings for profile in report.settings.by_language.values()]
    most = sum(one.pool_max_containers * one.memory_limit for one in profiles)
    has = report.info.mem_total
    if not has:
        return ok(f"containers may take {_mebibytes(most)}; the engine does not say what there is")
    finding = f"containers may take {_mebibytes(most)} of the machine's {_mebibytes(has)}"
    if most <= has:
        return ok(finding)
    return warn(
        f"{finding}: enough of them at their limit leave it none",
        "lower PGEXEC_MEMORY_LIMIT or PGEXEC_POOL_MAX_CONTAINERS (a profile's are its own)",
    )


async def sockets(report: EngineReport) -> Observation:
    """Warn where the kernel does not count the buffers of sockets as their container's memory."""
    if report.info.cgroup_version == "2":
        return ok("cgroup version 2 counts the buffers of sockets in the memory limit")
    return warn(
        "in cgroup version 1 the buffers of sockets are outside the memory limit: TCP's are kept "
        "small, those of UDP are not",
        "boot with cgroup version 2 (systemd.unified_cgroup_hierarchy=1)",
    )


async def terminals(report: EngineReport) -> Observation:
    """Compare the pseudo-terminals of this machine with what all containers could open."""
    profiles = [profile.settings for profile in report.settings.by_language.values()]
    most = sum(one.pool_max_containers * (one.pids_limit + 1) for one in profiles) * OPEN_FILES
    consequence = "a run can take them from all others"
    name = "kernel.pty.max"
    return await _enough("pseudo-terminals", name, _PTY, min(most, _MOST_PTYS), consequence)


async def neighbours(report: EngineReport) -> Observation:
    """Compare the table of neighbours with the containers: each takes an entry at both ends."""
    profiles = [profile.settings for profile in report.settings.by_language.values()]
    most = 2 * sum(one.pool_max_containers for one in profiles)
    name = "net.ipv4.neigh.default.gc_thresh3"
    return await _enough("neighbours", name, _NEIGHBOURS, most, "some could not be reached")


async def _enough(what: str, name: str, path: str, most: int, consequence: str) -> Observation:
    try:
        has = int(await asyncio.to_thread(Path(path).read_text))
    except (OSError, ValueError):
        return ok(f"this machine does not tell how many {what} it has")
    finding = f"this machine has {has} {what}, and containers may take {most}"
    if has >= most:
        return ok(finding)
    return warn(f"{finding}: {consequence}", f"sysctl -w {name}={most}")


def _mebibytes(size: int) -> str:
    return f"{size >> 20} MiB"


def _log_directory(settings: Settings) -> Path:
    return Path(settings.log_file).absolute().parent


def _escapes(program: str, version: str, fixes: Mapping[str, Iterable[str]]) -> Observation:
    escapes = open_escapes(version, fixes)
    if escapes is None:
        remedy = f"see that it has the fixes of {_and(list(fixes))}"
        return warn(f"version {version or 'unknown'} cannot be read", remedy)
    if escapes:
        newest = list(fixes[escapes[-1]])[-1]
        return warn(
            f"{version} is open to {_and(escapes)}, unless your distribution has backported the "
            "fixes",
            f"update {program} (the newest branch has them since {newest}), or see your "
            "distribution's security tracker",
        )
    return ok(f"{version}, no known escape is open")


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
