"""What the pools of several languages share must not show in their containers."""

from __future__ import annotations

from pgexec.backend.docker import DockerBackend
from pgexec.settings import Settings

NOWHERE = "unix:///nowhere/docker.sock"


async def test_no_two_containers_of_any_pools_have_the_same_number() -> None:
    """From it come their user ids: the kernel keeps limits and keyrings by those."""
    backend = DockerBackend(Settings.of(docker_host=NOWHERE, profiles={"a": {}, "b": {}}))
    languages = ("python", "a", "b")
    numbers = [backend._sequence(number, one) for number in range(50) for one in languages]
    assert len(set(numbers)) == len(numbers)
    await backend.close()
