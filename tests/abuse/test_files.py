"""Files in and out of hostile runs: nothing is read, written or followed that the run could not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pool.errors import NoRoom
from pool.job import InputFile, Status

if TYPE_CHECKING:
    from pool.job import OutputFile
    from tests.abuse.sandbox import Outcome, Sandbox

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMIT = 1 << 20


async def collect(sandbox: Sandbox, code: str, *files: InputFile, **changes: Any) -> Outcome:
    """Run hostile code, and ask for everything that it leaves; see a normal run work after it."""
    asked: dict[str, Any] = {
        "collect": ["**", "**/.*", ".*/**"],
        "collect_limit_bytes": LIMIT,
        **changes,
    }
    return await sandbox.attack(code, files=files, **asked)


def names(outcome: Outcome) -> list[str]:
    return [file.name for file in outcome.result.files]


def contents(outcome: Outcome) -> dict[str, bytes | None]:
    return {
        file.name: None if file.content is None else bytes(file.content)
        for file in outcome.result.files
    }


def reason(files: list[OutputFile], name: str) -> str:
    return next(file.omitted for file in files if file.name == name)


async def test_links_are_followed_nowhere(sandbox: Sandbox) -> None:
    outcome = await collect(
        sandbox,
        """
import os
os.symlink("/etc/passwd", "file")
os.symlink("/proc/1/environ", "environ")
os.symlink("/proc/self/fd/0", "descriptor")
os.symlink("/", "root")
os.symlink("/proc", "proc")
os.symlink("..", "up")
os.symlink("loop", "loop")
os.mkdir("real")
open("real/inside", "w").write("x")
os.symlink("real", "alias")
os.symlink("/dev/shm", "later")
open("/dev/shm/theirs", "w").write("x")
os.link("real/inside", "hard")
""",
    )
    assert contents(outcome) == {"real/inside": b"x", "hard": b"x"}


async def test_what_the_run_may_not_read_is_not_read(sandbox: Sandbox) -> None:
    outcome = await collect(
        sandbox,
        """
import os
open("shut", "w").write("x"); os.chmod("shut", 0)
os.mkdir("closed"); open("closed/inside", "w"); os.chmod("closed", 0)
open("open", "w").write("y"); os.chmod("open", 0o400)
os.mkdir("blind"); open("blind/inside", "w"); os.chmod("blind", 0o300)
""",
    )
    assert contents(outcome) == {"shut": None, "open": b"y"}
    assert reason(list(outcome.result.files), "shut") == "the run itself may not read it"


async def test_the_code_directory_itself_may_be_shut(sandbox: Sandbox) -> None:
    outcome = await collect(sandbox, "import os; open('a', 'w'); print(os.getcwd())")
    assert names(outcome) == ["a"]


async def test_what_is_no_file_is_no_file(sandbox: Sandbox) -> None:
    outcome = await collect(
        sandbox,
        """
import os, socket, stat
os.mkfifo("fifo")
one = socket.socket(socket.AF_UNIX); one.bind("socket")
for kind in (stat.S_IFCHR, stat.S_IFBLK):
    try: os.mknod(f"device{kind}", 0o666 | kind, os.makedev(1, 5))
    except OSError as error: print(error.errno)
os.mkdir("directory.png")
open("file", "w")
""",
    )
    assert (names(outcome), outcome.text) == (["file"], "1\n1\n")


async def test_terabytes_that_are_holes_are_not_read(sandbox: Sandbox) -> None:
    outcome = await collect(
        sandbox,
        "open('sparse', 'w').truncate(1 << 40)\nopen('zeros', 'w').truncate((1 << 20) - 1)\n"
        "open('more', 'w').write('xx')\n",
    )
    found = {file.name: file.size_bytes for file in outcome.result.files}
    assert found == {"more": 2, "sparse": 1 << 40, "zeros": (1 << 20) - 1}
    assert contents(outcome)["more"] == b"xx"
    assert contents(outcome)["sparse"] is contents(outcome)["zeros"] is None


async def test_as_many_names_as_there_can_be_are_counted_and_not_sent(sandbox: Sandbox) -> None:
    """The mount has inodes for 16,384: the million that a larger one has costs in proportion."""
    outcome = await collect(
        sandbox,
        "try:\n  for n in range(10**6): open(f'{n:07}', 'w').close()\nexcept OSError: pass\n",
        collect_max=3,
    )
    assert names(outcome) == ["0000000", "0000001", "0000002"]
    assert int(outcome.result.files_omitted.partition(" ")[0]) > 16_000


async def test_directories_of_any_depth_end_somewhere(sandbox: Sandbox) -> None:
    outcome = await collect(
        sandbox,
        "import os\nfor _ in range(3000):\n"
        "  open('f', 'w').close(); os.mkdir('d'); os.chdir('d')\n",
        collect_max=500,
    )
    assert 60 < len(names(outcome)) < 70


async def test_names_of_any_bytes_come_back_as_text(sandbox: Sandbox) -> None:
    outcome = await collect(
        sandbox,
        "for name in (b'\\xff', b'a\\nb', b'\\xe9', b'-rf *', b'\\x1b[31m', '\\u202e'.encode()):\n"
        "  open(name, 'wb').write(name)\n",
    )
    assert contents(outcome) == {
        "\\xff": b"\xff",
        "a\nb": b"a\nb",
        "\\xe9": b"\xe9",
        "-rf *": b"-rf *",
        "\x1b[31m": b"\x1b[31m",
        "\u202e": "\u202e".encode(),
    }


async def test_files_that_are_written_to_for_ever_are_read_in_peace(sandbox: Sandbox) -> None:
    """All processes have ended by then: a file that is one letter is one letter throughout."""
    outcome = await collect(
        sandbox,
        """
import os, time
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        while True:
            for letter in b"ab":
                with open("flip", "wb") as file: file.write(bytes([letter]) * 100_000)
                os.replace("flip", "file")
                if letter == 97: os.truncate("file", 50_000)
                try: os.unlink("gone")
                except OSError: open("gone", "w").close()
time.sleep(0.3)
""",
    )
    file = contents(outcome)["file"]
    assert file
    assert len(set(file)) <= 1 or len(file) == 100_000
    assert outcome.status is Status.OK


@pytest.mark.parametrize(
    ("code", "status", "limits"),
    [
        ("while True: pass", Status.TIMEOUT, {"timeout_s": 0.3}),
        ("while True: pass", Status.CPU_TIME, {"cpu_time_s": 0.2}),
        ("while True: print('x' * 9999)", Status.OUTPUT_LIMIT, {"output_limit_bytes": 10_000}),
        ("x = bytearray(1 << 30)", Status.MEMORY_LIMIT, {}),
        ("import os; os.kill(os.getpid(), 9)", Status.KILLED, {}),
    ],
)
async def test_a_run_that_was_ended_gives_back_what_it_had(
    sandbox: Sandbox, code: str, status: Status, limits: dict[str, float]
) -> None:
    outcome = await collect(sandbox, f"open('early', 'w').write('x')\n{code}", **limits)
    assert (outcome.status, contents(outcome)) == (status, {"early": b"x"})


async def test_a_full_disk_and_full_memory_do_not_keep_files_back(sandbox: Sandbox) -> None:
    outcome = await collect(
        sandbox,
        "open('a', 'w').write('first')\nopen('/tmp/x', 'wb').write(bytes(60 << 20))\n"
        "try: open('b', 'wb').write(bytes(70 << 20))\nexcept OSError: print('full')\n",
    )
    assert outcome.text == "full\n"
    assert contents(outcome)["a"] == b"first"
    assert contents(outcome)["b"] is None


async def test_a_later_run_gives_back_nothing_of_an_earlier_one(sandbox: Sandbox) -> None:
    await sandbox.run("import os; os.mkdir('d'); open('d/secret', 'w').write('x')")
    assert names(await collect(sandbox, "pass")) == []


async def test_an_input_that_is_replaced_by_a_link_is_neither_followed_nor_given_back(
    sandbox: Sandbox,
) -> None:
    files = [InputFile("a", b"1"), InputFile("b", b"2"), InputFile("d/c", b"3")]
    outcome = await collect(
        sandbox,
        "import os, shutil\nos.unlink('a'); os.symlink('/etc/passwd', 'a')\n"
        "shutil.copy2('d/c', 'b')\n"
        "shutil.rmtree('d'); os.symlink('/etc', 'd')\n",
        *files,
    )
    assert contents(outcome) == {"b": b"3"}


async def test_names_that_collide_or_climb_past_the_server_do_not_get_in(sandbox: Sandbox) -> None:
    """The server refuses these; the runner, which is told by a server, refuses what can do harm."""
    for name in ("Main.py", "a/../Main.py", "x" * 256, "/proc/1/mem", "/etc/passwd", "", "d/"):
        with pytest.raises(NoRoom):
            await sandbox.run("print('ran')", files=[InputFile("d/x", b""), InputFile(name, b"x")])
    assert (await sandbox.attack("print(1)")).text == "1\n"


async def test_a_pattern_that_takes_for_ever_ends(sandbox: Sandbox) -> None:
    code = f"open({'a' * 250!r}, 'w')"
    outcome = await collect(sandbox, code, collect=["*a" * 40 + "b"])
    assert names(outcome) == []
