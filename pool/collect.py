"""Install requirements in a throw-away container, and send out what that made of its directory.

Runs inside the installer's container as an unprivileged user, by `python3 -c`: standard
library only, any CPython since 3.8. Nobody trusts what comes out (`pool/dependencies/archive.py`).
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import struct
import subprocess
import sys

_FILE, _DIRECTORY, _LINK, _ELSE = 1, 2, 3, 9
_CHUNK = 1 << 18

PIP = (
    *("-m", "pip", "install", "--user", "--ignore-installed", "--no-compile", "--no-cache-dir"),
    *("--no-input", "--no-warn-script-location", "--disable-pip-version-check"),
    *("--progress-bar", "off"),
)


def install(base: str, requirements: list[str], constraints: list[str]) -> int:
    """Install into `base` as the user's own packages; return the installer's exit status."""
    environment = dict(os.environ, PYTHONUSERBASE=base)
    os.umask(0o022)
    os.makedirs(base)
    if constraints:
        path = os.path.join(environment["TMPDIR"], "constraints.txt")
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n".join(constraints))
        environment["PIP_CONSTRAINT"] = path
    command = [sys.executable, *PIP, "--", *requirements]
    status = subprocess.call(command, env=environment, stdin=subprocess.DEVNULL)
    if status:
        return status
    # Not by pip: its bytecode holds the time of a source that will be another one's.
    compiling = [sys.executable, "-I", "-m", "compileall", "-q", "-q", "-j", "2"]
    subprocess.call(
        [*compiling, "--invalidation-mode", "unchecked-hash", base],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return 0


def send(base: str) -> None:
    """Write every entry of a directory to standard output, parents first."""
    record = struct.Struct("!BBHHQ")
    out = sys.stdout.buffer
    pending = [""]
    while pending:
        where = pending.pop()
        for name in sorted(os.listdir(os.path.join(base, where))):
            path = os.path.join(where, name)
            about = os.lstat(os.path.join(base, path))
            kind = {stat.S_IFREG: _FILE, stat.S_IFDIR: _DIRECTORY, stat.S_IFLNK: _LINK}.get(
                stat.S_IFMT(about.st_mode), _ELSE
            )
            target = os.readlink(os.path.join(base, path)) if kind == _LINK else ""
            size = about.st_size if kind == _FILE else 0
            texts = [os.fsencode(path), os.fsencode(target)]
            runs = bool(about.st_mode & 0o100)
            out.write(record.pack(kind, runs, len(texts[0]), len(texts[1]), size))
            out.writelines(texts)
            if kind == _DIRECTORY:
                pending.append(path)
            elif size:
                with open(os.path.join(base, path), "rb") as file:
                    shutil.copyfileobj(file, out, _CHUNK)
    out.write(record.pack(0, 0, 0, 0, 0))
    out.flush()


def main() -> int:
    """Do what the argument says."""
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
