"""A second waiting child of the real runner imports ahead what the last run of a layer imported."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pool.inside.protocol import Ahead, Ending, Kind, decode_ahead
from tests.unit.pythons import interpreters, open_directory
from tests.unit.test_runner_versions import DEADLINE_S, Ran, Runner, can_unshare

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.unit.pythons import Python

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not can_unshare(), reason="namespaces need root on Linux"),
]

PACKAGES = {
    "good": (
        "import json, logging, random\n"
        "loaded_by = __import__('os').getpid()\n"
        "value = random.random()"
    ),
    "other": "import good",
    "prints": "print('here')",
    "prints_in_c": "import os; os.write(2, b'here')",
    "warns": "import warnings; warnings.warn('old', DeprecationWarning, stacklevel=2)",
    "threads": (
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(9,), daemon=True).start()"
    ),
    "forks": ("import os, time\nif not os.fork():\n    time.sleep(60); os._exit(0)"),
    "forks_away": (
        "import os, time\n"
        "if not os.fork():\n"
        "    os.setsid()\n"
        "    if os.fork(): os._exit(0)\n"
        "    time.sleep(60); os._exit(0)\n"
        "os.wait()"
    ),
    "opens": "file = open(__file__)",
    "writes": "import os; open(os.path.expanduser('~/left'), 'w').write('x')",
    "writes_home": "import site; open(site.USER_SITE + '/left.py', 'w').write('x = 1')",
    "eats": (
        "data = bytearray(100 << 20)\n"
        "import time\n"
        "for at in range(0, len(data), 4096): data[at] = 1"
    ),
    "sleeps": "import time; time.sleep(0.3)",
    "leaves": "raise SystemExit(3)",
    "fails": "1 / 0",
    "reads": "import sys; text = sys.stdin.read()",
    "handles": "import signal; signal.signal(signal.SIGTERM, lambda *_: None)",
    "alarms": "import signal; signal.setitimer(signal.ITIMER_REAL, 60)",
    "moves": "import os; os.chdir('/')",
    "patches": "import builtins; builtins.open = None",
    "patches_os": "import os; os.write = None",
    "first": "import sys; sys.path.insert(0, '/nowhere')",
    "hooks": "import sys; sys.excepthook = print",
    "sets": "import os; os.environ['SET_BY_PACKAGE'] = 'yes'",
    "looks": (
        "import sys; argv, path = list(sys.argv), list(sys.path); main = sys.modules['__main__']\n"
        "file = getattr(main, '__file__', None)"
    ),
    "finalises": ("class A:\n    def __del__(self): print('end')\na = A()"),
    "at_exit": "import atexit; atexit.register(print, 'end')",
    "kills": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "stops": (
        "import os, signal\n"
        "if not os.path.exists(os.environ['HOME'] + '/Main.py'):\n"
        "    os.kill(os.getpid(), signal.SIGSTOP)"
    ),
    "feigns": "import os, time; os.write(1, b'\\0'); time.sleep(0.2)",
}


class Layered(Runner):
    """A runner with two layers of packages, and what it tells of children that import ahead."""

    def __init__(self, python: Python, directory: Path) -> None:
        self.told: list[Ahead] = []
        super().__init__(python, directory, ahead_memory=64 << 20)
        for layer in ("one", "two"):
            home = self.layers / layer / "lib" / python.directory / "site-packages"
            home.mkdir(parents=True)
            for name, text in PACKAGES.items():
                (home / f"{name}.py").write_text(text)

    def _next(self) -> tuple[Kind, bytes]:
        kind, payload = super()._next()
        while kind is Kind.AHEAD:
            self.told.append(decode_ahead(payload)[0])
            kind, payload = super()._next()
        return kind, payload

    def until_told(self, seconds: float = DEADLINE_S) -> Ahead | None:
        """Wait until the runner tells something of a child, and return that."""
        assert self.process.stdout
        fd = self.process.stdout.fileno()
        deadline = time.monotonic() + seconds
        while not self._frames:
            if not select.select([fd], [], [], max(0, deadline - time.monotonic()))[0]:
                return None
            self._frames += self._decoder.feed(os.read(fd, 65536))
        kind, payload = self._frames.pop(0)
        assert kind is Kind.AHEAD
        return decode_ahead(payload)[0]

    def result(self, code: str, layer: str = "one", **fields: Any) -> tuple[Ran, list[Ahead]]:
        self.told.clear()
        ran = self.run(code, layer, **fields)
        assert ran.report is Kind.CLEAN
        return ran, self.told[:]


@pytest.fixture(params=interpreters(), ids=str, scope="module")
def python(request: pytest.FixtureRequest) -> Python:
    found: Python = request.param
    return found


@pytest.fixture
def runner(python: Python) -> Iterator[Layered]:
    with open_directory() as directory:
        runner = Layered(python, directory)
        assert runner.first[0] is Kind.READY
        yield runner
        assert runner.close() == 0


SEEN = """import good
import os, sys, atexit, gc, threading
print(good.loaded_by == os.getpid(), sorted(sys.modules), sys.path, sys.argv, os.getcwd(), __file__)
print(sorted(vars()), sorted(os.listdir()), sorted(os.listdir("/proc/self/fd")), sorted(os.environ))
print(os.path.exists(sys.path[4] + "/pgexec-layers.pth"), threading.active_count(), os.umask(0))
print(sorted(sys.path_importer_cache), atexit._ncallbacks(), gc.isenabled(), gc.get_threshold())
"""


def test_a_run_cannot_tell_it_from_an_import(runner: Layered) -> None:
    first, told = runner.result(SEEN)
    assert told == []
    assert first.stdout
    for _ in range(2):
        assert runner.until_told() is Ahead.READY
        again, told = runner.result(SEEN)
        assert told == [Ahead.HIT]
        assert (again.stdout, again.stderr) == (first.stdout, b"")


def test_each_run_has_random_numbers_of_its_own(runner: Layered) -> None:
    code = "import good; print(good.value)"
    seen = {runner.result(code)[0].stdout}
    for _ in range(3):
        assert runner.until_told() is Ahead.READY
        seen.add(runner.result(code)[0].stdout)
    assert len(seen) == 4


@pytest.mark.parametrize(
    ("code", "layer", "fields"),
    [
        ("print('good' in __import__('sys').modules)\nimport good", "one", {}),
        ("import other, good, sys; print(False)", "one", {}),
        ("import good, sys; print(False)", "two", {}),
        ("print('good' in __import__('sys').modules)", "", {}),
        ("import good; print(False)", "one", {"strings": b"-x\0", "args": 1}),
        ("import good; print(False)", "one", {"memory_limit": 32 << 20}),
    ],
)
def test_a_run_that_differs_gets_the_plain_child(
    runner: Layered, code: str, layer: str, fields: dict[str, Any]
) -> None:
    runner.result("import good")
    assert runner.until_told() is Ahead.READY
    ran, told = runner.result(code, layer, **fields)
    assert told == [Ahead.MISS]
    assert (ran.stdout, ran.stderr) == (b"False\n", b"")
    assert ran.ending.peak_memory_bytes < 40 << 20


@pytest.mark.parametrize(
    "code",
    [
        "import json, good, sys; print(1)",
        "'''a text'''\nfrom __future__ import annotations\nimport good as g; print(1)",
        "import good\nprint(1)" + "#" * 5000,
    ],
)
def test_a_script_may_go_on_as_it_likes(runner: Layered, code: str) -> None:
    runner.result("import good")
    assert runner.until_told() is Ahead.READY
    ran, told = runner.result(code)
    assert (ran.stdout, ran.stderr, told) == (b"1\n", b"", [Ahead.HIT])


COUNT = "import os; processes = sum(one.isdigit() for one in os.listdir('/proc'))"

REFUSED = [
    *("prints", "prints_in_c", "threads", "forks", "forks_away", "opens", "writes", "writes_home"),
    *("eats", "handles", "alarms", "moves", "patches_os", "first", "hooks", "warns"),
]


@pytest.mark.parametrize("name", REFUSED)
def test_a_package_that_leaves_something_is_not_tried_again(runner: Layered, name: str) -> None:
    code = f"import {name}\nimport os; os._exit(5)"
    first, _ = runner.result(code)
    assert runner.until_told() is Ahead.REFUSED
    again, told = runner.result(code)
    assert told == []
    assert again[:2] == first[:2]
    assert again.ending[:4] == (2, *first.ending[1:4])
    assert runner.until_told(0.3) is None, "it was tried again"
    plain, _ = runner.result(f"{COUNT}; print(os.listdir(), processes)", "")
    assert plain.stdout == b"['Main.py'] 2\n"


@pytest.mark.parametrize("name", ["fails", "leaves", "kills"])
def test_a_package_that_ends_the_child_costs_no_more_than_that(runner: Layered, name: str) -> None:
    first, _ = runner.result(f"import {name}")
    second, _ = runner.result(f"import {name}")
    assert second.stderr == first.stderr
    assert second.ending[1:4] == first.ending[1:4]
    assert runner.result("print(1)", "")[0].stdout == b"1\n"


@pytest.mark.parametrize("name", ["sleeps", "reads", "feigns", "stops"])
def test_a_run_that_comes_before_the_child_is_ready_does_not_wait_for_it(
    runner: Layered, name: str
) -> None:
    runner.result(f"import {name}")
    time.sleep(0.15)
    for _ in range(2):
        ran, _ = runner.result(
            "import os; print(1, len([1 for one in os.listdir('/proc') if one.isdigit()]))", ""
        )
        assert (ran.stdout, ran.stderr) == (b"1 2\n", b"")


def test_what_a_package_sets_is_there(runner: Layered) -> None:
    code = "import sets, os; print(os.environ['SET_BY_PACKAGE'])"
    runner.result(code)
    assert runner.until_told() is Ahead.READY
    ran, told = runner.result(code)
    assert (ran.stdout, told) == (b"yes\n", [Ahead.HIT])
    ran, _ = runner.result("import os; print(os.environ.get('SET_BY_PACKAGE'))", "")
    assert ran.stdout == b"None\n"


@pytest.mark.parametrize("name", ["finalises", "at_exit"])
def test_what_a_package_does_at_the_end_is_done(runner: Layered, name: str) -> None:
    code = f"import {name}; print('begin')"
    runner.result(code)
    assert runner.until_told() is Ahead.READY
    ran, told = runner.result(code)
    assert (ran.stdout, told) == (b"begin\nend\n", [Ahead.HIT])


def test_what_a_package_sees_of_the_script_is_the_same(runner: Layered) -> None:
    main = "looks.main is sys.modules['__main__']"
    code = f"import looks, sys; print(looks.argv, looks.path, {main}, looks.file)"
    first, _ = runner.result(code)
    assert runner.until_told() is Ahead.READY
    again, told = runner.result(code)
    assert (again.stdout, told) == (first.stdout, [Ahead.HIT])


def test_a_run_cannot_have_another_one_import_what_is_no_import(runner: Layered) -> None:
    forge = """import good
import os, struct
text = b"import good\\nprint('owned')"
for line in open("/proc/self/maps"):
    begin, end = (int(one, 16) for one in line.split()[0].split("-"))
    if line.split()[1] == "rw-s" and end - begin == 4096:
        memory = open("/proc/self/mem", "r+b", buffering=0)
        memory.seek(begin + 2048)
        memory.write(struct.pack("=I", len(text)) + text)
"""
    runner.result(forge)
    assert runner.until_told() is Ahead.REFUSED
    assert runner.result("import good; print(1)")[0].stdout == b"1\n"


def test_the_next_run_does_not_find_what_was_to_be_imported(runner: Layered) -> None:
    find = """
import re
found = 0
for line in open("/proc/self/maps"):
    begin, end = (int(one, 16) for one in line.split()[0].split("-"))
    if line.split()[1].startswith("rw"):
        memory = open("/proc/self/mem", "rb")
        memory.seek(begin)
        try:
            found += memory.read(end - begin).count(bytes(reversed(b"doog tropmi")))
        except OSError:
            pass
print(found)
"""
    runner.result("import good")
    assert runner.until_told() is Ahead.READY
    ran, told = runner.result(find, "")
    assert (ran.stdout, told) == (b"0\n", [Ahead.MISS])


def test_the_processor_time_and_the_memory_of_the_other_child_do_not_count(
    runner: Layered,
) -> None:
    runner.result("import good; x = 1")
    assert runner.until_told() is Ahead.READY
    ran, _ = runner.result("print(1)", "")
    assert ran.ending.ending is Ending.EXITED
    assert ran.ending.cpu_us < 100_000


def test_files_are_collected_of_a_run_that_was_imported_ahead(runner: Layered) -> None:
    code = "import good; open('out.txt', 'w').write('x')"
    first, _ = runner.result(code, collect=b"*.txt\0\0")
    assert runner.until_told() is Ahead.READY
    again, told = runner.result(code, collect=b"*.txt\0\0")
    assert (again.files, told) == (first.files, [Ahead.HIT])


def test_a_child_that_is_killed_while_it_waits_costs_a_run_nothing(runner: Layered) -> None:
    runner.result("import good")
    assert runner.until_told() is Ahead.READY
    listed = subprocess.run(
        ["pgrep", "-P", str(one_child_of(runner.process.pid))],
        capture_output=True,
        text=True,
        check=True,
    )
    (stopped,) = [int(pid) for pid in listed.stdout.split() if state_of(int(pid)) == "T"]
    os.kill(stopped, signal.SIGKILL)
    before = processor_s(one_child_of(runner.process.pid))
    time.sleep(0.3)
    assert processor_s(one_child_of(runner.process.pid)) - before < 0.1, "PID 1 does not sleep"
    ran, told = runner.result("import good; print(1)")
    assert (ran.stdout, told) == (b"1\n", [Ahead.MISS])


def one_child_of(pid: int) -> int:
    """Return the runner's own process: the first child of what started it."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
