"""Publish, check and remove layers on the volume, and take over the layers of a dead server.

Runs inside the keeper's container, by `python3 -c` (`pool/engine/sources.py`): standard library
only, any CPython since 3.8. No other program may write to the volume. Each request is a line of
JSON on stdin, each answer a line on stdout. The program ends when stdin ends.

The volume's root holds the layers, under names that nobody can guess; only root can list it. It
also holds `.owners`, with one directory for each server. The keeper of a server locks this
directory for as long as it runs. The directory holds `unfinished`, the layers that are not whole
yet, and for each layer:

- `NAME.json`: what the server told of a layer, and its size; small
- `NAME.entries`: its manifest (`manifest.py`). Servers before 2026-12 had all in the first.
- `NAME.reading`: there while a layer is read. After a start, it names the layer over which this
  program was killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import resource
import shutil
import stat
import struct
import sys
import time
from typing import Any, Iterator

from pool.inside.layer_format import ABORT, CHUNK, MAX_ENTRIES, MAX_NAMES_BYTES, RECORD_HEAD, Entry
from pool.inside.manifest import MAX_MANIFEST_BYTES, Known, State, is_as_written, write_manifest

_READ = 1 << 18
_MEMORY_BYTES = 160 << 20
"""The memory that this program may take beyond the interpreter's. The container's limit is higher:
so the lack of memory is a `MemoryError` for one layer, and not the end of the program."""
_MAX_ABOUT_BYTES = 64 << 10
_MAX_OLD_BYTES = 16 << 20
"""The largest `NAME.json` of an earlier server that is read; as objects it takes 80 MiB."""
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, struct.error, MemoryError, RecursionError)


class Aborted(Exception):  # noqa: N818 - no error of ours
    """The server does not want the layer any more."""


class Parts:
    """The parts of a layer on stdin, read as one file."""

    def __init__(self, source: Any) -> None:  # noqa: ANN401 - any binary file
        self._source = source
        self._left = 0
        self.ended = False

    def read(self, size: int) -> bytes:
        """Return exactly `size` bytes. Raises `Aborted`, or `EOFError` if too few are left."""
        parts = []
        while size:
            if not self._left:
                self._next()
            data = self._source.read(min(size, self._left))
            if not data:
                raise EOFError
            self._left -= len(data)
            size -= len(data)
            parts.append(data)
        return b"".join(parts)

    def finish(self) -> None:
        """Check that the layer ends here. Raises `ValueError` if bytes follow, or `Aborted`."""
        with contextlib.suppress(EOFError):
            self.read(1)
            raise ValueError("something follows the end of the layer")

    def drain(self) -> None:
        """Read the rest of the layer: the next line on stdin is then a request again."""
        with contextlib.suppress(Aborted, EOFError):
            while not self.ended:
                self.read(max(1, self._left))

    def _next(self) -> None:
        if self.ended:
            raise EOFError
        head = self._source.read(CHUNK.size)
        self._left = CHUNK.unpack(head)[0] if len(head) == CHUNK.size else 0
        if self._left in (0, ABORT):
            aborted, self._left, self.ended = self._left == ABORT, 0, True
            raise Aborted if aborted else EOFError


class Depot:
    """The layers on the volume `root` that the server `owner` keeps."""

    def __init__(self, root: str, owner: str) -> None:
        self.root = root
        os.chmod(root, 0o711)  # noqa: S103 - names may be entered, not listed
        self.owners = os.path.join(root, ".owners")
        os.makedirs(self.owners, mode=0o700, exist_ok=True)
        self.home = os.path.join(self.owners, owner)
        self.unfinished = os.path.join(self.home, "unfinished")
        with self._locked(self.owners):
            os.makedirs(self.home, exist_ok=True)
            self.lock = os.open(self.home, os.O_RDONLY)
            # The kernel releases this lock when the process ends, however it ends: without it,
            # another keeper would take over the layers of a server that still runs.
            fcntl.flock(self.lock, fcntl.LOCK_EX)
            for other in os.listdir(self.owners):
                if other != owner:
                    self._take_over(os.path.join(self.owners, other))
        shutil.rmtree(self.unfinished, ignore_errors=True)
        os.mkdir(self.unfinished)

    def names(self) -> list[str]:
        """Return the layers that there are, without those that this program was killed over."""
        found: dict[str, set[str]] = {}
        for file in os.listdir(self.home):
            name, extension = os.path.splitext(file)
            if extension:
                found.setdefault(name, set()).add(extension)
        for name, extensions in found.items():
            if ".reading" in extensions or ".json" not in extensions:
                self.remove(name)
        return sorted(name for name in found if os.path.exists(self._path(name)))

    def load(self, name: str) -> dict[str, Any] | None:
        """Return `about`, name and size of a sound layer. Remove any other one, and return None."""
        if self.check(name):
            with contextlib.suppress(*_UNREADABLE):
                known = self._read(name)
                return {**known["about"], "name": name, "bytes": known["bytes"]}
        self.remove(name)
        return None

    def publish(self, name: str, about: dict[str, Any], source: Parts) -> int:
        """Write a layer to the volume, as a whole or not at all. Returns its size in bytes.

        Raises `Aborted`, `EOFError`, `ValueError`, `OSError`.
        """
        partial = os.path.join(self.unfinished, name)
        try:
            os.mkdir(partial)
            digests = _extract(source, os.fsencode(partial))
            source.finish()
            with self._replaced(name, ".entries") as file:
                size = write_manifest(
                    file, os.fsencode(partial), lambda path, state: (state, digests[path])
                )
            # First the facts, then the layer: a crash in between leaves facts without a layer,
            # which `load` removes. The other way round, nobody would know of the layer.
            self._write(name, {"about": about, "bytes": size})
            os.rename(partial, os.path.join(self.root, name))
        except BaseException:
            self.remove(name)
            shutil.rmtree(partial, ignore_errors=True)
            raise
        return size

    def check(self, name: str) -> bool:
        """Return True if a layer is the same as when it was published."""
        try:
            # Without this file, a layer that this program dies over is read again at each start,
            # and nobody gets any layer any more.
            with open(self._path(name, ".reading"), "wb"):
                pass
            try:
                return self._compare(name)
            finally:
                os.unlink(self._path(name, ".reading"))
        except _UNREADABLE:
            return False

    def remove(self, name: str) -> None:
        """Remove a layer: first move it out of sight, then delete its files."""
        away = os.path.join(self.unfinished, f"{name}.{time.monotonic_ns()}")
        with contextlib.suppress(FileNotFoundError):
            os.rename(os.path.join(self.root, name), away)
        for extension in (".json", ".entries", ".reading", ".json.new", ".entries.new"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path(name, extension))
        shutil.rmtree(away, ignore_errors=True)

    def note_use(self, used: dict[str, float]) -> None:
        """Write down when layers were last used: `used` has seconds since the epoch by name."""
        for name, at in used.items():
            with contextlib.suppress(*_UNREADABLE):
                known = self._read(name)
                known["about"]["used_at"] = at
                self._write(name, known)

    def _compare(self, name: str) -> bool:
        path, layer = self._path(name, ".entries"), os.fsencode(os.path.join(self.root, name))
        if not os.path.exists(path):
            self._renew(name, layer)
        if os.path.getsize(path) > MAX_MANIFEST_BYTES:
            return False
        self._read(name)
        with open(path, "r+b") as file:
            return is_as_written(file, layer)

    def _renew(self, name: str, layer: bytes) -> None:
        """Bring what an earlier server wrote of a layer into the form of today."""
        old = self._read(name, _MAX_OLD_BYTES)
        entries = old["entries"]

        def known(path: bytes, _now: State) -> Known:
            size, mode, mtime, ctime, digest = entries.pop(os.fsdecode(path))
            if stat.S_ISLNK(mode):  # its target stood there
                return (mode, size, mtime, ctime), hashlib.sha256(os.fsencode(digest)).digest()
            return (mode, size, mtime, ctime), bytes.fromhex(digest) or bytes(32)

        with self._replaced(name, ".entries") as file:
            size = write_manifest(file, layer, known)
            if entries:
                raise ValueError("something of the layer is not there any more")
        self._write(name, {"about": old["about"], "bytes": size})

    def _take_over(self, other: str) -> None:
        """Take over the layers of the directory `other`, if no running keeper has locked it."""
        fd = os.open(other, os.O_RDONLY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # What is known of a layer comes last: without it, nobody takes the rest for a layer.
            for file in sorted(os.listdir(other), key=lambda file: file.endswith(".json")):
                if file.endswith((".json", ".entries", ".reading")):
                    os.rename(os.path.join(other, file), os.path.join(self.home, file))
            shutil.rmtree(other, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def _locked(self, directory: str) -> Iterator[None]:
        fd = os.open(directory, os.O_RDONLY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _path(self, name: str, extension: str = ".json") -> str:
        return os.path.join(self.home, name + extension)

    def _read(self, name: str, limit: int = _MAX_ABOUT_BYTES) -> dict[str, Any]:
        path = self._path(name)
        if os.path.getsize(path) > limit:
            raise ValueError("too much is known of it")
        with open(path, encoding="utf-8") as file:
            known: dict[str, Any] = json.load(file)
        return known

    def _write(self, name: str, known: dict[str, Any]) -> None:
        text = json.dumps(known).encode()
        if len(text) > _MAX_ABOUT_BYTES:
            raise ValueError("too much is to be known of it")
        with self._replaced(name, ".json") as file:
            file.write(text)

    @contextlib.contextmanager
    def _replaced(self, name: str, extension: str) -> Iterator[Any]:
        """Give a file to write, which takes its place when all is in it."""
        path = self._path(name, extension)
        with open(path + ".new", "wb") as file:
            yield file
        os.rename(path + ".new", path)


def _extract(source: Parts, root: bytes) -> dict[bytes, bytes]:
    """Make the entries that come; return the digest of each by its path."""
    digests: dict[bytes, bytes] = {}
    names_bytes = 0
    while True:
        kind, runs, path_size, target_size, size = RECORD_HEAD.unpack(source.read(RECORD_HEAD.size))
        path, target = source.read(path_size), source.read(target_size)
        where = os.path.join(root, path)
        if kind == Entry.END:
            return digests
        names_bytes += path_size + target_size
        if len(digests) >= MAX_ENTRIES or names_bytes > MAX_NAMES_BYTES:
            raise ValueError("the layer has too many entries, or too long names")
        if kind == Entry.DIRECTORY:
            os.mkdir(where, 0o755)
            digests[path] = bytes(32)
        elif kind == Entry.LINK:
            os.symlink(target, where)
            digests[path] = hashlib.sha256(target).digest()
        else:
            digests[path] = _write_file(source, where, size, 0o755 if runs else 0o644)


def _write_file(source: Parts, path: bytes, size: int, mode: int) -> bytes:
    digest = hashlib.sha256()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(fd, "wb") as file:
        while size:
            data = source.read(min(size, _READ))
            file.write(data)
            digest.update(data)
            size -= len(data)
    return digest.digest()


def _answer(depot: Depot, request: dict[str, Any], source: Any) -> dict[str, Any]:  # noqa: ANN401
    do = request["do"]
    if do == "names":
        return {"names": depot.names()}
    if do == "load":
        return {"layer": depot.load(request["name"])}
    if do == "check":
        return {"sound": depot.check(request["name"])}
    if do == "remove":
        for name in request["names"]:
            depot.remove(name)
    elif do == "note_use":
        depot.note_use(request["used"])
    elif do == "publish":
        parts = Parts(source)
        try:
            return {"bytes": depot.publish(request["name"], request["about"], parts)}
        except Aborted:
            return {"aborted": True}
        finally:
            parts.drain()
    return {}


def main() -> None:
    """Answer requests until stdin ends. The arguments are the volume's root and the server."""
    root, owner = sys.argv[1:]
    with open("/proc/self/statm", encoding="ascii") as file:
        own = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (own + _MEMORY_BYTES,) * 2)
    source, out = sys.stdin.buffer, sys.stdout
    depot = Depot(root, owner)
    for line in iter(source.readline, b""):
        try:
            answer = _answer(depot, json.loads(line), source)
        except (*_UNREADABLE, EOFError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        out.write(json.dumps(answer) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
