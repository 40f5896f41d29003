"""Publish, check and remove layers on the volume, and take over the layers of a dead server.

Runs inside the keeper's container, by `python3 -c` (`pool/engine/sources.py`): standard library
only, any CPython since 3.8. No other program may write to the volume. Each request is a line of
JSON on stdin, each answer a line on stdout. The program ends when stdin ends.

The volume's root holds the layers, under names that nobody can guess; only root can list it. It
also holds `.owners`, with one directory for each server. The keeper of a server locks this
directory for as long as it runs. The directory holds a JSON file for each layer, and `unfinished`,
the layers that are not whole yet.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import struct
import sys
import time
from typing import Any, Iterator

from pool.inside.layer_format import ABORT, CHUNK, RECORD, Entry

_BLOCK = 4096
_READ = 1 << 18


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

    def load(self) -> list[dict[str, Any]]:
        """Return `about`, name and size in bytes of each sound layer. Remove the others."""
        found = []
        for file in sorted(os.listdir(self.home)):
            name, extension = os.path.splitext(file)
            if extension != ".json":
                continue
            if self.check(name):
                known = self._read(name)
                found.append({**known["about"], "name": name, "bytes": known["bytes"]})
            else:
                self.remove(name)
        return found

    def publish(self, name: str, about: dict[str, Any], source: Parts) -> int:
        """Write a layer to the volume, as a whole or not at all. Returns its size in bytes.

        Raises `Aborted`, `EOFError`, `ValueError`, `OSError`.
        """
        partial = os.path.join(self.unfinished, name)
        try:
            os.mkdir(partial)
            entries = _extract(source, partial)
            source.finish()
            size = sum(_blocks(entry[0]) for entry in entries.values()) + _BLOCK
            # First the facts, then the layer: a crash in between leaves facts without a layer,
            # which `load` removes. The other way round, nobody would know of the layer.
            self._write(name, {"about": about, "bytes": size, "entries": entries})
            os.rename(partial, os.path.join(self.root, name))
        except BaseException:
            self.remove(name)
            shutil.rmtree(partial, ignore_errors=True)
            raise
        return size

    def check(self, name: str) -> bool:
        """Return True if a layer is the same as when it was published.

        An entry whose lstat(2) has not changed counts as the same. Of any other entry, the
        content is read and compared by its digest.
        """
        try:
            known = self._read(name)
            layer = os.path.join(self.root, name)
            entries = known["entries"]
            if sorted(_walk(layer)) != sorted(entries):
                return False
            touched = False
            for path, entry in entries.items():
                now = _state(os.path.join(layer, path))
                if now != entry[:4]:
                    if now[:2] != entry[:2] or _digest(os.path.join(layer, path)) != entry[4]:
                        return False
                    entry[:4] = now
                    touched = True
            if touched:
                self._write(name, known)
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return True

    def remove(self, name: str) -> None:
        """Remove a layer: first move it out of sight, then delete its files."""
        away = os.path.join(self.unfinished, f"{name}.{time.monotonic_ns()}")
        with contextlib.suppress(FileNotFoundError):
            os.rename(os.path.join(self.root, name), away)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.home, f"{name}.json"))
        shutil.rmtree(away, ignore_errors=True)

    def note_use(self, used: dict[str, float]) -> None:
        """Write down when layers were last used: `used` has seconds since the epoch by name."""
        for name, at in used.items():
            with contextlib.suppress(OSError, ValueError):
                known = self._read(name)
                known["about"]["used_at"] = at
                self._write(name, known)

    def _take_over(self, other: str) -> None:
        """Take over the layers of the directory `other`, if no running keeper has locked it."""
        fd = os.open(other, os.O_RDONLY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for file in os.listdir(other):
                if file.endswith(".json"):
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

    def _read(self, name: str) -> dict[str, Any]:
        with open(os.path.join(self.home, f"{name}.json"), encoding="utf-8") as file:
            known: dict[str, Any] = json.load(file)
        return known

    def _write(self, name: str, known: dict[str, Any]) -> None:
        path = os.path.join(self.home, f"{name}.json")
        with open(path + ".new", "w", encoding="utf-8") as file:
            json.dump(known, file)
        os.rename(path + ".new", path)


def _extract(source: Parts, root: str) -> dict[str, list[Any]]:
    """Write each entry of a layer below `root`; return its `_state` and digest, by its path."""
    entries: dict[str, list[Any]] = {}
    digests: dict[str, str] = {}
    while True:
        kind, runs, path_size, target_size, size = RECORD.unpack(source.read(RECORD.size))
        path = source.read(path_size).decode()
        target = source.read(target_size).decode()
        where = os.path.join(root, path)
        if kind == Entry.END:
            break
        if kind == Entry.DIRECTORY:
            os.mkdir(where, 0o755)
            digests[path] = ""
        elif kind == Entry.LINK:
            os.symlink(target, where)
            digests[path] = target
        else:
            digests[path] = _write_file(source, where, size, 0o755 if runs else 0o644)
    # Only now: the times of a directory change with each entry that is made in it.
    for path, digest in digests.items():
        entries[path] = [*_state(os.path.join(root, path)), digest]
    return entries


def _write_file(source: Parts, path: str, size: int, mode: int) -> str:
    digest = hashlib.sha256()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(fd, "wb") as file:
        while size:
            data = source.read(min(size, _READ))
            file.write(data)
            digest.update(data)
            size -= len(data)
    return digest.hexdigest()


def _walk(root: str) -> Iterator[str]:
    pending = [""]
    while pending:
        where = pending.pop()
        with os.scandir(os.path.join(root, where)) as entries:
            for entry in entries:
                path = os.path.join(where, entry.name)
                yield path
                if entry.is_dir(follow_symlinks=False):
                    pending.append(path)


def _state(path: str) -> list[int]:
    """Return the size in bytes, the mode, and the times of the last changes, in nanoseconds."""
    about = os.lstat(path)
    return [about.st_size, about.st_mode, about.st_mtime_ns, about.st_ctime_ns]


def _digest(path: str) -> str:
    if os.path.islink(path):
        return os.readlink(path)
    if os.path.isdir(path):
        return ""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for data in iter(lambda: file.read(_READ), b""):
            digest.update(data)
    return digest.hexdigest()


def _blocks(size: int) -> int:
    return (size + _BLOCK - 1) // _BLOCK * _BLOCK


def _answer(depot: Depot, request: dict[str, Any], source: Any) -> dict[str, Any]:  # noqa: ANN401
    do = request["do"]
    if do == "load":
        return {"layers": depot.load()}
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
    source, out = sys.stdin.buffer, sys.stdout
    depot = Depot(root, owner)
    for line in iter(source.readline, b""):
        try:
            answer = _answer(depot, json.loads(line), source)
        except (OSError, ValueError, EOFError, struct.error) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        out.write(json.dumps(answer) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
