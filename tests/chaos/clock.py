"""The clock on the wall as one process sees it, which can be set while it runs.

The kernel's own is everybody's, and no namespace has one (time_namespaces(7)). libfaketime 0.9
fails every sleep of CPython 3.11 with EINVAL where monotonic time is to stay as it is. So a few
lines of C change what the C library says.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")


def unusable() -> str | None:
    """Say why no clock can be set here, if so."""
    return None if shutil.which("cc") else "no C compiler, to set one process's clock"


class WallClock:
    """A clock that is right until it is set; monotonic time goes on as ever."""

    def __init__(self, directory: Path) -> None:
        library = directory / "clock.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)
        self._file = directory / "offset"
        self._file.write_bytes(bytes(8))
        self.environment = {"LD_PRELOAD": str(library), "WALL_CLOCK": str(self._file)}

    def set(self, ahead_s: int) -> None:
        """Set it so many seconds ahead of the time that it is, or behind."""
        with self._file.open("r+b") as file:  # in place: others have it mapped
            file.write(ahead_s.to_bytes(8, sys.byteorder, signed=True))
