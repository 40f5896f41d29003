"""Runs of every kind against a server, each with the answer that it must have.

`python -m tests.grounds.battery http://127.0.0.1:8080` prints a line for each. What an engine does
otherwise than Docker 20.10, under which all other tests run, shows here.
"""

from __future__ import annotations

import json
import sys
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

READY_S = 120
ANSWER_S = 300
GROW = "x = []\nwhile True: x.append(bytearray(1 << 20))"
FORK = "import os\nif os.fork() == 0:\n    x = []\n    while True: x.append(bytearray(1 << 20))\n"
FILL = """
for n in range(10):
    try: open(f"/tmp/{n}", "wb").write(bytes(60 << 20))
    except OSError as error: print(error.errno); break
"""
BOMB = """
import os, time
n = 0
try:
    while True:
        if os.fork() == 0: time.sleep(30); os._exit(0)
        n += 1
except OSError as error: print(n > 50, error.errno)
"""
PLACES = """
import os
for top in ("/", "/var/tmp", "/run", "/dev", "/dev/mqueue", "/sys/fs/cgroup", "/opt", "/etc"):
    try: open(top + "/left", "w")
    except OSError: continue
    print(top)
"""
GATEWAY = """
import socket
ways = [line.split() for line in open('/proc/net/route').readlines()[1:]]
gateway = next(int(way[2], 16) for way in ways if way[1] == '00000000' and int(way[2], 16))
try: socket.create_connection((socket.inet_ntoa(gateway.to_bytes(4, 'little')), 22), 3)
except ConnectionRefusedError: print('reached')
except OSError: print('refused')
"""
THREADS = """
import threading
threads = [threading.Thread(target=print, args=("x",)) for _ in range(4)]
[one.start() for one in threads]; [one.join() for one in threads]
"""
SIX = {"dependencies": ["six==1.17.0"]}


class Run(NamedTuple):
    """A run: its snippet, what the answer must hold, and what else the request says."""

    name: str
    code: str
    answer: Mapping[str, object]
    fields: Mapping[str, object] = {}


RUNS = (
    Run("hello", "print('Hello')", {"status": "ok", "stdout": "Hello\n", "exit_code": 0}),
    Run("stdin", "print(input()[::-1])", {"stdout": "cba\n"}, {"stdin": "abc\n"}),
    Run("stderr", "import sys; print(1); print(2, file=sys.stderr)", {"data": "1\n2\n"}),
    Run("error", "1/0", {"status": "error", "exit_code": 1}),
    Run("exit", "raise SystemExit(3)", {"status": "error", "exit_code": 3}),
    Run("signal", "import os; os.kill(os.getpid(), 9)", {"status": "killed", "signal": 9}),
    Run("busy timeout", "while True: pass", {"status": "timeout"}, {"timeout_s": 1}),
    Run(
        "idle timeout",
        "input()\nimport time; time.sleep(60)",
        {"status": "timeout"},
        {"timeout_s": 1, "stdin": "\n"},
    ),
    Run("memory", "bytearray(400 << 20)", {"status": "memory_limit"}),
    Run("memory, growing", GROW, {"status": "memory_limit"}),
    Run("memory of a child", FORK + "print(os.wait()[1])", {"status": "ok", "stdout": "9\n"}),
    Run("memory of files", FILL, {"status": "ok", "stdout": "28\n"}),
    Run("output", "print('x' * 3000000)", {"status": "output_limit", "truncated": True}),
    Run("processes", BOMB, {"status": "ok", "stdout": "True 11\n"}),
    Run("after processes", "print('Hello')", {"status": "ok", "stdout": "Hello\n"}),
    Run("to be left", "open('/tmp/left', 'w'); open('left', 'w')", {"status": "ok"}),
    Run(
        "left", "import os; print(os.listdir('/tmp'), os.listdir())", {"stdout": "[] ['Main.py']\n"}
    ),
    Run("places", PLACES, {"status": "ok", "stdout": ""}),
    Run("threads", THREADS, {"status": "ok", "stdout": "x\n" * 4}),
    Run("fresh", "print('fresh')", {"status": "ok", "stdout": "fresh\n"}, {"fresh": True}),
    Run("dependency", "import six; print(six.__version__)", {"stdout": "1.17.0\n"}, SIX),
    Run("dependency again", "import six; print(six.__version__)", {"stdout": "1.17.0\n"}, SIX),
    Run("no dependency", "pass", {"code": "install_failed"}, {"dependencies": ["six==999"]}),
    Run("gateway", GATEWAY, {"stdout": "refused\n"}),
    Run(
        "localhost",
        "import socket; print(socket.gethostbyname('localhost'))",
        {"stdout": "127.0.0.1\n"},
    ),
    Run("host name", "import socket; print(socket.gethostname())", {"stdout": "sandbox\n"}),
)


def ask(url: str, body: Mapping[str, object] | None = None) -> Any:
    """Return the JSON that a server answers with, whatever its status."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return json.load(error)


def await_ready(url: str) -> None:
    """Wait until the server has warm containers. Raises `SystemExit` with its own reason."""
    reason, until = "", time.monotonic() + READY_S
    while time.monotonic() < until:
        try:
            found = ask(f"{url}/readyz")
        except OSError as error:
            found = {"error": str(error)}
        if found.get("status") == "ready":
            return
        reason = found.get("error", "")
        time.sleep(0.5)
    raise SystemExit(f"not ready: {reason}")


def main(url: str) -> int:
    """Make every run; return 1 if any was answered otherwise than it must be."""
    await_ready(url)
    failed = 0
    for run in RUNS:
        body = {"language": "python", "code": run.code, "dependencies": [], **run.fields}
        found = ask(f"{url}/run", body)
        wrong = {
            key: found.get(key) for key, value in run.answer.items() if found.get(key) != value
        }
        failed += bool(wrong)
        line = f"FAIL {run.name}: {wrong} {found.get('error')}" if wrong else f"ok   {run.name}"
        print(line, flush=True)  # noqa: T201 - the script reads it
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
