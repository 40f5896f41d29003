"""From settings to what installers are told, and what of it must never be shown."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from pgexec.backend.layers import PooledLayers, layers_config
from pgexec.backend.pip import installer_config
from pgexec.settings import Settings
from pool.errors import LeaseTimeout

if TYPE_CHECKING:
    from pool.dependencies.installer import InstallerConfig
    from pool.engine.docker import DockerEngine
    from pool.engine.spec import ContainerSpec


def config_of(**settings: object) -> InstallerConfig:
    return installer_config(Settings.of(**settings), trust={"PIP_CERT": "/ca"}, network=("", None))


def test_without_settings_the_image_decides_which_index_is_used() -> None:
    environment = config_of().environment
    assert environment["PIP_CERT"] == "/ca"
    assert not [name for name in environment if "INDEX" in name or "HOST" in name]


def test_credentials_go_to_the_index_alone_and_are_secrets_in_each_spelling() -> None:
    config = config_of(
        dependency_index_url="https://index.example/simple/",
        dependency_extra_index_url="https://token@other.example/,http://plain.example:81/simple",
        dependency_index_credentials="me:p@ss/word",
    )
    environment = config.environment
    assert environment["PIP_INDEX_URL"] == "https://me:p%40ss%2Fword@index.example/simple/"
    assert environment["PIP_EXTRA_INDEX_URL"] == (
        "https://token@other.example/ http://plain.example:81/simple"
    )
    assert environment["PIP_TRUSTED_HOST"] == "plain.example:81"
    assert {"p@ss/word", "p%40ss%2Fword", "me:p%40ss%2Fword", "token"} == set(config.secrets)


def test_binary_only_is_said_to_pip() -> None:
    assert config_of(dependency_binary_only=True).environment["PIP_ONLY_BINARY"] == ":all:"


def test_a_layer_depends_on_all_that_its_installer_is_told() -> None:
    kinds: list[dict[str, Any]] = [
        {},
        {"dependency_index_url": "https://one.example/"},
        {"dependency_extra_index_url": "https://one.example/"},
        {"dependency_binary_only": True},
        {"dependency_deny": "six"},
    ]
    abouts = {layers_config(Settings.of(**kind), config_of(**kind)).about for kind in kinds}
    assert len(abouts) == len(kinds)


def test_a_request_waits_while_the_containers_of_an_installation_start() -> None:
    settings = Settings.of(start_timeout_s=200, install_timeout_s=100)
    assert layers_config(settings, config_of()).wait_s > 200 + 200 + 100


@pytest.mark.clock
async def test_an_image_that_is_still_prepared_is_said_to_be_so() -> None:
    async def prepare(language: str) -> ContainerSpec:
        await asyncio.Event().wait()
        raise AssertionError

    layers = PooledLayers(
        cast("DockerEngine", None),
        Settings.of(),
        config_of(),
        instance="me",
        spec=prepare,
        stock=lambda _: None,
        labels=dict,
    )
    with pytest.raises(LeaseTimeout, match=r"is not prepared yet; .* /readyz tells"):
        async with layers.use(("six",), language="python", tenant="me"):
            raise AssertionError
