"""What the server tells the runner of a new container.

Runs inside the container: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

from typing import TypedDict


class Config(TypedDict):
    """The runner's configuration: JSON in an environment variable, from `pool/engine/spec.py`.

    `sequence` is the container's number on its server. `layers` is the directory of dependency
    layers, `preload` the name of the layer that every run has, or `""`. A waiting child imports the
    modules `idle_imports`, which may take `idle_memory` bytes. `guard` is the plan for the network
    (`guard.close_off`). `job_limit` is the largest JOB frame, in bytes. `reused` is true if
    the container serves several runs. It has `cpus` processors, and at most `pids` processes.
    """

    script: str
    sequence: int
    mounts: list[str]
    layers: str
    preload: str
    guard: dict[str, list[str]] | None
    preimport: list[str]
    idle_imports: list[str]
    idle_memory: int
    job_limit: int
    reused: bool
    sealed: bool
    cpus: float
    pids: int
