"""A local Jupyter kernel, driven by lines: `start`, `run CODE`, `raise CODE`, `pid`, `stop`.

Runs in an environment of its own, with jupyter_client and ipykernel. Prints one JSON value a line:
the seconds of a start, until the kernel's first reply, or of a run, until it is idle again.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from jupyter_client.manager import KernelManager  # type: ignore[import-not-found]

STATUS = {"run": "ok", "raise": "error"}


def main() -> None:
    """Serve until stdin ends."""
    manager: Any = None
    client: Any = None
    for line in sys.stdin:
        command, _, rest = line.rstrip("\n").partition(" ")
        began = time.perf_counter()
        answer: object = None
        if command == "start":
            manager = KernelManager()
            manager.start_kernel()
            client = manager.client()
            client.start_channels()
            client.kernel_info()
            client.get_shell_msg(timeout=60)
            answer = time.perf_counter() - began
            client.wait_for_ready(timeout=60)  # which also waits 0.2 s for output that never comes
        elif command in STATUS:
            reply = client.execute_interactive(
                json.loads(rest), timeout=30, output_hook=lambda _: None
            )
            took = time.perf_counter() - began
            answer = took if reply["content"]["status"] == STATUS[command] else None
        elif command == "pid":
            answer = manager.provisioner.pid
        elif command == "stop":
            client.stop_channels()
            manager.shutdown_kernel(now=True)
            answer = 0
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
