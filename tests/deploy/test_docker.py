"""The image is built and started, with Prometheus, by the engine that is there."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

import pytest

from tests.conftest import ROOT, available_images
from tests.deploy.guide import block, going_on, stand_in
from tests.deploy.images import archive, build, load
from tests.prometheus import RULES, tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

DOCKER = ROOT / "deploy/docker"
SOCKET = Path("/var/run/docker.sock")  # what the compose file mounts
HOST = "127.0.0.2"
"""An address of the server's own, as with that of a network: the health check must find it."""
WITHIN_S = 120
MOST_BYTES = 110 << 20
"""Of the image beyond its base; beyond Alpine it has 43 MiB now."""


def command_of_compose() -> list[str]:
    """Return Docker Compose as a plugin or a program, or skip the test."""
    plugin = ["docker", "compose"]
    if (
        shutil.which("docker")
        and not subprocess.run([*plugin, "version"], capture_output=True, check=False).returncode
    ):
        return plugin
    if (program := shutil.which("docker-compose")) is None:
        pytest.skip("Docker Compose is not there: deploy/setup/compose.sh gets it on Debian")
    return [program]


def run(*command: str | Path, text: str = "", **environment: str) -> str:
    done = subprocess.run(
        command,
        input=text,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_compose_finds_nothing_wrong_with_its_file() -> None:
    told = run(*command_of_compose(), "-f", DOCKER / "compose.yaml", "config", DOCKER_GID="105")
    for promise in ("65532:105", "network_mode: host", "read_only: true", "no-new-privileges:true"):
        assert promise in told


def test_compose_says_what_the_group_must_be() -> None:
    done = subprocess.run(
        [*command_of_compose(), "-f", DOCKER / "compose.yaml", "config"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )
    assert done.returncode != 0
    assert "stat -c %g" in done.stderr


# --- for real -----------------------------------------------------------------------------


FILE = "deploy/docker/compose.yaml"
WITH_OVERRIDE = """
[[ $1 == compose && $3 == {file} ]] || exec {docker} "$@"
exec {compose} -f "$3" -f {override} "${{@:4}}"
"""
"""The docker command of the guide, with a further file for Compose."""


class Stack:
    """The services of the compose file, under a name, on ports and from images of their own."""

    def __init__(self, directory: Path) -> None:
        self.name = f"pgexec-test-{uuid.uuid4().hex[:8]}"
        self.port, self.prometheus_port = free_port(), free_port()
        self.directory = directory
        self.images: list[str] = []
        self.environment = {
            "COMPOSE_PROJECT_NAME": self.name,
            "PGEXEC_HOST": HOST,
            "PGEXEC_PORT": str(self.port),
            "PGEXEC_IMAGE": available_images()[0],
            "PGEXEC_SERVER_NAME": "in-docker",
            "PGEXEC_DRAIN_DELAY_S": "1",
            "PROMETHEUS_IMAGE": f"{self.name}-prometheus",
            "PROMETHEUS_PORT": str(self.prometheus_port),
        }

    def build(self) -> None:
        """Build the images; Prometheus from this machine's program, as no registry may be there."""
        self.images += build(run, self.name, self.directory)
        self.images.append(self.environment["PROMETHEUS_IMAGE"])
        root = archive(tool("prometheus"), "bin/prometheus", "prometheus")
        load(self.images[-1], root, "USER 65534", 'ENTRYPOINT ["/bin/prometheus"]')

    def configure(self) -> None:
        """Write what is other than the compose file has it: the images' names, and the target."""
        shutil.copytree(RULES, self.directory / "rules")
        config = self.directory / "rules/prometheus.yml"
        text = config.read_text().replace("localhost:8080", f"{HOST}:{self.port}")
        config.write_text(text.replace("_interval: 15s", "_interval: 1s"))
        built = {"args": {"BASE": self.images[0]}, "network": "host"}
        override = {
            "services": {
                "pgexec": {"image": self.name, "build": built, "restart": "no"},
                "prometheus": {"volumes": [f"{config.parent}:/etc/prometheus:ro"]},
            }
        }
        (self.directory / "override.yaml").write_text(json.dumps(override))

    def going_on(self) -> AbstractContextManager[subprocess.Popen[bytes]]:
        """Run the guide's commands, from the checkout, until Ctrl-C."""
        script = WITH_OVERRIDE.format(
            file=FILE,
            override=shlex.quote(str(self.directory / "override.yaml")),
            docker=shlex.quote(str(shutil.which("docker"))),
            compose=shlex.join(command_of_compose()),
        )
        programs = self.directory / "bin"
        stand_in(programs, "docker", ["bash", "-c", script, "docker"])
        return going_on(block("One machine: Docker").text, ROOT, programs, **self.environment)

    def compose(self, *arguments: str) -> str:
        files = ("-f", ROOT / FILE, "-f", self.directory / "override.yaml")
        environment = {**self.environment, "DOCKER_GID": str(SOCKET.stat().st_gid)}
        return run(*command_of_compose(), *files, *arguments, **environment)

    def inspect(self, service: str) -> Any:
        container = self.compose("ps", "-a", "-q", service).strip()
        return json.loads(run("docker", "inspect", container))[0]

    def remove(self) -> None:
        with contextlib.suppress(AssertionError):
            self.compose("down", "-v", "-t", "60")
        for name in self.images:
            subprocess.run(["docker", "rmi", "-f", name], capture_output=True, check=False)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, IndexError):
            if answer := condition():
                return answer
        time.sleep(0.1)
    raise AssertionError(f"not within {WITHIN_S} s: {what}")


def get(port: int, path: str, host: str = HOST) -> Any:
    with urlopen(f"http://{host}:{port}{path}", timeout=10) as answer:
        return json.load(answer)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    command_of_compose()
    tool("prometheus")
    if not SOCKET.exists():
        pytest.skip(f"the engine has no socket at {SOCKET}, which the compose file mounts")
    stack = Stack(tmp_path)
    try:
        stack.build()
        stack.configure()
        yield stack
    finally:
        stack.remove()


@pytest.mark.deployment
def test_the_guide_s_commands_serve_as_nobody_and_prometheus_scrapes_it(stack: Stack) -> None:
    with stack.going_on() as commands:
        serves(stack)
        assert commands.poll() is None
    # Ctrl-C has let both end by themselves.
    ended = {name: stack.inspect(name)["State"] for name in ("pgexec", "prometheus")}
    told = (stack.directory / "log").read_text()
    assert {name: (one["Status"], one["ExitCode"]) for name, one in ended.items()} == {
        "pgexec": ("exited", 0),
        "prometheus": ("exited", 0),
    }, told


def serves(stack: Stack) -> None:
    until(lambda: get(stack.port, "/readyz"), "ready")
    body = json.dumps({"language": "python", "code": "print(6 * 7)"}).encode()
    request = Request(f"http://{HOST}:{stack.port}/run", body, {"Content-Type": "application/json"})
    with urlopen(request, timeout=WITHIN_S) as answer:
        assert json.load(answer)["data"] == "42\n"
        assert answer.headers["X-Pgexec-Server"] == "in-docker"

    found = stack.inspect("pgexec")
    assert found["Config"]["User"].startswith("65532:")
    until(lambda: stack.inspect("pgexec")["State"]["Health"]["Status"] == "healthy", "healthy")
    sizes = [
        json.loads(run("docker", "image", "inspect", name))[0]["Size"]
        for name in (stack.name, available_images()[0])
    ]
    assert sizes[0] - sizes[1] < MOST_BYTES

    # Nothing is compiled at a start: it could not be kept, on a root that is read-only.
    imports = ("python3", "-v", "-c", "import pgexec.app, pgexec.backend.docker, uvloop")
    loaded = run(*("docker", "exec", found["Id"], "sh", "-c"), f"{shlex.join(imports)} 2>&1")
    codes = re.findall(r"^# code object from '?(.+?)'?$", loaded, re.MULTILINE)
    assert len(codes) > 300
    assert [path for path in codes if not path.endswith(".pyc")] == []

    query = "/api/v1/query?query=pgexec_build_info"
    (build,) = until(
        lambda: get(stack.prometheus_port, query, "127.0.0.1")["data"]["result"], "a scrape"
    )
    assert build["metric"]["server"] == "in-docker"
