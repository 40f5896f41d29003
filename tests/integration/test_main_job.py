"""The main job, over HTTP, in a real container: what a snippet gets and what comes back."""

from __future__ import annotations

import os
import subprocess
import sys
from base64 import b64decode, b64encode
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.server import running, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.server import Server, StartServer

SEED = {"language": "python", "code": "print('Hello from pgexec!')", "dependencies": []}


async def test_ping_answers_pong(each_server: Server) -> None:
    answer = await each_server.get("/ping")
    assert (answer.status, answer.json) == (200, {"message": "pong"})


async def test_the_first_request_of_the_readme_is_answered_with_every_field(
    each_server: Server,
) -> None:
    answer = await each_server.request("POST", "/run", json=SEED)
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("application/json")
    result = answer.json
    measured = {name: result.pop(name) for name in ("duration_s", "cpu_s", "peak_memory_bytes")}
    assert result == {
        "data": "Hello from pgexec!\n",
        "error": None,
        "status": "ok",
        "stdout": "Hello from pgexec!\n",
        "stderr": "",
        "exit_code": 0,
        "signal": None,
        "truncated": False,
    }
    assert 0 < measured["duration_s"] < 30
    assert 0 < measured["cpu_s"] < 30
    assert 1 << 20 < measured["peak_memory_bytes"] < 256 << 20


async def test_dependencies_may_be_left_out(each_server: Server) -> None:
    body = {"language": "python", "code": "print(1)"}
    assert (await each_server.request("POST", "/run", json=body)).json["data"] == "1\n"


async def test_stdin_reaches_the_snippet_and_ends(each_server: Server) -> None:
    code = "import sys\nprint(input(), sys.stdin.read().upper(), end='|')"
    assert await each_server.output(code, stdin="Zeile\nrest é\n") == "Zeile REST É\n|"


async def test_arguments_and_variables_reach_the_snippet_and_what_it_starts(
    each_server: Server,
) -> None:
    code = (
        "import os, subprocess, sys\n"
        "print(sys.argv, os.environ['GREETING'])\n"
        "print(subprocess.check_output(['sh', '-c', 'echo $GREETING'], text=True), end='')\n"
    )
    given = {"args": ["--all", "é ü"], "env": {"GREETING": "hé"}}
    wanted = "['/home/code/Main.py', '--all', 'é ü'] hé\nhé\n"
    assert await each_server.output(code, **given) == wanted
    longest = await each_server.output(
        "import sys; print(len(sys.argv[1]))", args=["x" * ((1 << 17) - 1)], language="Py"
    )
    assert longest == "131071\n"


async def test_a_run_may_ask_for_less_output(each_server: Server) -> None:
    answer = (await each_server.run("print('x' * 2000)", output_limit_bytes=1024)).json
    assert (answer["status"], len(answer["stdout"])) == ("output_limit", 1024)
    assert answer["error"] == "output over the limit of 1 KiB"


async def test_files_are_there_when_the_snippet_begins_and_in_no_later_run(
    each_server: Server,
) -> None:
    data = os.urandom(1 << 20)
    files = [
        {"name": "in/data.bin", "content": b64encode(data).decode(), "encoding": "base64"},
        {"name": "helper.py", "content": "WORD = 'é'"},
        {"name": "e\u0301", "content": "decomposed"},
        {"name": "\u00e9", "content": "composed"},
    ]
    code = (
        "import hashlib, helper, os\n"
        "print(helper.WORD, hashlib.sha256(open('in/data.bin', 'rb').read()).hexdigest())\n"
        "print(open('e\u0301').read(), open('\u00e9').read(), os.access('in', os.W_OK))\n"
    )
    wanted = f"é {sha256(data).hexdigest()}\ndecomposed composed True\n"
    assert await each_server.output(code, files=files) == wanted
    assert await each_server.output("import os; print(os.listdir())") == "['Main.py']\n"


async def test_files_of_the_run_come_back_and_only_what_it_changed(each_server: Server) -> None:
    code = (
        "import os, sys\n"
        "rows = open('data.csv').read().splitlines()\n"
        "os.mkdir('out')\n"
        "open('out/sum.json', 'w').write(str(sum(map(int, rows))))\n"
        "open('out/plot.png', 'wb').write(bytes(range(256)))\n"
        "open(os.fsencode('out/') + b'\\xff', 'w')\n"
        "sys.exit(3)\n"
    )
    files = [{"name": "data.csv", "content": "1\n2\n"}]
    answer = (await each_server.run(code, files=files, collect=["*", "out/**"])).json
    assert (answer["status"], answer["exit_code"]) == ("error", 3)
    plot, total, odd = sorted(answer["files"], key=lambda one: (len(one["name"]) == 8, one["name"]))
    assert (total["name"], total["content"], total["encoding"]) == ("out/sum.json", "3", "utf8")
    assert (plot["name"], plot["size_bytes"], plot["encoding"]) == ("out/plot.png", 256, "base64")
    assert b64decode(plot["content"]) == bytes(range(256))
    assert odd == {"name": "out/\\xff", "size_bytes": 0, "content": "", "encoding": "utf8"}
    assert "files" not in (await each_server.run("print(1)")).json


async def test_files_that_fill_the_disk_are_refused_and_nothing_runs(each_server: Server) -> None:
    """Its directories take the room of the one file that fits."""
    names = ["/".join(["d" * 200, *str(n), *("x" * 400)]) for n in range(100)]
    files = [{"name": name, "content": ""} for name in names]
    answer = await each_server.run("print('ran')", files=files)
    assert (answer.status, answer.code) == (413, "files_too_large")
    await each_server.works()


BUSY = """
import os, time
if {fork}: os.fork()
time.sleep({sleep})
while True: pass
"""


@pytest.mark.parametrize("fork", [False, True])
async def test_processor_time_counts_for_all_processes_and_not_while_they_sleep(
    each_server: Server, *, fork: bool
) -> None:
    code = BUSY.format(fork=fork, sleep=0.4)
    answer = (await each_server.run(code, cpu_time_s=0.2, timeout_s=20)).json
    assert (answer["status"], answer["signal"]) == ("cpu_time", 9)
    assert answer["error"] == "processor time over the limit of 0.2 s"
    assert answer["duration_s"] > 0.4
    assert 0.2 <= answer["cpu_s"] < 2  # the machine may be busy
    await each_server.works()


HUNGRY = """
import os, time
held = []
if {fork}: os.fork()
for _ in range({mebibytes}):
    held.append(bytearray(os.urandom(1) * (1 << 20)))
open("file", "wb").write(bytes({mebibytes} << 20))
time.sleep({sleep})
print("done")
"""


@pytest.mark.parametrize(("mebibytes", "fork"), [(40, False), (20, True)])
async def test_memory_counts_for_all_processes_and_files_together(
    each_server: Server, mebibytes: int, *, fork: bool
) -> None:
    """In each case, what one process has in memory would fit."""
    code = HUNGRY.format(mebibytes=mebibytes, fork=fork, sleep=20)
    answer = (await each_server.run(code, memory_limit_bytes=50 << 20, timeout_s=20)).json
    assert (answer["status"], answer["signal"]) == ("memory_limit", 9)
    assert answer["error"] == "out of memory (limit 50 MiB)"
    assert answer["duration_s"] < 10
    enough = HUNGRY.format(mebibytes=mebibytes, fork=False, sleep=0)
    assert await each_server.output(enough, memory_limit_bytes=100 << 20) == "done\n"


async def test_without_stdin_the_snippet_sees_its_end(each_server: Server) -> None:
    assert await each_server.output("import sys; print(repr(sys.stdin.read()))") == "''\n"


async def test_a_megabyte_of_stdin_arrives_whole(each_server: Server) -> None:
    stdin = "0123456789abcdef" * (1 << 16)
    code = "import sys, hashlib; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())"
    assert await each_server.output(code, stdin=stdin) == sha256(stdin.encode()).hexdigest() + "\n"


async def test_stdin_that_nobody_reads_does_not_matter(each_server: Server) -> None:
    assert await each_server.output("print(1)", stdin="x" * (1 << 20)) == "1\n"


async def test_fresh_gets_a_container_that_nobody_has_used_and_nobody_will(
    each_server: Server,
) -> None:
    used = {
        await each_server.container_of(await each_server.run("open('/tmp/mark', 'w')"))
        for _ in range(6)
    }
    answer = await each_server.run("import os; print(os.listdir('/tmp'), os.getpid())", fresh=True)
    container = await each_server.container_of(answer)
    assert container not in used
    listing, _, pid = answer.json["data"].rpartition(" ")
    assert listing == "[]"
    assert int(pid) < 10  # the first child of a runner, not the tenth
    later = [await each_server.run("pass") for _ in range(4)]
    assert container not in [await each_server.container_of(one) for one in later]
    await each_server.at_rest()
    assert not [one for one in await each_server.containers() if one.startswith(container)]


CONTENTS = {
    "quotes": ("""print('a"b', "c'd", '''e"'f''')""", "a\"b c'd e\"'f\n"),
    "shell": ("print('$HOME $(id) `id` !! ; & | > < *')", "$HOME $(id) `id` !! ; & | > < *\n"),
    "backslashes": (r"print('a\\b\tc\x41\u00e9', r'\n\0')", "a\\b\tcAé \\n\\0\n"),
    "emoji": ("print('🐍é漢', len('🐍'))", "🐍é漢 1\n"),
    "crlf": ("if True:\r\n    print(1)\r\nprint(2)\r\n", "1\n2\n"),
    "old mac": ("print(1)\rprint(2)", "1\n2\n"),
    "tabs": ("def f():\n\tif True:\n\t\treturn 7\nprint(f())", "7\n"),
    "no newline at the end": ("print(1)\n# end", "1\n"),
    "byte order mark": ("\ufeffprint(1)", "1\n"),
    "coding cookie": ("# -*- coding: latin-1 -*-\nprint(len('é'))", "2\n"),
    "form feed": ("\fprint(1)\f", "1\n"),
    "percent and braces": ("print('%s {} %%' % 1)", "1 {} %\n"),
    "heredoc": ("print('''EOF\nEOF\n''')", "EOF\nEOF\n\n"),
    "dash": ("-1\nprint('-')", "-\n"),
}


@pytest.mark.parametrize("name", CONTENTS)
async def test_code_of_any_content_arrives_unharmed(each_server: Server, name: str) -> None:
    code, expected = CONTENTS[name]
    assert await each_server.output(code) == expected


async def test_code_with_a_nul_is_refused(each_server: Server) -> None:
    answer = await each_server.run("print(1)\0")
    assert (answer.status, answer.json["code"]) == (400, "invalid_code")
    assert answer.error == "field 'code' must not hold a NUL character"
    await each_server.works()


async def test_a_megabyte_of_code_arrives_whole(each_server: Server) -> None:
    end = "\nprint(len(open(__file__).read()))"
    code = "x = 1  # é\n" * 70_000
    size = (1 << 20) - len(end.encode())
    code = code.encode()[:size].decode("utf-8", "ignore") + end
    assert await each_server.output(code) == f"{len(code)}\n"


async def test_what_is_printed_in_any_encoding_comes_back_as_text(each_server: Server) -> None:
    code = "import sys; sys.stdout.buffer.write(b'caf\\xe9 \\xf0\\x9f\\x90\\x8d')"
    assert await each_server.output(code) == "caf� 🐍"


async def test_data_has_both_streams_in_the_order_in_which_they_came(each_server: Server) -> None:
    code = """
import os, sys
for number in range(50):
    print("out", number)
    print("err", number, file=sys.stderr)
"""
    result = (await each_server.run(code)).json
    lines = [f"{name} {number}\n" for number in range(50) for name in ("out", "err")]
    assert result["data"] == "".join(lines)
    assert result["stdout"] == "".join(lines[::2])
    assert result["stderr"] == "".join(lines[1::2])


async def test_no_two_runs_draw_the_same_random_numbers(each_server: Server) -> None:
    code = """
import os, random, secrets, tempfile, uuid
print(random.random(), random.Random().random(), secrets.token_hex(), uuid.uuid4(),
      os.urandom(8).hex(), tempfile.mktemp())
"""
    draws = [(await each_server.output(code)).split() for _ in range(12)]
    for drawn in zip(*draws, strict=True):
        assert len(set(drawn)) == len(draws)


# --- how a run can end --------------------------------------------------------------------

ENDINGS: dict[str, tuple[str, dict[str, Any], str, str, int]] = {
    "a status of its own": ("import sys; sys.exit(3)", {}, "error", "exit status 3", 3),
    "an uncaught exception": (
        "1 / 0", {}, "error", "ZeroDivisionError: division by zero", 1,
    ),
    "an input that is not there": (
        "input()", {}, "error", "EOFError: EOF when reading a line", 1,
    ),
    "a syntax error": ("def", {}, "error", "SyntaxError: invalid syntax", 1),
    "a message": ("raise SystemExit('enough')", {}, "error", "exit status 1", 1),
    "an endless loop": (
        "while True: pass", {"timeout_s": 0.4}, "timeout", "timed out after 0.4 s", 9,
    ),
    "a long sleep": (
        "import time; time.sleep(999)", {"timeout_s": 0.25}, "timeout", "timed out after 0.25 s", 9,
    ),
    "ignoring SIGTERM": (
        (
            "import signal\nfor n in range(1, 65):\n"
            "    try: signal.signal(n, signal.SIG_IGN)\n    except (OSError, ValueError): pass\n"
            "while True: pass"
        ),
        {"timeout_s": 0.4}, "timeout", "timed out after 0.4 s", 9,
    ),
    "allocating without end": (
        "kept = []\nwhile True: kept.append(b'x' * (8 << 20))",
        {}, "memory_limit", "out of memory (limit 256 MiB)", 9,
    ),
    "waiting for a worker that was killed for memory": (
        (
            "import multiprocessing\n"
            "def eat(_):\n    kept = []\n    while True: kept.append(b'x' * (8 << 20))\n"
            "with multiprocessing.get_context('fork').Pool(1) as pool: pool.map(eat, [1])"
        ),
        {"timeout_s": 4}, "timeout",
        "timed out after 4 s; one of its processes was out of memory (limit 256 MiB)", 9,
    ),
    "printing without end": (
        "while True: print('x' * 1000, end='')",
        {}, "output_limit", "output over the limit of 1 MiB", 9,
    ),
    "flooding stderr": (
        "import os\nwhile True: os.write(2, b'y' * 65536)",
        {}, "output_limit", "output over the limit of 1 MiB", 9,
    ),
    "killing itself": (
        "import os; os.kill(os.getpid(), 9)", {}, "killed", "killed by signal 9 (SIGKILL)", 9,
    ),
    "a segmentation fault": (
        "import ctypes; ctypes.string_at(0)", {}, "killed", "killed by signal 11 (SIGSEGV)", 11,
    ),
    "aborting": ("import os; os.abort()", {}, "killed", "killed by signal 6 (SIGABRT)", 6),
}  # fmt: skip


@pytest.mark.parametrize("how", ENDINGS)
async def test_every_end_has_its_status_and_sentence_and_the_next_run_works(
    each_server: Server, how: str
) -> None:
    code, fields, status, sentence, number = ENDINGS[how]
    answer = await each_server.run("print('begun', flush=True)\n" + code, **fields)
    await each_server.works()
    result = answer.json
    assert (answer.status, result["status"], result["error"]) == (200, status, sentence)
    if status == "error":
        assert (result["exit_code"], result["signal"]) == (number, None)
    else:
        assert (result["exit_code"], result["signal"]) == (None, number)
    if how != "a syntax error":
        assert result["stdout"].startswith("begun\n")
    assert result["truncated"] is (status == "output_limit")
    if status == "output_limit":
        assert len(result["data"]) == 1 << 20


HOSTILE = {
    "a fork bomb": "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    "threads without end": (
        "import threading, time\nwhile True: "
        "threading.Thread(target=time.sleep, args=(99,), daemon=True).start()"
    ),
    "a gigabyte on disk": "f = open('/tmp/x', 'wb')\nwhile True: f.write(b'x' * (1 << 20))",
    "files without end": "n = 0\nwhile True:\n    n += 1\n    open(f'/tmp/{n}', 'w').close()",
    "a child that keeps stdout open": "import os, time\nif os.fork() == 0: time.sleep(99)",
    "no descriptors": "import os\nos.closerange(0, 99999)",
    "killing everything": "import os, signal\nos.kill(-1, signal.SIGKILL)",
    "killing the runner": "import os, signal\nos.kill(1, signal.SIGKILL)",
    "stopping itself": "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)",
    "writing to the runner": (
        "import os\nfor name in os.listdir('/proc/1'):\n"
        "    try: open(f'/proc/1/{name}', 'wb').write(b'x')\n    except OSError: pass"
    ),
    "talking past the pipes": (
        "import os\nfor n in range(3, 99):\n"
        "    try: os.write(n, b'x' * 100)\n    except OSError: pass"
    ),
}


@pytest.mark.parametrize("how", HOSTILE)
async def test_whatever_a_snippet_does_is_answered_and_the_next_run_works(
    each_server: Server, how: str
) -> None:
    answer = await each_server.run(HOSTILE[how], timeout_s=1)
    await each_server.works()
    assert answer.status == 200, answer.body
    assert set(answer.json) > {"data", "error", "status"}


# --- settings -----------------------------------------------------------------------------

TUNED = {
    "RUN_TIMEOUT_S": "1.5",
    "MEMORY_LIMIT": "48MiB",
    "CPUS": "0.75",
    "PIDS_LIMIT": "12",
    "DISK_LIMIT": "1MiB",
    "OUTPUT_LIMIT": "2000",
    "CODE_LIMIT": "1k",
    "STDIN_LIMIT": "100",
    "ROOT_DIR": "/srv/code",
    "CODE_FILE_NAME": "App",
    "PREIMPORT": "colorsys,wave",
    "NETWORK": "none",
    "MAX_USES": "1",
    "POOL_MIN_IDLE": "3",
    "POOL_MAX_CONTAINERS": "5",
}


@pytest.fixture(scope="module")
def tuned(first_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run one server in which every setting of a run differs from its default."""
    settings = {"IMAGE": first_image, **TUNED}
    with running(tmp_path_factory.mktemp("tuned"), settings) as server:
        yield server


@pytest.mark.parametrize(
    ("code", "status", "sentence"),
    [
        ("while True: pass", "timeout", "timed out after 1.5 s"),
        ("x = b'x' * (60 << 20)", "memory_limit", "out of memory (limit 48 MiB)"),
        ("print('x' * 5000)", "output_limit", "output over the limit of 2000 bytes"),
    ],
)
async def test_limits_are_those_of_the_settings(
    tuned: Server, code: str, status: str, sentence: str
) -> None:
    result = (await tuned.run(code)).json
    assert (result["status"], result["error"]) == (status, sentence)


async def test_pids_disk_cpus_and_network_are_those_of_the_settings(tuned: Server) -> None:
    code = """
import os, threading, time
started = 0
try:
    while started < 100:
        threading.Thread(target=time.sleep, args=(0.5,), daemon=True).start()
        started += 1
except RuntimeError:
    pass
print(started + 1)
try:
    with open("big", "wb", 0) as file:
        for _ in range(100):
            file.write(b"x" * 65536)
except OSError as error:
    print(error.strerror, os.path.getsize("big"))
print(sorted(os.listdir("/sys/class/net")))
"""
    threads, disk, network = (await tuned.output(code)).splitlines()
    assert int(threads) == 12
    error, _, size = disk.rpartition(" ")
    assert error == "No space left on device"
    assert 0.9 * (1 << 20) < int(size) <= 1 << 20
    assert network == "['lo']"
    container = next(iter(await tuned.containers()))
    host = (await tuned.engine.inspect(container))["HostConfig"]
    assert host["NanoCpus"] == 750_000_000
    assert (host["Memory"], host["MemorySwap"]) == (48 << 20, 48 << 20)


async def test_the_file_is_where_the_settings_say_and_modules_are_imported_before(
    tuned: Server,
) -> None:
    code = """
import os, sys
print("colorsys" in sys.modules, "wave" in sys.modules, "datetime" in sys.modules)
print(__file__, os.getcwd(), sys.argv)
"""
    expected = "True True False\n/srv/code/App.py /srv/code ['/srv/code/App.py']\n"
    assert await tuned.output(code) == expected


async def test_with_one_use_no_container_serves_two_runs(tuned: Server) -> None:
    seen = [await tuned.container_of(await tuned.run("pass")) for _ in range(6)]
    assert len(set(seen)) == 6


@pytest.mark.parametrize(("field", "size"), [("code", 1025), ("stdin", 101)])
async def test_what_is_over_its_limit_is_a_413(tuned: Server, field: str, size: int) -> None:
    fields = {"code": "pass", "stdin": ""} | {field: "#" * size}
    answer = await tuned.run(fields["code"], stdin=fields["stdin"])
    assert (answer.status, answer.code) == (413, f"{field}_too_large")
    assert f"'{field}'" in answer.error


async def test_a_request_may_only_lower_the_time_limit(tuned: Server) -> None:
    answer = await tuned.run("pass", timeout_s=1.6)
    assert (answer.status, answer.code) == (400, "invalid_field")
    assert "1.5" in answer.error


async def test_a_runtime_that_the_engine_does_not_have_shows_in_readyz(start: StartServer) -> None:
    server = await start(RUNTIME="no-such-runtime", LEASE_TIMEOUT_S=1, ready=False)
    await says_why(server, "no-such-runtime")


async def test_an_image_that_cannot_be_had_shows_in_readyz(start: StartServer) -> None:
    image = "127.0.0.1:9/pgexec-test:none"  # a registry that refuses connections
    server = await start(IMAGE=image, LEASE_TIMEOUT_S=1, ready=False)
    await says_why(server, image)


async def says_why(server: Server, reason: str) -> None:
    """Show that nothing is ready, and that whoever asks is told why."""

    async def is_known() -> bool:
        ready = await server.get("/readyz")
        return ready.status == 503 and reason in ready.error

    await until(is_known, f"{reason} in /readyz")
    answer = await server.run("pass")
    assert answer.status == 503
    assert reason in answer.error
    assert int(answer.headers["Retry-After"]) >= 1
    assert (await server.get("/healthz")).status == 200


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("RUN_TIMEOUT_S", "nan", "a number of seconds"),
        ("MEMORY_LIMIT", "1 parsec", "a size"),
        ("PIDS_LIMIT", "-1", "a whole number"),
        ("ROOT_DIR", "code", "an absolute path"),
        ("CODE_FILE_NAME", "../Main", "a file's name"),
        ("NETWORK", "host", "egress, none"),
        ("POOL_MIN_IDLE", "17", "at most PGEXEC_POOL_MAX_CONTAINERS"),
        ("CA_BUNDLE", "/no/such/file", "a readable file"),
        ("API_KEYS", "justakey", "name:key"),
    ],
)
def test_a_wrong_value_ends_the_start_with_one_sentence(
    tmp_path: Path, name: str, value: str, allowed: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pgexec", "serve"],
        cwd=tmp_path,
        env={"PYTHONPATH": os.pathsep.join(sys.path), f"PGEXEC_{name}": value},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert f"PGEXEC_{name}" in done.stderr
    assert allowed in done.stderr
    assert (value in done.stderr) is (name != "API_KEYS")


# --- ids ----------------------------------------------------------------------------------


async def test_a_request_id_comes_back_and_into_the_log(server: Server) -> None:
    answer = await server.run("pass")
    assert answer.headers["X-Request-ID"] == answer.request_id
    assert (await server.logged("request", request_id=answer.request_id))["status"] == 200


async def test_a_request_without_an_id_gets_one(server: Server) -> None:
    first, second = [await server.request("POST", "/run", json=SEED) for _ in range(2)]
    assert first.headers["X-Request-ID"] != second.headers["X-Request-ID"] != ""
