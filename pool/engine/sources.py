"""Bring the sources of `pool/inside` into containers, in three ways.

The prepared image has the runner's files (`pool/engine/image.py`). If no image can be prepared,
they are arguments of a program that first writes the files (`pool/inside/bootstrap.py`). Programs
that are not part of the runner travel as the argument of `python3 -c`, to any image.
"""

from __future__ import annotations

from importlib.resources import files

from pool.engine.spec import RUNNER_DIR
from pool.language import PYTHON

_ROOM = files("pool.inside")
_SHARED = ("fonts", "layer_format", "manifest", "compiling")
"""Programs may import these modules. Each stands after those that it imports itself."""
_PROGRAM = """\
import sys, types
for name, text in {shared!r}:
    shared = sys.modules[name] = types.ModuleType(name)
    exec(text, vars(shared))
exec({main!r})
"""


def runner_files() -> dict[str, str]:
    """Return the text of each file of the runner, by its path in the container."""
    names = [file.name[: -len(".py")] for file in _ROOM.iterdir() if file.name.endswith(".py")]
    return {
        **{f"{RUNNER_DIR}/pool/inside/{name}.py": source(name) for name in sorted(names)},
        f"{RUNNER_DIR}/pool/__init__.py": "",
        f"{RUNNER_DIR}/sitecustomize.py": source("start"),
    }


def bootstrap_command(script: str) -> list[str]:
    """Return the command that writes and starts the runner, for an image without it."""
    files = [part for file in runner_files().items() for part in file]
    return list(PYTHON.run_text(source("bootstrap"), script, *files))


def program(name: str) -> str:
    """Return the module `name` as one program for `python3 -c`, for any image.

    Such a program imports the modules `_SHARED` and no other ones of ours. The text first puts
    these modules into `sys.modules`, so that the imports find them there.
    """
    shared = [(f"pool.inside.{one}", source(one)) for one in _SHARED]
    return _PROGRAM.format(shared=shared, main=source(name))


def source(name: str) -> str:
    """Return the text of a module that runs inside containers."""
    return (_ROOM / f"{name}.py").read_text(encoding="utf-8")
