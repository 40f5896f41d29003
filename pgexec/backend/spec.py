"""The containers of the settings: their image, network, limits, environment and labels."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pgexec.settings import profiles
from pool.engine.egress import make_rules, own_addresses, own_resolvers
from pool.engine.gvisor import is_gvisor
from pool.engine.image import prepare
from pool.engine.ownership import labels
from pool.engine.sources import bootstrap_command
from pool.engine.spec import CA_BUNDLE, LABEL, LABEL_PROFILE, ContainerSpec, Limits
from pool.language import PYTHON

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgexec.settings import Profile, Settings
    from pool.engine.docker import DockerEngine
    from pool.engine.egress import EgressRules

NETWORK = "pgexec-egress"
EXPIRY_SLACK_S = 3600.0


async def prepare_spec(engine: DockerEngine, settings: Settings) -> ContainerSpec:
    """Make the image and the network of the settings; return a spec that uses them."""
    ca_bundle = ""
    if settings.ca_bundle:
        ca_bundle = await asyncio.to_thread(Path(settings.ca_bundle).read_text)
    image = await prepare(
        engine, settings.image, directories=(settings.root_dir,), ca_bundle=ca_bundle
    )
    network = settings.network
    if "egress" in (network, settings.dependency_network):
        await engine.ensure_network(NETWORK, LABEL)
    if network == "egress":
        network = _egress_network(settings)
    await engine.ensure_volume(settings.dependency_volume, LABEL)
    rules = egress_rules(settings)
    script = PYTHON.script(settings.root_dir, settings.code_file_name)
    return ContainerSpec(
        image=image.name,
        prepared=image.prepared,
        base_id=image.base_id,
        bootstrap=() if image.prepared else bootstrap_command(script),
        script=script,
        network=network,
        layers=settings.dependency_volume,
        guard=rules.document() if rules else None,
        runtime=settings.runtime,
        preimport=settings.preimport,
        idle_imports=settings.idle_imports,
        idle_memory_bytes=settings.idle_memory,
        limits=Limits(
            memory_bytes=settings.memory_limit,
            cpus=settings.cpus,
            pids=settings.pids_limit,
            disk_bytes=settings.disk_limit,
            code_bytes=settings.code_limit,
            stdin_bytes=settings.stdin_limit,
        ),
        max_uses=settings.max_uses,
        machine=str((await engine.version()).get("Arch", "")),
        environment=trust(CA_BUNDLE) if ca_bundle and image.prepared else {},
    )


def described(profile: Profile) -> str:
    """Return words for the image and the packages of a profile, for sentences."""
    image = f"the image {profile.settings.image}"
    return f"{image} with {', '.join(profile.dependencies)}" if profile.dependencies else image


def egress_rules(settings: Settings) -> EgressRules | None:
    """Return the rules for a guarded network, `None` for any other network."""
    return _rules(settings) if settings.network == "egress" else None


def _egress_network(settings: Settings) -> str:
    """Return the engine's network for `egress`.

    On a network of our own, Docker's resolver listens where gVisor does not look: on the machine's
    side of the container. On the default one, the container asks the engine's own resolvers.
    """
    return "bridge" if is_gvisor(settings.runtime) else NETWORK


def _rules(settings: Settings) -> EgressRules:
    return make_rules(settings.network_allow, own_addresses(), own_resolvers())


def installer_network(settings: Settings) -> tuple[str, Mapping[str, object] | None]:
    """Return the installers' own network and its guard; `""` means the snippets' network."""
    if settings.dependency_network == "egress":
        return _egress_network(settings), _rules(settings).document()
    return settings.dependency_network, None


def container_labels(
    instance: str, settings: Settings, language: str = profiles.DEFAULT
) -> dict[str, str]:
    """Return the labels of a container that starts now."""
    return labels(instance, time.time() + lifetime_s(settings)) | {LABEL_PROFILE: language}


def lifetime_s(settings: Settings) -> float:
    """Return the age in seconds at which a container counts as left over."""
    return settings.max_age_s + EXPIRY_SLACK_S


THREADLESS = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}
"""The environment by which a profile can pre-import pyarrow, and what imports it if it is there:
pandas, scikit-learn. Its jemalloc would start a thread to give memory back, which no child has."""


def trust(bundle: str) -> dict[str, str]:
    """Return the variables by which Python, pip, requests and curl find CA certificates."""
    names = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    return dict.fromkeys(names, bundle)
