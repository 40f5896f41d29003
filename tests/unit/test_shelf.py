"""What is imported ahead, and taken from the shelf, is what an import would have made."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pgexec.settings.modules import IDLE_IMPORTS
from pool.engine.sources import runner_files
from pool.engine.spec import RUNNER_DIR
from tests.unit.pythons import imports_ahead, interpreters, open_directory

if TYPE_CHECKING:
    from tests.unit.pythons import Python

PROGRAM = Path(__file__).with_name("shelf_program.py")
TIMEOUT_S = 120

UNDISTURBED = {
    "specs are found as before the import": """
import importlib.util
spec = importlib.util.find_spec("csv")
print(spec.name, type(spec.loader).__name__, sorted(vars(spec.loader)))
import csv
print(csv.__spec__ == spec, csv.__spec__.loader is csv.__loader__, csv.__spec__._initializing)
""",
    "a record tells the time since logging was imported": """
import logging
record = logging.LogRecord("x", 10, "p", 1, "m", (), None)
print(0 <= record.relativeCreated < 2000)
""",
    "callbacks at exit come in the order of imports": """
import atexit
atexit.register(print, "first")
import logging
atexit.register(print, "last")
print(atexit._ncallbacks())
""",
    "__mp_main__ is the __main__ of now": """
import sys, types
sys.modules["__main__"] = types.ModuleType("__main__")
import multiprocessing
print(sys.modules["__mp_main__"] is sys.modules["__main__"])
""",
    "a module that was deleted runs anew": """
import csv
first = csv
import sys
del sys.modules["csv"]
import csv
print(csv is first, csv.reader is first.reader)
""",
    "a reload runs the code again": """
import importlib, csv
csv.mark = 1
first = csv.DictReader
print(importlib.reload(csv) is csv, csv.mark, csv.DictReader is first)
""",
    "threads import at the same time": """
import importlib, threading
found = []
def get(name):
    found.append(importlib.import_module(name).__name__)
names = ["asyncio", "unittest", "csv", "urllib.request", "http.server", "logging", "uuid"]
threads = [threading.Thread(target=get, args=(name,)) for name in names * 3]
[one.start() for one in threads]
[one.join() for one in threads]
print(sorted(found))
""",
    "old modules with new attributes are as good": """
import socket as _, heapq
heapq.mine = 1
import queue
print(queue.heappush is heapq.heappush, heapq.mine)
""",
    "a fork draws other numbers": """
import os
reader, writer = os.pipe()
if os.fork() == 0:
    import random
    os.write(writer, str(random.random()).encode())
    os._exit(0)
os.wait()
import random
print(os.read(reader, 100).decode() == str(random.random()))
""",
}
DISTURBED = {
    "a file beside the script comes first": (
        "csv",
        """
import os, sys, tempfile as t
directory = t.mkdtemp()
sys.path.insert(0, directory)
open(directory + "/csv.py", "w").write("print('mine')")
import csv
""",
    ),
    "a file beside the script comes first for what a module imports": (
        "http.client",
        """
import os, sys, importlib
directory = "/tmp/shelf-%d" % os.getpid()
os.mkdir(directory)
open(directory + "/email.py", "w").write("print('mine')")
sys.path.insert(0, directory)
try:
    import http.client
except ImportError as error:
    print(error)
os.unlink(directory + "/email.py")
""",
    ),
    "a module in sys.modules is what others get": (
        "queue",
        """
import sys, types
fake = sys.modules["heapq"] = types.ModuleType("heapq")
fake.heappush = fake.heappop = print
import queue
print(queue.heappush is print)
""",
    ),
    "None in sys.modules forbids an import": (
        "queue",
        """
import sys
sys.modules["heapq"] = None
try:
    import queue
except ImportError as error:
    print(error)
""",
    ),
    "a function that was replaced is what others get": (
        "queue",
        """
import heapq
heapq.heappush = print
import queue
print(queue.heappush is print)
""",
    ),
    "a function of an older module that was replaced is what others get": (
        "textwrap",
        """
import re, sys
sys.modules.pop("textwrap", None)
compiled = re.compile
re.compile = lambda *args: print(len(args)) or compiled(*args)
import textwrap
""",
    ),
    "a tracer sees the code of modules": (
        "csv",
        """
import sys
seen = set()
sys.settrace(lambda frame, event, arg: seen.add(frame.f_code.co_filename.rpartition("/")[2]))
import csv
sys.settrace(None)
print("csv.py" in seen)
""",
    ),
    "a profiler sees the code of modules": (
        "csv",
        """
import sys
seen = set()
sys.setprofile(lambda frame, event, arg: seen.add(frame.f_code.co_filename.rpartition("/")[2]))
import csv
sys.setprofile(None)
print("csv.py" in seen)
""",
    ),
    "an own __import__ sees what modules import": (
        "csv",
        """
import builtins
seen = []
real = builtins.__import__
builtins.__import__ = lambda name, *args: seen.append(name) or real(name, *args)
import csv
builtins.__import__ = real
print(seen)
""",
    ),
    "an import hook sees what modules import": (
        "csv",
        """
import sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        print(name)
sys.meta_path.insert(0, Finder())
import csv
""",
    ),
    "another platform": (
        "subprocess",
        """
import sys
sys.platform = "win32"
try:
    import subprocess
    print("imported")
except ImportError as error:
    print(error)
""",
    ),
    "another directory": (
        "multiprocessing",
        """
import os
os.chdir("/usr")
import multiprocessing.process
print(multiprocessing.process.ORIGINAL_DIR)
""",
    ),
    "another configuration of OpenSSL": (
        "ssl",
        """
import os
os.environ["OPENSSL_CONF"] = "/dev/null"
import ssl
print(ssl.OPENSSL_VERSION_NUMBER > 0)
""",
    ),
    "a logger of the snippet's own": (
        "concurrent.futures",
        """
import logging
own = logging.getLogger("concurrent.futures")
import concurrent.futures._base
print(concurrent.futures._base.LOGGER is own)
""",
    ),
    "memory that is traced": (
        "csv",
        """
import tracemalloc
tracemalloc.start()
import csv
snapshot = tracemalloc.take_snapshot()
tracemalloc.stop()
print(any(one.traceback[0].filename.endswith("csv.py") for one in snapshot.traces))
""",
    ),
}


pytestmark = pytest.mark.slow


@pytest.fixture(params=[*filter(imports_ahead, interpreters())], ids=str, scope="module")
def results(request: pytest.FixtureRequest) -> Any:
    """Run the program in one interpreter; return what it says."""
    python: Python = request.param
    with open_directory() as home:
        for name, text in runner_files().items():
            path = home / name.removeprefix(f"{RUNNER_DIR}/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (home / "sitecustomize.py").unlink()
        (home / PROGRAM.name).write_bytes(PROGRAM.read_bytes())
        codes = UNDISTURBED | {name: code for name, (_, code) in DISTURBED.items()}
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", python.script(home), "sh", str(home / PROGRAM.name)],
            input=json.dumps({"names": IDLE_IMPORTS, "codes": codes}),
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
            env={"PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1"},
        )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", IDLE_IMPORTS)
def test_an_import_leaves_the_same(results: Any, name: str) -> None:
    """The same modules in the same order, with the same attributes, and nothing else."""
    result = results[name]
    for what, seen in result["anew"].items():
        assert result["kept"][what] == seen, what
    if result["anew"]["modules"]:
        assert name in result["given"]


@pytest.mark.parametrize("name", UNDISTURBED)
def test_a_snippet_sees_no_difference(results: Any, name: str) -> None:
    result = results[name]
    assert "Traceback" not in result["anew"]
    assert result["kept"] == result["anew"]
    assert result["given"]


@pytest.mark.parametrize("name", DISTURBED)
def test_code_runs_anew_where_it_would_come_to_something_else(results: Any, name: str) -> None:
    result = results[name]
    assert "Traceback" not in result["anew"]
    assert result["kept"] == result["anew"]
    assert DISTURBED[name][0] not in result["given"]
