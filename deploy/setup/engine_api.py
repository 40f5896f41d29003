"""Ask the container engine for what set-up needs; no docker command line has to be there.

ping            print the engine's address, or say why none answers and exit 1
has IMAGE [LABEL=VALUE]
                exit 0 when the engine has the image, and with this label if one is named, else 1
pull IMAGE      pull it and show the progress
import IMAGE CHANGE...
                make the image of the plain tar on stdin; changes are Dockerfile lines

The address is DOCKER_HOST, else that of Docker's current context, else a usual socket. Standard
library only, because it runs several times in every start and must not be felt.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import runpy
import socket
import ssl
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import BinaryIO

# By their paths: the package that they are in would bring the whole pool with it.
_ENGINE = Path(__file__).parents[2] / "pool/engine"
contexts = SimpleNamespace(**runpy.run_path(str(_ENGINE / "contexts.py")))
architectures = SimpleNamespace(**runpy.run_path(str(_ENGINE / "architectures.py")))
PING_TIMEOUT_S = 5
# Without a word of progress for this long, a pull counts as stuck.
STALL_TIMEOUT_S = 90
CHUNK_BYTES = 1 << 20
# A root's first program comes early. What is read before is held in memory.
LOOK_CHUNKS = 64


class EngineError(Exception):
    """Say in one sentence why the engine did not do what it was asked for."""


class UnixConnection(http.client.HTTPConnection):
    """Speak HTTP over a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def addresses() -> list[str]:
    """List where an engine may be, best guess first, as the server does."""
    try:
        if address := contexts.configured_address():
            return [address]
    except ValueError as error:  # a context that cannot be followed
        raise EngineError(str(error)) from error
    return [f"unix://{path}" for path in contexts.usual_sockets() if Path(path).exists()]


def connect(address: str, timeout: float) -> http.client.HTTPConnection:
    url = urlsplit(address)
    if url.scheme == "unix":
        return UnixConnection(url.path, timeout)
    if url.scheme not in {"tcp", "http", "https"} or not url.hostname:
        raise EngineError(f"the engine's address {address!r} is none of unix://, tcp://, https://")
    if url.scheme != "https" and not os.environ.get("DOCKER_TLS_VERIFY"):
        return http.client.HTTPConnection(url.hostname, url.port or 2375, timeout=timeout)
    certs = Path(os.environ.get("DOCKER_CERT_PATH") or Path.home() / ".docker")
    context = ssl.create_default_context(cafile=certs / "ca.pem")
    context.load_cert_chain(certs / "cert.pem", certs / "key.pem")
    return http.client.HTTPSConnection(
        url.hostname, url.port or 2376, timeout=timeout, context=context
    )


def find_engine() -> str:
    """Return the first address that answers a ping."""
    reasons = []
    for address in addresses():
        try:
            connection = connect(address, PING_TIMEOUT_S)
            connection.request("GET", "/_ping")
            response = connection.getresponse()
        except PermissionError:
            reasons.append(f"{address}: this user may not use it (is it in the group docker?)")
        except (OSError, http.client.HTTPException) as error:
            reasons.append(f"{address}: {error}")
        else:
            if response.status == http.HTTPStatus.OK:
                return address
            reasons.append(f"{address}: status {response.status}")
    raise EngineError("; ".join(reasons) or "no engine's socket was found")


def has(image: str, label: str = "") -> bool:
    connection = connect(find_engine(), PING_TIMEOUT_S * 2)
    connection.request("GET", f"/images/{quote(image)}/json")
    response = connection.getresponse()
    if response.status != http.HTTPStatus.OK:
        return False
    labels = json.loads(response.read())["Config"].get("Labels") or {}
    name, _, value = label.partition("=")
    return not label or labels.get(name) == value


def create(
    query: dict[str, str] | list[tuple[str, str]], upload: Iterable[bytes] | None = None
) -> str:
    """Pull or import an image, following the engine's progress to its end; return its last word.

    That is, of an import, the image's id.
    """
    connection = connect(find_engine(), STALL_TIMEOUT_S)
    connection.request(
        "POST",
        f"/images/create?{urlencode(query)}",
        body=upload,
        headers={"Content-Type": "application/x-tar", "Transfer-Encoding": "chunked"}
        if upload
        else {},
        encode_chunked=upload is not None,
    )
    response = connection.getresponse()
    if response.status != http.HTTPStatus.OK:
        raise EngineError(json.loads(response.read())["message"])
    status = ""
    for line in response:
        event = json.loads(line)
        if "error" in event:
            raise EngineError(event["error"])
        status = event.get("status", "")
        if not event.get("progressDetail"):
            print(" ", event.get("id", ""), status, file=sys.stderr)
    return status


def import_image(image: str, changes: list[str]) -> None:
    """Make an image of the plain tar on stdin, and see that it has its name.

    Raises `EngineError` if its programs are for other processors than the engine's: an engine
    imports them all the same, as if they were for its own, and no container would start.
    """
    tar = sys.stdin.buffer
    kept: list[bytes] = []
    its = architectures.of_root(look_at(tar, kept))
    if wrong := architectures.mismatch(its, machine()):
        raise EngineError(
            f"what was to be {image} is {wrong}: "
            f"docker pull --platform linux/{machine()} python:alpine"
        )
    name, tag = split_tag(image)
    lines = [("changes", change) for change in changes]
    rest = iter(lambda: tar.read(CHUNK_BYTES), b"")
    made = create(
        [("fromSrc", "-"), ("repo", name), ("tag", tag), *lines], itertools.chain(kept, rest)
    )
    if has(image):
        return
    connection = connect(find_engine(), PING_TIMEOUT_S * 2)  # Podman 4.3 ignores the tag
    connection.request("POST", f"/images/{made}/tag?{urlencode({'repo': name, 'tag': tag})}")
    response = connection.getresponse()
    if response.status != http.HTTPStatus.CREATED:
        raise EngineError(json.loads(response.read())["message"])


def look_at(tar: BinaryIO, kept: list[bytes]) -> Iterator[bytes]:
    """Yield the blocks of a tar's beginning, and keep what was read of it in `kept`."""
    while len(kept) < LOOK_CHUNKS and (chunk := tar.read(CHUNK_BYTES)):
        kept.append(chunk)
        for start in range(0, len(chunk), architectures.BLOCK):
            yield chunk[start : start + architectures.BLOCK]


def machine() -> str:
    """Return the architecture of the engine's machine by Docker's name, or `""`."""
    connection = connect(find_engine(), PING_TIMEOUT_S * 2)
    connection.request("GET", "/version")
    return str(json.loads(connection.getresponse().read()).get("Arch") or "")


def split_tag(image: str) -> tuple[str, str]:
    """Split off the tag; a colon before a slash is a registry's port."""
    name, colon, tag = image.rpartition(":")
    return (name, tag) if colon and "/" not in tag else (image, "latest")


def main() -> int:
    match sys.argv[1:]:
        case ["ping"]:
            print(find_engine())
        case ["has", image, *label] if len(label) <= 1:
            return 0 if has(image, *label) else 1
        case ["pull", image]:
            name, tag = ("", image) if "@" in image else split_tag(image)
            create({"fromImage": name or tag} | ({"tag": tag} if name else {}))
        case ["import", image, *changes]:
            import_image(image, changes)
        case _:
            sys.exit(__doc__)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except EngineError as error:
        sys.exit(str(error))
    except (OSError, http.client.HTTPException) as error:
        sys.exit(f"{type(error).__name__}: {error}")
