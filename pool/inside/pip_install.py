"""Install requirements in a throw-away container, and send the installed files to the server.

Runs inside the installer's container as an unprivileged user, by `python3 -c`
(`pool/engine/sources.py`): standard library only, any CPython since 3.8. The server does not
trust the files (`pool/dependencies/archive.py`).
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
import time
from collections import deque
from typing import BinaryIO, Iterator, TypedDict
from urllib.parse import unquote

from pool.inside.compiling import UNFINISHED, Compilers
from pool.inside.fonts import LISTS
from pool.inside.layer_format import (
    MAX_ENTRIES,
    MAX_NAMES_BYTES,
    Entry,
    disk_bytes,
    record,
)

_KINDS = {stat.S_IFREG: Entry.FILE, stat.S_IFDIR: Entry.DIRECTORY, stat.S_IFLNK: Entry.LINK}
_CHUNK = 1 << 18
_CACHE = "__pycache__"
_FONTS_TIMEOUT_S = 60


class Work(TypedDict):
    """What the server asks for, as JSON in an argument.

    A `look` has the name of a package only, a `send` has `base`, `limit_bytes` and `ready`.
    `profile` is the directory of the layer that the language's containers have anyway, and
    `installed` are its packages, such as `six==1.0`, with the lines of their metadata about extras.
    `ready` is a file that `install` makes in the end, and for which `send`, which starts at the
    same time, waits.
    """

    do: str
    base: str
    requirements: list[str]
    constraints: list[str]
    profile: str
    installed: dict[str, list[str]]
    limit_bytes: int
    ready: str


_PIP = """\
import os, runpy, sys  # pip install, without the time that the interpreter takes to finalise
sys.argv[0], status = "pip", 0
try:
    runpy.run_module("pip", run_name="__main__", alter_sys=True)
except SystemExit as ended:
    status = ended.code
sys.stdout.flush()
sys.stderr.flush()
os._exit(status if isinstance(status, int) else bool(status))
"""
PIP = (
    *("-c", _PIP, "install", "--user", "--ignore-installed", "--no-compile", "--no-cache-dir"),
    *("--no-input", "--no-warn-script-location", "--disable-pip-version-check"),
    *("--progress-bar", "off", "--prefer-binary"),
)
LOOK = ("-m", "pip", "index", "versions", "-vv", "--pre", "--no-input")
_UNFIT = {
    "tags": b"none of the wheel's tags",
    "python": b"Link requires a different Python",
    "source": b"No sources permitted",
}
_MAX_BUILDS = 500
_FILE = re.compile(rb"/([^/\s#?]+\.(?:whl|tar\.gz|zip))")


def install(base: str, work: Work) -> int:
    """Install `work["requirements"]` into the user site `base`; return the exit status of pip."""
    environment = dict(os.environ, PYTHONUSERBASE=base)
    os.umask(0o022)
    os.makedirs(base)
    if work["constraints"]:
        path = os.path.join(environment["TMPDIR"], "constraints.txt")
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n".join(work["constraints"]))
        environment["PIP_CONSTRAINT"] = path
    options = list(PIP)
    if work["installed"]:
        options.remove("--ignore-installed")
        environment["PYTHONPATH"] = _pretended(environment["TMPDIR"], work["installed"])
        _reach(work["profile"], base)
    command = [sys.executable, *options, "--", *work["requirements"]]
    # pip must not compile: its bytecode holds the source file's time, which will be another one.
    status = subprocess.call(command, env=environment, stdin=subprocess.DEVNULL)
    # To import a package is to run its code, which with PGEXEC_DEPENDENCY_BINARY_ONLY nothing does.
    if status == 0 and "PIP_ONLY_BINARY" not in environment:
        list_fonts(base)
    if status == 0:
        with open(work["ready"], "xb"):
            pass
    return status


def list_fonts(base: str) -> None:
    """Let matplotlib, if it is there, make its list of fonts, for `fonts.offer`. Never raises."""
    if not glob.glob(f"{glob.escape(base)}/lib/python*/site-packages/matplotlib/font_manager.py"):
        return
    sys.stdout.write("Listing the fonts for matplotlib\n")
    sys.stdout.flush()
    lists = os.path.join(base, LISTS)
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": os.environ.get("TMPDIR", base),
        "PYTHONUSERBASE": base,
        "PYTHONDONTWRITEBYTECODE": "1",  # as with pip
        "MPLCONFIGDIR": lists,
    }
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(
            [sys.executable, "-c", "import matplotlib.font_manager"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_FONTS_TIMEOUT_S,
            check=False,
        )
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(lists)):
            if not (entry.name.startswith("fontlist-") and entry.is_file(follow_symlinks=False)):
                _remove(entry.path)
        os.rmdir(lists)  # refused where there is a list


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        os.unlink(path)


def look(package: str) -> None:
    """Print the newest builds of a package that do not fit this interpreter, as JSON.

    Each is the name of its file, and the reason, a key of `_UNFIT`. `found` tells if any fits.
    """
    builds: deque[tuple[str, str]] = deque(maxlen=_MAX_BUILDS)
    with subprocess.Popen(
        [sys.executable, *LOOK, "--disable-pip-version-check", "--", package],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as pip:
        for line in pip.stdout or ():
            for reason, sign in _UNFIT.items():
                if sign in line and (file := _FILE.search(line)):
                    builds.append((unquote(file[1].decode("ascii", "replace"))[:200], reason))
    told = {
        "found": pip.returncode == 0,
        "builds": list(builds),
        "python": ".".join(map(str, sys.version_info[:2])),
        "libc": "musl" if "musl" in str(sysconfig.get_config_var("SOABI")) else "glibc",
        "machine": os.uname().machine,
    }
    sys.stdout.write(json.dumps(told))


def _pretended(parent: str, installed: dict[str, list[str]]) -> str:
    """Return a directory in which pip finds the packages that the profile has, such as `six==1.0`.

    To pip they need nothing but what their extras need: the rest is in the profile, too.
    """
    directory = os.path.join(parent, "profile")
    for one, extras in installed.items():
        name, _, version = one.partition("==")
        about = os.path.join(directory, f"{name.replace('-', '_')}-{version}.dist-info")
        os.makedirs(about)
        with open(os.path.join(about, "METADATA"), "w", encoding="utf-8") as file:
            head = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
            file.writelines(f"{line}\n" for line in [*head, *extras])
    return directory


def _reach(profile: str, base: str) -> None:
    """Put the profile's layer on the path of each interpreter that uses the layer `base`."""
    here, there = (
        sysconfig.get_path("purelib", "posix_user", {"userbase": one}) for one in (base, profile)
    )
    os.makedirs(here)
    with open(os.path.join(here, "pgexec-profile.pth"), "w", encoding="utf-8") as file:
        file.write(f"import site, sys; {there!r} in sys.path or site.addsitedir({there!r})\n")


def send(base: str, limit_bytes: int, ready: str) -> None:
    """Write every entry of the directory `base` to stdout, parents first, bytecode last.

    Waits until the file `ready` is there, and compiles ahead meanwhile. Bytecode is optional: what
    would be over `limit_bytes`, or the other bounds, stays here.
    """
    compilers = Compilers(base, os.environ.get("TMPDIR", base), ready)
    while not os.path.exists(ready):
        time.sleep(0.005)
    with open(sys.stdout.fileno(), "wb", buffering=_CHUNK, closefd=False) as out:
        sender = _Sender(base, out)
        caches = list(sender.send_tree(""))
        compilers.wait()
        for cache in caches:
            path = os.path.join(base, cache)
            if not os.path.lexists(path) or not sender.has_room(cache, limit_bytes):
                continue
            if sender.send_entry(cache) is Entry.DIRECTORY:
                for _ in sender.send_tree(cache):
                    pass
        out.write(record(Entry.END, b""))


class _Sender:
    """Sends entries of the directory `base`, and counts them as the server does."""

    def __init__(self, base: str, out: BinaryIO) -> None:
        self._base = base
        self._out = out
        self._bytes = self._entries = self._names_bytes = 0

    def send_tree(self, top: str) -> Iterator[str]:
        """Send what lies below `top`, and yield where bytecode belongs, which is not sent."""
        pending = [top]
        while pending:
            where = pending.pop()
            for name in sorted(os.listdir(os.path.join(self._base, where))):
                path = os.path.join(where, name)
                if name == _CACHE or name.endswith(UNFINISHED):
                    continue
                if self.send_entry(path) is Entry.DIRECTORY:
                    pending.append(path)
            yield os.path.join(where, _CACHE)

    def send_entry(self, path: str) -> Entry:
        """Send one entry; return its kind."""
        about = os.lstat(os.path.join(self._base, path))
        kind = _KINDS.get(stat.S_IFMT(about.st_mode), Entry.OTHER)
        target = os.readlink(os.path.join(self._base, path)) if kind is Entry.LINK else ""
        size = about.st_size if kind is Entry.FILE else 0
        name, to = os.fsencode(path), os.fsencode(target)
        executable = bool(about.st_mode & 0o100)
        self._out.write(record(kind, name, target=to, executable=executable, size=size))
        if size:
            with open(os.path.join(self._base, path), "rb") as file:
                shutil.copyfileobj(file, self._out, _CHUNK)
        self._entries += 1
        self._names_bytes += len(name) + len(to)
        self._bytes += disk_bytes(size) + len(name) + len(to)
        return kind

    def has_room(self, cache: str, limit_bytes: int) -> bool:
        """Return True if the directory `cache` may be sent on top of what was."""
        sizes, names_bytes = [0], len(os.fsencode(cache))
        top = os.path.join(self._base, cache)
        for where, directories, names in os.walk(top) if not os.path.islink(top) else ():
            paths = [os.path.join(where, name) for name in directories + names]
            sizes += [os.lstat(path).st_size for path in paths]
            names_bytes += sum(len(os.fsencode(path)) for path in paths)
        return (
            self._bytes + sum(map(disk_bytes, sizes)) + names_bytes <= limit_bytes
            and self._entries + len(sizes) <= MAX_ENTRIES
            and self._names_bytes + names_bytes <= MAX_NAMES_BYTES
        )


def main() -> int:
    """Install or send, as the argument, a line of JSON, says. Returns the exit status."""
    work: Work = json.loads(sys.argv[1])
    base = work["base"]
    for name in ("PGEXEC_RUNNER", "PYTHONPATH"):
        os.environ.pop(name, None)
    if work["do"] == "look":
        look(work["requirements"][0])
        return 0
    if work["do"] == "send":
        send(base, work["limit_bytes"], work["ready"])
        return 0
    return install(base, work)


if __name__ == "__main__":
    sys.exit(main())
