"""PID 1 of a warm container: hands jobs to children that are already forked and waiting.

The runner starts inside an interpreter that was asked to run the snippet's own path,
`python3 /home/code/Main.py`. It installs itself as a `sys.path_hooks` entry, which the
interpreter calls, with no Python frame below it, just before it opens the script. PID 1
never leaves that call. A forked child does, when its job has come and the file is
written, and then runs it exactly as any interpreter would (docs/adr/0002).

What a job carries or prints never enters a Python object of PID 1, from which the next
child is forked: it passes through an arena that is emptied before each fork.

Runs inside the container: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import mmap
import os
import select
import signal
import sys
import time
import traceback
from typing import TypedDict

from pool.inside import at_fork, callbacks, fast_exit, guard, immortal, preimport, reset, snippet
from pool.inside.child import Child, OomCounter, Reaper
from pool.inside.outbox import AREA_BYTES, Outbox
from pool.inside.protocol import (
    HEADER,
    JOB_HEADER_SIZE,
    Ending,
    Exit,
    JobHeader,
    Kind,
    decode_job,
    encode,
    encode_exit,
)
from pool.inside.relay import HOST_IN, Relay

CONFIG = "PGEXEC_RUNNER"
_WARM_UPS = 6
"""Often enough for the interpreter to specialise what it runs; for one run it does not pay."""
PREIMPORT = ("traceback", "linecache", "tokenize", "threading", "resource")
"""What any interpreter imports to print an uncaught exception, or to leave; and what `os.wait4`
imports, which would else be there from the second run on."""


class Config(TypedDict):
    """What `pool/engine/spec.py` tells the runner, as JSON in an environment variable.

    `uid` is the first run's user, `layers` the directory of dependencies, `guard` the plan
    for the network, `preload` the name of the layer that every run has, `job_limit` the bytes
    that a JOB may have, and `reused` whether more than one is to be expected.
    """

    script: str
    uid: int
    mounts: list[str]
    layers: str
    preload: str
    guard: dict[str, list[str]] | None
    preimport: list[str]
    job_limit: int
    reused: bool


def install() -> None:
    """Arrange for the runner to take over when the interpreter comes to open its script.

    Refuses to go on as anything but PID 1: its `kill(-1)` would take a whole machine down.
    """
    if os.getpid() != 1:
        os.write(2, b"the pgexec runner only runs as PID 1 of a container\n")
        os._exit(64)
    fast_exit.register()
    config: Config = json.loads(os.environ.pop(CONFIG))
    home = os.environ.pop("PYTHONPATH")
    sys.path.remove(home)
    sys.path_importer_cache.pop(home, None)

    def hook(path: str) -> None:
        if path != config["script"]:
            raise ImportError
        sys.path_hooks.remove(hook)  # type: ignore[arg-type]
        try:
            _import_site_customization()
            Runner(config).serve()
        except BaseException:  # noqa: BLE001 - whatever it is, nothing may go on from here
            os.write(2, traceback.format_exc().encode("utf-8", "replace"))
            os._exit(70)

    sys.path_hooks.insert(0, hook)  # type: ignore[arg-type]


def _import_site_customization() -> None:
    """Load the image's own `sitecustomize`, in whose place the runner was imported."""
    del sys.modules["sitecustomize"]
    with contextlib.suppress(ImportError):
        importlib.import_module("sitecustomize")


class Runner:
    """The loop of PID 1: receive a job, relay its output, report its end, reset."""

    def __init__(self, config: Config) -> None:
        self.script = config["script"]
        self.uid = config["uid"]
        self.mounts = config["mounts"]
        self.layers = config["layers"]
        self.preload = config["preload"]
        self.guard = config["guard"]
        self.preimport = config["preimport"]
        self.reused = config["reused"]
        self.installed: list[str] = []
        job_area = config["job_limit"]
        self.arena = mmap.mmap(-1, job_area + AREA_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        view = memoryview(self.arena)
        self.job = view[:job_area]
        self.outbox = Outbox(view[job_area:])
        self.oom = OomCounter()
        self.child: Child
        self.reaper = Reaper()
        self.intake = select.poll()
        self.intake.register(self.reaper.wake, select.POLLIN)
        self.intake.register(HOST_IN, select.POLLIN)

    def serve(self) -> None:
        """Serve jobs for ever. Returns in a child only, when its script is in place."""
        guarded = guard.close_off(self.guard) if self.guard else ""
        self.import_all()
        gc.disable()  # again, should an import have turned it on
        at_fork.tidy()
        self.reaper.listen()
        os.chdir(os.path.dirname(self.script))
        if self.reused:
            immortal.immortalize(fast_exit.own_objects())
        else:
            gc.freeze()
        self.baseline = reset.Baseline(self.mounts)
        if self.fork():
            return
        version = ".".join(map(str, sys.version_info[:3]))
        ready = {
            "python": version,
            "implementation": sys.implementation.name,
            "guard": guarded,
            "installed": self.installed,
        }
        self.outbox.send(encode(Kind.READY, json.dumps(ready).encode()))
        while True:
            header = self.receive()
            self.outbox.send(encode_exit(self.run(header)))
            if header.last:
                os._exit(0)
            started = time.monotonic()
            self.uid += 1
            trouble = self.reset()
            if trouble:
                self.outbox.send(encode(Kind.DIRTY, trouble.encode("utf-8", "replace")))
                os._exit(0)
            if self.fork():
                return
            took_ms = (time.monotonic() - started) * 1000
            self.outbox.send(encode(Kind.CLEAN, b"%.3f ms" % took_ms))

    def import_all(self) -> None:
        """Import what every child is to have; where that cannot be, say so and end."""
        for name in PREIMPORT:
            with contextlib.suppress(ImportError):  # an image may lack one
                importlib.import_module(name)
        try:
            with preimport.standard_streams_aside():
                if self.preload or not preimport.are_all_standard(self.preimport):
                    callbacks.settle()
                if self.preload:
                    layer = os.path.join(self.layers, self.preload)
                    self.installed = preimport.use_layer(layer)
                preimport.import_all(self.preimport)
            snippet.prepare(_WARM_UPS if self.reused else 1)
        except preimport.PreimportError as error:
            self.outbox.send(encode(Kind.REFUSED, str(error).encode("utf-8", "replace")))
            os._exit(0)

    def fork(self) -> bool:
        """Fork the next child. True in the child, once it holds a job and its script."""
        self.oom.mark()  # now: after a fork, each page that this writes to would be copied first
        self.child = Child()
        if self.child.fork():
            snippet.become(self.uid, self.child)
            snippet.await_job(self.child, self.script, self.layers)
            return True
        return False

    def receive(self) -> JobHeader:
        """Read one JOB into the arena; the container ends when the server has gone."""
        filled, wanted = 0, HEADER.size
        while filled < wanted:
            ready = dict(self.intake.poll())
            if self.reaper.wake in ready:
                self.reaper.reap(self.child)
                if self.child.exited is not None:
                    os._exit(71)  # the waiting child has died: nothing warm is left here
            if HOST_IN not in ready:
                continue
            got = os.readv(HOST_IN, [self.job[filled:]])
            if got == 0:
                os._exit(0)
            filled += got
            if filled >= HEADER.size:
                kind, size = HEADER.unpack_from(self.job)
                wanted = HEADER.size + size
                if kind != Kind.JOB or size < JOB_HEADER_SIZE or wanted > len(self.job):
                    os._exit(72)
        if filled > wanted:
            os._exit(72)
        return decode_job(self.job[HEADER.size : wanted])

    def run(self, header: JobHeader) -> Exit:
        """Hand the job over, relay until the child has ended, and say how it ended."""
        started = time.monotonic()
        child = self.child
        job_at = HEADER.size + JOB_HEADER_SIZE
        stdin_at = job_at + header.layer_size + header.code_size
        child.deliver(header.layer_size, self.job[job_at:stdin_at])
        stdin = self.job[stdin_at : stdin_at + header.stdin_size]
        relay = Relay(child, self.outbox, self.reaper, header, stdin)
        ending = relay.until(started + header.timeout_ms / 1000)
        wait_status, cpu_s, peak_bytes = child.exited or (signal.SIGKILL, 0.0, 0)
        killed = os.WIFSIGNALED(wait_status)
        status = -os.WTERMSIG(wait_status) if killed else os.WEXITSTATUS(wait_status)
        if header.layer_size and child.misses_its_layer():
            ending = Ending.NO_LAYER
        elif ending is Ending.EXITED and status != 0:
            if self.oom.risen():
                ending = Ending.MEMORY_LIMIT
            elif killed:
                ending = Ending.SIGNALED
        return Exit(
            header.run,
            ending,
            status,
            relay.truncated,
            round((time.monotonic() - started) * 1e6),
            round(cpu_s * 1e6),
            peak_bytes,
        )

    def reset(self) -> str:
        """Return the container to its baseline; return what is wrong if that fails."""
        deadline = time.monotonic() + reset.TIMEOUT_S
        self.reaper.end(self.child, deadline)
        self.child.close()
        self.arena.madvise(mmap.MADV_DONTNEED)
        return self.baseline.restore(deadline)
