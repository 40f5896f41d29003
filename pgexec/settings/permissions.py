"""Check if anyone on this machine can change the files of keys and settings."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def open_to_all(path: Path) -> str | None:
    """Return a sentence if every user of this machine could change the file `path`, else `None`.

    They can if all may write the file, or replace it: all may write its directory, and this has no
    sticky bit (`/tmp` has one). The check follows links, and checks them, too. A file that this
    process cannot look at counts as safe.
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
