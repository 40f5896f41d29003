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

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., str]

DOCKERFILE = ROOT / "deploy/docker/Dockerfile"
_LIBRARY = re.compile(r"(/\S+) \(0x")


def build(run: Run, name: str, directory: Path) -> list[str]:
    """Build the Dockerfile's image under a name; return the names of all images that it took.

    The first of them is its base, with the certificates that this machine's index needs.
    """
    lines = [f"FROM {available_images()[0]}"]
    if certificates := load_settings()[0].ca_bundle:
        shutil.copy(certificates, directory / "ca.pem")
        lines += ("COPY ca.pem /etc/ssl/pgexec.pem", "ENV PIP_CERT=/etc/ssl/pgexec.pem")
    (directory / "Dockerfile").write_text("\n".join(lines))
    base = f"{name}-base"
    run("docker", "build", "-q", "-t", base, directory)
    made = [base]
    # The first stage by a name, too, by which it can be removed.
    for tag, target in ((f"{name}-build", ["--target", "build"]), (name, [])):
        made.append(tag)
        options = ("--network", "host", "--build-arg", f"BASE={base}", "-t", tag, *target)
        run("docker", "build", "-q", *options, "-f", DOCKERFILE, ROOT)
    return made


def archive(program: str, name: str, *directories: str) -> bytes:
    """Return a root file system as a tar: a program under a name, and the libraries that it loads.

    Its further directories are for everybody to write to.
    """
    loaded = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", dereference=True) as tar:
        tar.add(program, name)
        for library in _LIBRARY.findall(loaded):
            tar.add(library, library.lstrip("/"))
        for directory in ("tmp", *directories):
            empty = tarfile.TarInfo(directory)
            empty.type, empty.mode = tarfile.DIRTYPE, 0o1777
            tar.addfile(empty)
    return made.getvalue()


def load(name: str, archive: bytes, *changes: str) -> None:
    """Make an image of a root file system, with changes as in a Dockerfile."""
    options = [option for change in changes for option in ("-c", change)]
    subprocess.run(
        ["docker", "import", *options, "-", name],
        input=archive,
        check=True,
        stdout=subprocess.DEVNULL,
    )
