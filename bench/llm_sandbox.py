"""llm-sandbox's pool of containers, driven by lines on stdin: `run CODE`, `raise CODE`, `rate S N`.

Runs in an environment of its own, with llm-sandbox. Its argument is the base image. Prints one
JSON value a line: the seconds of a run, from taking a container out of the pool to its being back;
for `rate` the runs per second of N threads in S seconds.
"""

from __future__ import annotations

import io
import json
import sys
import threading
import time
from typing import TYPE_CHECKING

import docker  # type: ignore[import-untyped]
from llm_sandbox import SandboxSession  # type: ignore[import-not-found]
from llm_sandbox.pool import PoolConfig, create_pool_manager  # type: ignore[import-not-found]

if TYPE_CHECKING:
    from llm_sandbox.pool import ContainerPoolManager

TAG = "pgexec-bench-llm-sandbox"
WORKERS = 4


def main() -> None:
    """Serve until stdin ends."""
    engine = docker.from_env()
    # What its set-up of the environment makes, which wants a package index.
    recipe = f"FROM {sys.argv[1]}\nRUN python3 -m venv --without-pip /sandbox/.sandbox-venv\n"
    engine.images.build(fileobj=io.BytesIO(recipe.encode()), tag=TAG, rm=True)
    config = PoolConfig(max_pool_size=WORKERS, min_pool_size=WORKERS)
    pool = create_pool_manager(config=config, lang="python", image=TAG, skip_environment_setup=True)
    try:
        for line in sys.stdin:
            command, _, rest = line.rstrip("\n").partition(" ")
            if command == "rate":
                seconds, threads = rest.split()
                answer: float | None = _rate(pool, float(seconds), int(threads))
            else:
                answer = _run(pool, json.loads(rest), failing=command == "raise")
            print(json.dumps(answer), flush=True)
    finally:
        pool.close()
        engine.images.remove(TAG, force=True)


def _run(pool: ContainerPoolManager, code: str, *, failing: bool = False) -> float | None:
    began = time.perf_counter()
    with SandboxSession(lang="python", pool=pool) as session:
        result = session.run(code)
    took = time.perf_counter() - began
    return took if (result.exit_code != 0) is failing else None


def _rate(pool: ContainerPoolManager, seconds: float, threads: int) -> float:
    began = time.perf_counter()
    done = []

    def work() -> None:
        while time.perf_counter() - began < seconds:
            if _run(pool, "print(1)") is not None:
                done.append(time.perf_counter())

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return len(done) / (max(done) - began) if done else 0.0


if __name__ == "__main__":
    main()
