"""What an import may not leave behind for forks to share, in every CPython that is at hand."""

from __future__ import annotations

import contextlib
import ctypes.util
import json
from typing import TYPE_CHECKING

import pytest

from pool.inside.protocol import Ending, Kind
from tests.unit.pythons import interpreters, open_directory
from tests.unit.test_runner_versions import Runner
from tests.unit.test_runner_versions import pytestmark as needs_namespaces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    Start = Callable[..., AbstractContextManager[Runner]]

pytestmark = [needs_namespaces, pytest.mark.slow]  # each starts a runner or two

REFUSED = {
    "missing_one": ("import no_such_module", "No module named 'no_such_module'"),
    "failing": ("raise ValueError('first line\\nsecond')", "ValueError: first line"),
    "caused": (
        "try:\n 1/0\nexcept Exception as error:\n raise ImportError('\\n\\nadvice') from error",
        "ZeroDivisionError: division by zero",
    ),
    "leaving": ("import sys; sys.exit('no')", "SystemExit: no"),
    "threading_one": (
        "import threading, time\nthreading.Thread(target=time.sleep, args=(99,)).start()",
        "it leaves a thread running",
    ),
    "forking": ("import os, time\nif not os.fork(): time.sleep(99)", "it leaves a process running"),
    "opening": ("kept = open('/etc/passwd')", "it leaves /etc/passwd open"),
    "connecting": ("import socket; kept = socket.socket()", "it leaves socket:"),
    "mapping": (
        "import mmap; kept = mmap.mmap(-1, 4096)",
        "it leaves memory that all runs would share",
    ),
}

ACCEPTED = {
    "printing": "print('printed'); import os; os.write(1, b'written')",
    "reading": "import sys; assert sys.stdin.read() == ''",
    "handling": "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
    "waking": "import signal; signal.set_wakeup_fd(-1)",
    "closing": "with open('/etc/passwd') as file: kept = file.read()",
    "garbage": "class A: pass\na = A(); a.a = a; a.file = open('/etc/passwd'); del a",
    "waiting": "import subprocess; subprocess.run(['true'], check=True)",
    "ending": "import threading, time\nthreading.Thread(target=time.sleep, args=(0.05,)).start()",
    "calling": "import ctypes; kept = ctypes.CFUNCTYPE(None)(print)",
    "yielding": """
import os, threading
stop = threading.Event()
def begin():
    global thread
    stop.clear()
    thread = threading.Thread(target=stop.wait, daemon=True)
    thread.start()
def end():
    stop.set()
    thread.join()
os.register_at_fork(before=end, after_in_child=begin)
begin()
""",
}


@pytest.fixture
def directory() -> Iterator[Path]:
    """Make a directory that any user may enter, with the runner's."""
    with open_directory() as directory:
        (directory / "runner").mkdir()
        yield directory


@pytest.fixture(params=interpreters(), ids=str)
def start(request: pytest.FixtureRequest, directory: Path) -> Start:
    """Start runners that find a module of the given source; see each one leave."""
    packages = directory / f"layers/base/lib/{request.param.directory}/site-packages"
    packages.mkdir(parents=True)

    @contextlib.contextmanager
    def start(name: str, source: str, preload: str = "base") -> Iterator[Runner]:
        (packages / f"{name}.py").write_text(source)
        runner = Runner(request.param, directory, ("json", name), preload)
        try:
            yield runner
        finally:
            assert runner.close() == 0

    return start


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_by_its_name_what_a_fork_cannot_share(start: Start, name: str) -> None:
    source, reason = REFUSED[name]
    with start(name, source) as runner:
        kind, payload = runner.first
        assert kind is Kind.REFUSED
        assert payload.decode().startswith(f"{name} cannot be pre-imported: ")
        assert reason in payload.decode()
        assert "second" not in payload.decode()


def test_names_the_module_within_that_starts_a_thread(start: Start, directory: Path) -> None:
    (packages,) = directory.glob("layers/base/lib/*/site-packages")
    (packages / "starting.py").write_text(REFUSED["threading_one"][0])
    with start("importing", "import json.tool, starting") as runner:
        kind, payload = runner.first
    assert (kind, payload) == (
        Kind.REFUSED,
        b"importing cannot be pre-imported: starting, which it imports, leaves a thread running",
    )


def test_of_several_modules_that_start_threads_it_names_the_first(
    start: Start, directory: Path
) -> None:
    (packages,) = directory.glob("layers/base/lib/*/site-packages")
    names = [f"starting_{letter}" for letter in "qwertyui"]
    for name in names:
        (packages / f"{name}.py").write_text(REFUSED["threading_one"][0])
    with start("importing", f"import {', '.join(names)}") as runner:
        _, payload = runner.first
    assert payload.decode().endswith(": starting_q, which it imports, leaves 8 threads running")


@pytest.mark.parametrize("name", ACCEPTED)
def test_runs_go_on_after_an_import_that_leaves_nothing_behind(start: Start, name: str) -> None:
    with start(name, ACCEPTED[name]) as runner:
        assert runner.first[0] is Kind.READY, runner.first
        for _ in range(2):
            ran = runner.run(f"import sys; print({name!r} in sys.modules)")
            assert (ran.stdout, ran.stderr) == (b"True\n", b"")
            assert (ran.ending.ending, ran.ending.status) == (Ending.EXITED, 0)
            assert ran.report is Kind.CLEAN


def test_a_preloaded_layer_is_on_the_path_of_every_run_and_tells_what_is_in_it(
    start: Start, directory: Path
) -> None:
    for packages in directory.glob("layers/base/lib/*/site-packages"):
        (packages / "other_one-1.0+local.dist-info").mkdir()
        (packages / "later.py").write_text("")
    with start("first", "") as runner:
        assert json.loads(runner.first[1])["installed"] == ["other_one==1.0+local"]
        child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import later'])"
        for code in ("import later", child):
            ran = runner.run(code)
            assert (ran.stderr, ran.ending.status) == (b"", 0)


def test_a_preloaded_layer_that_is_not_there_is_told_of(start: Start) -> None:
    with start("first", "", preload="gone") as runner:
        assert runner.first == (Kind.REFUSED, b"the layer of dependencies is not there")


def test_a_preloaded_layer_may_go_once_it_has_been_imported_from(
    start: Start, directory: Path
) -> None:
    """It has told by then what was in it; a runner that looked again died of a traceback."""
    for packages in directory.glob("layers/base/lib/*/site-packages"):
        (packages / "one-1.0.dist-info").mkdir()
    with start("last", "import os, shutil\nshutil.rmtree(os.path.dirname(__file__))") as runner:
        assert runner.first[0] is Kind.READY


LOAD_OPENMP = "import ctypes; gomp = ctypes.CDLL('libgomp.so.1')\n"
USE_OPENMP = """
import ctypes, threading
seen = set()
barrier = threading.Barrier(3)
@ctypes.CFUNCTYPE(None, ctypes.c_void_p)
def work(_):
    barrier.wait(9)  # all three at once, or it breaks
    seen.add(threading.get_ident())
gomp.GOMP_parallel(work, None, 3, 0)
"""
needs_openmp = pytest.mark.skipif(
    not ctypes.util.find_library("gomp"), reason="no libgomp on this machine"
)


@needs_openmp
def test_openmp_has_its_threads_in_every_run(start: Start) -> None:
    with start("openmp", LOAD_OPENMP) as runner:
        for _ in range(2):
            ran = runner.run(f"from openmp import gomp\n{USE_OPENMP}print(len(seen))")
            assert (ran.stdout, ran.stderr) == (b"3\n", b"")
            assert ran.report is Kind.CLEAN


@needs_openmp
def test_an_import_that_has_used_openmp_is_refused(start: Start) -> None:
    """GNU's has threads from then on, no fork ends them, and a child would wait for them."""
    with start("openmp", LOAD_OPENMP + USE_OPENMP) as runner:
        reason = b"openmp cannot be pre-imported: it leaves 2 threads running"
        assert runner.first == (Kind.REFUSED, reason)


def test_what_an_import_seeded_is_seeded_anew_for_each_run(start: Start) -> None:
    source = "import random; generator = random.Random(1)"
    with start("seeding", source) as runner:
        drawn = {runner.run("import seeding; print(seeding.generator.random())").stdout}
        drawn |= {runner.run("import seeding; print(seeding.generator.random())").stdout}
        assert len(drawn) == 2
