"""On what the figures were measured."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench.cpu import busy
from bench.server import ROOT

if TYPE_CHECKING:
    from bench.bed import Bed


async def facts(bed: Bed) -> dict[str, str]:
    """Describe machine, engine, images and revision."""
    engine = await bed.engine.version()
    info = await bed.engine.docker.system.info()
    prepared = await bed.engine.docker.images.inspect(bed.prepared)
    async with bed.containers(1) as (container,):
        python = f"{container.runner.get('implementation')} {container.runner.get('python')}"
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        "revision": _revision(),
        "machine": machine(),
        "kernel": f"{platform.system()} {platform.release()}",
        "load average": f"{load_average()}; {busy(1.0):.0%} busy before the start",
        "engine": f"{engine.get('Version')}, API {engine.get('ApiVersion')}, {bed.engine.url}",
        "runtime": f"{bed.settings.runtime or info.get('DefaultRuntime')},"
        f" cgroup v{info.get('CgroupVersion', '?')}"
        f" ({info.get('CgroupDriver')}), storage {info.get('Driver')}",
        "image": f"{bed.stock} -> {bed.prepared} ({prepared['Id'][:19]}), {python}",
        "network": bed.settings.network,
        "client": f"raw asyncio protocol on uvloop, {platform.python_implementation()}"
        f" {platform.python_version()}, on the same cores as server and engine",
    }


def machine() -> str:
    """Return the processor, how many cores of it, and the memory."""
    return f"{_processor()}, {len(os.sched_getaffinity(0))} cores, {_memory_gib():.1f} GiB"


def load_average() -> str:
    """Return the load of the last 1, 5 and 15 minutes."""
    return " ".join(f"{load:.2f}" for load in os.getloadavg())


def _revision() -> str:
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        dirty = " with changes" if _git("status", "--porcelain") else ""
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + dirty


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _processor() -> str:
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30)
