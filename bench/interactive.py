"""An interactive session of llm-sandbox, driven by lines on stdin: `start`, `run CODE`, `stop`.

Runs in an environment of its own, with llm-sandbox, on the image that it is given, which has
IPython in a virtual environment at /sandbox/.sandbox-venv. Prints one JSON value a line: the
seconds of a start or of a run.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from typing import Any

from llm_sandbox import InteractiveSandboxSession  # type: ignore[import-not-found]


def main() -> None:
    """Serve until stdin ends."""
    session: Any = None
    for line in sys.stdin:
        command, _, rest = line.rstrip("\n").partition(" ")
        began = time.perf_counter()
        answer: object = None
        with contextlib.redirect_stdout(sys.stderr):
            if command == "start":
                session = InteractiveSandboxSession(image=sys.argv[1], skip_environment_setup=True)
                session.open()
                answer = time.perf_counter() - began
            elif command == "run":
                ran = session.run(json.loads(rest))
                answer = None if ran.exit_code else time.perf_counter() - began
            elif command == "stop":
                session.close()
                answer = 0
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
