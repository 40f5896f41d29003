"""The child that is the interpreter of a session, and what PID 1 and it say to each other.

Runs inside the container: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import _socket
import os
import struct

from pool.inside.child import Child

CELL = struct.Struct("!IIIIIQQ")
"""The head of a cell on its way to the interpreter: the run's number, the sizes of the code, of the
stdin and of the strings, how many of these are arguments, and how many bytes of rich forms and of
the value's `repr` may come back. The three follow."""
REPLY = struct.Struct("!IiQHQ")
"""The head of the interpreter's answer: the run's number, the exit status, the largest resident set
in KiB, the sizes of the exception's name and of what is shown (`SHOWN`). The two follow."""
INTERRUPT = struct.Struct("=I")
"""The run that is to be interrupted, in the page that both share: a signal alone could be late."""
INTERRUPT_AT = 1024


class SessionChild(Child):
    """A forked process that takes cell after cell. `job_w` goes both ways, and does not block."""

    def _open_job(self) -> None:
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        self.job_w, self.job_r = ours.detach(), theirs.detach()
        os.set_blocking(self.job_w, False)

    def name_interrupted(self, run: int) -> None:
        """Say which run the next SIGINT is for."""
        INTERRUPT.pack_into(self.farewell, INTERRUPT_AT, run)
