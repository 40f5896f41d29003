"""What an import brings along, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from functools import cache

import pytest

LOADED = "import sys, {module}; print(*sys.modules, sep='\\n')"


@cache
def loaded_by(module: str) -> set[str]:
    """Return the names of all modules that are there after the import of one."""
    command = [sys.executable, "-c", LOADED.format(module=module)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


@pytest.mark.parametrize("engine", ["aiodocker", "aiohttp", "pgexec.backend", "pgexec.doctor"])
def test_a_counter_does_without_the_engine(engine: str) -> None:
    assert engine not in loaded_by("pgexec.telemetry.metrics")


@pytest.mark.parametrize("slow", ["asyncio", "pydantic", "pgexec.app", "pgexec.settings"])
def test_a_command_line_is_read_before_anything_slow_is_imported(slow: str) -> None:
    assert slow not in loaded_by("pgexec.__main__")
