"""Make the engine's container-create documents from settings. Pure, and deny first.

There are four kinds of container: a sandbox runs snippets, an installer fetches and installs
dependencies, the server of the volume keeps them, and one makes the prepared image. Only this
module determines the rights and limits of each.
"""

from __future__ import annotations

import json
import math
import platform
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pool.engine import gvisor, seccomp
from pool.engine.masked import MASKED_PATHS
from pool.inside import fonts
from pool.language import PYTHON

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LABEL = "pgexec"
"""Every container of ours has this label."""
LABEL_INSTANCE = "pgexec.instance"
LABEL_EXPIRES = "pgexec.expires"
LABEL_ROLE = "pgexec.role"
"""Only containers that belong to no pool have this label: `ROLE_VOLUME` and the canary's."""
ROLE_VOLUME = "keeper"
LABEL_PROFILE = "pgexec.profile"

RUNNER_DIR = "/opt/pgexec"
LAYERS_DIR = "/opt/layers"
CA_BUNDLE = f"{RUNNER_DIR}/ca.pem"

CAPABILITIES = ("SETUID", "SETGID", "KILL", "DAC_OVERRIDE", "FOWNER")

# A run could leave state for the next one in System V IPC or in message queues. A closed
# connection in TIME_WAIT would keep its port, and show its peer, for a minute. TCP would remember
# how fast each peer was, and what cookie it gave. In cgroup version 1 the buffers of sockets are
# outside the memory limit: they are small.
SYSCTLS = {
    "net.ipv4.tcp_max_tw_buckets": "0",
    "net.ipv4.tcp_no_metrics_save": "1",
    "net.ipv4.tcp_fastopen": "0",
    "net.ipv4.tcp_rmem": "4096 32768 131072",
    "net.ipv4.tcp_wmem": "4096 16384 65536",
    "kernel.shmmni": "0",
    "kernel.msgmni": "0",
    "kernel.sem": "0 0 0 0",
    "fs.mqueue.queues_max": "0",
}

# An installer downloads much, for which small buffers are slow.
INSTALLER_SYSCTLS = {name: value for name, value in SYSCTLS.items() if not name.endswith("mem")}

USER = "sandbox"
"""The name of a run's user, for USER and LOGNAME. The image's /etc/passwd does not know its number:
without these variables `getpass.getuser()` fails."""

# What Python (3.13 and later) and libraries look at before they count the machine's processors.
_COUNTS = (
    "PYTHON_CPU_COUNT",
    "LOKY_MAX_CPU_COUNT",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMEXPR_MAX_THREADS",
    "NUMBA_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "RAYON_NUM_THREADS",
)

_FRAME_SLACK_BYTES = 1 << 20  # for arguments, variables, patterns, and names of files
_VOLUME_MEMORY_BYTES = 256 << 20
_VOLUME_PIDS = 16


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a container, and so of the snippet in it; sizes in bytes."""

    memory_bytes: int = 256 << 20
    cpus: float = 1.0
    pids: int = 64
    disk_bytes: int = 64 << 20
    code_bytes: int = 1 << 20
    stdin_bytes: int = 1 << 20
    open_files: int = 1024


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """One kind of container.

    - `image`: its name on the engine; `prepared`: whether the runner is already in it;
      `base_id`: the digest of the image that it was made from
    - `script`: the path of the snippet's file
    - `bootstrap`: the command that starts the runner, if the image does not hold it
    - `network`: the engine's name of a network, or `none`; `guard`: the rules for it, as
      `EgressRules.document` returns them
    - `environment`: variables besides the image's own
    - `preimport`: the modules that every run has imported; `idle_imports`: those that a waiting
      child imports, in at most `idle_memory_bytes`
    - `layers`: the volume of layers, mounted read-only; `preload`: the layer that every run has
    - `installed`: the packages of that layer, such as `numpy==2.1.0`; `extras`: what theirs need
    - `install_bytes`: the size of a tmpfs in the volume's place, to install dependencies in
    - `seccomp`: true if our own profile replaces the engine's; `machine`: the processor of the
      engine's machine, for that profile
    """

    image: str
    prepared: bool
    base_id: str = ""
    script: str = PYTHON.script("/home/code", "Main")
    network: str = "none"
    runtime: str = ""
    preimport: Sequence[str] = ()
    idle_imports: Sequence[str] = ()
    idle_memory_bytes: int = 0
    limits: Limits = Limits()
    max_uses: int = 1000
    environment: Mapping[str, str] | None = None
    layers: str = ""
    preload: str = ""
    installed: Sequence[str] = ()
    extras: Mapping[str, Sequence[str]] | None = None
    install_bytes: int = 0
    bootstrap: Sequence[str] = ()
    guard: Mapping[str, object] | None = None
    seccomp: bool = True
    machine: str = platform.machine()

    @property
    def root_dir(self) -> str:
        """The directory of the snippet's file."""
        return self.script.rpartition("/")[0]


def create_document(
    spec: ContainerSpec, *, labels: Mapping[str, str], sequence: int
) -> dict[str, object]:
    """Return a sandbox's document, the body of the engine's `POST /containers/create`.

    `sequence` numbers the containers of a server; by it a container finds user ids of its own where
    its kernel does not number the containers (`pool/inside/users.py`).
    """
    mounts = _mounts(spec)
    runner = {
        "script": spec.script,
        "sequence": sequence,
        "mounts": list(mounts),
        "layers": LAYERS_DIR,
        "preload": spec.preload,
        "preimport": list(spec.preimport),
        "idle_imports": list(spec.idle_imports),
        "idle_memory": spec.idle_memory_bytes,
        "guard": spec.guard,
        "job_limit": spec.limits.code_bytes + spec.limits.stdin_bytes + _FRAME_SLACK_BYTES,
        "reused": spec.max_uses > 1,
        "sealed": True,
        "cpus": spec.limits.cpus,
        "pids": spec.limits.pids + 1,
    }
    environment = {
        **dict.fromkeys(("USER", "LOGNAME"), USER),
        **processor_counts(spec.limits.cpus),
        "MPLCONFIGDIR": fonts.DIRECTORY,
        **(spec.environment or {}),
        "HOME": spec.root_dir,
        "PYTHONPATH": RUNNER_DIR,
        "PGEXEC_RUNNER": json.dumps(runner, separators=(",", ":")),
    }
    command = spec.bootstrap or PYTHON.run_file(spec.script)
    return {
        **_piped(spec.image, command, labels),
        "Env": [f"{name}={value}" for name, value in environment.items()],
        "Hostname": "sandbox",
        # The kernel ignores SIGTERM to a PID 1 without a handler: an engine that stops would wait
        # ten seconds for each container.
        "StopSignal": "SIGKILL",
        "HostConfig": _host_config(spec, mounts),
    }


def processor_counts(cpus: float) -> dict[str, str]:
    """Return the variables that say how many processors a container has: `cpus`, rounded up.

    On a machine with 128 of them `multiprocessing.Pool()` would start 128 processes, and BLAS as
    many threads: more than `Limits.pids` allows.
    """
    return dict.fromkeys(_COUNTS, str(max(1, math.ceil(cpus))))


def installer_document(
    spec: ContainerSpec,
    limits: Limits,
    *,
    network: str,
    guard: Mapping[str, object] | None,
    labels: Mapping[str, str],
) -> dict[str, object]:
    """Return the document of an installer, which makes a layer for containers of `spec`.

    It is a sandbox with other limits, another network and no volume. In the volume's place is a
    tmpfs of `limits.disk_bytes`; these count as memory on top of `limits.memory_bytes`.
    """
    installer = replace(
        spec,
        network=network,
        guard=guard,
        limits=limits,
        layers="",
        install_bytes=limits.disk_bytes,
        preload="",
        preimport=(),
        idle_imports=(),
        max_uses=1,
    )
    return create_document(installer, labels=labels, sequence=0)


def volume_document(
    spec: ContainerSpec, volume: str, *, command: Sequence[str], labels: Mapping[str, str]
) -> dict[str, object]:
    """Return the document of the container that serves the volume of layers.

    It has neither a network nor capabilities: root owns all files that it touches. It runs our own
    code only, by the engine's own runtime: in gVisor, no other server would see its lock.
    """
    return {
        **_piped(spec.image, command, {**labels, LABEL_ROLE: ROLE_VOLUME}),
        "Hostname": ROLE_VOLUME,
        "NetworkDisabled": True,
        "HostConfig": {
            "AutoRemove": True,
            "NetworkMode": "none",
            "IpcMode": "none",
            "ReadonlyRootfs": True,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "Memory": _VOLUME_MEMORY_BYTES,
            "MemorySwap": _VOLUME_MEMORY_BYTES,
            "PidsLimit": _VOLUME_PIDS,
            "Mounts": [_volume_mount(volume, read_only=False)],
            "LogConfig": {"Type": "none", "Config": {}},
        },
    }


def preparer_document(
    image: str, *, command: Sequence[str], labels: Mapping[str, str]
) -> dict[str, object]:
    """Return the document of the container that is committed as the prepared image."""
    return {
        **_piped(image, command, labels),
        "NetworkDisabled": True,
        "HostConfig": {"AutoRemove": True, "NetworkMode": "none"},
    }


def _piped(image: str, command: Sequence[str], labels: Mapping[str, str]) -> dict[str, object]:
    """Return the common part of all documents: root runs one command, which ends with its stdin."""
    return {
        "Image": image,
        "Entrypoint": [],
        "Cmd": list(command),
        "User": "0:0",
        "WorkingDir": "/",
        "Labels": dict(labels),
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "OpenStdin": True,
        "StdinOnce": True,
        "Tty": False,
    }


def _volume_mount(volume: str, *, read_only: bool) -> dict[str, object]:
    """Return the engine's `Mount` that puts a volume of layers into a container."""
    return {
        "Type": "volume",
        "Source": volume,
        "Target": LAYERS_DIR,
        "ReadOnly": read_only,
        "VolumeOptions": {"NoCopy": True},  # the image's own files stay out of the volume
    }


def _mounts(spec: ContainerSpec) -> dict[str, str]:
    """Return the writable mounts: path to tmpfs options, each with its own size and inodes."""
    disk = spec.limits.disk_bytes
    mounts = {
        spec.root_dir: _tmpfs(disk, "exec"),
        "/tmp": _tmpfs(disk, "exec"),  # noqa: S108 - the container's own
        "/dev/shm": _tmpfs(disk, "noexec"),  # noqa: S108
    }
    if spec.install_bytes:
        mounts[LAYERS_DIR] = _tmpfs(spec.install_bytes, "exec")
    return mounts


def _tmpfs(size_bytes: int, execution: str) -> str:
    inodes = max(1024, size_bytes >> 12)
    return f"rw,nosuid,nodev,{execution},size={size_bytes},nr_inodes={inodes},mode=1777"


def _host_config(spec: ContainerSpec, mounts: Mapping[str, str]) -> dict[str, object]:
    limits = spec.limits
    tmpfs = dict(mounts)
    if not spec.prepared:
        tmpfs[RUNNER_DIR] = "rw,nosuid,nodev,noexec,size=8m,nr_inodes=128,mode=755"
    memory = limits.memory_bytes + spec.install_bytes
    return {
        "AutoRemove": True,
        "NetworkMode": spec.network,
        "IpcMode": "none",  # a namespace of its own, and /dev/shm is ours to mount
        "ReadonlyRootfs": True,
        "CapDrop": ["ALL"],
        "CapAdd": [*CAPABILITIES, *gvisor.guard_capabilities(spec.runtime, spec.guard)],
        "SecurityOpt": [
            "no-new-privileges",
            *([f"seccomp={seccomp.profile(spec.machine)}"] if spec.seccomp else []),
        ],
        "MaskedPaths": list(MASKED_PATHS),
        "Memory": memory,
        "MemorySwap": memory,
        "PidsLimit": gvisor.engine_pids(spec.runtime, limits.pids + 1),  # one is the runner
        "NanoCpus": round(limits.cpus * 1e9),
        "Ulimits": [
            {"Name": "nofile", "Soft": limits.open_files, "Hard": limits.open_files},
            {"Name": "core", "Soft": 0, "Hard": 0},
        ],
        "Tmpfs": tmpfs,
        **({"Mounts": [_volume_mount(spec.layers, read_only=True)]} if spec.layers else {}),
        "Sysctls": INSTALLER_SYSCTLS if spec.install_bytes else SYSCTLS,
        "LogConfig": {"Type": "none", "Config": {}},
        **({"Runtime": spec.runtime} if spec.runtime else {}),
    }
