"""The signals by which the server is told to stop."""

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
"""A signal that is repeated sooner is the same one: `timeout` and some shells send it twice."""


@contextlib.contextmanager
def stop_signals(flush: Callable[[], None]) -> Iterator[asyncio.Event]:
    """Give an event that the first SIGTERM or SIGINT sets; a second one ends the process at once.

    `flush` writes out the log before such an end.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    first_at = math.inf

    def on_signal(number: signal.Signals) -> None:
        nonlocal first_at
        if time.monotonic() - first_at > ECHO_S:
            # Containers need no goodbye: their runners see this process end.
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
        # A signal that has come and not been handled yet would else be the default's to handle.
        if not stop.is_set():
            for number in SIGNALS:
                loop.remove_signal_handler(number)
