"""The CPythons at hand that the runner is tested in, and how each is started in namespaces."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = ("python3", *(f"python3.{minor}" for minor in range(8, 20)))
ROOTS = ROOT / ".tools/pythons"
"""Root file systems of newer Debian suites: `deploy/setup/image.sh --newest` makes one."""
EVERYTHING = "PGEXEC_TEST_EVERY_PYTHON"
"""The variable by which `make pythons` asks for all that pyenv, uv and the roots have, too."""
TELL = (
    "import sys, sysconfig; print(sys.version_info[:2] >= (3, 8)"
    " and sys.implementation.name == 'cpython' and '%d.%d' % sys.version_info[:2]"
    " + 't' * bool(sysconfig.get_config_var('Py_GIL_DISABLED')), sys.executable)"
)


@dataclass(frozen=True, slots=True)
class Python:
    """An interpreter: its version (`3.14t` is free-threaded), its path, the root it lies in."""

    version: str
    path: str
    root: str = ""

    def __str__(self) -> str:
        """Name it in the names of tests."""
        return f"python{self.version}"

    @property
    def directory(self) -> str:
        """The directory under `lib` where it has its packages: that of its version without `t`."""
        return f"python{self.version.rstrip('t')}"

    def script(self, directory: Path) -> str:
        """Return shell that runs it, as root in a mount namespace, with arguments `"$@"`.

        `directory` is there for it under its own name. An interpreter in a directory that is
        closed to other users, as pyenv's in root's home, is seen there as if it were not.
        """
        here, path, prefix = (shlex.quote(str(one)) for one in (directory, self.path, self.prefix))
        if self.root:
            inside = shlex.quote(f"{self.root}{directory}")
            return (
                f"cd {shlex.quote(self.root)} && mount -t proc proc proc && mount --rbind /dev dev"
                " && mount -t tmpfs tmpfs tmp && mount -t tmpfs tmpfs var/tmp"
                f" && mkdir -p {inside} && mount --rbind {here} {inside}"
                f' && exec unshare --root=. {path} "$@"'
            )
        closed = [one for one in self.prefix.parents if not one.stat().st_mode & 0o001]
        if closed:
            return (
                f"mount --rbind {prefix} /mnt && mount -t tmpfs -o mode=755 tmpfs {closed[-1]}"
                f' && mkdir -p {prefix} && mount --move /mnt {prefix} && exec {path} "$@"'
            )
        return f'exec {path} "$@"'

    @property
    def prefix(self) -> Path:
        """What it is installed in."""
        return Path(self.path).parent.parent


def imports_ahead(python: Python) -> bool:
    """Return True if the runner imports ahead in it (`pool/inside/ahead.py`)."""
    return int(python.version.rstrip("t").split(".")[1]) < 15


@contextlib.contextmanager
def open_directory() -> Iterator[Path]:
    """Make a directory that any user may enter, as not every one of `tmp_path` is."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory


def interpreters() -> list[Python]:
    """Return one interpreter for each version that starts: the host's and the newest of Debian's.

    With `EVERYTHING` also those that are installed apart from the system.
    """
    everything = bool(os.environ.get(EVERYTHING))
    paths = [sys.executable, *filter(None, map(shutil.which, NAMES)), "/usr/bin/python3"]
    found: dict[str, Python] = {}
    for path in paths:
        python = _ask([path])
        if python and (everything or _is_public(python.path)):
            found.setdefault(python.version, python)
    if everything:
        for path in _installed_apart():
            python = _ask([path])
            if python:
                found.setdefault(python.version, python)
    for root in sorted(ROOTS.glob("*")):
        inside = [f"/usr/bin/{path.name}" for path in root.glob("usr/bin/python3.*[0-9]")]
        known = [_ask([path], str(root)) for path in inside]
        newest = sorted(filter(None, known), key=lambda one: int(one.version.split(".")[1]))
        for python in newest if everything else newest[-1:]:
            found.setdefault(python.version, python)
    return list(found.values())


def _ask(command: list[str], root: str = "") -> Python | None:
    """Return the interpreter, unless it does not start, is too old, or is no CPython."""
    within = ["unshare", f"--root={root}"] if root else []
    told = subprocess.run(
        [*within, *command, "-c", TELL], capture_output=True, text=True, check=False
    )
    version, _, path = told.stdout.strip().partition(" ")
    if told.returncode != 0 or version in ("", "False"):
        return None
    return Python(version, path if root else os.path.realpath(path), root)


def _installed_apart() -> list[str]:
    """Return what pyenv and uv have installed."""
    homes = []
    for command in (["pyenv", "root"], ["uv", "python", "dir"]):
        if shutil.which(command[0]):
            told = subprocess.run(command, capture_output=True, text=True, check=False)
            homes.append(Path(told.stdout.strip()))
    found = [path for home in homes for path in home.glob("*/bin/python3")]
    found += [path for home in homes for path in home.glob("versions/*/bin/python3")]
    return sorted(map(str, found))


def _is_public(executable: str) -> bool:
    return all(parent.stat().st_mode & 0o001 for parent in Path(executable).resolve().parents)
