"""A waiting child of the real runner imports ahead, and no snippet sees it before it imports."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from pool.inside.protocol import Kind
from tests.unit.pythons import imports_ahead, interpreters, open_directory
from tests.unit.test_runner_versions import DEADLINE_S, Runner, can_unshare

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not can_unshare(), reason="namespaces need root on Linux"),
]

HIDDEN = """
import sys
get = sys.modules["_frozen_importlib"].module_from_spec
cells = [one.cell_contents for one in get.__closure__ or ()]
shelves = [one.__self__ for one in cells if hasattr(one, "__self__")]
hidden = [list(one.hidden) for one in shelves if hasattr(one, "hidden")]
print("csv" in sum(hidden, []), "csv" in sys.modules)
"""


@pytest.fixture(params=[*filter(imports_ahead, interpreters())], ids=str, scope="module")
def runner(request: pytest.FixtureRequest) -> Iterator[Runner]:
    """Start the runner in one interpreter, with `csv` and a module that does not exist."""
    with open_directory() as directory:
        runner = Runner(request.param, directory, idle_imports=("no_such_module", "csv"))
        assert runner.first[0] is Kind.READY
        yield runner
        assert runner.close() == 0


def run_when_ready(runner: Runner, code: str) -> bytes:
    """Run a snippet again and again, until the shelf was full at its start; return its output."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        time.sleep(0.3)
        ran = runner.run(HIDDEN + code)
        assert (ran.stderr, ran.report) == (b"", Kind.CLEAN)
        ready, _, rest = ran.stdout.partition(b"\n")
        assert ready.endswith(b"False")
        if ready == b"True False":
            return rest
    raise AssertionError("nothing was imported ahead")


def test_a_module_is_imported_before_the_snippet_imports_it(runner: Runner) -> None:
    code = "import csv, io; print(next(csv.reader(io.StringIO('a,b'))), sys.modules['csv'] is csv)"
    assert run_when_ready(runner, code) == b"['a', 'b'] True\n"


def test_a_file_beside_the_script_comes_first(runner: Runner) -> None:
    code = "open('csv.py', 'w').write('mine = 1'); import csv; print(csv.mine)"
    assert run_when_ready(runner, code) == b"1\n"


def test_the_next_run_does_not_see_what_the_last_one_imported(runner: Runner) -> None:
    run_when_ready(runner, "import csv")
    code = """
for line in open("/proc/self/maps"):
    begin, end = (int(one, 16) for one in line.split()[0].split("-"))
    if line.split()[1] == "rw-s" and end - begin == 4096:
        memory = open("/proc/self/mem", "rb")
        memory.seek(begin)
        print(b"csv" in memory.read(4096))
"""
    lines = run_when_ready(runner, code).splitlines()
    assert lines
    assert set(lines) == {b"False"}
