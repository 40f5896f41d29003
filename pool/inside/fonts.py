"""Have matplotlib find its list of fonts, which takes it seconds to make, in the layer.

It keeps the list in a directory that it must be able to write to, `MPLCONFIGDIR`, and a layer is
read-only. So the list is made once, with the layer, and each run has a link to it elsewhere.

Runs inside the container: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import contextlib
import os

LISTS = ".matplotlib"
"""The directory in a layer that has the lists, one for each version of their format."""
DIRECTORY = "/tmp/.matplotlib"  # noqa: S108 - the container's own
"""What `MPLCONFIGDIR` says in each sandbox; by default it would be in the snippet's directory."""


def offer(layer: str) -> None:
    """Link the lists of a layer to where matplotlib looks for them, if the layer has any."""
    with contextlib.suppress(OSError):  # it has none, or they are linked; matplotlib makes its own
        names = os.listdir(os.path.join(layer, LISTS))
        os.makedirs(DIRECTORY, exist_ok=True)
        for name in names:
            os.symlink(os.path.join(layer, LISTS, name), os.path.join(DIRECTORY, name))
