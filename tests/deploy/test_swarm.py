"""A Swarm of real engines, each in namespaces of its own, does what a site does to its own."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import time
import uuid
from typing import TYPE_CHECKING

import pytest

from pgexec.settings import Settings
from tests.conftest import ROOT, available_images
from tests.counted import CountedLoad, RunCounter
from tests.deploy import images
from tests.deploy.guide import block
from tests.deploy.proxies import program
from tests.fleet import HUB, Fleet, Node, give_socket, join, swarm
from tests.integration.server import until
from tests.prepared import prepared
from tests.private_engine import unusable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

KEY = "KEY"
"""As the guide's command has it."""
NODES = 3
CLIENTS = 4
PAUSE = "time.sleep(0.1)"
"""In each run, for all nodes are one machine: its processors are for servers that start, too."""
START_S = 400.0
GONE_S = 60.0
"""Until Swarm gives a node up, and until what ran there is told to be lost."""
STACK = "pgexec"


def commands() -> list[str]:
    """Return the commands of the guide's part about Swarm, each as it stands there."""
    return block("Several servers: Docker Swarm").lines


def rendered(**environment: str) -> subprocess.CompletedProcess[str]:
    """Have the docker command read the stack; no engine takes part."""
    if (program := shutil.which("docker")) is None:
        pytest.skip("the docker command is not there")
    done = subprocess.run(
        [program, "stack", "config", "-c", ROOT / "deploy/swarm/stack.yaml"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], **environment},
    )
    if "Usage:" in done.stdout + done.stderr:
        pytest.skip("this docker command is older than `docker stack config`")
    return done


@pytest.fixture
def config() -> Iterator[None]:
    """Have a file in the place of what the guide's command makes."""
    made = ROOT / "deploy/swarm/envoy.yaml"
    was_there = made.exists()
    made.touch()
    yield
    if not was_there:
        made.unlink()


@pytest.mark.usefixtures("config")
def test_docker_finds_nothing_wrong_with_the_stack() -> None:
    done = rendered(DOCKER_GID="105")
    assert done.returncode == 0, done.stderr
    for promise in ("65532:105", "mode: global", "PGEXEC_NETWORK: none", "read_only: true"):
        assert promise in done.stdout
    assert done.stdout.count("/var/run/docker.sock") == 2


@pytest.mark.usefixtures("config")
def test_the_stack_says_what_the_group_must_be() -> None:
    done = rendered()
    assert done.returncode != 0
    assert "must be the group of the sockets" in done.stderr


def test_the_stack_s_envoy_is_new_enough_for_its_configuration() -> None:
    stack, config = (ROOT / "deploy" / name for name in ("swarm/stack.yaml", "envoy/envoy.yaml"))
    (taken,) = re.findall(r"envoyproxy/envoy:[a-z-]+v(\d+)\.(\d+)-", stack.read_text())
    (needed,) = re.findall(r"^# Envoy \((\d+)\.(\d+) or newer\)", config.read_text())
    assert (*map(int, taken),) >= (*map(int, needed),)


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Make the images, as archives to load, and return their names with these."""
    if reason := unusable():
        pytest.skip(reason)
    directory = tmp_path_factory.mktemp("images")
    server, envoy = f"pgexec-test-{uuid.uuid4().hex[:8]}", f"pgexec-test-{uuid.uuid4().hex[:8]}"
    made: list[str] = []
    try:
        archive = images.archive(program("envoy")[-1], "envoy")
        made += images.build(run, server, directory)
        made.append(envoy)
        images.load(envoy, archive, 'ENTRYPOINT ["/envoy"]')
        made += [f"{server}:1", f"{server}:2"]
        for tag in made[-2:]:
            run("docker", "tag", server, tag)
        file = directory / "images.tar"
        image = available_images()[0]
        both = (image, asyncio.run(prepared(Settings.of())))
        run("docker", "save", "-o", file, *made[-2:], envoy, *both)
        yield {"server": server, "envoy": envoy, "archive": str(file)}
    finally:
        for name in made:
            subprocess.run(["docker", "rmi", "-f", name], capture_output=True, check=False)


def run(*command: str | Path, cwd: Path = ROOT, **environment: str) -> str:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env=os.environ | environment,
        timeout=280,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


class Swarm:
    """The stack on a fleet, seen by its manager and by clients at the manager's entrance."""

    def __init__(self, fleet: Fleet, names: dict[str, str], directory: Path) -> None:
        self.fleet = fleet
        self.names = names
        self.directory = directory
        self.counter = RunCounter(fleet.listener())
        self.session = fleet.session(timeout_s=90)

    @property
    def manager(self) -> Node:
        return self.fleet.nodes[0]

    async def add(self) -> Node:
        node = await self.fleet.add()
        give_socket(node)
        await asyncio.to_thread(node.docker, "load", "--quiet", "--input", self.names["archive"])
        return node

    def deploy(self, version: int, *lines: str) -> None:
        """Run commands of the guide, in a copy of the files, on the manager."""
        environment = {
            "DOCKER_HOST": f"unix://{self.manager.engine.socket}",
            "PGEXEC_SERVER_IMAGE": f"{self.names['server']}:{version}",
            "ENVOY_IMAGE": self.names["envoy"],
            "PGEXEC_IMAGE": available_images()[0],
            "PGEXEC_NETWORK": "egress",
            "PGEXEC_NETWORK_ALLOW": f"{HUB}/32",
        }
        script = "\n".join(("set -euo pipefail", *lines))
        run("bash", "-c", script, cwd=self.directory, **environment)

    def load(self) -> CountedLoad:
        url = f"http://{self.manager.address}:8000"
        headers = {"Authorization": f"Bearer {KEY}"}
        return CountedLoad(self.session, url, self.counter, CLIENTS, headers, pause=PAUSE)

    async def serves(self, load: CountedLoad, *nodes: Node) -> None:
        """Wait until each of these nodes, and no other, serves runs from now on."""

        async def all_and_no_other() -> bool:
            wanted = {await asyncio.to_thread(self.server_on, node) for node in nodes}
            now = time.monotonic()
            await load.more(4 * len(nodes))
            return {one.server for one in load.since(now) if one.status == 200} == wanted

        where = [node.name for node in nodes]
        await until(all_and_no_other, f"{where} serve", within_s=START_S)

    @staticmethod
    def server_on(node: Node) -> str:
        """Return the name, which is the address, of the server on a node."""
        ids = node.docker("ps", "--quiet", "--filter", f"name={STACK}_pgexec").split()
        form = f'{{{{(index .NetworkSettings.Networks "{STACK}_servers").IPAddress}}}}'
        return node.docker("inspect", "--format", form, ids[0]) if ids else "none"

    def updated(self) -> str:
        form = ("--format", "{{with .UpdateStatus}}{{.State}}{{end}}")
        return self.manager.docker("service", "inspect", f"{STACK}_pgexec", *form)


@pytest.fixture
async def stack(
    names: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Swarm]:
    directory = tmp_path_factory.mktemp("swarm")
    fleet = Fleet(directory)
    for part in ("swarm", "envoy"):
        shutil.copytree(ROOT / "deploy" / part, directory / "deploy" / part)
    made = None
    try:
        fleet.create()
        made = Swarm(fleet, names, directory)
        for _ in range(NODES):
            await made.add()
        # The guide's first command, with the addresses that machines have of themselves.
        assert commands()[0].startswith("docker swarm init ")
        await swarm(fleet.nodes)
        await asyncio.to_thread(made.deploy, 1, *commands()[1:])
        yield made
    finally:
        if made is not None:
            await made.session.close()
            made.counter.close()
        await asyncio.to_thread(fleet.close)


@pytest.mark.deployment
@pytest.mark.timeout(2400)
async def test_a_swarm_loses_no_run_and_runs_none_twice(stack: Swarm) -> None:
    fleet = stack.fleet
    async with stack.counter:
        async with stack.load() as load:
            await stack.serves(load, *fleet.nodes)

        async with stack.load() as load:
            # A rolling update.
            await asyncio.to_thread(stack.deploy, 2, *commands()[-2:])

            async def completed() -> bool:
                state = await asyncio.to_thread(stack.updated)
                assert state in ("", "updating", "completed"), state
                return state == "completed"

            await until(completed, "the update is complete", within_s=2 * START_S)
            await stack.serves(load, *fleet.nodes)

            # A node is drained, and comes back.
            drained = fleet.nodes[1]
            stack.manager.docker("node", "update", "--availability", "drain", drained.name)
            await stack.serves(load, *(node for node in fleet.nodes if node is not drained))
            stack.manager.docker("node", "update", "--availability", "active", drained.name)
            await stack.serves(load, *fleet.nodes)

            # A node is added.
            added = await stack.add()
            await asyncio.to_thread(join, stack.manager, added)
            await stack.serves(load, *fleet.nodes)
        assert [one for one in load.told if one.status != 200] == []
        assert (load.twice, load.lies) == ([], [])

        async with stack.load() as load:
            # A node dies, with what runs there.
            dead = fleet.nodes[2]
            await load.more(20)
            await asyncio.to_thread(dead.engine.close)
            await stack.serves(load, *(node for node in fleet.nodes if node is not dead))

            async def given_up() -> bool:
                form = ("--format", "{{.Hostname}} {{.Status}}")
                told = await asyncio.to_thread(stack.manager.docker, "node", "ls", *form)
                return f"{dead.name} Down" in told.splitlines()

            await until(given_up, "Swarm gives the node up", within_s=GONE_S)
        others = [one for one in load.told if one.status != 200]
        assert {one.status for one in others} <= {502, 503}, others
        assert len(others) <= CLIENTS, others
        assert (load.twice, load.lies) == ([], [])
