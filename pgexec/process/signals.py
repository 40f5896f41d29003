"""The signals that stop the server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import signal
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

logger = logging.getLogger("pgexec")

SIGNALS = (signal.SIGTERM, signal.SIGINT)
ECHO_S = 0.5
"""A second signal within so many seconds is ignored: `timeout` and some shells send it twice."""


@contextlib.contextmanager
def stop_signals(flush: Callable[[], None]) -> Iterator[asyncio.Event]:
    """Yield an event that the first SIGTERM or SIGINT sets; a second one ends the process at once.

    `flush` writes out the log before such an end.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    first_at = math.inf

    def on_signal(number: signal.Signals) -> None:
        nonlocal first_at
        if time.monotonic() - first_at > ECHO_S:
            # The containers need no cleaning up: their runners notice the end of this process.
            logger.warning("stopping at once")
            flush()
            os._exit(128 + number)
        if not stop.is_set():
            first_at = time.monotonic()
        stop.set()

    for number in SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield stop
    finally:
        # Else the default action would handle a signal that has come but is not handled yet.
        if not stop.is_set():
            for number in SIGNALS:
                loop.remove_signal_handler(number)
