"""Write the runner's files to a tmpfs and start it, if the engine cannot prepare an image.

Runs as PID 1 by `python3 -c` (`pool/engine/sources.py`): standard library only, any CPython since
3.8. The arguments are the path of the snippet's script, and then the path and the text of each
file. Each file has arguments of its own because Linux allows 128 KiB for one argument, and 2 MiB
for all of them.
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Write the files, and replace this process by an interpreter, which loads the runner."""
    script, *files = sys.argv[1:]
    for path, text in zip(files[::2], files[1::2]):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(os.fsencode(text))
    os.execv(sys.executable, ["python3", script])  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
