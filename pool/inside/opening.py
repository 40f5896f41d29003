"""Begin a session: answer the server first, and then import what keeps one.

The runner imports this module at its own start, so that no import delays the answer.

Runs inside the container, in PID 1: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, NoReturn

from pool.inside.protocol import HEADER, JOB_HEADER_SIZE, Ending, Exit, JobHeader, encode_exit

if TYPE_CHECKING:
    from pool.inside.hosting import Host
    from pool.inside.runner import Runner


def begin(runner: Runner, header: JobHeader) -> NoReturn:
    """Begin the session of the JOB in the runner's arena, and serve its cells for ever.

    The server need not wait for imports and for the interpreter, unless there are files to write:
    they may not fit.
    """
    begin = HEADER.size + JOB_HEADER_SIZE
    missing = header.layer_size and not runner.has_layer(
        runner.job[begin : begin + header.layer_size]
    )
    if missing:
        tell(runner, header, Ending.NO_LAYER)
        os._exit(0)
    if not header.files_size:
        tell(runner, header, Ending.EXITED)
    host: Host = importlib.import_module("pool.inside.hosting").Host(runner)
    if header.files_size:
        ending = host.write_files(header, 0)
        tell(runner, header, ending)
        if ending is not Ending.EXITED:
            os._exit(0)
    host.serve(header)


def tell(runner: Runner, header: JobHeader, ending: Ending) -> None:
    """Tell the server how the begin of a session went."""
    runner.outbox.send(encode_exit(Exit(header.run, ending, 0, False, 0, 0, 0)))  # noqa: FBT003
