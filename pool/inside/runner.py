"""PID 1 of a warm container: hands jobs to children that are already forked and waiting.

The container's command is `python3 /home/code/Main.py`: the interpreter is told to run the
snippet. The runner puts a hook into `sys.path_hooks`. The interpreter calls this hook just
before it opens the script, with no Python frame below it. PID 1 never leaves that call. A
forked child returns from it once its job has come and the script is written. The child then
runs the script exactly as any interpreter would (docs/adr/0002).

The next child is a copy of PID 1. Therefore the bytes of a job and of its output never become
Python objects of PID 1: they pass through an arena, which is emptied before each fork.

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
from typing import TYPE_CHECKING, NoReturn

from pool.inside import (
    at_fork,
    callbacks,
    collect,
    environment,
    fast_exit,
    guard,
    opening,
    openings,
    own_kernel,
    prefork,
    preimport,
    reset,
    snippet,
    users,
)
from pool.inside.ahead import Idle
from pool.inside.allowance import Allowance
from pool.inside.cgroup import CpuMeter, MemoryMeter, OomCounter, limit_processes
from pool.inside.child import Child, Reaper
from pool.inside.kernel import is_gvisor
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
    encode_exit_head,
)
from pool.inside.relay import HOST_IN, Relay

if TYPE_CHECKING:
    from pool.inside.config import Config

CONFIG = "PGEXEC_RUNNER"
_WARM_UPS = 6
"""After so many rounds the interpreter has specialised the code. A container of a single run does
one round only, because more would cost it more time than they save."""
_WINDOW_BYTES = 256 * 1024
"""Input files pass through PID 1 in pieces of so many bytes."""
PREIMPORT = ("traceback", "linecache", "tokenize", "threading", "resource")
"""Any interpreter imports these to print an uncaught exception, or at its exit. `os.wait4` imports
`resource` when PID 1 first calls it: `sys.modules` would have it from the second run on only."""


def install() -> None:
    """Install the hook by which the runner takes over when the interpreter opens its script.

    Ends the process with status 64 unless it is PID 1: the `kill(-1)` of a reset would kill
    every process of the machine.
    """
    if os.getpid() != 1:
        os.write(2, b"the pgexec runner only runs as PID 1 of a container\n")
        os._exit(64)
    fast_exit.register()
    config: Config = environment.take_json(CONFIG)
    home = environment.take("PYTHONPATH")
    sys.path.remove(home)
    sys.path_importer_cache.pop(home, None)

    def hook(path: str) -> None:
        if path != config["script"]:
            raise ImportError
        sys.path_hooks.remove(hook)  # type: ignore[arg-type]
        try:
            _import_site_customization()
            Runner(config).serve()
        except BaseException:  # noqa: BLE001 - else the interpreter would go on to run a script
            os.write(2, traceback.format_exc().encode("utf-8", "replace"))
            os._exit(70)

    sys.path_hooks.insert(0, hook)  # type: ignore[arg-type]


def _import_site_customization() -> None:
    """Load the image's own `sitecustomize`; the runner was imported under its name."""
    del sys.modules["sitecustomize"]
    with contextlib.suppress(ImportError):
        importlib.import_module("sitecustomize")


class Runner:
    """The loop of PID 1: receive a job, relay its output, report its end, reset."""

    def __init__(self, config: Config) -> None:
        self.script = config["script"]
        self.users = users.own_block(config["sequence"])
        self.user = self.forks = 0
        self.mounts = config["mounts"]
        self.layers = config["layers"]
        self.preload = config["preload"]
        self.guard, config["guard"] = config["guard"], None
        self.preimport = config["preimport"]
        self.idle = Idle(config["idle_imports"], config["idle_memory"])
        self.reused = config["reused"]
        self.sealed = config["sealed"]
        self.cpus = config["cpus"]
        limit_processes(config["pids"])
        self.installed: list[str] = []
        self.extras: dict[str, list[str]] = {}
        job_area = config["job_limit"]
        # Private: a snippet could change a shared mapping, and so the frames that PID 1 sends.
        size = job_area + AREA_BYTES + _WINDOW_BYTES
        self.arena = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        view = memoryview(self.arena)
        self.job = view[:job_area]
        self.outbox = Outbox(view[job_area : job_area + AREA_BYTES])
        self.window = view[-_WINDOW_BYTES:]
        self.job_end, self.surplus = 0, view[:0]
        self.oom = OomCounter()
        self.cpu = CpuMeter()
        self.memory = MemoryMeter()
        self.child: Child
        self.reaper = Reaper()
        self.intake = select.poll()
        self.intake.register(self.reaper.wake, select.POLLIN)
        self.intake.register(HOST_IN, select.POLLIN)

    def serve(self) -> None:
        """Serve jobs for ever. Returns only in a forked child, once its script is written."""
        guarded = self.close_off()
        self.import_all()
        gc.disable()  # again: an import may have enabled it
        at_fork.tidy()
        self.idle.note_older()
        self.reaper.listen()
        os.chdir(os.path.dirname(self.script))
        if self.reused:
            prefork.make_forks_cheap(fast_exit.own_objects())
        else:
            gc.freeze()
        # Before the first fork: if the baseline counted the pipes of a child, which are closed at
        # each reset, every reset would find descriptors missing.
        self.baseline = reset.Baseline(self.mounts)
        if self.fork():
            return
        self.see_killable()
        ready = {
            "python": ".".join(map(str, sys.version_info[:3])),
            "implementation": sys.implementation.name,
            "machine": os.uname().machine,
            "gvisor": is_gvisor(),
            "guard": guarded,
            "installed": self.installed,
            "extras": self.extras,
        }
        self.outbox.send(encode(Kind.READY, json.dumps(ready).encode()))
        while True:
            header = self.receive()
            ending = self.run(header)
            if header.collect_size and ending.ending not in (Ending.NO_LAYER, Ending.NO_ROOM):
                self.collect(header)
            with self.child.exception_name() as name:
                self.outbox.send(encode_exit_head(ending, len(name)), name)
            if header.last:
                os._exit(0)
            started = time.monotonic()
            trouble = self.reset()
            if trouble:
                self.outbox.send(encode(Kind.DIRTY, trouble.encode("utf-8", "replace")))
                os._exit(0)
            if self.fork():
                return
            took_ms = (time.monotonic() - started) * 1000
            self.outbox.send(encode(Kind.CLEAN, b"%.3f ms" % took_ms))

    def close_off(self) -> str:
        """Close what the engine leaves open, before anything is imported. Returns how, by `guard`.

        Otherwise send REFUSED with the reason, and end the container.
        """
        if is_gvisor() and not own_kernel.close_off():
            self.refuse("this gVisor takes no seccomp filter, so that System V objects would stay")
        try:
            guarded = guard.close_off(self.guard) if self.guard else ""
        except guard.Unguarded as error:
            self.refuse(str(error))
        self.guard = None  # each child would have the host's addresses in its memory
        if self.sealed:
            self.see_sealed()
        return guarded

    def see_sealed(self) -> None:
        """Check that a snippet can write only to the mounts that are wiped after it.

        Otherwise send REFUSED with the other places, and end the container.
        """
        if found := openings.close_openings(self.mounts):
            places = ", ".join(found[:3]) + (f" and {len(found) - 3} more" if found[3:] else "")
            self.refuse(
                f"every user may write to {places}, which the engine or a volume of the image "
                "adds to the read-only root: a run would find there what another has left"
            )

    def see_killable(self) -> None:
        """See that a snippet can be killed; otherwise send REFUSED and end the container.

        Without this, each run would lose its container at the reset, and none would say why.
        """
        if not self.child.can_be_killed():
            self.refuse(
                "process 1 may not signal its own children, so that no run can be ended: AppArmor "
                "has a profile of its own for crun, which its containers keep; take it out "
                "(aa-disable /usr/bin/crun, of apparmor-utils), or use runc"
            )

    def refuse(self, sentence: str) -> NoReturn:
        """Send REFUSED with `sentence`, the reason, and end the container."""
        self.outbox.send(encode(Kind.REFUSED, sentence.encode("utf-8", "replace")))
        os._exit(0)

    def import_all(self) -> None:
        """Import the modules that every child shall have.

        If one of them cannot be shared, send REFUSED with the reason and end the container.
        """
        for name in PREIMPORT:
            with contextlib.suppress(ImportError):  # an image may lack one
                importlib.import_module(name)
        try:
            with preimport.standard_streams_aside():
                if self.preload or not preimport.are_all_standard(self.preimport):
                    callbacks.settle()
                if self.preload:
                    layer = os.path.join(self.layers, self.preload)
                    self.installed, self.extras = preimport.use_layer(layer)
                preimport.import_all(self.preimport)
            snippet.prepare(_WARM_UPS if self.reused else 1)
        except preimport.PreimportError as error:
            self.refuse(str(error))

    def fork(self) -> bool:
        """Fork the next child. True in the child, once it holds a job and its script."""
        # Before the fork: after it, the kernel would first copy each page that `mark` writes to.
        self.oom.mark()
        self.user = self.users[self.forks % len(self.users)]
        self.child = Child(self.user)
        if self.child.fork():
            snippet.become(self.user, self.child)
            snippet.await_job(self.child, self.script, self.layers, self.preload, self.idle)
            return True
        self.forks += 1
        return False

    def receive(self) -> JobHeader:
        """Read one JOB into the arena. Never returns from one that begins a session."""
        filled, wanted = 0, HEADER.size
        while filled < wanted:
            ready = dict(self.intake.poll())
            if self.reaper.wake in ready:
                self.reaper.reap(self.child)
                if self.child.exited is not None:
                    os._exit(71)  # the waiting child has died: no process is left to run a job
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
        header = decode_job(self.job[HEADER.size : wanted])
        self.job_end, self.surplus = wanted, self.job[wanted:filled]
        if len(self.surplus) > header.files_size:
            os._exit(72)
        if header.step:
            opening.begin(self, header)
        return header

    def hand_over_files(self, size: int) -> bool:
        """Pass the input files from the server to the child. Returns False if it has no room.

        Like all of a job they become no object of PID 1.
        """
        self.child.pour(self.surplus)
        size -= len(self.surplus)
        while size:
            got = os.readv(HOST_IN, [self.window[: min(size, len(self.window))]])
            if not got:
                os._exit(0)
            self.child.pour(self.window[:got])
            size -= got
        return self.child.has_written(HOST_IN)

    def run(self, header: JobHeader) -> Exit:
        """Deliver the job to the child, relay until the child has ended, and return its end."""
        started = time.monotonic()
        if header.memory_limit:
            self.memory.mark()
        child = self.child
        job_at = HEADER.size + JOB_HEADER_SIZE
        stdin_at = job_at + header.layer_size + header.code_size
        strings_at = stdin_at + header.stdin_size
        strings = self.job[strings_at : strings_at + header.strings_size]
        if header.files_size or header.collect_size:
            child.stamp_ns = time.time_ns()
        self.cpu.begin(child.pid)
        child.deliver(header, self.job[job_at:stdin_at], strings)
        if header.files_size:
            if not self.hand_over_files(header.files_size):
                return Exit(header.run, Ending.NO_ROOM, 0, False, 0, 0, 0)  # noqa: FBT003
            started = time.monotonic()
            self.cpu.begin(child.pid)
            child.begin()
        self.cpu.mark(child.pid)
        stdin = self.job[stdin_at:strings_at]
        allowance = Allowance(header, (self.cpu, self.memory), self.cpus, child.pid, started)
        relay = Relay(child, self.outbox, self.reaper, header, stdin, allowance)
        ending = relay.until(started + header.timeout_ms / 1000)
        # `exited` is None if SIGKILL did not end the child within `reset.TIMEOUT_S`.
        wait_status = signal.SIGKILL if child.exited is None else child.exited
        killed = os.WIFSIGNALED(wait_status)
        status = -os.WTERMSIG(wait_status) if killed else os.WEXITSTATUS(wait_status)
        oom_killed = status != 0 and self.oom.risen()
        layer = self.job[job_at : job_at + header.layer_size]
        if layer and child.misses_its_layer() and not self.has_layer(layer):
            ending = Ending.NO_LAYER
        elif ending is Ending.EXITED and status != 0:
            if oom_killed:
                ending = Ending.MEMORY_LIMIT
            elif killed:
                ending = Ending.SIGNALED
        return Exit(
            header.run,
            ending,
            status,
            relay.truncated,
            round((time.monotonic() - started) * 1e6),
            self.cpu.used_us(None if child.reaped else child.pid),
            child.peak_kib * 1024,
            oom_killed,
        )

    def collect(self, header: JobHeader) -> None:
        """Send the files that the job asks for, once no process of the run is left.

        Nothing can change them any more then. If a process cannot be ended, nothing is read.
        """
        deadline = time.monotonic() + reset.TIMEOUT_S
        self.reaper.end(self.child, deadline)
        if not reset.reap_all(deadline):
            return
        request = self.job[self.job_end - header.collect_size : self.job_end]
        source = collect.start(header, request, self.user, self.script, self.child.stamp_ns)
        collect.pass_on(source, self.outbox, HOST_IN)
        reset.kill_all()

    def has_layer(self, name: memoryview) -> bool:
        """Return True if the layer is there after all, so that it was the snippet that spoke.

        Only after such words does the name become an object of PID 1.
        """
        return os.path.isdir(os.path.join(os.fsencode(self.layers), bytes(name)))

    def reset(self) -> str:
        """Bring the container back to its baseline. Returns `""`, or what differs from it."""
        deadline = time.monotonic() + reset.TIMEOUT_S
        self.reaper.end(self.child, deadline)
        self.child.close()
        # The next child is a copy of PID 1: it could read this run's job and output in the arena.
        self.arena.madvise(mmap.MADV_DONTNEED)
        return self.baseline.restore(deadline)
