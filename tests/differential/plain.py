"""What pgexec is held against: `python3 /home/code/Main.py` in a container of the same image.

The container is created from the same document as a warm one: same mounts, limits,
capabilities, environment. Only its main process differs: a driver that starts a new
interpreter for each snippet, as the user, and in the emptied directories, that a warm
container would run it as and in.
"""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pool.engine.spec import create_document

if TYPE_CHECKING:
    from pool.engine.api import Engine, Stream
    from pool.engine.spec import ContainerSpec

UID = 9_000
TIMEOUT_S = 30

# The environment is the block that the engine made: this driver's own interpreter has added
# LC_CTYPE to its own. The pipes are open to all, as Docker makes a container's own.
_DRIVER = """
import base64, json, os, shutil, subprocess, sys
assert os.getpid() == 1  # it kills every process that it sees
with open("/proc/self/environ", "rb") as block:
    environ = dict(item.split(b"=", 1) for item in block.read().split(b"\\0") if item)
for line in sys.stdin.buffer:
    job = json.loads(line)
    for mount in job["mounts"]:
        os.chmod(mount, 0o1777)
        for entry in os.scandir(mount):
            shutil.rmtree(entry) if entry.is_dir(follow_symlinks=False) else os.unlink(entry)
    os.setegid(job["uid"])
    os.seteuid(job["uid"])
    with open(job["script"], "wb") as file:
        file.write(base64.b64decode(job["code"]))
    os.seteuid(0)
    os.setegid(0)
    pipes = [os.pipe() for _ in range(3)]
    for _, writer in pipes:
        os.fchmod(writer, 0o666)
    (stdin_r, stdin_w), (stdout_r, stdout_w), (stderr_r, stderr_w) = pipes
    child = subprocess.Popen(
        ["python3", job["script"]], stdin=stdin_r, stdout=stdout_w, stderr=stderr_w, env=environ,
        cwd=os.path.dirname(job["script"]), user=job["uid"], group=job["uid"], extra_groups=[],
        start_new_session=True,
    )
    for fd in (stdin_r, stdout_w, stderr_w):
        os.close(fd)
    child.stdin = open(stdin_w, "wb")
    child.stdout, child.stderr = open(stdout_r, "rb"), open(stderr_r, "rb")
    try:
        out, err = child.communicate(base64.b64decode(job["stdin"]), job["timeout_s"])
    except subprocess.TimeoutExpired:
        os.kill(-1, 9)
        out, err = child.communicate()
        err += b"[the plain interpreter timed out]"
    try:
        while True:
            os.kill(-1, 9)
            os.waitpid(-1, 0)
    except (ProcessLookupError, ChildProcessError):
        pass
    answer = [base64.b64encode(data).decode() for data in (out, err)]
    print(json.dumps([child.returncode, *answer]), flush=True)
"""


Job = dict[str, object]
"""What the driver is told of each run."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to, as its parent process sees it; a signal's number is negative."""

    status: int
    stdout: bytes
    stderr: bytes


class PlainInterpreter:
    """A container in which snippets run one after the other, each in a new interpreter."""

    def __init__(self, engine: Engine, container_id: str, stream: Stream, job: Job) -> None:
        self._engine = engine
        self._id = container_id
        self._stream = stream
        self._job = job
        self._rest = b""

    @classmethod
    async def start(
        cls, engine: Engine, spec: ContainerSpec, labels: dict[str, str]
    ) -> PlainInterpreter:
        """Start the container from the document that a warm one of this spec would have."""
        document = create_document(spec, labels=labels, sequence=0)
        variables: list[str] = document["Env"]  # type: ignore[assignment]
        runner = next(item for item in variables if item.startswith("PGEXEC_RUNNER="))
        config = json.loads(runner.partition("=")[2])
        ours = ("PGEXEC_RUNNER=", "PYTHONPATH=")
        document["Env"] = [item for item in variables if not item.startswith(ours)]
        document["Cmd"] = ["python3", "-c", _DRIVER]
        job: Job = {
            "script": config["script"],
            "mounts": config["mounts"],
            "uid": UID,
            "timeout_s": TIMEOUT_S,
        }
        return cls(engine, *await engine.start(document), job)

    async def run(self, code: bytes, stdin: bytes = b"") -> Outcome:
        """Run one snippet and return what came of it."""
        texts = {"code": code, "stdin": stdin}
        encoded = {name: base64.b64encode(text).decode() for name, text in texts.items()}
        await self._stream.write(json.dumps({**self._job, **encoded}).encode() + b"\n")
        async with asyncio.timeout(TIMEOUT_S + 10):
            while b"\n" not in self._rest:
                data = await self._stream.read()
                assert data, "the plain interpreter's container ended"
                self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        status, stdout, stderr = json.loads(line)
        return Outcome(status, base64.b64decode(stdout), base64.b64decode(stderr))

    async def destroy(self) -> None:
        """Remove the container."""
        await self._stream.close()
        await self._engine.remove(self._id)
