"""Translate documents for Docker, as `spec.py` makes them, into documents for Podman.

Podman offers Docker's API, but differs in these points:

- `seccomp=` is the path of a file on the engine's machine, not the profile itself. That machine
  may be another one. So the file gets there by the API, in a volume that no running container of
  ours mounts.
- A tmpfs has no `nr_inodes`. The memory limit bounds its inodes, because the kernel charges them.
- `MaskedPaths` is ignored; `mask=` is its name.
- A read-only root gets a writable `/run` and `/var/tmp`, in which a run could find files of an
  earlier one. A read-only tmpfs covers each of them.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from typing import TYPE_CHECKING, Any

from pool.engine.spec import LABEL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiodocker import Docker

    from pool.engine.api import CreateDocument

SIGN = "Libpod-API-Version"
"""Each answer of Podman has this header; no answer of Docker has it."""
VOLUME = "pgexec-seccomp"

_SECCOMP = "seccomp="
_PROFILES_DIR = "/profiles"
_CLOSED = "ro,nosuid,nodev,noexec,size=64k,mode=755"
_WRITABLE_BY_DEFAULT = ("/run", "/var/tmp")  # noqa: S108 - the container's own


def profile_of(document: CreateDocument) -> str:
    """Return the seccomp profile that a document carries as JSON, `""` if it carries none."""
    options = _host_config(document).get("SecurityOpt", ())
    profiles = [one.removeprefix(_SECCOMP) for one in options if one.startswith(_SECCOMP + "{")]
    return profiles[0] if profiles else ""


def translated(document: CreateDocument, profile_path: str) -> CreateDocument:
    """Return a document as Podman understands it.

    `profile_path` is where the engine's machine has the document's profile, `""` without one.
    """
    host = dict(_host_config(document))
    options = [one for one in host.get("SecurityOpt", ()) if not one.startswith(_SECCOMP + "{")]
    if profile_path:
        options.append(_SECCOMP + profile_path)
    # A colon parts the paths, and nothing escapes it: one that has a colon stays unmasked, which
    # the doctor says.
    if masked := [path for path in host.pop("MaskedPaths", ()) if ":" not in path]:
        options.append(f"mask={':'.join(masked)}")
    host["SecurityOpt"] = options
    tmpfs = {path: _without_inodes(text) for path, text in host.get("Tmpfs", {}).items()}
    if host.get("ReadonlyRootfs"):
        tmpfs = {**dict.fromkeys(_WRITABLE_BY_DEFAULT, _CLOSED), **tmpfs}
    host["Tmpfs"] = tmpfs
    return {**document, "HostConfig": host}


async def publish(docker: Docker, profile: str, document: CreateDocument) -> str:
    """Put a seccomp profile on the engine's machine; return its path there.

    A container with the image and the labels of `document` carries the file into the volume: it is
    created, and never started. By its labels the sweep finds it should the server die meanwhile.
    Two servers that do this at once write the same bytes under the same name.
    """
    name = f"{hashlib.sha256(profile.encode()).hexdigest()[:24]}.json"
    volume = await docker._query_json(  # noqa: SLF001 - aiodocker's `create` is untyped
        "volumes/create", "POST", data={"Name": VOLUME, "Labels": {LABEL: ""}}
    )
    of: Mapping[str, Any] = document
    mount = {"Type": "volume", "Source": VOLUME, "Target": _PROFILES_DIR}
    porter = await docker.containers.create(
        {
            "Image": of["Image"],
            "Labels": of.get("Labels", {}),
            "Cmd": ["/never-started"],
            "HostConfig": {"NetworkMode": "none", "Mounts": [mount]},
        }
    )
    try:
        await docker._query_json(  # noqa: SLF001 - aiodocker's `put_archive` is untyped
            f"containers/{porter.id}/archive",
            "PUT",
            params={"path": _PROFILES_DIR},
            data=_archive(name, profile.encode()),
            headers={"Content-Type": "application/x-tar"},
        )
    finally:
        await porter.delete(force=True)
    return f"{volume['Mountpoint']}/{name}"


def _host_config(document: CreateDocument) -> Mapping[str, Any]:
    host = document.get("HostConfig")
    return host if isinstance(host, dict) else {}


def _without_inodes(options: str) -> str:
    return ",".join(one for one in options.split(",") if not one.startswith("nr_inodes="))


def _archive(name: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = len(data), 0o444
        archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()
