"""Runs of every kind against a server of its own, each with the answer that it must have.

`python -m tests.grounds.battery` prints a line for each. What an engine does otherwise than
Docker 20.10, under which all other tests run, shows here.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from deploy.setup import engine_api
from pool.engine.gvisor import is_gvisor
from pool.engine.spec import LABEL_INSTANCE, LABEL_ROLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

READY_S = 1800
"""An emulated machine takes minutes."""
ANSWER_S = 300
GONE_S = 60
PROFILES = {
    "numbers": {
        "dependencies": ["numpy"],
        "preimport": ["numpy"],
        "min_idle": 1,
        "max_containers": 2,
    }
}
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
DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0: time.sleep(60)
    os._exit(0)
os.wait(); print('left')
"""
COUNT = "import os; print(sum(name.isdigit() for name in os.listdir('/proc')) - 1)"
PROGRAM = """
import subprocess, sys
print(subprocess.run([sys.executable, '-c', 'print(2 + 3)'], capture_output=True).stdout)
"""
NUMBERS = "import sys, numpy; print('numpy.linalg' in sys.modules, numpy.arange(4).sum())"
STREAM = "text/event-stream"
CALLBACKS = """
import ctypes
kept = open('/tmp/kept', 'w')
called = [ctypes.CFUNCTYPE(ctypes.c_int)(lambda n=n: n) for n in range(300)]
print(sum(one() for one in called))
"""
UNFLUSHED = "f = open('/dev/stdout', 'w'); f.write('unflushed')"
FILES = {
    "files": [{"name": "in/a.txt", "content": "abc"}],
    "collect": ["out/*"],
}
SHOUT = "import os\nos.mkdir('out'); open('out/b.txt', 'w').write(open('in/a.txt').read().upper())"
BACK = [{"name": "out/b.txt", "size_bytes": 3, "content": "ABC", "encoding": "utf8"}]
SIX = {"dependencies": ["six==1.17.0"]}


# There the sandbox as a whole may die of a child's memory, and interpreters take more of it.
OUT_OF_MEMORY = {
    "status": "memory_limit",
    "error": "out of memory (limit 256 MiB)",
    "exit_code": None,
    "signal": 9,
}


class Run(NamedTuple):
    """A run: its snippet, what the answer must hold, and what else the request says.

    `in_gvisor` has other answers that are right there.
    """

    name: str
    code: str
    answer: Mapping[str, object]
    fields: Mapping[str, object] = {}
    in_gvisor: tuple[Mapping[str, object], ...] = ()

    def wrong(self, found: Mapping[str, object]) -> dict[str, object]:
        """Return what of the answer `found` is otherwise than it must be."""
        in_gvisor = is_gvisor(os.environ.get("PGEXEC_RUNTIME", ""))
        for answer in self.in_gvisor if in_gvisor else ():
            if answer.items() <= found.items():
                return {}
        return {
            key: found.get(key) for key, value in self.answer.items() if found.get(key) != value
        }


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
    Run(
        "memory of a child",
        FORK + "print(os.wait()[1])",
        {"status": "ok", "stdout": "9\n"},
        in_gvisor=({"status": "ok", "stdout": "256\n"}, OUT_OF_MEMORY),
    ),
    Run("memory of files", FILL, {"status": "ok", "stdout": "28\n"}),
    Run("output", "print('x' * 3000000)", {"status": "output_limit", "truncated": True}),
    Run(
        "processes",
        BOMB,
        {"status": "ok", "stdout": "True 11\n"},
        in_gvisor=(OUT_OF_MEMORY,),
    ),
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
    Run(
        "arguments",
        "import os, sys; print(sys.argv[1:], os.environ['A'])",
        {"stdout": "['x', 'y z'] b\n"},
        {"args": ["x", "y z"], "env": {"A": "b"}},
    ),
    Run("files", SHOUT, {"status": "ok", "files": BACK}, FILES),
    Run("processor time", "while True: pass", {"status": "cpu_time"}, {"cpu_time_s": 0.5}),
    Run(
        "less memory",
        "bytearray(100 << 20)",
        {"status": "memory_limit"},
        {"memory_limit_bytes": 64 << 20},
    ),
    Run("less output", "print('x' * 99)", {"status": "output_limit"}, {"output_limit_bytes": 50}),
    Run("daemon", DAEMON, {"status": "ok", "stdout": "left\n"}),
    Run("after daemon", COUNT, {"stdout": "1\n"}),
    Run("callbacks", CALLBACKS, {"status": "ok", "stdout": "44850\n"}),
    Run("unflushed", UNFLUSHED, {"status": "ok", "stdout": "unflushed"}),
    Run("program", PROGRAM, {"status": "ok", "stdout": "b'5\\n'\n"}),
    Run("profile", NUMBERS, {"stdout": "True 6\n"}, {"language": "numbers"}),
    Run("profile and dependency", NUMBERS, {"stdout": "True 6\n"}, {"language": "numbers", **SIX}),
)
BATCH = {"code": "print(int(input()) * 2)", "stdins": ["1", "2"], "expected": ["2\n", "4\n"]}
CELLS = ("x = 41", "x += 1; x")


def ask(url: str, body: Mapping[str, object] | None = None, accept: str = "*/*") -> Any:
    """Return the JSON that a server answers with, whatever its status; of a stream, the text."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "Accept": accept}
    request = urllib.request.Request(url, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:
            text = answer.read().decode()
    except urllib.error.HTTPError as error:
        text = error.read().decode()
    return text if accept == STREAM else json.loads(text)


class Server:
    """A server in a process of its own."""

    def __init__(self, log: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        settings = {
            "PGEXEC_HOST": "127.0.0.1",
            "PGEXEC_PORT": str(port),
            "PGEXEC_PROFILES": json.dumps(PROFILES),
            "PGEXEC_GENERATE_LOG_FILE": "false",
        }
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pgexec", "serve"],
                env=os.environ | settings,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def await_ready(self) -> None:
        """Wait until all pools have warm containers. Raises `SystemExit` with the reason."""
        reason, until = "", time.monotonic() + READY_S
        while time.monotonic() < until and self.process.poll() is None:
            try:
                found = ask(f"{self.url}/readyz")
            except OSError as error:
                found = {"error": str(error)}
            if found.get("status") == "ready":
                return
            reason = found.get("error", "")
            time.sleep(0.5)
        raise SystemExit(f"not ready: {reason}")

    def containers(self, *, started: bool = False) -> int:
        """Return how many containers the server has, but for the one that keeps the layers.

        With `started`, those are left out that the server created and had not started yet.
        """
        connection = engine_api.connect(engine_api.find_engine(), engine_api.PING_TIMEOUT_S * 6)
        connection.request("GET", "/containers/json?all=1")
        found = json.loads(connection.getresponse().read())
        counted = (one for one in found if not started or one.get("State") != "created")
        labels = [one.get("Labels") or {} for one in counted]
        own = f"/{self.process.pid}/"
        return sum(own in one.get(LABEL_INSTANCE, "") and LABEL_ROLE not in one for one in labels)

    def stop(self) -> None:
        """Let it end as an operator would."""
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(GONE_S)
        self.process.kill()


def single(url: str) -> Iterator[tuple[str, object]]:
    """Make every run of `RUNS`; yield its name and what of its answer is wrong."""
    for run in RUNS:
        found = ask(f"{url}/run", {"language": "python", "code": run.code, **run.fields})
        wrong = run.wrong(found)
        yield run.name, f"{wrong} {found.get('error')}" if wrong else ""


def of_many_parts(url: str) -> Iterator[tuple[str, object]]:
    """Make a batch, a stream and a session; yield as `single` does."""
    found = ask(f"{url}/run", {"language": "python", **BATCH})
    yield "many inputs", found.get("passed") != len(BATCH["stdins"]) and found
    code = "import time\nfor n in 1, 2: print(n, flush=True); time.sleep(.5)"
    text = ask(f"{url}/run", {"language": "python", "code": code}, STREAM)
    order = [line.partition(": ")[2] for line in text.splitlines() if line.startswith("event:")]
    yield "stream", order != ["stdout", "stdout", "result"] and text
    session = f"{url}/sessions/{ask(f'{url}/sessions', {'language': 'python'}).get('id')}"
    cells = [ask(f"{session}/run", {"code": code}) for code in CELLS]
    yield "session", cells[1].get("value") != "42" and cells


def killed(server: Server) -> Iterator[tuple[str, object]]:
    """Kill the server by SIGKILL in the middle of a run; yield as `single` does."""
    code = "import time; time.sleep(600)"
    body = {"language": "python", "code": code, "timeout_s": 20}

    def run() -> None:
        with contextlib.suppress(OSError):
            ask(f"{server.url}/run", body)

    client = threading.Thread(target=run)
    client.start()
    until = time.monotonic() + GONE_S
    while not ask(f"{server.url}/status").get("in_use") and time.monotonic() < until:
        time.sleep(0.1)
    server.process.kill()
    server.process.wait()
    client.join()
    until = time.monotonic() + GONE_S
    while (left := server.containers(started=True)) and time.monotonic() < until:
        time.sleep(0.5)
    yield "SIGKILL of the server", left and f"{left} containers are left"


def another(server: Server, killed_one: Server) -> Iterator[tuple[str, object]]:
    """Make a run of the next server, which also removes what the killed one had not started."""
    found = ask(f"{server.url}/run", {"language": "python", "code": "print(1)"})
    left = killed_one.containers()
    yield "another server", (found.get("stdout") != "1\n" or left) and f"{found}, {left} left"


def main() -> int:
    """Make every run; return 1 if any was answered otherwise than it must be."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        server = Server(log)
        failed = 0
        try:
            server.await_ready()
            for found in (single(server.url), of_many_parts(server.url), killed(server)):
                failed += tell(found)
            before, server = server, Server(log)
            server.await_ready()
            failed += tell(another(server, before))
        except SystemExit as end:
            say(f"FAIL {end}\n{log.read_text()[-2000:]}")
            return 1
        finally:
            server.stop()
    return int(bool(failed))


def tell(found: Iterator[tuple[str, object]]) -> int:
    """Print a line for each name, and return how many were wrong."""
    failed = 0
    for name, wrong in found:
        failed += bool(wrong)
        say(f"FAIL {name}: {wrong}" if wrong else f"ok   {name}")
    return failed


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the script reads it


if __name__ == "__main__":
    sys.exit(main())
