"""The sources of what runs inside containers, in the ways in which they get there."""

from __future__ import annotations

from pathlib import Path

_SHARED = "pool.layer_format"
_PROGRAM = """\
import sys, types
shared = sys.modules[{name!r}] = types.ModuleType({name!r})
exec({shared!r}, vars(shared))
exec({main!r})
"""


def program(name: str) -> str:
    """Return a module as one program for `python3 -c`, in an image that may hold nothing of ours.

    `pool.layer_format`, the one module that such a program imports, is made first, and is then
    found where the interpreter looks before it searches: in `sys.modules`.
    """
    here = Path(__file__).parent
    shared = (here / f"{_SHARED.rpartition('.')[2]}.py").read_text(encoding="utf-8")
    main = (here / f"{name}.py").read_text(encoding="utf-8")
    return _PROGRAM.format(name=_SHARED, shared=shared, main=main)
