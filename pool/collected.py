"""The files that a run has left, read from its runner's FILES."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pool.inside.protocol import FOUND, MAX_FOUND_NAME_BYTES, Found, FrameError
from pool.job import OutputFile

if TYPE_CHECKING:
    from pool.job import Job

_OVER_LIMIT = "the files together are over the limit"
_UNREADABLE = "the run itself may not read it"
_NO_PROCESS = "they could not be read: the session has too many processes or threads"
_UNFINISHED = "they could not all be read in time, or in the memory that there was"


class Collected:
    """Collects the files of one run of `job`. What it holds is bounded by the job's limits."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._files: list[OutputFile] = []
        self._head = bytearray()
        self._content = bytearray()
        self._name = ""
        self._missing = 0
        self._room = job.collect_limit_bytes
        self._end: tuple[Found, int] | None = None

    def add(self, payload: bytes) -> None:
        """Add a piece of the runner's account. Raises `FrameError` if it makes no sense."""
        at = 0
        while at < len(payload):
            if self._missing:
                piece = payload[at : at + self._missing]
                self._content += piece
                self._missing -= len(piece)
                at += len(piece)
                if not self._missing:
                    self._keep(len(self._content), self._content)
                continue
            if self._end is not None or len(self._files) >= self._job.collect_max + 1:
                raise FrameError("more files than were asked for")
            wanted = FOUND.size
            if len(self._head) >= FOUND.size:
                wanted += FOUND.unpack_from(self._head)[1]
            piece = payload[at : at + wanted - len(self._head)]
            self._head += piece
            at += len(piece)
            self._read_head()

    def _read_head(self) -> None:
        if len(self._head) < FOUND.size:
            return
        what, name_size, size = FOUND.unpack_from(self._head)
        if name_size > MAX_FOUND_NAME_BYTES or what not in set(Found):
            raise FrameError("a file that cannot be")
        if len(self._head) < FOUND.size + name_size:
            return
        self._name = self._head[FOUND.size :].decode("utf-8", "backslashreplace")
        self._head.clear()
        found = Found(what)
        if found is Found.CONTENT:
            self._room -= size
            if self._room < 0:
                raise FrameError("more content than was asked for")
            self._content, self._missing = bytearray(), size
            if not size:
                self._keep(0, b"")
        elif found is Found.OVER_LIMIT:
            self._keep(size, None, _OVER_LIMIT)
        elif found is Found.UNREADABLE:
            self._keep(size, None, _UNREADABLE)
        else:
            self._end = found, size

    def _keep(self, size: int, content: bytes | bytearray | None, omitted: str = "") -> None:
        self._files.append(OutputFile(self._name, size, content, omitted))

    def result(self) -> tuple[list[OutputFile], str]:
        """Return the files, sorted by name, and why there are more; `""` if there are not.

        An input with the content that it had is left out, whatever else has changed of it.
        """
        inputs = {file.name: file.content for file in self._job.files}
        files = [
            file
            for file in self._files
            if file.content is None or inputs.get(file.name) != file.content
        ]
        omitted = ""
        if self._end is None or self._end[0] is Found.CUT_SHORT:
            omitted = _UNFINISHED
        elif self._end[0] is Found.NO_PROCESS:
            omitted = _NO_PROCESS
        elif more := self._end[1]:
            omitted = f"{more} more matched, but at most {self._job.collect_max} are returned"
        return sorted(files, key=lambda file: file.name), omitted
