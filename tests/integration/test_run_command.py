"""`pgexec run`: a file runs on a server as if it ran here."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from tests.integration.server import WITHIN_S, until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.integration.server import Server

    Command = Callable[..., Awaitable[asyncio.subprocess.Process]]


@pytest.fixture
def command(server: Server, tmp_path: Path) -> Command:
    """Start `pgexec run` with arguments, in a directory of its own."""
    own = {"PGEXEC_URL": f"http://127.0.0.1:{server.port}", "PYTHONPATH": os.pathsep.join(sys.path)}

    async def start(*arguments: str) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pgexec", "run", *arguments),
            cwd=tmp_path,
            env={**os.environ, **own},
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
        )

    return start


async def ended(process: asyncio.subprocess.Process, stdin: bytes = b"") -> tuple[int, str, str]:
    async with asyncio.timeout(WITHIN_S):
        stdout, stderr = await process.communicate(stdin)
    assert process.returncode is not None
    return process.returncode, stdout.decode(), stderr.decode()


async def test_input_arguments_files_output_and_status_are_as_here(
    command: Command, tmp_path: Path
) -> None:
    (tmp_path / "in.csv").write_bytes(b"\xff1")
    (tmp_path / "script.py").write_text(
        "import sys\n"
        "print(sys.argv[1:], input(), open('in.csv', 'rb').read())\n"
        "print('no', file=sys.stderr)\n"
        "sys.exit(7)\n"
    )
    run = await command("script.py", "-f", "in.csv", "--", "-x", "--", "b c")
    status, stdout, stderr = await ended(run, "gr\u00fc\u00df\n".encode())
    assert (status, stderr) == (7, "no\n")
    assert stdout == "['-x', '--', 'b c'] gr\u00fc\u00df b'\\xff1'\n"


async def test_code_comes_from_standard_input_and_a_limit_has_its_status(command: Command) -> None:
    assert await ended(await command("-"), b"print(6 * 7)") == (0, "42\n", "")
    status, _, stderr = await ended(await command("-", "--timeout", "0.2"), b"while True: pass")
    assert (status, stderr) == (124, "pgexec: timed out after 0.2 s\n")
    status, _, _ = await ended(await command("-"), b"import os; os.kill(os.getpid(), 9)")
    assert status == 128 + 9


async def test_output_comes_as_it_is_written_and_ctrl_c_ends_the_run(
    command: Command, server: Server, tmp_path: Path
) -> None:
    (tmp_path / "script.py").write_text("import time\nprint('begun', flush=True)\ntime.sleep(25)\n")
    run = await command("script.py")
    assert run.stdin is not None
    assert run.stdout is not None
    run.stdin.close()
    async with asyncio.timeout(WITHIN_S):
        assert await run.stdout.readline() == b"begun\n"
        run.send_signal(signal.SIGINT)
        assert await run.wait() == 130
    assert run.stderr is not None
    assert await run.stderr.read() == b""

    async def nobody_runs() -> bool:
        return (await server.by_state())["leased"] == 0

    await until(nobody_runs, "the run has ended", within_s=10)


async def test_what_goes_wrong_is_one_sentence(command: Command) -> None:
    status, _, stderr = await ended(await command("missing.py"))
    assert (status, stderr) == (125, "pgexec: missing.py: No such file or directory\n")
    status, _, stderr = await ended(await command("-", "-f", "missing.csv"), b"1")
    assert (status, stderr) == (125, "pgexec: missing.csv: No such file or directory\n")
    status, _, stderr = await ended(await command("-", "--language", "perl"), b"1")
    assert status == 125
    assert stderr.startswith("pgexec: language 'perl' is not supported")


async def test_collected_files_are_put_beside_the_script(command: Command, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "script.py").write_text(
        "import os\nos.mkdir('out')\n"
        "open('out/a.txt', 'w').write('a')\nopen('b.bin', 'wb').write(b'\\xff')\n"
    )
    run = await command("sub/script.py", "-c", "out/*", "-c", "*.bin")
    assert await ended(run) == (0, "", "")
    assert (tmp_path / "sub" / "out" / "a.txt").read_text() == "a"
    assert (tmp_path / "sub" / "b.bin").read_bytes() == b"\xff"
