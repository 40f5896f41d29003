"""What an installer prints: why it failed, and what nobody may read."""

from __future__ import annotations

import pytest

from pool.dependencies.pip_log import LOG_LINES, PipLog, classify
from pool.errors import InstallFailure

VERSIONS = "ERROR: Could not find a version that satisfies the requirement x "
NONE_FOUND = "ERROR: No matching distribution found for x"


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        (NONE_FOUND, InstallFailure.NO_PACKAGE),
        (VERSIONS + "(from versions: 1.0, 2.0)\n" + NONE_FOUND, InstallFailure.NO_VERSION),
        (VERSIONS + "(from versions: none)\n" + NONE_FOUND, InstallFailure.NO_PACKAGE),
        ("ERROR: ResolutionImpossible: for help visit …", InstallFailure.CONFLICT),
        ("ERROR: Double requirement given: x==1", InstallFailure.CONFLICT),
        ("error: subprocess-exited-with-error", InstallFailure.BUILD),
        ("ERROR: Failed to build 'x'", InstallFailure.BUILD),
        ("OSError: [Errno 28] No space left on device", InstallFailure.TOO_LARGE),
        (
            "… Failed to establish a new connection: [Errno 113]\n" + NONE_FOUND,
            InstallFailure.NO_NETWORK,
        ),
        ("a file '/x' trying to install outside the target directory", InstallFailure.BAD_LAYER),
        ("something new", InstallFailure.OTHER),
    ],
)
def test_the_reason_is_read_from_what_the_installer_printed(
    text: str, failure: InstallFailure
) -> None:
    assert classify(text, 1)[0] is failure


def test_an_installer_that_was_killed_took_too_much() -> None:
    assert classify("Collecting x", 137)[0] is InstallFailure.TOO_LARGE


def test_what_is_denied_is_named() -> None:
    text = "The user requested (constraint) evil<0.dev0\nERROR: ResolutionImpossible"
    assert classify(text, 1, frozenset({"evil"})) == (
        InstallFailure.DENIED,
        "evil is denied on this server",
    )


async def test_lines_lose_secrets_and_control_characters_and_are_cut() -> None:
    heard: list[str] = []
    log = PipLog(["pass", "user:pass"], heard.append)
    await log.add(1, b"Looking in https://user:pa")
    assert heard == []
    await log.add(2, b"ss@index/\r\n\x1b[31mred\n" + b"x" * 1000 + b"\nlast")
    assert log.text.endswith("last")
    assert heard[:2] == ["Looking in https://****@index/", " [31mred"]
    assert len(heard[2]) == 400
    await log.add(1, b"line\n" * 10_000)
    assert len(log.last) == LOG_LINES
