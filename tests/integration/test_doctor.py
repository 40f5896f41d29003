"""The doctor against the real engine: what it finds, what it misses nothing of, what it leaves."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from pgexec.backend.laboratory import Laboratory
from pgexec.backend.spec import prepare_spec
from pgexec.doctor import sessions, trials
from pgexec.doctor.findings import CheckStatus, Observation, fail, ok
from pgexec.doctor.sandbox import Sandbox
from pgexec.settings import Settings
from pool.container import Container
from pool.engine.ownership import instance_name, labels
from pool.engine.spec import LABEL_INSTANCE, create_document
from pool.errors import PreimportRefused

if TYPE_CHECKING:
    from pathlib import Path

    from pool.engine.docker import DockerEngine

BOUND_S = 30
"""How long the doctor may take, where the image is prepared and the engine answers."""


def command(directory: Path, *arguments: str, **settings: str) -> tuple[list[str], dict[str, Any]]:
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        **{name: os.environ[name] for name in ("DOCKER_HOST",) if name in os.environ},
        **{f"PGEXEC_{name}": value for name, value in settings.items()},
    }
    return [sys.executable, "-m", "pgexec", "doctor", *arguments], {
        "cwd": directory,
        "env": environment,
        "text": True,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
    }


async def doctor(
    directory: Path, *arguments: str, **settings: str
) -> subprocess.CompletedProcess[str]:
    words, options = command(directory, *arguments, **settings)
    return await asyncio.to_thread(lambda: subprocess.run(words, check=False, **options))


async def owned(engine: DockerEngine, pid: int) -> list[str]:
    """Return the containers of a process that has, or had, this pid."""
    containers = await engine.owned(LABEL_INSTANCE)
    return [one.id for one in containers if one.labels[LABEL_INSTANCE].split("/")[-2] == str(pid)]


async def test_nothing_fails_here(base_image: str, tmp_path: Path) -> None:
    done = await doctor(tmp_path, "--json", IMAGE=base_image)
    findings = {one["check"]: one for one in json.loads(done.stdout)}
    assert [one for one in findings.values() if one["status"] in ("fail", "skip")] == []
    assert done.returncode == 0
    for one in findings.values():
        assert set(one) == {"check", "status", "finding", "remedy"}
    assert all(bool(one["remedy"]) == (one["status"] == "warn") for one in findings.values())
    for tried in (
        "memory limit",
        "pids limit",
        "network guard",
        "read-only root",
        "recycling",
        "sessions",
    ):
        assert findings[tried]["status"] == "ok", findings[tried]
    assert findings["network guard"]["finding"].startswith(("policies: ", "routes: "))


async def test_it_says_one_line_for_each_check(first_image: str, tmp_path: Path) -> None:
    done = await doctor(tmp_path, IMAGE=first_image)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert len(lines) > 20
    assert [line for line in lines if line.split()[0] not in ("ok", "warn")] == []


async def test_without_a_network_there_is_nothing_to_guard(
    first_image: str, tmp_path: Path
) -> None:
    done = await doctor(tmp_path, "--json", IMAGE=first_image, NETWORK="none")
    findings = {one["check"]: one for one in json.loads(done.stdout)}
    assert findings["network guard"]["status"] == "ok"
    assert "no network" in findings["network guard"]["finding"]
    assert done.returncode == 0


async def test_without_an_engine_it_fails_in_a_sentence(tmp_path: Path) -> None:
    done = await doctor(tmp_path, DOCKER_HOST=f"unix://{tmp_path}/no.sock")
    assert done.returncode == 1
    assert done.stderr == ""
    (failure,) = [line for line in done.stdout.splitlines() if line.startswith("fail")]
    assert failure.split()[1] == "engine"
    assert "remedy: " in failure


async def test_an_image_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = await doctor(tmp_path, IMAGE="pgexec-no-such-image:1")
    assert done.returncode == 1
    (failure,) = [line for line in done.stdout.splitlines() if line.startswith("fail")]
    assert failure.split()[1] == "image"
    assert "pgexec-no-such-image:1" in failure


async def test_an_interrupted_doctor_leaves_no_container(
    engine: DockerEngine, first_image: str, tmp_path: Path
) -> None:
    words, options = command(tmp_path, IMAGE=first_image)
    with subprocess.Popen(words, **options) as process:  # noqa: ASYNC220 - to be interrupted
        async with asyncio.timeout(BOUND_S):
            while not await owned(engine, process.pid):
                await asyncio.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, words_of_error = await asyncio.to_thread(process.communicate, None, 10)
    assert process.returncode == 130
    assert words_of_error == ""
    async with asyncio.timeout(10):
        while await owned(engine, process.pid):
            await asyncio.sleep(0.02)


@pytest.fixture
async def laboratory(engine: DockerEngine, base_image: str) -> Laboratory:
    """Give the doctor's containers, to be weakened: one that notices passes."""
    settings = Settings.of(image=base_image)
    spec = await prepare_spec(engine, settings)
    return Laboratory(engine, settings, spec, lambda: labels(instance_name(), time.time() + 60))


async def test_it_notices_that_the_network_is_not_guarded(laboratory: Laboratory) -> None:
    weak = replace(laboratory, spec=replace(laboratory.spec, guard=None))
    async with weak.container() as container:
        sandbox = await Sandbox.of(weak, container)
        observation = await trials.guard(sandbox)
        assert (await trials.metadata(sandbox)).status is CheckStatus.FAIL
    assert observation.status is CheckStatus.FAIL
    assert "answered" in observation.finding
    assert "by TCP" in observation.finding


async def test_it_notices_missing_seccomp_privileges_and_limits(laboratory: Laboratory) -> None:
    document = create_document(
        laboratory.spec, labels=labels(instance_name(), time.time() + 60), sequence=0
    )
    host: dict[str, Any] = dict(document["HostConfig"])  # type: ignore[call-overload]
    host |= {"SecurityOpt": ["seccomp=unconfined"], "ReadonlyRootfs": False, "Sysctls": {}}
    host |= {"NanoCpus": 0, "MaskedPaths": []}
    # A runner that looks would refuse the writable root.
    environment = [
        line.replace('"sealed":true', '"sealed":false')
        for line in cast("list[str]", document["Env"])
    ]
    weak = {**document, "HostConfig": host, "Env": environment}
    container = await Container.start(laboratory.engine, weak)
    try:
        sandbox = await Sandbox.of(laboratory, container)
        for check in (
            trials.seccomp,
            trials.privileges,
            trials.read_only_root,
            trials.masks,
            trials.sysctls,
            trials.cpu,
        ):
            observation = await check(sandbox)
            assert observation.status is CheckStatus.FAIL, observation
        assert sandbox.inside.setuid == "gained" or "debian" not in laboratory.settings.image
    finally:
        await container.destroy()


async def test_a_place_that_the_engine_makes_writable_for_all_is_refused_by_its_name(
    laboratory: Laboratory,
) -> None:
    """As Podman's `/var/tmp`, or what an image names as a volume: the next run would see it."""
    document = create_document(
        laboratory.spec, labels=labels(instance_name(), time.time() + 60), sequence=0
    )
    with pytest.raises(PreimportRefused, match=r"^every user may write to /var/tmp, which "):
        await Container.start(laboratory.engine, {**document, "Volumes": {"/var/tmp": {}}})


@pytest.mark.parametrize("of_runs_too", [False, True])
async def test_a_session_is_blamed_for_what_its_cells_alone_lack(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch, *, of_runs_too: bool
) -> None:
    """Podman shows a masked path to runs and cells alike: that is no reason to go without cells."""
    looked: list[int] = []

    async def look(sandbox: Sandbox) -> Observation:
        looked.append(sandbox.inside.uid)
        in_a_cell = len(looked) == 1
        return fail("it lacks", "") if in_a_cell or of_runs_too else ok("it has")

    monkeypatch.setattr(sessions, "_OF_A_CELL", (look,))
    found = await sessions.sessions(laboratory)
    assert found.status is (CheckStatus.OK if of_runs_too else CheckStatus.FAIL)
    assert len(set(looked)) == len(looked)
