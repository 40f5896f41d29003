"""Find the address of an engine: Docker's contexts, and the usual sockets.

By `docker context use`, Docker Desktop, Colima and a rootless set-up make the command line speak to
their engine. Source: `cli/context/store` of docker/cli.

Standard library only, and nothing else of ours: `deploy/setup/engine_api.py` loads this file alone.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

_NO_CONTEXT = ("", "default")
_USABLE = ("unix://", "tcp://", "http://", "https://")


class ContextError(ValueError):
    """The chosen context cannot be used; the text gives the reason and a remedy."""


def usual_sockets() -> list[str]:
    """List the default sockets of engines, the best guess first."""
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    home = Path.home()
    return [
        "/var/run/docker.sock",
        f"{runtime}/docker.sock",
        f"{home}/.docker/run/docker.sock",
        f"{home}/.docker/desktop/docker.sock",
        f"{home}/.colima/default/docker.sock",
        f"{home}/.config/colima/default/docker.sock",
        "/run/podman/podman.sock",
        f"{runtime}/podman/podman.sock",
    ]


def configured_address() -> str:
    """Return the engine's URL in the environment or the current context, `""` if there is none.

    `DOCKER_HOST` comes before `DOCKER_CONTEXT`, and that before `docker context use`, as for the
    command line. Raises `ContextError`.
    """
    if host := os.environ.get("DOCKER_HOST"):
        return host
    directory = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    name, whose = os.environ.get("DOCKER_CONTEXT", ""), "DOCKER_CONTEXT"
    if not name:
        file = directory / "config.json"
        whose = f"currentContext in {file}"
        name = str(_read(file).get("currentContext") or "")
    return "" if name in _NO_CONTEXT else _address_of(name, directory / "contexts", whose)


def _address_of(name: str, contexts: Path, whose: str) -> str:
    key = hashlib.sha256(name.encode()).hexdigest()
    endpoints = _read(contexts / "meta" / key / "meta.json").get("Endpoints")
    endpoint = endpoints.get("docker") if isinstance(endpoints, dict) else None
    host = str(endpoint.get("Host") or "") if isinstance(endpoint, dict) else ""
    advice = "set PGEXEC_DOCKER_HOST to the engine's address"
    if not host:
        raise ContextError(f"{whose} is {name!r}, a context that names no engine: {advice}")
    if not host.startswith(_USABLE):
        raise ContextError(f"{whose} is {name!r}, at {host}, which cannot be used: {advice}")
    certificates = contexts / "tls" / key / "docker"
    if certificates.is_dir():
        raise ContextError(
            f"{whose} is {name!r}, with certificates of its own: {advice}, DOCKER_TLS_VERIFY to 1 "
            f"and DOCKER_CERT_PATH to {certificates}"
        )
    return host


def _read(path: Path) -> dict[str, object]:
    """Return the JSON object in a file; an empty one if the file is missing, or not such JSON."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
