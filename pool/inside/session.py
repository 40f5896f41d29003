"""The interpreter of a session: one process that takes cell after cell.

Between the cells it waits in this module's frame, whose globals no cell sees; `cells` runs them in
`__main__`.

Runs inside the container, in the session's child: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import builtins
import contextlib
import fcntl
import io
import os
import sys
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from typing import Any, NamedTuple, NoReturn

from pool.inside import cells, fast_exit, figures, fonts, snippet, surroundings, user_site
from pool.inside.handlers import Handlers
from pool.inside.protocol import MAX_NAME_BYTES
from pool.inside.session_child import CELL, INTERRUPT, INTERRUPT_AT, REPLY, SessionChild
from pool.inside.shown import Shown

# A cell may have replaced builtins: so this module uses a copy.
__builtins__: Any = dict(vars(builtins))  # type: ignore[no-redef]

_STREAMS = (0, 1, 2)
_LOOP = frozenset({"pool", "asyncio", "selectors"})


class Opening(NamedTuple):
    """What a session begins with: its directories, its layers, and variables of its environment.

    `strings` are of the form that `surroundings.surround` takes.
    """

    script: str
    layers: str
    preload: str
    layer: str
    strings: bytes
    args: int


def serve(child: SessionChild, user: int, opening: Opening) -> NoReturn:
    """Become the interpreter, and take cells until PID 1 closes the socket."""
    snippet.become(user, child)
    main = fast_exit.new_main()
    sys.argv[:] = [""]
    if opening.strings:
        surroundings.surround(opening.strings, opening.args)
    sys.path[:0] = ["", os.path.dirname(opening.script)]
    if opening.preload:
        fonts.offer(os.path.join(opening.layers, opening.preload))
    if opening.layer:
        where = os.path.join(opening.layers, opening.layer)
        user_site.put_on_path(where)
        fonts.offer(where)
    user_site.open_home()
    for name in [name for name in sys.modules if name.partition(".")[0] == "pool"]:
        del sys.modules[name]
    interpreter = Interpreter(child, main)
    figures.offer(interpreter.shown)
    interpreter.serve()


class Interpreter:
    """Takes cells from the socket and sends replies."""

    def __init__(self, child: SessionChild, main: dict[str, Any]) -> None:
        self._fd = child.job_r
        self._page = child.farewell
        self._pid = os.getpid()
        # Above the socket: the files of the cells have the numbers that they have in a run.
        self._kept = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, self._fd) for fd in _STREAMS]
        self._stdin: Any = sys.stdin
        self._written: dict[str, Any] = {"stdout": sys.stdout, "stderr": sys.stderr}
        self._texts = [(stream.encoding, stream.errors) for stream in self._written.values()]
        self._has_stdin = False
        self.shown = Shown()
        self.cells = cells.Cells(main, self.shown)
        self._last_run = 0
        self._handlers = Handlers(self._report, self._is_held_up)

    def serve(self) -> NoReturn:
        """Take cells until the socket is closed."""
        while True:
            self.cells.wait_for(self._fd)
            run, code, stdin, strings, args, shown, value = CELL.unpack(self._receive(CELL.size))
            self._last_run = run
            source = self._receive(code).decode("utf-8", "replace")
            self.shown.begin(shown, value)
            given = self._receive(stdin), self._receive(strings)
            status, name = self._run(run, source, *given, args)
            if os.getpid() != self._pid:
                os._exit(status & 0xFF)  # a fork that the cell has made, and that has its end
            name = name[:MAX_NAME_BYTES]
            what = self.shown.take()
            peak_kib = max(getrusage(RUSAGE_SELF).ru_maxrss, getrusage(RUSAGE_CHILDREN).ru_maxrss)
            self._send(REPLY.pack(run, status, peak_kib, len(name), len(what)) + name + what)

    def _run(
        self, run: int, source: str, stdin: bytes, strings: bytes, args: int
    ) -> tuple[int, bytes]:
        """Run one cell; return its exit status and the name of the exception that ended it.

        If cells before have left too little for it to begin, the error of that is its own.
        """
        undo = None
        try:
            self._renew_streams()
            self._renew_stdin(stdin)
            if strings:
                undo = _surround(strings, args)
        except MemoryError:
            raise  # no cell would ever run here again, and so not even end this interpreter
        except Exception as error:  # noqa: BLE001 - no descriptor is left, or no `os.environb`
            self._report(error)
            ended = 1, cells.name_of(type(error))
        else:
            ended = self._let_run(run, source)
        if undo is not None:
            with contextlib.suppress(Exception):
                undo()
        self._flush()
        return ended

    # --- signals ------------------------------------------------------------------------------

    def _let_run(self, run: int, source: str) -> tuple[int, bytes]:
        """Let the cell have its handlers while it runs.

        What one of them raises before the cell or after it is the cell's, too.
        """
        ended, late, begun, calm = (1, b""), None, False, False
        while not calm:
            try:
                while not calm:
                    try:
                        if not begun:
                            begun = True
                            self._handlers.give_back()
                            if INTERRUPT.unpack_from(self._page, INTERRUPT_AT)[0] == run:
                                raise KeyboardInterrupt  # noqa: TRY301 - its signal came too early
                            ended = self.cells.run(source)
                        self._handlers.take()
                        calm = True
                    except BaseException as error:  # noqa: BLE001, PERF203 - the cell's
                        late = error
            except BaseException as error:  # noqa: BLE001, PERF203 - on the way back from the first
                late = error
        if late is not None:
            self._report(late)
            ended = 1, cells.name_of(type(late))
        return ended

    def _is_held_up(self, frame: Any) -> bool:  # noqa: ANN401
        """Return True if `frame` is of a task, and a cell that has not begun is to be interrupted.

        In the loop itself, an exception could cost it a task's turn.
        """
        interrupted = INTERRUPT.unpack_from(self._page, INTERRUPT_AT)[0]
        module = str(frame and frame.f_globals.get("__name__")).partition(".")[0]
        of_a_task = self.cells.looping and module not in _LOOP
        return of_a_task and bool(interrupted > self._last_run)

    def _report(self, error: BaseException) -> None:
        with contextlib.suppress(BaseException):  # of the cells' own hook
            self.cells.report(error)

    # --- the streams and the socket ---------------------------------------------------------------

    def _renew_streams(self) -> None:
        """Put the descriptors 0, 1 and 2 in place, whatever the last cell has done to them.

        `open(0).read()` closes its stdin. Descriptor 0 is now one without data. In place of a
        stdout or stderr that a cell has closed comes a new one.
        """
        with contextlib.suppress(OSError):  # the cell has closed ours, too
            for kept, fd in zip(self._kept, _STREAMS):
                os.dup2(kept, fd)
                os.set_blocking(fd, True)
        for (name, stream), (encoding, errors) in zip(self._written.items(), self._texts):
            if not (hasattr(sys, name) and _is_open(stream)):
                self._written[name] = new = snippet.new_stream(name, encoding, errors)
                _put(name, stream, new)

    def _renew_stdin(self, data: bytes) -> None:
        """Make descriptor 0 a file with the stdin of this cell, and `sys.stdin` read it."""
        if data:
            fd = os.memfd_create("stdin", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            try:
                os.write(fd, data)
                os.lseek(fd, 0, os.SEEK_SET)
                # A file that a cell has opened as number 0 fails, in place of writing to this one.
                fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
                os.dup2(fd, 0)
            finally:
                os.close(fd)
        usable = hasattr(sys, "stdin") and _is_open(self._stdin)
        if data or self._has_stdin or not usable:
            stream: Any = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)))
            stream.mode = "r"
            _put("stdin", self._stdin, stream)
            self._stdin = stream
        self._has_stdin = bool(data)

    def _flush(self) -> None:
        for name in ("stdout", "stderr", "__stdout__", "__stderr__"):
            with contextlib.suppress(BaseException):
                getattr(sys, name).flush()
        if fast_exit.fflush is not None:
            fast_exit.fflush(None)

    def _receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = os.read(self._fd, size - len(data))
            if not piece:
                os._exit(0)
            data += piece
        return data

    def _send(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._fd, rest) :]


def ignore_interrupt(_number: int, _frame: object) -> None:
    """Do nothing. The interpreter has this handler of SIGINT from its fork on.

    An interrupt may come before the first cell, and the page that the interpreter shares with PID 1
    tells it of that.
    """


def _put(name: str, old: object, new: object) -> None:
    """Put a new stream where the old one is, or where the cells have left none."""
    for attribute in (name, f"__{name}__"):
        if getattr(sys, attribute, old) is old:
            setattr(sys, attribute, new)


def _is_open(stream: Any) -> bool:  # noqa: ANN401
    try:
        return not stream.closed
    except ValueError:  # it is detached
        return False


def _surround(strings: bytes, args: int) -> Any:  # noqa: ANN401
    """Give a cell its arguments and variables; return what takes them away again.

    What the cell itself has changed of them stays.
    """
    given = strings.split(b"\0")[:-1]
    variables = dict(one.partition(b"=")[::2] for one in given[args:])
    before = {name: os.environb.get(name) for name in variables}
    argv = sys.argv
    own = sys.argv = [*argv[:1], *map(os.fsdecode, given[:args])]
    for name, value in variables.items():
        os.environb[name] = value
    _set_zone(variables)

    def undo() -> None:
        if sys.argv is own and args:
            sys.argv = argv
        for name, value in variables.items():
            if os.environb.get(name) != value:
                continue
            earlier = before[name]
            if earlier is None:
                del os.environb[name]
            else:
                os.environb[name] = earlier
        _set_zone(variables)

    if not args:
        sys.argv = argv
    return undo


def _set_zone(variables: Any) -> None:  # noqa: ANN401
    if b"TZ" in variables:
        import time  # noqa: PLC0415

        time.tzset()
