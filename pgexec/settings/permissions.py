"""Whether files that decide about the server can be changed by anyone on this machine."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def open_to_all(path: Path) -> str | None:
    """Return in a sentence how every user of this machine could change a file, else `None`.

    They can if the file may be written by all, or if it may be replaced: in a directory that all
    may write and that has no sticky bit, as `/tmp` has one. Links are looked at, and where they
    lead. A file that cannot be looked at is not open.
    """
    try:
        if path.stat().st_mode & stat.S_IWOTH:
            return f"every user of this machine may write {path}: chmod o-w {path}"
        for place in (path.absolute(), path.resolve()):
            for directory in place.parents:
                mode = directory.stat().st_mode
                if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
                    return (
                        f"every user of this machine may replace {path}, by way of {directory}: "
                        f"chmod o-w {directory}"
                    )
    except OSError:
        return None
    return None
