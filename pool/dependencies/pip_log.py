"""Pip's output: its lines without secrets, and the reason of a failure read from them. Pure."""

from __future__ import annotations

import contextlib
import re
from collections import deque
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement

from pool.errors import InstallFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    OnLine = Callable[[str], None]

LOG_LINES = 20
_LINES_AT_ONCE = 200
"""Of what comes in one piece, only so many lines are looked at: the last ones."""
_LINE_CHARS = 400


class PipLog:
    """The lines of one installation, without `secrets`.

    `last` holds the newest lines, for the client. `on_line` is called with each line as it comes.
    """

    def __init__(self, secrets: Sequence[str], on_line: OnLine) -> None:
        self.last: deque[str] = deque(maxlen=LOG_LINES)
        self._all: deque[str] = deque(maxlen=2000)
        self._secrets = sorted(filter(None, secrets), key=len, reverse=True)
        self._on_line = on_line
        self._rest = b""

    @property
    def text(self) -> str:
        """The newest lines, at most 2000, with the unfinished one at the end."""
        self._line(self._rest)
        self._rest = b""
        return "\n".join(self._all)

    async def add(self, _stream: int, data: bytes) -> None:
        """Add bytes of stdout or stderr, which may end within a line."""
        *lines, rest = (self._rest + data).rsplit(b"\n", _LINES_AT_ONCE)
        self._rest = rest[-(1 << 14) :]
        for line in lines:
            self._line(line.rpartition(b"\n")[2])

    def _line(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace").rstrip()
        for secret in self._secrets:
            text = text.replace(secret, "****")
        text = "".join(one if one.isprintable() else " " for one in text[:_LINE_CHARS])
        if text.strip():
            self.last.append(text)
            self._all.append(text)
            self._on_line(text)


_TOOLS = r"(?:cc|gcc|g\+\+|c\+\+|clang|gfortran|cargo|rustc|cmake|make|ninja|swig)"

_NOT_BUILT = re.compile(
    r"(?:equirements to build|reparing metadata|uilding)[^\n]* did not run successfully"
)
_NO_WAY = (
    *("Failed to establish a new connection", "NameResolutionError"),
    *("Network is unreachable", "Temporary failure in name resolution"),
    *("ConnectTimeoutError", "No route to host", "CERTIFICATE_VERIFY_FAILED"),
)

# The first that matches counts: to pip, a failed network looks like an index without packages.
# Foreign code writes the text, so no pattern may look beyond its line: many lines that begin a
# match would each be followed to the end of the text, for minutes, and the event loop waits.
_SIGNS: tuple[tuple[InstallFailure, str, Sequence[str]], ...] = (
    (
        InstallFailure.TOO_LARGE,
        "it is larger than an installation may be",
        ("No space left on device", "Disk quota exceeded", r"Errno 28\b"),
    ),
    (
        InstallFailure.NO_NETWORK,
        "the package index cannot be reached",
        (*_NO_WAY, "Could not fetch URL"),
    ),
    (
        InstallFailure.BAD_LAYER,
        "it holds paths that lead out of its directory",
        ("trying to install outside",),
    ),
    (
        InstallFailure.CONFLICT,
        "its requirements conflict with each other",
        (*("ResolutionImpossible", "Double requirement given", "conflicting dependencies"),),
    ),
    (
        InstallFailure.NO_VERSION,
        "there is no matching version",
        (r"\(from versions: (?!none)",),
    ),
    (
        InstallFailure.NO_PACKAGE,
        "there is no such package",
        ("No matching distribution found",),
    ),
    (
        InstallFailure.BUILD,
        "its wheel is broken",
        ("has an invalid wheel", r"Wheel .* is invalid", "BadZipFile"),
    ),
    (
        InstallFailure.BUILD,
        "no wheel of it fits this image, and a compiler or library to build it is missing there",
        (
            rf"command ['\"]?(?:\S*[/-])?{_TOOLS}['\"]? failed: No such file",
            rf"(?:unable to execute|directory:) ['\"]?(?:\S*[/-])?{_TOOLS}\b",
            *(r"[Uu]nknown compiler\(s\)", r"CMAKE_(?:C|CXX|Fortran)_COMPILER"),
            *(
                "[Nn]o (?!module)[^\n]*compiler",
                "[Cc]ompiler [^\n]*(?:not found|cannot be found|not installed)",
            ),
            *("(?:find|locate) [^\n]*compiler", "[Rr]ust (?:toolchain|compiler)", "rustup"),
            rf"\b{_TOOLS}['\"]?: (?:command )?not found",
            *("config (?:executable )?(?:is )?(?:not found|missing)", "development packages"),
            *(
                "fatal error: [^\n]*No such file or directory",
                "[Hh]eaders? [^\n]*(?:not found|missing)",
            ),
        ),
    ),
    (
        InstallFailure.BUILD,
        "it cannot be built",
        (
            *("subprocess-exited-with-error", "metadata-generation-failed", "Failed to build"),
            *("Failed building wheel", "BackendUnavailable"),
        ),
    ),
)
_NEEDS_NETWORK = "it cannot be built: its set-up code needs something from the network"
_KILLED = 128 + 9
_MISSING = (
    re.compile(r"No matching distribution found for ([^\n]+)"),
    re.compile(r"distributions available for your environment:\n\s*(\S+)"),
)


def missing_package(text: str) -> Requirement | None:
    """Return the requirement for which pip found nothing, from its output."""
    for pattern in _MISSING:
        with contextlib.suppress(InvalidRequirement):
            if found := pattern.search(text):
                requirement = Requirement(found[1])
                requirement.marker = None
                return requirement
    return None


def classify(
    text: str, status: int, denied: frozenset[str] = frozenset()
) -> tuple[InstallFailure, str]:
    """Return the kind of pip's failure, and a sentence for the client.

    `text` is pip's output and `status` its exit status. A constraint that no version meets
    excludes each package of `denied`. So a conflict with it means `DENIED`, not `CONFLICT`.
    """
    if denied and (found := re.search(r"requested \(constraint\) ([\w.-]+?)<0", text)):
        return InstallFailure.DENIED, f"{found[1]} is denied on this server"
    for failure, sentence, patterns in _SIGNS:
        if re.search("|".join(patterns), text):
            if failure is InstallFailure.NO_NETWORK and _builds_without_network(text):
                return InstallFailure.BUILD, _NEEDS_NETWORK
            return failure, sentence
    if status in (_KILLED, -9):
        return InstallFailure.TOO_LARGE, "it took more memory than an installation may"
    return InstallFailure.OTHER, "the installer failed"


def _builds_without_network(text: str) -> bool:
    """Return True if a build failed, and a connection after that: pip prints the build's output."""
    build = _NOT_BUILT.search(text)
    return build is not None and re.search("|".join(_NO_WAY), text[build.end() :]) is not None
