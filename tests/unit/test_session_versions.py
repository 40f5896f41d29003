"""The real interpreter of a session without Docker, in every CPython that is at hand."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from pool.inside.protocol import (
    BETWEEN_BYTES,
    FILE,
    INTERRUPT,
    MAX_SHOWN_FORMS,
    SHOWN_RESERVE_BYTES,
    Ending,
    Exit,
    JobHeader,
    Kind,
    Step,
    decode_exit,
    encode,
    encode_job,
)
from pool.shown import Showing, ShownParts
from tests.unit.pythons import interpreters, open_directory
from tests.unit.test_runner_versions import DEADLINE_S, Runner
from tests.unit.test_runner_versions import pytestmark as needs_namespaces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MINUTE_MS = 60_000
PLOTS = """
import sys, time, types

class Figure:
    axes = [1]
    def print_png(self): pass
    def savefig(self, file, **options): file.write(b"png")

def plot():
    figure = Figure()
    figure.canvas = Figure()
    figure.canvas.figure = figure
    open_ones.append(types.SimpleNamespace(canvas=figure.canvas))

open_ones = []
gcf = types.SimpleNamespace(get_all_fig_managers=lambda: open_ones)
parts = {
    "matplotlib": {"rcParams": {"backend": "module://pgexec_figures"}},
    "matplotlib.figure": {"Figure": Figure},
    "matplotlib.pyplot": {"close": lambda what: open_ones.clear()},
    "matplotlib._pylab_helpers": {"Gcf": gcf},
    "pgexec_figures": {},
}
for name in parts:
    sys.modules[name] = types.SimpleNamespace(**parts[name])
"""
"""What our backend needs of matplotlib."""
pytestmark = [needs_namespaces, pytest.mark.slow]


class Ran(NamedTuple):
    """What came back for one cell."""

    stdout: str
    stderr: str
    exit: Exit
    shown: Showing
    files: bytes

    @property
    def value(self) -> str | None:
        return self.shown.value

    @property
    def how(self) -> tuple[Ending, int]:
        return self.exit.ending, self.exit.status


class Session(Runner):
    """A runner whose first job begins a session."""

    def open(self, strings: bytes = b"", files: bytes = b"") -> Exit:
        header = self._header(Step.OPEN, b"", strings, files, b"", args=0)
        self._send(encode_job(header, b"", b"", b"", strings) + files)
        kind, payload = self._next()
        assert kind is Kind.EXIT
        return decode_exit(payload)

    def cell(
        self,
        code: str,
        *,
        stdin: bytes = b"",
        strings: bytes = b"",
        files: bytes = b"",
        collect: bytes = b"",
        meanwhile: Callable[[], None] | None = None,
        **fields: Any,
    ) -> Ran:
        source = code.encode()
        header = self._header(Step.CELL, source, strings, files, collect, **fields)
        header = header._replace(stdin_size=len(stdin))
        self._send(encode_job(header, b"", source, stdin, strings, collect) + files)
        if meanwhile is not None:
            meanwhile()
        written = {Kind.STDOUT: b"", Kind.STDERR: b"", Kind.FILES: b""}
        shown = ShownParts(header.shown_limit)
        while (frame := self._next())[0] is not Kind.EXIT:
            if frame[0] in written:
                written[frame[0]] += frame[1]
            else:
                shown.add(*frame)
        return Ran(
            written[Kind.STDOUT].decode(),
            written[Kind.STDERR].decode(),
            decode_exit(frame[1]),
            shown.result(),
            written[Kind.FILES],
        )

    def interrupt(self) -> None:
        self._send(encode(Kind.INTERRUPT, INTERRUPT.pack(self._run)))

    def _header(
        self, step: Step, source: bytes, strings: bytes, files: bytes, collect: bytes, **fields: Any
    ) -> JobHeader:
        self._run += 1
        header = JobHeader(self._run, MINUTE_MS, 1 << 20, len(source), 0, False)  # noqa: FBT003
        return header._replace(
            step=step,
            strings_size=len(strings),
            files_size=len(files),
            collect_size=len(collect),
            collect_limit=1 << 20,
            collect_max=100,
            shown_limit=(2 << 20) + SHOWN_RESERVE_BYTES,
        )._replace(**fields)

    def _send(self, data: bytes) -> None:
        assert self.process.stdin
        self.process.stdin.write(data)
        self.process.stdin.flush()


@pytest.fixture(params=interpreters(), ids=str, scope="module")
def session(request: pytest.FixtureRequest) -> Iterator[Session]:
    """Begin a session in one interpreter; see it leave when its stdin ends."""
    with open_directory() as directory:
        session = Session(request.param, directory)
        first = file("first.txt", b"1") + file(".0.2", b"2") + file(".0.0", b"3")
        assert session.open(strings=b"OF_THE_SESSION=1\0", files=first).status == 0
        yield session
        assert session.close() == 0


def file(name: str, content: bytes) -> bytes:
    return FILE.pack(len(name), len(content)) + name.encode() + content


def test_names_stay_and_the_last_expression_has_a_value(session: Session) -> None:
    assert session.cell("x = 41")[:2] == ("", "")
    for code, value in (
        ("x += 1; x", "42"),
        ("x;", None),
        ("(x\n );  # quiet", None),
        ("None", None),
        ("_", "42"),
        ("\ufeffx", "42"),
        ("x = 'a;b'\nx", "'a;b'"),
        ("'''doc'''", "'doc'"),
        ("def f():\n    return __name__\n\nf()", "'__main__'"),
        ("import pickle; pickle.loads(pickle.dumps(f)) is f", "True"),
        ("# nothing", None),
    ):
        ran = session.cell(code)
        assert (ran.value, ran.stderr, ran.how) == (value, "", (Ending.EXITED, 0)), code


def test_await_works_at_the_top_and_what_it_began_goes_on(session: Session) -> None:
    session.cell("import asyncio\nasync def late():\n    await asyncio.sleep(0.01)\n    return 7")
    assert session.cell("x = await late()\nx + await late()").value == "14"
    session.cell("task = asyncio.ensure_future(late()); await asyncio.sleep(0)")
    time.sleep(0.2)
    assert session.cell("task.result()").value == "7"
    assert session.cell("asyncio.run(late())").value == "7"
    assert session.cell("async for _ in None: pass").exit.exception == b"TypeError"


def test_context_variables_stay_also_of_a_cell_that_awaits(session: Session) -> None:
    session.cell("import asyncio, contextvars, sys; v = contextvars.ContextVar('v'); v.set(1)")
    assert session.cell("await asyncio.sleep(0); v.get()").value == "1"
    session.cell("await asyncio.sleep(0); v.set(2)")
    of_awaiting = session.cell("v.get() if sys.version_info >= (3, 11) else 2").value
    assert of_awaiting == "2"
    session.cell("v.set(3)\nclass R:\n    def __repr__(self): return f'R{v.get()}'")
    assert session.cell("R()").value == "R3"
    assert session.cell("await asyncio.sleep(0); R()").value == "R3"
    assert session.cell("async def get(): return v.get()\nasyncio.run(get())").value == "3"
    assert session.cell("await asyncio.gather(get(), get())").value == "[3, 3]"


def test_a_traceback_names_the_cells_and_has_their_lines(session: Session) -> None:
    session.cell("def divide(a):\n    return a / 0  # here")
    ran = session.cell("\ndivide(1)")
    assert ran.how == (Ending.EXITED, 1)
    assert ran.exit.exception == b"ZeroDivisionError"
    lines = [line for line in ran.stderr.splitlines() if set(line) - set(" ~^")]
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1].startswith('  File "In [')
    assert lines[1].endswith(']", line 2, in <module>')
    assert lines[2] == "    divide(1)"
    assert lines[4:] == ["    return a / 0  # here", "ZeroDivisionError: division by zero"]
    for bad in "return 5", "x = [\n  await 1]\ndef f():\n  await 2", "a = 1\nbreak":
        ran = session.cell(bad)
        assert ran.exit.exception == b"SyntaxError"
        assert f"    {bad.splitlines()[-1].strip()}\n" in ran.stderr
    assert "return a" in str(session.cell("import inspect; inspect.getsource(divide)").value)
    thread = "import threading\nt = threading.Thread(target=divide, args=(1,)); t.start(); t.join()"
    assert "return a / 0  # here" in session.cell(thread).stderr
    waited = session.cell("import asyncio\nawait asyncio.gather(asyncio.sleep(0), divide(2))")
    assert "run_until_complete" not in waited.stderr


def test_a_cell_with_a_syntax_error_changes_nothing(session: Session) -> None:
    session.cell("x = 1")
    ran = session.cell("x = 2\nx = = 3")
    assert ran.exit.exception == b"SyntaxError"
    assert "x = = 3" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert session.cell("x").value == "1"
    session.cell("open('kept.txt', 'w').write('old')")
    large = b"new" * 100_000
    for bad in ("bad(", "return", "'\\q'; x = = 3", "\0"):
        ran = session.cell(bad, files=file("kept.txt", large) + file("made.txt", b""))
        assert ran.exit.status == 1, bad
        kept = session.cell("import os; open('kept.txt').read(), os.path.exists('made.txt')")
        assert kept.value == "('old', False)", bad
    for good in ("await asyncio.sleep(0)", "'\\q'", "# nothing"):
        session.cell("import asyncio, os\nos.path.exists('made.txt') and os.remove('made.txt')")
        ran = session.cell(good, files=file("made.txt", b"1"))
        assert (ran.how, session.cell("open('made.txt').read()").value) == (
            (Ending.EXITED, 0),
            "'1'",
        )


def test_an_exception_leaves_the_state_and_an_exit_its_status(session: Session) -> None:
    session.cell("x = 1")
    for code, status, stderr in (
        ("import sys; sys.exit(3)", 3, ""),
        ("raise SystemExit('words')", 1, "words\n"),
        ("exit()", 0, ""),
    ):
        ran = session.cell(code)
        assert (ran.how, ran.stderr) == ((Ending.EXITED, status), stderr)
    class_ = session.cell("class Odd(Exception): pass\nraise Odd('x')")
    assert class_.exit.exception == b"Odd"
    assert session.cell("x").value == "1"


def test_stdin_arguments_and_variables_are_those_of_the_cell(session: Session) -> None:
    assert session.cell("input('? ')", stdin=b"bob\nmore\n")[:4:3] == ("? ", Showing("'bob'"))
    assert session.cell("input()").exit.exception == b"EOFError"
    assert session.cell("exit()").how == (Ending.EXITED, 0)  # which closes sys.stdin
    assert session.cell("input()", stdin=b"ann").value == "'ann'"
    assert session.cell("import os; os.read(0, 9)", stdin=b"raw").value == "b'raw'"
    code = "import sys; (sys.argv[1:], os.environ.get('V'), os.environ['OF_THE_SESSION'])"
    assert session.cell(code, strings=b"a\0V=1\0", args=1).value == "(['a'], '1', '1')"
    assert session.cell(code).value == "([], None, '1')"
    session.cell("os.environ['V'] = 'mine'", strings=b"V=1\0")
    assert session.cell(code).value == "([], 'mine', '1')"


def test_each_cell_has_its_streams_whatever_the_last_one_did_to_them(session: Session) -> None:
    session.cell("import os, sys, io; x = 1")
    for code in (
        "d = open(0).read()",
        "with open(0) as f: f.read()",
        "os.close(0)",
        "sys.stdin.close()",
        "sys.stdin.detach()",
        "os.set_blocking(0, False)",
        "os.close(1)",
        "os.close(2)",
        "os.closerange(0, 3)",
        "os.close(2); 1 / 0",
        "null = os.open(os.devnull, os.O_WRONLY)\nfor fd in range(3): os.dup2(null, fd)",
        "for fd in 1, 2: os.set_blocking(fd, False)",
        "sys.stdout.close(); sys.stderr.close()",
        "sys.stdout.detach(); sys.stderr.detach()",
        "sys.stdout.buffer.close()",
        "sys.stderr.buffer.raw.close(); 1 / 0",
        "sys.__stdout__.close()",
        "os.closerange(0, 3); kept = [open(name, 'w') for name in 'abc']",
    ):
        for given, stdin in (b"", b""), (b"", b"ann\n"), (b"bob\n", b""), (b"bob\n", b"ann\n"):
            case = code, given, stdin
            session.cell(code, stdin=given)
            ran = session.cell("(x, open('/dev/stdin').read(), open(0).read())", stdin=stdin)
            want = stdin.decode()
            assert ran.shown == Showing(repr((1, want, want))), case
            session.cell(code, stdin=given)
            ran = session.cell(f"print(input() if {want!r} else x); 1 / 0", stdin=stdin)
            assert (ran.stdout, ran.exit.exception) == (want or "1\n", b"ZeroDivisionError"), case
            assert ran.stderr.endswith("ZeroDivisionError: division by zero\n"), case
    assert session.cell("os.get_blocking(1), os.get_blocking(2)").value == "(True, True)"
    session.cell("sys.stdout.close(); sys.stderr.close()")
    ran = session.cell("for n in range(9): print(n, file=sys.stderr if n % 2 else sys.stdout)")
    assert (ran.stdout, ran.stderr) == ("0\n2\n4\n6\n8\n", "1\n3\n5\n7\n")
    assert session.cell("sys.__stdout__ is sys.stdout, sys.stdout.encoding").value == (
        "(True, 'utf-8')"
    )
    session.cell("mine = sys.stdout = io.StringIO(); sys.__stdout__.close()")
    assert session.cell("sys.stdout is mine").value == "True"
    assert session.cell("sys.stdout = sys.__stdout__; print('ä')").stdout == "ä\n"
    session.cell("del f; f = open(0); f.close(); f = open('zz', 'w')", stdin=b"ann\n")
    for stdin in b"bob\n", b"":
        ran = session.cell(
            "f.write('x')\ntry: f.flush()\nexcept OSError: print('refused')", stdin=stdin
        )
        assert ran.stdout == "refused\n", stdin


def test_each_cell_warns_anew(session: Session) -> None:
    for _ in range(2):
        ran = session.cell("import warnings\nfor _ in 1, 2: warnings.warn('careful')")
        assert ran.stderr.count("UserWarning: careful") == 1


def test_what_a_cell_takes_from_the_interpreter_costs_no_state(session: Session) -> None:
    session.cell("import linecache, os, resource, sys; x = 1")
    for code in "del sys.stdin", "del sys.stdout, sys.stderr", "sys.stdin = sys.stdout = None":
        session.cell(code)
        session.cell("if sys.stdout is None: sys.stdout, sys.stdin = sys.__stdout__, sys.__stdin__")
        ran = session.cell("print(input()); x", stdin=b"bob\n")
        assert (ran.stdout, ran.shown) == ("bob\n", Showing("1")), code
    for code, error in (
        ("kept, linecache.cache = linecache.cache, None", b""),
        ("linecache.cache = kept; kept, os.environb = os.environb, None", b"AttributeError"),
        ("os.environb = kept; resource.setrlimit(resource.RLIMIT_NOFILE, (3, 99))", b"OSError"),
        ("resource.setrlimit(resource.RLIMIT_NOFILE, (99, 99)); x", b""),
    ):
        session.cell(code)
        ran = session.cell("x", stdin=b"bob\n", strings=b"A=1\0")
        assert (ran.exit.exception, ran.shown.restarted) == (error, False), code
        assert error.decode() in ran.stderr
        assert session.cell("x").shown == Showing("1"), code


def test_what_a_handler_raises_between_cells_comes_with_the_next_one(session: Session) -> None:
    session.cell("import signal, sys, time; x = 1")
    handler = "def h(*_):\n    raise {}  # here\nsignal.signal(signal.SIGALRM, h)\n"
    for awaited in "", "import asyncio; await asyncio.sleep(0)":
        session.cell(awaited)
        for error in "TimeoutError('late')", "KeyboardInterrupt", "SystemExit(3)":
            name = error.partition("(")[0]
            session.cell(handler.format(error) + "signal.setitimer(signal.ITIMER_REAL, 0.05)")
            time.sleep(0.2)
            ran = session.cell("x, signal.getsignal(signal.SIGALRM) is h")
            assert (ran.shown, ran.how) == (Showing("(1, True)"), (Ending.EXITED, 0)), error
            assert f"raise {error}  # here\n" in ran.stderr
            assert "pool" not in ran.stderr
            assert ran.stderr.splitlines()[-1].startswith(name)
    again = "def h(*_):\n    signal.signal(signal.SIGALRM, h)\n    raise TimeoutError\n"
    again += "signal.signal(signal.SIGALRM, h); signal.setitimer(signal.ITIMER_REAL, .05, .02)"
    session.cell(again)
    time.sleep(0.2)
    ran = session.cell("signal.setitimer(signal.ITIMER_REAL, 0); x")
    assert ran.stderr.count("TimeoutError") > 2
    assert not ran.shown.restarted


def test_a_handler_may_raise_at_any_moment(session: Session) -> None:
    session.cell("import os, signal, threading; x = 1\ndef h(*_): raise TimeoutError")
    session.cell(
        "signal.signal(signal.SIGALRM, h); signal.setitimer(signal.ITIMER_REAL, .01, .003)"
    )
    for _ in range(300):
        assert not session.cell("x").shown.restarted
    while session.cell("signal.setitimer(signal.ITIMER_REAL, 0)").exit.status:
        pass
    assert session.cell("x").value == "1"
    kill = "threading.Timer(0.02, os.kill, [os.getpid(), signal.SIGINT]).start()"
    session.cell(kill)
    time.sleep(0.1)
    ran = session.cell("x")
    assert (ran.shown, ran.stderr) == (Showing("1"), "")


def test_a_time_out_interrupts_and_keeps_the_state(session: Session) -> None:
    session.cell("import time; x = 1")
    for code in ("time.sleep(60)", "while True: pass", "import asyncio; await asyncio.sleep(60)"):
        ran = session.cell(code, timeout_ms=100)
        assert ran.how == (Ending.TIMEOUT, 1), code
        assert ran.stderr.endswith("KeyboardInterrupt\n")
        assert code.splitlines()[0] in ran.stderr
    session.cell("x", timeout_ms=1)
    caught = "try:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    print('caught')"
    assert session.cell(caught, timeout_ms=100).stdout == "caught\n"
    ran = session.cell("x")
    assert (ran.value, ran.shown.restarted) == ("1", False)


def test_a_task_that_holds_up_the_next_cell_is_interrupted_with_it(session: Session) -> None:
    session.cell("import asyncio, time; x = 1")
    for blocks in "time.sleep(60)  # here", "while True: pass  # here":
        task = f"async def hold():\n    await asyncio.sleep(0.01)\n    {blocks}\n"
        session.cell(f"{task}task = asyncio.ensure_future(hold()); await asyncio.sleep(0)")
        time.sleep(0.1)
        ran = session.cell("x", timeout_ms=100)
        assert ran.how == (Ending.TIMEOUT, 1), blocks
        assert f"{blocks}\n" in ran.stderr
        assert session.cell("x, task.done()").shown == Showing("(1, True)"), blocks
    for _ in range(30):
        ran = session.cell("x", timeout_ms=1)
        assert (ran.shown.restarted, "asyncio" in ran.stderr) == (False, False)


def test_what_ignores_the_interrupt_is_killed_and_the_next_cell_is_told(session: Session) -> None:
    session.cell("import time; x = 1; open('kept', 'w').close()")
    stubborn = "while True:\n    try:\n        time.sleep(9)\n    except KeyboardInterrupt: pass"
    assert session.cell(stubborn, timeout_ms=100).how == (Ending.TIMEOUT, -9)
    ran = session.cell("import os; 'x' in globals(), os.path.exists('kept')")
    assert (ran.value, ran.shown.restarted) == ("(False, True)", True)
    assert session.cell("os.environ['OF_THE_SESSION']").shown == Showing("'1'")


def test_an_interpreter_that_ends_is_replaced(session: Session) -> None:
    for code, how in (
        ("import os; os._exit(4)", (Ending.EXITED, 4)),
        ("import os; os.kill(os.getpid(), 11)", (Ending.SIGNALED, -11)),
        ("import os, time; os.closerange(3, 99); x = 1", (Ending.SIGNALED, -9)),
    ):
        assert session.cell(code).how == how, code
        assert session.cell("1").shown == Showing("1", restarted=True)
    session.cell("import threading, os\nthreading.Timer(0.05, os._exit, [0]).start()")
    deadline = time.monotonic() + DEADLINE_S
    while not session.cell("2").shown.restarted:
        assert time.monotonic() < deadline


def test_a_server_that_has_nobody_to_tell_interrupts(session: Session) -> None:
    ran = session.cell("import time; time.sleep(60)", meanwhile=session.interrupt)
    assert ran.how == (Ending.EXITED, 1)
    session.interrupt()  # too late, and so of no effect
    assert session.cell("import time; time.sleep(0.01); 1").shown == Showing("1")


def test_output_over_the_limit_interrupts(session: Session) -> None:
    ran = session.cell("while True: print('x' * 99)", output_limit=250)
    assert (ran.how, len(ran.stdout), ran.exit.truncated) == ((Ending.OUTPUT_LIMIT, 1), 250, True)
    assert session.cell("1").shown == Showing("1")


def test_output_between_cells_comes_with_the_next_one_and_is_bounded(session: Session) -> None:
    begin = "import threading, time\ngo = threading.Event()\n"
    begin += "def write(text):\n    go.wait()\n    time.sleep(0.05)\n    print(text)\n"
    begin += "threading.Thread(target=write, args=({}, )).start(); go.set()"
    session.cell(begin.format("'late'"))
    time.sleep(0.3)
    ran = session.cell("print('now')", output_limit=4)
    assert (ran.stdout, ran.exit.truncated) == ("late\nnow\n", False)
    session.cell(begin.format("'y' * 10_000_000"))
    time.sleep(1)
    ran = session.cell("print('now')")
    assert (len(ran.stdout), ran.exit.truncated) == (BETWEEN_BYTES + 4, True)


def test_files_are_written_over_and_collected(session: Session) -> None:
    assert session.cell("open('first.txt').read()").value == "'1'"
    assert session.cell("open('.0.2').read(), open('.0.0').read()").value == "('2', '3')"
    assert b"first.txt1" in session.cell("# of the opening", collect=b"*.txt\0\0").files
    taken = session.cell("1", collect=b"first.txt\0\0first.txt", files=file("first.txt", b"1"))
    assert b"first.txt" not in taken.files
    assert session.cell("open('first.txt').read()", files=file("first.txt", b"2")).value == "'2'"
    ran = session.cell(
        "open('new', 'w').write('n')", collect=b"*[tw]\0\0in", files=file("in", b"i")
    )
    assert b"first.txt2" in ran.files
    assert b"newn" in ran.files
    session.cell("import os; os.makedirs('taken/dir')")
    refused = session.cell("1", files=file("taken", b"x"))
    assert refused.exit.ending is Ending.NOT_WRITTEN
    full = session.cell("1", files=file("large", b"x" * (9 << 20)))
    assert full.exit.ending is Ending.NO_ROOM
    assert session.cell("1").shown == Showing("1")


def test_of_files_that_are_refused_none_is_written(session: Session) -> None:
    session.cell("import os; os.makedirs('all/dir')\nopen('all/block', 'w').close()")
    session.cell("open('all/kept', 'w').write('old'); os.symlink('kept', 'all/link')")
    see = "[(at, sorted(under), sorted(names)) for at, under, names in sorted(os.walk('.'))]"
    see += ", open('all/kept').read()"
    before = session.cell(see).value
    names = "all/kept", "all/link", "all/made", "all/new/b/c", "top"
    given = b"".join(file(name, b"new") for name in names)
    for wrong, ending in (
        (file("all/dir", b"x"), Ending.NOT_WRITTEN),
        (file("all/block/x", b"x"), Ending.NOT_WRITTEN),
        (file("large", b"x" * (9 << 20)), Ending.NO_ROOM),
    ):
        for files in given + wrong, wrong + given:
            assert session.cell("1", files=files).exit.ending is ending
            assert session.cell(see).value == before, ending
    assert session.cell("1", files=given).how == (Ending.EXITED, 0)
    assert session.cell(f"[open(name).read() for name in {names}]").value == str(["new"] * 5)
    assert session.cell("os.path.islink('all/link')").value == "False"
    hidden = "[name for at in ('.', 'all', 'all/new/b') for name in os.listdir(at)"
    hidden += " if name[0] == '.' and len(name) > 4]"
    assert session.cell(hidden).value == "[]"


def test_forks_of_a_cell_end_with_it(session: Session) -> None:
    ran = session.cell(
        "import os\npid = os.fork()\nprint('here', flush=True)\npid and os.wait()[1]"
    )
    assert (ran.stdout, ran.value) == ("here\nhere\n", "0")
    assert session.cell("1").value == "1"
    pool = (
        "import multiprocessing as m\nwith m.get_context('fork').Pool(2) as p: p.map(abs, [-1])[0]"
    )
    assert session.cell(pool.replace("p.map", "y = p.map") + "\ny").value == "1"


def test_rich_forms_come_with_the_value(session: Session) -> None:
    code = "class Rich:\n    def _repr_html_(self): return '<b>x</b>'\n"
    code += "    def _repr_png_(self): return b'png'\n    def __repr__(self): return 'Rich'\n"
    shown = session.cell(code + "display(Rich()); display(1)\nRich()")
    assert shown.stdout == "1\n"
    assert shown.value == "Rich"
    forms = [(one.mime, one.content) for one in shown.shown.displays]
    assert forms == [("text/html", b"<b>x</b>"), ("image/png", b"cG5n")] * 2
    assert session.cell("Rich").shown.displays == ()
    large = session.cell("class L:\n    def _repr_html_(self): return 'x' * 3_000_000\nL()")
    assert [one.omitted != "" for one in large.shown.displays] == [True]
    assert (large.shown.cut, large.value is None) == (False, False)
    broken = session.cell("class B:\n    def __repr__(self): return 1 / 0\nB()")
    assert (broken.value, broken.exit.exception) == (None, b"ZeroDivisionError")


def test_what_is_shown_is_bounded_and_says_so(session: Session) -> None:
    wide = session.cell("'x' * 3_000_000").shown
    assert wide.value is not None
    assert (len(wide.value), wide.value[-1], wide.cut) == ((1 << 20) + 1, "…", True)
    short = session.cell("'ä' * 9", output_limit=8).shown
    assert (short.value, short.cut) == ("'äää…", True)
    session.cell("class One:\n    def _repr_html_(self): return 'x'")
    for count, cut in (MAX_SHOWN_FORMS, False), (MAX_SHOWN_FORMS + 1, True):
        shown = session.cell(f"for _ in range({count}): display(One())\n7").shown
        assert (len(shown.displays), shown.value, shown.cut) == (MAX_SHOWN_FORMS, "7", cut)
    session.cell("class Wide:\n    def _repr_html_(self): return 'x' * 2_000_000")
    session.cell("Wide._repr_png_ = Wide._repr_latex_ = Wide._repr_html_")
    shown = session.cell("for _ in range(400): display(Wide())\n7").shown
    assert (shown.value, shown.cut) == ("7", True)
    assert {one.omitted != "" for one in shown.displays} == {True}
    none = session.cell("display(One())\n7", shown_limit=(1 << 20) + SHOWN_RESERVE_BYTES).shown
    assert (none.value, [one.omitted != "" for one in none.displays]) == ("7", [True])
    assert session.cell("7").shown == Showing("7")


def test_a_rich_form_that_breaks_leaves_the_others(session: Session) -> None:
    code = "class Some:\n    def _repr_html_(self): return 1 / 0\n"
    code += "    def _repr_mimebundle_(self, **options):\n"
    code += "        return {'application/json': {1}, 'a/b': 'c'}\n"
    code += "    def _repr_png_(self): return b'png'\nSome()"
    ran = session.cell(code)
    assert ran.how == (Ending.EXITED, 0)
    assert [one.mime for one in ran.shown.displays] == ["a/b", "image/png"]
    assert "return 1 / 0" in ran.stderr
    assert "TypeError: Object of type set is not JSON serializable" in ran.stderr


def test_futures_stay_and_hooks_are_heard(session: Session) -> None:
    session.cell("from __future__ import annotations")
    assert (
        session.cell("def f(a: Undefined): pass\nf.__annotations__").value == "{'a': 'Undefined'}"
    )
    session.cell("exec('def g(a: Undefined): pass')")
    assert session.cell("g.__annotations__").value == "{'a': 'Undefined'}"
    session.cell("from __future__ import barry_as_FLUFL; import os")
    assert session.cell("1 <> 2", files=file("barry", b"")).value == "True"
    assert session.cell("os.path.exists('barry')").value == "True"
    session.cell("os._exit(0)")
    assert session.cell("1 != 2").shown == Showing("True", restarted=True)
    ran = session.cell("import sys\nsys.excepthook = lambda *_: print('mine')\n1 / 0")
    assert (ran.stdout, ran.stderr) == ("mine\n", "")
    session.cell("sys.excepthook = sys.__excepthook__")


def test_our_own_names_are_not_there(session: Session) -> None:
    assert session.cell("[n for n in sys.modules if n.startswith('pool')]").value == "[]"
    names = session.cell("sorted(n for n in globals() if n.startswith('__'))").value
    assert names == session.cell("sorted(n for n in globals() if n.startswith('__'))").value
    assert "pgexec" not in str(names)


def test_no_figure_comes_with_a_later_cell(session: Session) -> None:
    session.cell(PLOTS)
    for code, displays in (
        ("plot()", 1),
        ("plot(); 1 / 0", 1),
        ("plot(); raise SystemExit", 1),
        ("plot(); time.sleep(60)", 0),  # a picture might take longer than an interrupted cell has
    ):
        ran = session.cell(code, timeout_ms=1000)
        assert len(ran.shown.displays) == displays, code
        assert session.cell("2").shown == Showing("2"), code
    session.cell("for name in parts: del sys.modules[name]")
