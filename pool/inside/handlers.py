"""Keep the signal handlers of cells from raising between the cells.

A handler may raise wherever its signal comes, so also in the midst of the session's own code: of
what was read from the socket by then, or sent, nobody would know. So between the cells each signal
that has a handler has one in its place that calls it, and reports what it raises.

Runs inside the container, in the session's child: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import builtins

# A cell may have replaced what `signal` has; and these make no enumerations of what they return.
from _signal import (  # type: ignore[import-not-found]
    NSIG,
    SIGINT,
    default_int_handler,
    getsignal,
    signal,
)
from typing import Any, Callable

# A cell may have replaced builtins: so this module uses a copy.
__builtins__: Any = dict(vars(builtins))  # type: ignore[no-redef]


class Handlers:
    """Takes the handlers of the cells, and gives them back. `report` gets what they raise.

    `is_held_up` is asked of the frame in which SIGINT finds the interpreter, and says if a task
    keeps a cell from its begin until that is to be interrupted.
    """

    def __init__(
        self, report: Callable[[BaseException], None], is_held_up: Callable[[Any], bool]
    ) -> None:
        self._report = report
        self._is_held_up = is_held_up
        self._theirs: dict[int, Any] = {SIGINT: default_int_handler}
        self._ours = self._handle
        self._between, self._reporting = True, False
        signal(SIGINT, self._ours)

    def give_back(self) -> None:
        """Let each signal do what the cells want. From here on, a handler may raise."""
        self._between = False
        for number, handler in self._theirs.items():
            if handler is not None and getsignal(number) is self._ours:
                signal(number, handler)

    def take(self) -> None:
        """Let no handler raise. One may do so before this returns: then call it again."""
        self._between = True
        for number in range(1, NSIG):
            handler = getsignal(number)
            if handler is self._ours:
                continue
            if number == SIGINT or callable(handler):
                self._theirs[number] = handler
                signal(number, self._ours)
            else:
                self._theirs.pop(number, None)

    def _handle(self, number: int, frame: object) -> None:
        """Handle a signal between the cells.

        SIGINT does nothing then: PID 1 may have sent it to a cell that has ended. Unlike SIG_IGN,
        this is not passed on to programs that a thread starts. But where a task holds up the next
        cell, it is for that task: else the interpreter would be killed, and the state lost.
        """
        if number == SIGINT and self._is_held_up(frame):
            theirs = self._theirs.get(SIGINT)
            if callable(theirs):
                theirs(number, frame)
        if number == SIGINT or self._reporting:
            return
        try:
            self._theirs[number](number, frame)
        except BaseException as error:  # noqa: BLE001 - SystemExit, too: no cell is there to be ended
            self._reporting = True  # which may take longer than a timer needs to ring again
            self._report(error)
            self._reporting = False
        if self._between:
            self.take()  # it may have set itself anew
