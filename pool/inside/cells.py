"""Run cells in `__main__`, as a notebook does: values, await, and tracebacks that name the cell.

Runs inside the container, in the session's child: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import _ast
import builtins
import contextlib
import linecache
import os
import re
import sys
import threading
import traceback
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Callable

from pool.inside import figures
from pool.inside.shown import Shown, rich_forms

if TYPE_CHECKING:
    from types import CodeType, TracebackType

# A cell may have replaced builtins: so this module uses a copy.
__builtins__: Any = dict(vars(builtins))  # type: ignore[no-redef]

_ONLY_AST = 0x400
_TOP_LEVEL_AWAIT = 0x2000
_COROUTINE = 0x80
_UNNAMED = ("builtins", "__main__")
_SEMICOLON = re.compile(r"[\s)\\]*;")
_SINCE_311 = sys.version_info >= (3, 11)
_SINCE_313 = sys.version_info >= (3, 13)


def _future_flags() -> int:
    import __future__  # noqa: PLC0415 - deleted again: few cells have it

    names = __future__.all_feature_names
    flags = 0
    for name in names:
        flags |= getattr(__future__, name).compiler_flag
    return flags


_FUTURES = _future_flags()


class Cells:
    """Runs one cell after the other in the namespace `main`; `shown` gets what they show."""

    def __init__(self, main: dict[str, Any], shown: Shown) -> None:
        self._main = main
        self._shown = shown
        self._number = 0
        self._flags = 0
        self._loop: Any = None
        self._context = copy_context()
        self.looping = False
        """True while tasks go on between the cells."""
        self._sources: dict[str, Any] = {}
        builtins.display = self._display  # type: ignore[attr-defined]
        if not _SINCE_313:  # the interpreter's own looks for the source in files only
            threading.excepthook = self._on_thread_error

    def run(self, source: str) -> tuple[int, bytes]:
        """Run a cell; return its exit status, and the name of the exception that ended it.

        Prints the traceback of an exception. May raise a KeyboardInterrupt that comes late.
        """
        self._number += 1
        name = f"In [{self._number}]"
        source = source[source[:1] == "\ufeff" :]  # as the interpreter does with a file
        lines = _lines(source)
        self._main.pop("__warningregistry__", None)  # this cell's line 1 is another one
        self._sources[name] = (len(source), None, lines, name)
        with contextlib.suppress(Exception):  # a cell has taken it away
            linecache.cache[name] = self._sources[name]
        try:
            self._execute_and_show(source, name)
        except SystemExit as error:
            return _status_of(error), b""
        except BaseException as error:  # noqa: BLE001 - the cell's own
            self.report(error)
            return 1, name_of(type(error))
        return 0, b""

    # --- the code -----------------------------------------------------------------------------

    def _execute_and_show(self, source: str, name: str) -> None:
        """Run the code, and show its value and the figures that are open when it ends or fails."""
        try:
            self._context.run(self._show, self._execute(source, name))
        except KeyboardInterrupt:
            # The interpreter is killed soon, and all of its state lost, if drawing takes long. Open
            # figures would come with the next cell.
            self._end_figures(figures.close_open)
            raise
        finally:
            self._end_figures(lambda: figures.show_open(self._shown))

    def _execute(self, source: str, name: str) -> Any:  # noqa: ANN401
        """Run the code; return the value of the last expression if a notebook would show it."""
        flags = self._flags | _TOP_LEVEL_AWAIT
        tree: Any = compile(source, name, "exec", flags | _ONLY_AST, True)  # noqa: FBT003
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], _ast.Expr) else None
        codes: list[CodeType] = []
        if tree.body or last is None:
            codes.append(compile(tree, name, "exec", flags, True))  # noqa: FBT003
            flags |= codes[0].co_flags & _FUTURES
        if last is not None:
            expression = _ast.Expression(last.value)
            codes.append(compile(expression, name, "eval", flags, True))  # noqa: FBT003
        self._flags = flags & _FUTURES
        if any(code.co_flags & _COROUTINE for code in codes):
            value = self._await(codes)
        else:
            for code in codes:
                value = self._context.run(eval, code, self._main)
        return None if last is None or _is_quiet(source, last) else value

    def _await(self, codes: list[CodeType]) -> Any:  # noqa: ANN401
        """Run codes of which some await, in the session's event loop."""
        import asyncio  # noqa: PLC0415 - slow, and most cells do not await

        if self._loop is None or self._loop.is_closed():
            self._loop = asyncio.new_event_loop()
        loop = self._loop
        asyncio.set_event_loop(loop)
        main = self._main
        ended: list[Any] = [None]

        async def drive() -> Any:  # noqa: ANN401
            value = None
            try:
                for code in codes:
                    value = eval(code, main)  # noqa: S307 - the cell
                    if code.co_flags & _COROUTINE:
                        value = await value
            except asyncio.CancelledError as error:
                ended[0] = error.__traceback__  # the loop makes another error of it
                raise
            return value

        if _SINCE_311:  # before, variables that it sets are its own
            task = loop.create_task(drive(), context=self._context)
        else:
            task = self._context.run(loop.create_task, drive())
        try:
            return loop.run_until_complete(task)
        except BaseException as error:
            if task.done():
                raise
            # KeyboardInterrupt has ended the loop, but not the cell that awaits in it.
            task.cancel()
            loop.run_until_complete(asyncio.wait([task]))
            raise error.with_traceback(ended[0]) from None

    def wait_for(self, fd: int) -> None:
        """Wait until `fd` can be read. Tasks that cells have left in the loop go on meanwhile."""
        loop = self._loop
        while loop is not None and not loop.is_closed():
            try:
                loop.add_reader(fd, loop.stop)
                try:
                    self.looping = True
                    loop.run_forever()
                finally:
                    self.looping = False
                    loop.remove_reader(fd)
            except BaseException as error:  # noqa: BLE001 - of a task: SystemExit ends the loop
                self.report(error)
                continue
            return

    # --- what is shown ------------------------------------------------------------------------

    def _show(self, value: Any) -> None:  # noqa: ANN401
        if value is not None:
            builtins._ = value  # type: ignore[attr-defined]
            self._shown.value(repr(value))
            self._show_forms(value)

    def _end_figures(self, end: Callable[[], None]) -> None:
        try:
            self._context.run(end)
        except Exception as error:  # noqa: BLE001 - a figure that cannot be drawn is no fault of the code
            self.report(error)

    def _show_forms(self, value: Any) -> bool:  # noqa: ANN401
        """Show the rich forms of an object; return False if it has none."""
        found = False
        try:
            data = figures.png_of(value)
            forms = rich_forms(value, self.report) if data is None else [("image/png", data)]
            for mime, content in forms:
                found |= self._show_form(mime, content)
        except Exception as error:  # noqa: BLE001 - its `repr` is there: as in a notebook, it counts
            self.report(error)
        return found

    def _show_form(self, mime: str, content: object) -> bool:
        """Show one form; return False, and print the error, if its content cannot be sent."""
        try:
            self._shown.add(mime, content)
        except Exception as error:  # noqa: BLE001 - what JSON does not have: the other forms count
            self.report(error)
            return False
        return True

    def _display(self, *things: Any, **_options: object) -> None:  # noqa: ANN401
        """Show objects at once, by their rich forms or else by their `repr`."""
        for thing in things:
            if not self._show_forms(thing):
                print(repr(thing))  # noqa: T201 - as a notebook shows it

    # --- tracebacks ---------------------------------------------------------------------------

    def report(self, error: BaseException) -> None:
        """Print an exception as the interpreter would, from the cell's own frame on."""
        kind, trace = type(error), self._from_the_cell(error.__traceback__)
        if isinstance(error, SyntaxError) and error.text is None:
            with contextlib.suppress(Exception):  # found in the tree of a cell, or the cell's own
                error.text = linecache.getline(str(error.filename), error.lineno or 0) or None
        sys.last_type, sys.last_value, sys.last_traceback = kind, error, trace
        if sys.version_info >= (3, 12):
            sys.last_exc = error
        hook = sys.excepthook
        if hook is sys.__excepthook__:
            self._print(kind, error, trace)
            return
        try:
            hook(kind, error, trace)
        except Exception:  # noqa: BLE001 - the cell's own hook
            self._print(kind, error, trace)

    def _print(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        try:
            linecache.cache.update(self._sources)  # a cell may have cleared it
            traceback.print_exception(kind, error, trace)
        except Exception:  # noqa: BLE001 - the cell has replaced stderr, or closed it
            with contextlib.suppress(OSError):
                os.write(2, name_of(kind) + b"\n")

    def _from_the_cell(self, trace: TracebackType | None) -> TracebackType | None:
        """Leave out the frames of this module, and of the loop that awaits a cell."""
        found = trace
        while found is not None and found.tb_frame.f_code.co_filename not in self._sources:
            found = found.tb_next
        while found is None and trace is not None and _is_ours(trace):
            trace = trace.tb_next
        return found or trace

    def _on_thread_error(self, args: Any) -> None:  # noqa: ANN401
        if args.exc_type is SystemExit:
            return
        name = getattr(args.thread, "name", None) or threading.get_ident()
        print(f"Exception in thread {name}:", file=sys.stderr, flush=True)  # noqa: T201
        self._print(args.exc_type, args.exc_value, args.exc_traceback)


def has_syntax_error(source: bytes) -> bool:
    """Return whether a cell cannot be compiled, as far as that is known without running it."""
    text = source.decode("utf-8", "replace")
    text = text[text[:1] == "\ufeff" :]
    for futures in (0, _FUTURES):  # of earlier cells
        try:
            compile(text, "", "exec", _TOP_LEVEL_AWAIT | futures, True)  # noqa: FBT003
        except (SyntaxError, ValueError):
            continue
        except Exception:  # noqa: BLE001 - too deep, or too large, here: the interpreter is to say it
            return False
        return False
    return True


def _is_ours(trace: TracebackType) -> bool:
    return str(trace.tb_frame.f_globals.get("__name__")).startswith("pool.inside.")


def _is_quiet(source: str, last: Any) -> bool:  # noqa: ANN401
    """Return True if a semicolon comes after the last expression: then its value is not shown."""
    if ";" not in source:
        return False
    lines = _lines(source)[last.end_lineno - 1 :]
    rest = lines[0].encode()[last.end_col_offset :].decode() + "".join(lines[1:])
    return _SEMICOLON.match(rest) is not None


def _lines(source: str) -> list[str]:
    """Return the lines as the compiler counts them, each with a line end."""
    return [f"{line}\n" for line in re.split("\r\n|\r|\n", source)]


def _status_of(error: SystemExit) -> int:
    """Return the exit status that an interpreter would have; print what it would print."""
    code = error.code
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    print(code, file=sys.stderr)  # noqa: T201
    return 1


def name_of(kind: type) -> bytes:
    """Return the name of an exception's class as an answer has it."""
    module, name = kind.__module__, kind.__qualname__
    return (name if module in _UNNAMED else f"{module}.{name}").encode("utf-8", "replace")
