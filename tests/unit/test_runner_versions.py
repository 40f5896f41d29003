"""The real runner without Docker, as PID 1 of a namespace, in every CPython that is at hand."""

from __future__ import annotations

import hashlib
import json
import os
import select
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from pool.collected import Collected
from pool.engine.sources import runner_files
from pool.engine.spec import RUNNER_DIR
from pool.inside.protocol import (
    FILE,
    Decoder,
    Ending,
    Exit,
    JobHeader,
    Kind,
    decode_exit,
    encode_job,
)
from pool.job import InputFile, Job
from tests.unit.pythons import interpreters, open_directory

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.unit.pythons import Python

DEADLINE_S = 20


class Ran(NamedTuple):
    """What came back for one job."""

    stdout: bytes
    stderr: bytes
    ending: Exit
    report: Kind
    files: bytes = b""


class Runner:
    """A runner in namespaces of its own, spoken to over pipes."""

    def __init__(
        self,
        python: Python,
        directory: Path,
        preimport: Sequence[str] = ("json", "random"),
        preload: str = "",
        *,
        reused: bool = True,
        idle_imports: Sequence[str] = (),
    ) -> None:
        self.python = python
        home, code = directory / "runner", directory / "code"
        self.layers = directory / "layers"
        code.mkdir()
        for name, text in runner_files().items():
            path = home / name.removeprefix(f"{RUNNER_DIR}/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        config = {
            "script": f"{code}/Main.py",
            "sequence": 0,
            "mounts": [str(code)],
            "layers": str(self.layers),
            "preload": preload,
            "preimport": preimport,
            "idle_imports": idle_imports,
            "idle_memory": 64 << 20,
            "guard": None,
            "job_limit": 1 << 20,
            "reused": reused,
            "sealed": False,  # the root is this machine's own
            "pids": 1 << 15,
            "cpus": 1,
        }
        directory.chmod(0o755)
        mount = f"mount -t tmpfs -o mode=1777,size=8m tmpfs {code}"
        self.process = subprocess.Popen(
            [
                *("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"),
                *("sh", "-c", f"{mount} && {python.script(directory)}", "sh", f"{code}/Main.py"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={
                "PATH": os.defpath,
                "HOME": str(code),
                "PYTHONPATH": str(home),
                "PYTHONDONTWRITEBYTECODE": "1",
                "PGEXEC_RUNNER": json.dumps(config),
            },
        )
        self._decoder = Decoder(1 << 20)
        self._frames: list[tuple[Kind, bytes]] = []
        self._run = 0
        self.first = self._next()

    def run(
        self,
        code: str,
        layer: str = "",
        strings: bytes = b"",
        files: bytes = b"",
        collect: bytes = b"",
        **fields: Any,
    ) -> Ran:
        self._run += 1
        source = code.encode()
        named = layer.encode()
        header = JobHeader(self._run, 10_000, 1 << 20, len(source), 0, False, len(named))  # noqa: FBT003
        header = header._replace(strings_size=len(strings), files_size=len(files), **fields)
        header = header._replace(
            collect_size=len(collect), collect_limit=header.collect_limit or 1 << 20
        )
        header = header._replace(collect_max=header.collect_max or 100)
        assert self.process.stdin
        self.process.stdin.write(encode_job(header, named, source, b"", strings, collect) + files)
        self.process.stdin.flush()
        written = {Kind.STDOUT: b"", Kind.STDERR: b"", Kind.FILES: b""}
        while (frame := self._next())[0] in written:
            written[frame[0]] += frame[1]
        assert frame[0] is Kind.EXIT
        ending = decode_exit(frame[1])
        return Ran(
            written[Kind.STDOUT], written[Kind.STDERR], ending, self._next()[0], written[Kind.FILES]
        )

    def close(self) -> int:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        try:
            return self.process.wait(DEADLINE_S)
        finally:
            self.process.kill()
            self.process.stdout.close()

    def _next(self) -> tuple[Kind, bytes]:
        assert self.process.stdout
        fd = self.process.stdout.fileno()
        deadline = time.monotonic() + DEADLINE_S
        while not self._frames:
            readable, _, _ = select.select([fd], [], [], max(0, deadline - time.monotonic()))
            assert readable, "the runner says nothing"
            data = os.read(fd, 65536)
            assert data, "the runner has gone"
            self._frames += self._decoder.feed(data)
        return self._frames.pop(0)


def can_unshare() -> bool:
    attempt = ["unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "true"]
    return bool(shutil.which("unshare")) and subprocess.run(attempt, check=False).returncode == 0


pytestmark = pytest.mark.skipif(not can_unshare(), reason="namespaces need root on Linux")


@pytest.fixture(params=interpreters(), ids=str, scope="module")
def runner(request: pytest.FixtureRequest) -> Iterator[Runner]:
    """Start the runner in one interpreter; see it leave when its stdin ends."""
    with open_directory() as directory:
        runner = Runner(request.param, directory)
        assert runner.first[0] is Kind.READY
        yield runner
        assert runner.close() == 0


def test_runs_a_snippet_and_resets_clean(runner: Runner) -> None:
    for word in ("one", "two", "three"):
        ran = runner.run(f"print({word!r})")
        assert (ran.stdout, ran.stderr) == (word.encode() + b"\n", b"")
        assert (ran.ending.ending, ran.ending.status) == (Ending.EXITED, 0)
        assert ran.report is Kind.CLEAN


def test_gives_the_exit_status_of_every_way_to_leave(runner: Runner) -> None:
    for code, status in (
        ("import sys; sys.exit(7)", 7),
        ("raise SystemExit('words')", 1),
        ("1/0", 1),
        ("import os; os._exit(9)", 9),
        ("import atexit; atexit.register(print, 'late')", 0),
    ):
        ran = runner.run(code)
        assert (ran.ending.ending, ran.ending.status) == (Ending.EXITED, status), code


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("1/0", b"ZeroDivisionError"),
        ("input()", b"EOFError"),
        ("def", b"SyntaxError"),
        ("  x", b"IndentationError"),
        ("import json; json.loads('{')", b"json.decoder.JSONDecodeError"),
        ("class A:\n  class Odd(Exception): pass\nraise A.Odd('x')", b"A.Odd"),
        ("def f():\n  class Odd(Exception): pass\n  raise Odd\nf()", b"f.<locals>.Odd"),
        ("try: 1/0\nfinally: print(1)", b"ZeroDivisionError"),
        ("import sys; sys.stderr = None; 1/0", b"ZeroDivisionError"),
        ("class A:\n  def __del__(self): print(2)\na = A()\n1/0", b"ZeroDivisionError"),
        ("class E(Exception):\n  def __str__(self): print('told'); return 'x'\nraise E", b"E"),
        ("import sys\nsys.excepthook = print\n1/0", b"ZeroDivisionError"),
        ("E = type('E' * 999, (Exception,), {})\nraise E", b"E" * 200),
        ("import sys; sys.exit('words')", b""),
        ("import os; os._exit(1)", b""),
        ("import code; code.interact()\nraise SystemExit(1)", b""),
        ("import sys\ntry: 1/0\nexcept Exception: sys.exit(1)", b""),
        ("import os\nif os.fork() == 0: 1/0\nos.wait(); raise SystemExit(1)", b""),
        ("print(1)", b""),
    ],
)
def test_names_the_exception_that_the_script_died_of(
    runner: Runner, code: str, name: bytes
) -> None:
    ran = runner.run(code)
    assert ran.ending.exception == name, ran
    assert ran.report is Kind.CLEAN
    assert ran.stdout.count(b"told") <= 1, "a message is made once, as the interpreter does"


SURROUNDINGS = """
import os, posix, subprocess, sys, time
more = [os.environ.get(name) for name in ("A", "B", "TZ")]
print(ascii([sys.argv[1:], getattr(sys, "orig_argv", sys.argv)[-2:], more]))
print(posix.environ[b"A"] == os.environb[b"A"], time.strftime("%H", time.gmtime(0)), time.timezone)
print(ascii(subprocess.check_output(["sh", "-c", "echo $A"]).decode().strip())[1:-1])
"""


def test_gives_arguments_and_variables_to_one_run(runner: Runner) -> None:
    strings = b"-x\0\xc3\xa9 \n\0A=\xc3\xa9=\0B=\0TZ=XYZ-3\0"
    ran = runner.run(SURROUNDINGS, strings=strings, args=2)
    assert ran.stdout.decode().splitlines() == [
        r"[['-x', '\xe9 \n'], ['-x', '\xe9 \n'], ['\xe9=', '', 'XYZ-3']]",
        "True 00 -10800",
        r"\xe9=",
    ]
    assert (ran.stderr, ran.report) == (b"", Kind.CLEAN)
    after = runner.run("import os, sys; print(sys.argv[1:], os.environ.get('A'))")
    assert after.stdout == b"[] None\n"


def put(name: str, content: bytes) -> bytes:
    encoded = name.encode()
    return FILE.pack(len(encoded), len(content)) + encoded + content


LOOK = """
import hashlib, os
for where, _, names in sorted(os.walk(".")):
    for name in sorted(names):
        path = os.path.join(where, name)
        found = os.stat(path)
        print(ascii(path), oct(found.st_mode), found.st_uid == os.getuid(), end=" ")
        print(hashlib.md5(open(path, "rb").read()).hexdigest())
print(sorted(os.listdir("/proc/self/fd")), open("more.py").read(), __import__("more").WORD)
open("a", "a").write("x")
"""


def test_writes_input_files_as_the_runs_user_before_it(runner: Runner) -> None:
    contents = {
        "a": b"",
        "d/e/\u00e9": b"\0" * 700_001,
        "d/b c": os.urandom(200_000),
        "more.py": b"WORD = 1",
    }
    ran = runner.run(LOOK, files=b"".join(put(*one) for one in contents.items()))
    *lines, last = ran.stdout.decode().splitlines()
    assert (ran.stderr, ran.ending.ending, ran.report) == (b"", Ending.EXITED, Kind.CLEAN)
    del lines[0 if "Main.py" in lines[0] else 1]
    assert lines == [
        f"{'./' + name!a} 0o100644 True {hashlib.md5(contents[name]).hexdigest()}"
        for name in ("a", "more.py", "d/b c", "d/e/\u00e9")
    ]
    assert last == "['0', '1', '2', '3'] WORD = 1 1"
    after = runner.run("import os; print(os.listdir('.'))")
    assert after.stdout == b"['Main.py']\n"


def test_files_that_do_not_fit_are_refused_before_anything_runs(runner: Runner) -> None:
    """The directory has 8 MiB; a name that is taken, or too long, is no traceback either."""
    for files in (
        put("a", b"x" * (9 << 20)) + put("b", b"y"),
        put("Main.py", b"") + put("b", b"y" * 100_000),
        put("a", b"") + put("a/b", b""),
        put("x" * 300, b""),
        put("a", b"") * 3000,
    ):
        ran = runner.run("print('ran')", files=files)
        assert (ran.stdout, ran.ending.ending, ran.report) == (b"", Ending.NO_ROOM, Kind.CLEAN)
    assert runner.run("print(1)").stdout == b"1\n"


MAKES = """
import os
open("new.txt", "w").write("new")
open("changed.txt", "a").write("!")
os.utime("touched.txt")
os.makedirs("out/deep")
open("out/a.bin", "wb").write(bytes(300_000))
open("out/deep/b", "w").write("b")
open("out/.hidden", "w").write("h")
open("other.log", "w")
if os.fork() == 0:
    while True: open("out/a.bin", "r+b").write(b"x")
"""


def test_sends_the_files_that_are_asked_for_and_that_the_run_has_changed(runner: Runner) -> None:
    names = "same.txt", "changed.txt", "touched.txt"
    files = b"".join(put(name, b"old") for name in names)
    patterns = "*.txt", "out/*.bin", "o*u*t/**/d*e*p/**/*", "*.py"
    asked = ("\0".join(patterns) + "\0\0" + "\0".join(names)).encode()
    for _ in range(2):  # the second run is of another user, after a reset
        ran = runner.run(MAKES, files=files, collect=asked)
        assert (ran.stderr, ran.ending.ending, ran.report) == (b"", Ending.EXITED, Kind.CLEAN)
        collected = Collected(
            Job(b"", files=[InputFile(name, b"old") for name in names], collect=patterns)
        )
        for start in range(0, len(ran.files), 7_001):
            collected.add(ran.files[start : start + 7_001])
        found, omitted = collected.result()
        assert omitted == ""
        sizes = {file.name: file.size_bytes for file in found}
        assert sizes == {"changed.txt": 4, "new.txt": 3, "out/a.bin": 300_000, "out/deep/b": 1}
        contents = {file.name: bytes(file.content or b"") for file in found}
        assert (contents["changed.txt"], contents["new.txt"]) == (b"old!", b"new")


def test_a_pattern_with_many_wildcards_holds_nothing_up(runner: Runner) -> None:
    patterns = "*a" * 120 + "b", "*.txt"
    ran = runner.run(
        "for n in range(50): open('a' * 200 + str(n), 'w')\nopen('b.txt', 'w')",
        collect="\0".join(patterns).encode() + b"\0\0",
    )
    collected = Collected(Job(b"", collect=patterns))
    collected.add(ran.files)
    found, omitted = collected.result()
    assert ([file.name for file in found], omitted, ran.report) == (["b.txt"], "", Kind.CLEAN)


def test_shows_only_the_frames_of_the_snippet(runner: Runner) -> None:
    ran = runner.run("def f():\n    raise KeyError('k')\nf()\n")
    assert ran.stderr.count(b"  File ") == 2
    assert runner.run("import sys; print(sys._getframe().f_back)").stdout == b"None\n"


def test_runs_finalizers_as_the_interpreter_would(runner: Runner) -> None:
    ran = runner.run("class A:\n    def __del__(self): print('gone')\na = A()\n")
    assert ran.stdout == b"gone\n"


def test_counts_no_references_to_what_was_there_before(runner: Runner) -> None:
    """And counts those to the streams, which are flushed when the last one goes."""
    ran = runner.run(
        "import json, sys\n"
        "immortal = sys.getrefcount(None)\n"
        "for one in json, json.dumps, json.dumps.__code__, json.JSONEncoder, sys.modules:\n"
        "  print(sys.version_info < (3, 12) or sys.getrefcount(one) == immortal)\n"
        "for one in sys.stdout, sys.stdout.buffer, sys.stdout.buffer.raw, []:\n"
        "  print(sys.getrefcount(one) < 100)\n"
    )
    assert ran.stdout.split() == [b"True"] * 9
    assert runner.run("import gc; gc.unfreeze(); gc.collect(); print(1)").stdout == b"1\n"


def test_keeps_code_that_each_run_executes_side_by_side(runner: Runner) -> None:
    """And it does what it did: it runs, has its lines, and can be told from no other."""
    ran = runner.run(
        "import contextlib, inspect, posixpath, signal, sys, traceback\n"
        "moved = (contextlib.suppress.__init__, contextlib.suppress.__exit__,\n"
        "         posixpath.join, signal.signal)\n"
        "ids = [id(one.__code__) for one in moved]\n"
        "print(sys.version_info < (3, 12) or max(ids) - min(ids) < 1 << 16)\n"
        "with contextlib.suppress(KeyError):\n"
        "  {}[1]\n"
        "try:\n"
        "  with contextlib.suppress(1): {}[1]\n"
        "except TypeError as error: inner = traceback.extract_tb(error.__traceback__)[-1]\n"
        "lines, first = inspect.getsourcelines(contextlib.suppress.__exit__)\n"
        "print(inner.line == lines[inner.lineno - first].strip())\n"
        "print([posixpath.join('a' * many, 'b') for many in range(99)][98] == 'a' * 98 + '/b')\n"
        "signal.signal(signal.SIGUSR1, lambda *_: print('heard'))\n"
        "signal.raise_signal(signal.SIGUSR1)\n"
        "sys.settrace(lambda frame, *_: print(frame.f_code is posixpath.join.__code__))\n"
        "posixpath.join('a')\n"
    )
    assert ran.stdout.split()[:5] == [b"True", b"True", b"True", b"heard", b"True"], ran.stderr


def test_hands_the_page_tables_of_the_interpreter_down(runner: Runner) -> None:
    """By a page of its own in the mapping: without one, a fork would leave the mapping out."""
    ran = runner.run(
        "own = size = 0\n"
        "for line in open('/proc/self/smaps'):\n"
        "  words = line.split()\n"
        "  if '-' in words[0]: code = words[1] == 'r-xp' and 'python' in words[-1]\n"
        "  elif words[0] == 'Size:' and code: size = max(size, int(words[1]))\n"
        "  elif words[0] == 'Anonymous:' and code: own = max(own, int(words[1]))\n"
        "print(size >= 256, own)\n"
    )
    assert ran.stdout == b"True 4\n"


def test_serves_one_run_without_what_pays_for_many_only(runner: Runner, tmp_path: Path) -> None:
    """And is all the same to the snippet otherwise; `runner` is there for its interpreter."""
    for parent in (tmp_path, *tmp_path.parents[:3]):
        parent.chmod(0o755)
    single = Runner(runner.python, tmp_path, reused=False)
    try:
        ran = single.run(
            "import gc, json, sys\n"
            "print(sys.getrefcount(json.dumps) < 1000, gc.isenabled())\n"
            "sys.exit(print('x', file=sys.stderr) or 3)\n"
        )
        assert (ran.stdout, ran.stderr) == (b"True True\n", b"x\n")
        assert (ran.ending.status, ran.report) == (3, Kind.CLEAN)
    finally:
        assert single.close() == 0


def test_keeps_the_order_of_the_two_streams_in_each_frame_sequence(runner: Runner) -> None:
    ran = runner.run("import sys\nfor i in range(50):\n  print(i); print(-i, file=sys.stderr)\n")
    assert ran.stdout.split() == [b"%d" % i for i in range(50)]
    assert ran.stderr.split() == [b"%d" % -i for i in range(50)]


def test_puts_a_layer_where_site_puts_the_users_own_packages(runner: Runner) -> None:
    version = ".".join(json.loads(runner.first[1])["python"].split(".")[:2])
    packages = runner.layers / "one" / "lib" / f"python{version}" / "site-packages"
    packages.mkdir(parents=True)
    (packages / "inside.py").write_text("WORD = 'here'")
    (packages / "json.py").write_text("WORD = 'shadow'")
    (packages / "some.pth").write_text("import sys; sys.word = 'read'\nmore\n")
    (packages / "more").mkdir()
    ran = runner.run(
        "import inside, json, os, site, subprocess, sys\n"
        "after = [path for path in sys.path if path in site.getsitepackages()]\n"
        "here = sys.path.index(os.path.dirname(inside.__file__))\n"
        "print(inside.WORD, hasattr(json, 'WORD'), sys.word)\n"
        "print(sys.path[here + 1].endswith('/more'))\n"
        "print(not after or here < sys.path.index(after[0]))\n"
        "print(os.environ['PATH'].split(':')[0] == os.environ['PYTHONUSERBASE'] + '/bin')\n"
        "print(subprocess.check_output([sys.executable, '-c',"
        " 'import inside, sys; print(inside.WORD, sys.word)']).decode())\n",
        layer="one",
    )
    assert (ran.stdout.split(), ran.stderr) == (
        b"here False read True True True here read".split(),
        b"",
    )
    assert runner.run("import inside").ending.status == 1


INSTALLS = """
import os, site, subprocess, sys
try:
    import fresh
except ImportError:
    pass
before = list(sys.path)
where = subprocess.check_output(
    [sys.executable, "-c", "import site; print(site.getusersitepackages())"], text=True).strip()
os.makedirs(where, exist_ok=True)
with open(where + "/fresh.py", "w") as file:
    file.write("WORD = 'installed'")
import fresh
tell = "import fresh, sys; print(fresh.WORD)"
print(fresh.WORD, len(sys.path) - len(before), where in sys.path)
print(subprocess.check_output([sys.executable, "-c", tell], text=True))
"""


@pytest.mark.parametrize("layer", ["", "two"])
def test_what_a_snippet_installs_for_itself_is_found_in_that_run_only(
    runner: Runner, layer: str
) -> None:
    if layer:
        version = ".".join(json.loads(runner.first[1])["python"].split(".")[:2])
        packages = runner.layers / "two" / "lib" / f"python{version}" / "site-packages"
        packages.mkdir(parents=True, exist_ok=True)
    ran = runner.run(INSTALLS, layer=layer)
    more = b"0" if layer else b"1"
    assert (ran.stdout.split(), ran.stderr) == ([b"installed", more, b"True", b"installed"], b"")
    assert runner.run("import fresh").ending.status == 1


FORKER = """
import _thread, gc, os, threading
gc.enable()
collects = []
both = threading.Barrier(3)
for _ in range(2):
    _thread.start_new_thread(lambda: (threading.current_thread(), both.wait()), ())
both.wait()
def start():
    threading.Thread(target=threading.Event().wait, name="worker", daemon=True).start()
os.register_at_fork(before=lambda: collects.append(gc.isenabled()), after_in_child=start)
"""


@pytest.mark.parametrize("reused", [True, False])
def test_threads_and_hooks_of_what_is_imported_before_are_as_ever(
    runner: Runner, tmp_path: Path, *, reused: bool
) -> None:
    """`threading` has its turn first, and the collector stays off in PID 1 whatever turns it on."""
    for parent in (tmp_path, *tmp_path.parents[:3]):
        parent.chmod(0o755)
    version = ".".join(json.loads(runner.first[1])["python"].split(".")[:2])
    packages = tmp_path / "layers" / "base" / "lib" / f"python{version}" / "site-packages"
    packages.mkdir(parents=True)
    (packages / "forker.py").write_text(FORKER)
    other = Runner(runner.python, tmp_path, ("forker",), "base", reused=reused)
    try:
        assert other.first[0] is Kind.READY, other.first
        for _ in range(2):
            ran = other.run(
                "import forker, gc, os, threading\n"
                "def names(): return sorted(one.name for one in threading.enumerate())\n"
                "print(names(), gc.isenabled(), forker.collects[-1], flush=True)\n"
                "print(threading.main_thread().native_id == os.getpid(), flush=True)\n"
                "pid = os.fork()\n"
                "if pid == 0:\n"
                "    print(names(), flush=True)\n"
                "    os._exit(0)\n"
                "os.waitpid(pid, 0)\n"
            )
            threads = "['MainThread', 'worker']"
            assert ran.stdout.decode() == f"{threads} True False\nTrue\n{threads}\n"
            assert ran.report is Kind.CLEAN
    finally:
        assert other.close() == 0


def test_says_that_a_layer_is_missing_before_anything_runs(runner: Runner) -> None:
    ran = runner.run("print('ran')", layer="missing")
    assert (ran.ending.ending, ran.stdout, ran.report) == (Ending.NO_LAYER, b"", Kind.CLEAN)
    assert runner.run("print('ran')").stdout == b"ran\n"


def test_a_snippet_that_says_so_does_not_make_its_layer_missing(runner: Runner) -> None:
    (runner.layers / "there").mkdir(parents=True, exist_ok=True)
    code = """
import ctypes, os, struct
for line in open("/proc/self/maps"):
    where, access, *_ = line.split()
    if access == "rw-s":
        begin = int(where.split("-")[0], 16)
        ctypes.memmove(begin, struct.pack("=iiQ", 2, 0, 0), 16)
print("ran", flush=True)
os.close(1); os.close(2); os._exit(0)
"""
    ran = runner.run(code, layer="there")
    assert (ran.ending.ending, ran.stdout, ran.report) == (Ending.EXITED, b"ran\n", Kind.CLEAN)


def test_shows_a_subinterpreters_output_as_it_comes(runner: Runner) -> None:
    ran = runner.run(
        "try: import _interpreters as interpreters\n"
        "except ImportError: import _xxsubinterpreters as interpreters\n"
        "one = interpreters.create()\n"
        "interpreters.run_string(one, 'print(1)')\n"
        "print(2)\n"
        "interpreters.destroy(one)\n"
    )
    assert (ran.stdout, ran.stderr) == (b"1\n2\n", b"")


def test_refuses_an_interpreter_that_is_no_cpython_in_a_sentence(tmp_path: Path) -> None:
    for name, text in runner_files().items():
        path = tmp_path / name.removeprefix(f"{RUNNER_DIR}/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    told = subprocess.run(
        [
            *(sys.executable, "-S", "-c"),
            "import sys; sys.implementation.name = 'pypy'; import sitecustomize",
        ],
        env={"PYTHONPATH": str(tmp_path), "PGEXEC_RUNNER": "{}"},
        capture_output=True,
        check=False,
    )
    decoder = Decoder(1 << 20)
    (frame,) = decoder.feed(told.stdout)
    assert frame[0] is Kind.REFUSED
    assert frame[1].startswith(b"the image's python3 is pypy, and ")
    assert (told.returncode, told.stderr) == (0, b"")


def test_refuses_to_start_outside_a_namespace(tmp_path: Path) -> None:
    for name, text in runner_files().items():
        path = tmp_path / name.removeprefix(f"{RUNNER_DIR}/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    told = subprocess.run(
        [sys.executable, "-c", "print('went on')"],
        env={"PYTHONPATH": str(tmp_path), "PGEXEC_RUNNER": "{}"},
        capture_output=True,
        check=False,
    )
    assert (told.returncode, told.stdout) == (64, b"")
    assert b"PID 1" in told.stderr
