"""Write the runner to a tmpfs and become it, where no image can be prepared.

Runs as PID 1 by `python3 -c` (`pool/engine/sources.py`): standard library only, any CPython since
3.8. The arguments are the script that the runner waits for, and then path and text of each file.
They are many because Linux allows 128 KiB for one argument, and 2 MiB for all.
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Write the files, and replace this process by the interpreter that they start."""
    script, *files = sys.argv[1:]
    for path, text in zip(files[::2], files[1::2]):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(os.fsencode(text))
    os.execv(sys.executable, ["python3", script])  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
