"""Install requirements in a throw-away container, and send the installed files to the server.

Runs inside the installer's container as an unprivileged user, by `python3 -c`
(`pool/engine/sources.py`): standard library only, any CPython since 3.8. The server does not
trust the files (`pool/dependencies/archive.py`).
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from typing import BinaryIO, Iterator

from pool.inside.compiling import Compilers
from pool.inside.layer_format import Entry, record

_KINDS = {stat.S_IFREG: Entry.FILE, stat.S_IFDIR: Entry.DIRECTORY, stat.S_IFLNK: Entry.LINK}
_CHUNK = 1 << 18
_CACHE = "__pycache__"

PIP = (
    *("-m", "pip", "install", "--user", "--ignore-installed", "--no-compile", "--no-cache-dir"),
    *("--no-input", "--no-warn-script-location", "--disable-pip-version-check"),
    *("--progress-bar", "off"),
)


def install(base: str, requirements: list[str], constraints: list[str]) -> int:
    """Install `requirements` into the user site `base`; return the exit status of pip."""
    environment = dict(os.environ, PYTHONUSERBASE=base)
    os.umask(0o022)
    os.makedirs(base)
    if constraints:
        path = os.path.join(environment["TMPDIR"], "constraints.txt")
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n".join(constraints))
        environment["PIP_CONSTRAINT"] = path
    command = [sys.executable, *PIP, "--", *requirements]
    # pip must not compile: its bytecode holds the source file's time, which will be another one.
    return subprocess.call(command, env=environment, stdin=subprocess.DEVNULL)


def send(base: str) -> None:
    """Write every entry of the directory `base` to stdout, parents first, bytecode last."""
    compilers = Compilers(base)
    with open(sys.stdout.fileno(), "wb", buffering=_CHUNK, closefd=False) as out:
        caches = list(_send_tree(base, "", out))
        compilers.wait()
        for cache in caches:
            if not os.path.lexists(os.path.join(base, cache)):
                continue
            if _send_entry(base, cache, out) is Entry.DIRECTORY:
                for _ in _send_tree(base, cache, out):
                    pass
        out.write(record(Entry.END, b""))


def _send_tree(base: str, top: str, out: BinaryIO) -> Iterator[str]:
    """Send what lies below `top`, and yield where bytecode belongs, which is not sent."""
    pending = [top]
    while pending:
        where = pending.pop()
        for name in sorted(os.listdir(os.path.join(base, where))):
            path = os.path.join(where, name)
            if name != _CACHE and _send_entry(base, path, out) is Entry.DIRECTORY:
                pending.append(path)
        yield os.path.join(where, _CACHE)


def _send_entry(base: str, path: str, out: BinaryIO) -> Entry:
    about = os.lstat(os.path.join(base, path))
    kind = _KINDS.get(stat.S_IFMT(about.st_mode), Entry.OTHER)
    target = os.readlink(os.path.join(base, path)) if kind is Entry.LINK else ""
    size = about.st_size if kind is Entry.FILE else 0
    out.write(
        record(
            kind,
            os.fsencode(path),
            target=os.fsencode(target),
            executable=bool(about.st_mode & 0o100),
            size=size,
        )
    )
    if size:
        with open(os.path.join(base, path), "rb") as file:
            shutil.copyfileobj(file, out, _CHUNK)
    return kind


def main() -> int:
    """Install or send, as the argument, a line of JSON, says. Returns the exit status."""
    work: dict[str, object] = json.loads(sys.argv[1])
    base = str(work["base"])
    for name in ("PGEXEC_RUNNER", "PYTHONPATH"):
        os.environ.pop(name, None)
    if work["do"] == "send":
        send(base)
        return 0
    return install(base, work["requirements"], work["constraints"])  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(main())
