"""The images that a site would build or pull, made here by the engine, without a registry."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tarfile
from typing import TYPE_CHECKING

from pgexec.settings import load_settings
from tests.conftest import ROOT, available_images
from tests.deploy.proxies import program

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., str]

DOCKERFILE = ROOT / "deploy/docker/Dockerfile"
_LIBRARY = re.compile(r"(/\S+) \(0x")


def build(run: Run, name: str, directory: Path) -> list[str]:
    """Build the Dockerfile's image under a name; return the names of all images that it took."""
    base, made = available_images()[0], []
    certificates = load_settings()[0].ca_bundle
    if certificates:
        shutil.copy(certificates, directory / "ca.pem")
        (directory / "Dockerfile").write_text(
            f"FROM {base}\nCOPY ca.pem /etc/ssl/pgexec.pem\nENV PIP_CERT=/etc/ssl/pgexec.pem\n"
        )
        base = f"{name}-base"
        made.append(base)
        run("docker", "build", "-q", "-t", base, directory)
    # The first stage by a name, too, by which it can be removed.
    for tag, target in ((f"{name}-build", ["--target", "build"]), (name, [])):
        made.append(tag)
        options = ("--network", "host", "--build-arg", f"BASE={base}", "-t", tag, *target)
        run("docker", "build", "-q", *options, "-f", DOCKERFILE, ROOT)
    return made


def envoy_archive() -> bytes:
    """Return a root file system as a tar: Envoy at `/envoy`, and the libraries that it loads."""
    binary = program("envoy")[-1]
    loaded = subprocess.run(["ldd", binary], capture_output=True, text=True, check=True).stdout
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", dereference=True) as tar:
        tar.add(binary, "envoy")
        for library in _LIBRARY.findall(loaded):
            tar.add(library, library.lstrip("/"))
        empty = tarfile.TarInfo("tmp")
        empty.type, empty.mode = tarfile.DIRTYPE, 0o1777
        tar.addfile(empty)
    return archive.getvalue()
