"""Compare the processors that an image is for with those of the engine's machine.

Standard library only, and nothing else of ours: `deploy/setup/engine_api.py` loads this file alone.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_RUNS_AS_WELL = frozenset({("386", "amd64"), ("arm", "arm64")})
"""Pairs of an image's architecture and another machine's, on which it runs without emulation."""

# By `e_machine` of the ELF header, elf(5); the names are Docker's.
_NAMES = {
    3: "386",
    21: "ppc64le",
    22: "s390x",
    40: "arm",
    62: "amd64",
    183: "arm64",
    243: "riscv64",
    258: "loong64",
}
_BIG_ENDIAN = 2
BLOCK = 512
"""Each file in a tar begins with a block of its own."""


def mismatch(its: str, machine: str) -> str:
    """Return half a sentence if an image for `its` does not run on `machine`, else `""`.

    Also `""` if one of them is not known. Example: `for arm64, and the engine's machine is amd64`.
    """
    if not its or not machine or its == machine or (its, machine) in _RUNS_AS_WELL:
        return ""
    return f"for {its}, and the engine's machine is {machine}"


def of_root(blocks: Iterable[bytes]) -> str:
    """Return the architecture of the first program in a tar's blocks, or `""` if none is known."""
    for block in blocks:
        if block.startswith(b"\x7fELF"):
            number = struct.unpack_from(">H" if block[5] == _BIG_ENDIAN else "<H", block, 18)[0]
            return _NAMES.get(number, "")
    return ""
