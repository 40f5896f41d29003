"""Write the runner's files and compile all modules, in the container that becomes an image.

Runs there by `python3 -c` (`pool/engine/image.py`): standard library only, any CPython since 3.8.
A line of JSON on stdin is the task. Each line on stdout tells the progress; the last is `done`.
"""

from __future__ import annotations

import compileall
import json
import os
import py_compile
import re
import sys
import threading
from typing import Any

_SKIPPED = re.compile(r"/(test|tests|idlelib|lib2to3|turtledemo)(/|$)")
_MODE = py_compile.PycInvalidationMode.UNCHECKED_HASH
_PROGRESS_EVERY = 40


def main() -> None:
    """Write `files`, make `directories`, and compile `sys.path` and the directory `runner`."""
    work: Any = json.loads(sys.stdin.readline())
    threading.Thread(target=_leave_with_the_server).start()
    for path, text in work["files"].items():
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    for path in work["directories"]:
        os.makedirs(path, exist_ok=True)
    _compile([path for path in sys.path if os.path.isdir(path)] + [work["runner"]])
    _say("done")


def _leave_with_the_server() -> None:
    """End the process when stdin ends, whatever it is doing.

    Else the unfinished container would stay when the server has gone.
    """
    sys.stdin.read()
    os._exit(1)


def _compile(roots: list[str]) -> None:
    entries = sorted({os.path.join(root, name) for root in roots for name in os.listdir(root)})
    for number, path in enumerate(entries):
        if number % _PROGRESS_EVERY == 0:
            _say(f"compiled {number} of {len(entries)}")
        if os.path.isdir(path):
            if "site-packages" not in os.path.basename(path):
                compileall.compile_dir(path, quiet=2, rx=_SKIPPED, invalidation_mode=_MODE)
        elif path.endswith(".py"):
            compileall.compile_file(path, quiet=2, invalidation_mode=_MODE)


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the server reads it


if __name__ == "__main__":
    main()
