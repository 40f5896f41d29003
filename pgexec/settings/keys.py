"""API keys: each key names a tenant. On a server without keys, everyone may call."""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_BEARER = "bearer "


@dataclass(frozen=True, slots=True, repr=False)
class Keyring:
    """The tenants and the SHA-256 digests of their keys; the keys themselves are not kept.

    `path` is the file from which they come, if there is one.
    """

    entries: tuple[tuple[str, bytes], ...] = ()
    path: Path | None = None

    def __repr__(self) -> str:
        return f"<Keyring of {len(self.entries)}>"

    def __bool__(self) -> bool:
        return bool(self.entries)

    @property
    def tenants(self) -> frozenset[str]:
        """The names of all tenants."""
        return frozenset(name for name, _ in self.entries)

    def tenant(self, authorization: str | None) -> str | None:
        """Return the tenant whose key an `Authorization: Bearer` header carries, else `None`.

        It compares every entry, in constant time, so that the time tells nothing about the keys.
        """
        if authorization is None or authorization[: len(_BEARER)].lower() != _BEARER:
            return None
        key = authorization[len(_BEARER) :].strip().encode("utf-8", "surrogateescape")
        digest = sha256(key).digest()
        found = None
        for name, expected in self.entries:
            if hmac.compare_digest(digest, expected):
                found = name
        return found


def parse_keyring(text: str) -> Keyring:
    """Read `name:key` pairs, separated by commas, or a file of `name:sha256` lines.

    `text` names a file as `file:PATH`, or by a path that starts with `/` or `.`. Raises
    `ValueError`; its text never contains a key.
    """
    text = text.strip()
    if text.startswith("file:"):
        return _read_file(Path(text.removeprefix("file:")))
    if text.startswith(("/", ".")):
        return _read_file(Path(text))
    entries = []
    for position, pair in enumerate(filter(None, map(str.strip, text.split(","))), 1):
        name, colon, key = pair.partition(":")
        if not (colon and key and _NAME.fullmatch(name)):
            raise ValueError(f"item {position} is not a name:key pair")
        entries.append((name, sha256(key.encode()).digest()))
    if text and not entries:
        # A text of commas only, which a template may leave, must not open the server either.
        raise ValueError("there is no name:key pair")
    return _keyring(entries)


def _read_file(path: Path) -> Keyring:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ValueError(f"the file {str(path)!r} cannot be read: {reason}") from error
    entries = []
    for number, raw in enumerate(lines, 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        name, _, digest = line.partition(":")
        if not (_NAME.fullmatch(name) and _DIGEST.fullmatch(digest)):
            raise ValueError(f"line {number} of {str(path)!r} is not name:sha256-in-hex")
        entries.append((name, bytes.fromhex(digest)))
    if not entries:
        # An empty file of keys must not open the server to everyone.
        raise ValueError(f"the file {str(path)!r} holds no keys")
    return _keyring(entries, path)


def _keyring(entries: list[tuple[str, bytes]], path: Path | None = None) -> Keyring:
    if len({digest for _, digest in entries}) != len(entries):
        raise ValueError("two of the keys are the same")
    return Keyring(tuple(entries), path)
