"""Import modules and run code anew and from the shelf, each in a fork of its own.

`test_shelf.py` runs this in every CPython at hand, beside the runner's own files. On stdin comes a
JSON object: `names`, the modules on the shelf, and `codes`, by name. On stdout goes another: for
each module and code `anew` and `kept`, what was seen, and `given`, the modules that were taken.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import io
import json
import os
import sys
import traceback
import warnings
from functools import partial
from typing import Any, Callable  # noqa: UP035 - as CPython 3.8 needs it

from pool.inside import ahead, recorder
from pool.inside.shelf import Shelf


def observe(name: str) -> dict[str, Any]:
    """Import a module, and return what a snippet could see of it."""
    before = list(sys.modules)
    finders = list(sys.path_importer_cache)
    importlib.import_module(name)
    new = [one for one in sys.modules if one not in before]
    logging = sys.modules.get("logging")
    return {
        "modules": new,
        "attributes": {one: _attributes(sys.modules[one]) for one in new},
        "importlib": list(vars(importlib)),
        "specs": {one: _spec(sys.modules[one]) for one in new},
        "finders": sorted(set(sys.path_importer_cache) - set(finders)),
        "atexit": atexit._ncallbacks(),
        "loggers": sorted(logging.root.manager.loggerDict) if logging else [],
        "filters": len(warnings.filters),
        "descriptors": len(os.listdir("/proc/self/fd")),  # noqa: PTH208
        "threads": len(os.listdir("/proc/self/task")),  # noqa: PTH208
        "collecting": gc.isenabled(),
        "main": getattr(sys.modules.get("__mp_main__"), "__name__", None),
    }


def _attributes(module: Any) -> list[str]:
    return [
        f"{name} {type(value).__name__} {getattr(value, '__qualname__', '')}"
        for name, value in vars(module).items()
    ]


def _spec(module: Any) -> str:
    spec = getattr(module, "__spec__", None)
    loader = type(getattr(spec, "loader", None)).__name__
    return f"{loader} {getattr(spec, 'origin', None)} {getattr(spec, '_initializing', None)}"


def run(code: str) -> str:
    """Run code, and return what it prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        try:
            exec(compile(code, "<code>", "exec"), {"__name__": "__main__"})
        except BaseException:  # noqa: BLE001 - it is printed
            traceback.print_exc(file=printed)
        finally:
            sys.settrace(None)
            sys.setprofile(None)
    return printed.getvalue()


def in_fork(work: Callable[[], Any]) -> Any:
    """Return what `work` returns in a forked process."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.close(reader)
        result = work()
        with os.fdopen(writer, "wb") as file:
            file.write(json.dumps(result).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        text = file.read()
    os.wait()
    return json.loads(text)


def with_shelf(names: list[str], work: Callable[[], Any]) -> dict[str, Any]:
    """Return what `work` returns with the modules on the shelf, and which of them it took."""
    older = recorder.note_older()
    shelf = Shelf(older)
    ahead.fill(shelf, older, names, lambda: None, lambda: None)
    for one in names:
        shelf.plan(one)
    shelf.open()
    before = list(shelf.hidden)
    kept = work()
    return {"kept": kept, "given": [one for one in before if one not in shelf.hidden]}


def main() -> None:
    """Compare all modules and codes."""
    asked = json.load(sys.stdin)
    works: dict[str, Callable[[], Any]] = {
        **{name: partial(observe, name) for name in asked["names"]},
        **{name: partial(run, code) for name, code in asked["codes"].items()},
    }
    results = {}
    for name, work in works.items():
        anew = in_fork(work)
        results[name] = {"anew": anew, **in_fork(partial(with_shelf, asked["names"], work))}
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
