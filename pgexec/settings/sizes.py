"""Sizes as people write them: `256MiB`, `1GB`, `64k`."""

from __future__ import annotations

import re

_UNITS = {
    "": 1,
    "b": 1,
    "k": 1 << 10,
    "kib": 1 << 10,
    "kb": 1000,
    "m": 1 << 20,
    "mib": 1 << 20,
    "mb": 1000**2,
    "g": 1 << 30,
    "gib": 1 << 30,
    "gb": 1000**3,
}
_SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,6})?)\s*([a-z]{0,3})", re.IGNORECASE | re.ASCII)


def parse_size(text: str) -> int:
    """Return a size in bytes. A letter, alone or with `iB`, counts in powers of 1024.

    Raises `ValueError` for anything else than a number and a known unit.
    """
    match = _SIZE.fullmatch(text.strip())
    unit = _UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise ValueError(f"{text!r} is not a size")
    return round(float(match[1]) * unit) if "." in match[1] else int(match[1]) * unit


def format_size(size_bytes: int) -> str:
    """Return the shortest exact spelling: `256 MiB`, `1536 KiB`, `1000 bytes`."""
    for name, unit in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size_bytes >= unit and size_bytes % unit == 0:
            return f"{size_bytes // unit} {name}"
    return f"{size_bytes} bytes"
