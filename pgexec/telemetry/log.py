"""Logging as JSON lines, written by a thread so that the event loop never waits for a disk."""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import sys
import threading
import time
from logging.handlers import RotatingFileHandler
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    _Sink = Callable[[str], None]

GATHER_S: Final = 0.02
"""The thread gathers lines for so many seconds: a wake-up for each costs more than the line."""
BACKLOG: Final = 20_000
"""So many lines are kept while a disk hangs; the next ones are dropped and counted."""
FILE_BYTES: Final = 64 << 20
FILES_KEPT: Final = 3

_encode = json.JSONEncoder(default=str).encode


class JsonFormatter(logging.Formatter):
    """One event per line: time, level, logger, event, then the event's own fields.

    If the server has a name, each line has it, too.
    """

    _second = -1
    _stamp = ""

    def __init__(self, server: str = "") -> None:
        super().__init__()
        self._server = {"server": server} if server else {}

    def format(self, record: logging.LogRecord) -> str:
        """Return the line without its line end, always in ASCII."""
        second = int(record.created)
        if second != self._second:
            self._second = second
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        line: dict[str, object] = {
            "time": f"{self._stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **self._server,
        }
        fields = getattr(record, "fields", None)
        if fields:
            line.update(fields)
        if record.exc_info and record.exc_info[0] is not None:
            line["traceback"] = self.formatException(record.exc_info)
        return _encode(line)


class _Enqueue(logging.Handler):
    """Formats a line at once, and leaves the writing to the thread.

    If the thread formatted lines, it would hold the interpreter's lock, and so stop the event loop,
    at any moment. While it writes, it does not hold the lock.
    """

    def __init__(self, server: str) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter(server))
        self.lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a line."""
        if self.lines.qsize() >= BACKLOG:
            self.dropped += 1
            return
        try:
            self.lines.put(self.format(record))
        except Exception:  # noqa: BLE001  # as every handler does
            self.handleError(record)


class _Writer(threading.Thread):
    """Writes the gathered lines, with one write for each sink; ends after `None`."""

    def __init__(self, lines: queue.SimpleQueue[str | None], sinks: Sequence[_Sink]) -> None:
        super().__init__(name="log", daemon=True)
        self._lines = lines
        self._sinks = sinks

    def run(self) -> None:
        """Write until `None` comes."""
        batch: list[str | None] = []
        while None not in batch:
            batch = [self._lines.get()]
            if batch[0] is not None:
                time.sleep(GATHER_S)
            with contextlib.suppress(queue.Empty):
                while len(batch) < BACKLOG:
                    batch.append(self._lines.get_nowait())
            text = "".join(f"{line}\n" for line in batch if line is not None)
            for sink in self._sinks:
                # A full disk or a closed terminal must not end the log, nor the server.
                with contextlib.suppress(OSError, ValueError):
                    sink(text)


def _stream_sink(stream: TextIO) -> _Sink:
    def write(text: str) -> None:
        stream.write(text)
        stream.flush()

    return write


def _file_sink(handler: RotatingFileHandler) -> _Sink:
    def write(text: str) -> None:
        if (stream := handler.stream) is not None:  # None: a rotation failed half-way
            stream.write(text)
            stream.flush()
            if stream.tell() >= FILE_BYTES:
                handler.doRollover()

    return write


def start_logging(level: str, file: str | None, server: str = "") -> Callable[[], None]:
    """Send the log to stderr and to `file`; return a function that writes the rest and stops.

    `server` is the server's name, which each line has, or `""`. Raises `OSError` if the file cannot
    be opened.
    """
    # No line shows these, so they need not be looked up for each record; see "Optimization" in
    # Python's logging HOWTO.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # noqa: SLF001  # nor who logged it
    sinks = [_stream_sink(sys.stderr)]
    handler = None
    if file is not None:
        handler = RotatingFileHandler(file, backupCount=FILES_KEPT, encoding="utf-8")
        sinks.append(_file_sink(handler))
    enqueue = _Enqueue(server)
    writer = _Writer(enqueue.lines, sinks)
    root = logging.getLogger()
    before, level_before = root.handlers[:], root.level
    root.handlers[:] = [enqueue]
    root.setLevel(level.upper())
    writer.start()

    def stop() -> None:
        root.handlers[:] = before
        root.setLevel(level_before)
        enqueue.lines.put(None)
        writer.join(timeout=5)  # a disk that hangs must not keep the process from its end
        if enqueue.dropped:
            print(f"pgexec: {enqueue.dropped} log lines were dropped", file=sys.stderr)  # noqa: T201
        if handler is not None:
            handler.close()

    return stop


def event(logger: logging.Logger, level: int, name: str, fields: Mapping[str, object]) -> None:
    """Log one event with fields of its own."""
    if logger.isEnabledFor(level):
        logger.log(level, name, extra={"fields": fields})
