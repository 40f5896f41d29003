"""The frames that server and runner exchange over the container's standard streams.

A frame is a header of five bytes (kind, and payload length in network byte order) and the
payload. Both ends share this module, and the end in the container may be any CPython since 3.8:
standard library only. The stream has no message boundaries: so each frame has a length. A clean
close and a lost connection look the same: so EXIT tells the end of a run.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Iterator, NamedTuple

HEADER = struct.Struct("!BI")


class Kind(IntEnum):
    """The kind of a frame. The server sends JOB and INTERRUPT; the runner sends all other kinds."""

    JOB = 1
    INTERRUPT = 2
    READY = 16
    STDOUT = 17
    STDERR = 18
    EXIT = 19
    CLEAN = 20
    DIRTY = 21
    REFUSED = 22
    FILES = 23
    SHOWN = 24
    RESTARTED = 25


class Step(IntEnum):
    """What a JOB is: a run by itself, the begin of a session, or one of its cells.

    The first JOB of a session brings the layer, files and variables, but no code; all others are
    its cells, and it ends with the container. An INTERRUPT has the number of a cell that shall end;
    an interpreter that keeps it going is killed. RESTARTED comes first in a cell that has a new
    interpreter, because one has ended. SHOWN has a `SHOWN` for the value of a cell, and for each of
    its rich forms.
    """

    RUN = 0
    OPEN = 1
    CELL = 2


class ShownForm(IntEnum):
    """What SHOWN says next: a `repr`, a rich form, or one that is too large. See `SHOWN`.

    At the end, `CUT` says that the `repr` is cut, or that more forms were shown than are here.
    """

    VALUE = 0
    RICH = 1
    OMITTED = 2
    CUT = 3


class Ending(IntEnum):
    """How a run ended, by the runner's account."""

    EXITED = 0
    SIGNALED = 1
    TIMEOUT = 2
    OUTPUT_LIMIT = 3
    MEMORY_LIMIT = 4
    NO_LAYER = 5
    CPU_TIME = 6
    NO_ROOM = 7
    NOT_WRITTEN = 8
    NO_PROCESS = 9


class Found(IntEnum):
    """What the FILES of a run say next: a file, or the end. See `FOUND`."""

    CONTENT = 0
    OVER_LIMIT = 1
    UNREADABLE = 2
    END = 3
    CUT_SHORT = 4
    NO_PROCESS = 5


class FrameError(ValueError):
    """The bytes on the stream are not frames of this protocol."""


class JobHeader(NamedTuple):
    """The fixed part of a JOB. The layer's name, code, stdin and strings follow it, in this order.

    `timeout_ms` and `output_limit` (bytes, both streams together) bound the run. If `last` is
    true, the runner exits after the run; else it resets the container. The sizes are in bytes;
    `layer_size` is 0 if the run has no layer of dependencies. Each of the strings ends with a NUL:
    first `args` arguments of the snippet, then variables of its environment, `NAME=value`. `cpu_ms`
    bounds the processor time of all processes of the run, `memory_limit` (bytes) their memory; 0 is
    no bound. Right behind the frame come the input files, `files_size` bytes in all: for each one a
    `FILE` with the sizes of its name and its content, then these two. The last part of the frame,
    of `collect_size`, asks for files of the run: patterns with a NUL between them, two NULs, and
    the names of the input files with a NUL between them. At most `collect_max` files are sent,
    with contents of at most `collect_limit` bytes. Only in a cell, `shown_limit` (bytes) bounds
    what it shows: `output_limit` of that is for the value, `SHOWN_RESERVE_BYTES` for heads and
    notes, and the rest for rich forms.
    """

    run: int
    timeout_ms: int
    output_limit: int
    code_size: int
    stdin_size: int
    last: bool
    layer_size: int = 0
    args: int = 0
    strings_size: int = 0
    cpu_ms: int = 0
    memory_limit: int = 0
    files_size: int = 0
    collect_size: int = 0
    collect_limit: int = 0
    collect_max: int = 0
    step: int = Step.RUN
    shown_limit: int = 0


class Exit(NamedTuple):
    """The end of a run.

    `status` is the exit code, or the negative number of the signal that ended the child.
    `oom_killed` is true if the kernel has killed a process of the run for lack of memory, the child
    or another one. `exception` is the class of the exception that ended the script, as the child
    tells it: a snippet can forge it, as it can print anything.
    """

    run: int
    ending: Ending
    status: int
    truncated: bool
    duration_us: int
    cpu_us: int
    peak_memory_bytes: int
    oom_killed: bool = False
    exception: bytes = b""


_JOB = struct.Struct("!IIIII?BIIIQQIIIBI")
_EXIT = struct.Struct("!IBi?QQQ?")
FILE = struct.Struct("!HQ")
FOUND = struct.Struct("!BHQ")
"""What kind of `Found` it is, the size of a name, and that of the file. The name follows, and the
content only of a `CONTENT`. At the end, the last number is that of the files beyond
`collect_max`."""
MAX_FOUND_NAME_BYTES = 4096
SHOWN = struct.Struct("!BHI")
"""Which `ShownForm` it is, the sizes of its MIME type and of its content. These follow; content is
text in UTF-8, base64 for bytes. One that is `OMITTED` has no content, only the size of it."""
SHOWN_RESERVE_BYTES = 64 << 10
MAX_SHOWN_FORMS = 1000
INTERRUPT = struct.Struct("!I")
BETWEEN_BYTES = 64 << 10
"""A cell's output begins with that of the threads and processes which wrote since the last cell, at
most so many bytes. They do not count in `output_limit`."""
MAX_NAME_BYTES = 200
"""The longest name of an exception that an EXIT may have."""

_LONG_BYTES = 4096
JOB_HEADER_SIZE = _JOB.size


def encode(kind: Kind, payload: bytes = b"") -> bytes:
    """Return one whole frame."""
    return HEADER.pack(kind, len(payload)) + payload


def encode_job(
    header: JobHeader,
    layer: bytes,
    code: bytes,
    stdin: bytes,
    strings: bytes = b"",
    collect: bytes = b"",
) -> bytes:
    """Return a JOB frame. `header` must have the sizes of the other arguments."""
    parts = layer, code, stdin, strings, collect
    size = JOB_HEADER_SIZE + sum(map(len, parts))
    return b"".join((HEADER.pack(Kind.JOB, size), _JOB.pack(*header), *parts))


def decode_job(payload: memoryview | bytes) -> JobHeader:
    """Read the fixed part of a JOB's payload. Raises `FrameError` if the sizes disagree."""
    if len(payload) < JOB_HEADER_SIZE:
        raise FrameError("JOB is shorter than its header")
    header = JobHeader(*_JOB.unpack_from(payload))
    sizes = header.layer_size + header.code_size + header.stdin_size + header.strings_size
    sizes += header.collect_size
    if JOB_HEADER_SIZE + sizes != len(payload):
        raise FrameError("JOB sizes do not add up")
    return header


def encode_exit(ending: Exit) -> bytes:
    """Return an EXIT frame."""
    return encode_exit_head(ending, len(ending.exception)) + ending.exception


def encode_exit_head(ending: Exit, name_size: int) -> bytes:
    """Return an EXIT frame without the exception's name, which must follow: `name_size` bytes."""
    return HEADER.pack(Kind.EXIT, _EXIT.size + name_size) + _EXIT.pack(*ending[:-1])


def decode_exit(payload: bytes) -> Exit:
    """Return the end of a run that an EXIT's payload describes. Raises `FrameError`."""
    try:
        run, ending, *figures = _EXIT.unpack_from(payload)
        name = payload[_EXIT.size :]
        if len(name) > MAX_NAME_BYTES:
            raise FrameError(f"an exception's name of {len(name)} bytes")
        return Exit._make((run, Ending(ending), *figures, name))
    except (struct.error, ValueError) as error:
        raise FrameError(f"malformed EXIT: {error}") from error


class Decoder:
    """Turns a stream of bytes, cut anywhere, into frames.

    `max_payload` is the largest payload in bytes that a frame may announce. Without it, a runner
    that lies could make the server buffer without end.
    """

    def __init__(self, max_payload: int) -> None:
        self._max_payload = max_payload
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """The number of received bytes that do not make a whole frame yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> Iterator[tuple[Kind, bytes]]:
        """Add `data`; yield each frame that is complete now.

        Raises `FrameError` if a kind is unknown or a payload too large.
        """
        buffer = self._buffer
        buffer += data
        while len(buffer) >= HEADER.size:
            kind, size = HEADER.unpack_from(buffer)
            try:
                kind = Kind(kind)
            except ValueError:
                raise FrameError(f"unknown frame kind {kind}") from None
            if size > self._max_payload:
                raise FrameError(f"{kind.name} of {size} bytes is over {self._max_payload}")
            end = HEADER.size + size
            if len(buffer) < end:
                return
            if size < _LONG_BYTES:
                payload = bytes(buffer[HEADER.size : end])
            else:
                with memoryview(buffer) as whole:  # a slice of the buffer would be another copy
                    payload = bytes(whole[HEADER.size : end])
            del buffer[:end]
            yield kind, payload
