"""What an installer prints: why it failed, and what nobody may read."""

from __future__ import annotations

import asyncio

import pytest

from pool.dependencies.pip_log import (
    LOG_LINES,
    PipLog,
    classify,
    missing_package,
)
from pool.dependencies.throttle import BYTES_PER_S, Throttle
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


@pytest.mark.parametrize(
    "line",
    [
        "error: command 'gcc' failed: No such file or directory",
        "error: command 'x86_64-linux-gnu-gcc' failed: No such file or directory",
        "unable to execute 'cc': No such file or directory",
        "ERROR: Unknown compiler(s): [['cc'], ['gcc'], ['clang']]",
        "CMake Error: CMAKE_CXX_COMPILER not set, after EnableLanguage",
        "error: can't find Rust compiler",
        "FileNotFoundError: [Errno 2] No such file or directory: 'cmake'",
        "/bin/sh: make: not found",
        "configure: error: no acceptable C compiler found in $PATH",
        "Error: pg_config executable not found.",
        "Error: Please make sure the libxml2 and libxslt development packages are installed.",
        "src/x.c:1:10: fatal error: Python.h: No such file or directory",
        "Cargo, the Rust package manager, is not installed. Get it by rustup",
    ],
)
def test_a_compiler_that_is_missing_is_said(line: str) -> None:
    failure, sentence = classify(f"{line}\nerror: subprocess-exited-with-error", 1)
    assert failure is InstallFailure.BUILD
    assert "no wheel of it fits this image, and a compiler" in sentence
    assert "\n" not in sentence
    there = "error: command '/usr/bin/gcc' failed with exit code 1\nsubprocess-exited-with-error"
    assert classify(there, 1)[1] == "it cannot be built"


def test_what_pip_did_not_find_is_read_with_its_versions_and_without_its_marker() -> None:
    assert str(missing_package(NONE_FOUND)) == "x"
    marked = "No matching distribution found for torch>=2; platform_system == 'Linux'"
    assert str(missing_package(marked)) == "torch>=2"
    each = "ResolutionImpossible\nno matching distributions available for your environment:\n    t"
    assert str(missing_package(each)) == "t"
    assert classify(each, 1)[0] is InstallFailure.CONFLICT
    assert missing_package("No matching distribution found for $") is None


def test_a_build_that_fails_for_another_reason_is_not_said_to_lack_a_compiler() -> None:
    module = "No module named 'distutils.msvccompiler'\nerror: subprocess-exited-with-error"
    assert classify(module, 1)[1] == "it cannot be built"
    wheel = "ERROR: Wheel 'x' located at /tmp/x-1.0-py3-none-any.whl is invalid."
    assert classify(wheel, 1)[1] == "its wheel is broken"
    step = "Getting requirements to build wheel did not run successfully.\n"
    network = "OSError: Network is unreachable"
    assert classify(step + network, 1)[0] is InstallFailure.BUILD
    assert (
        classify(
            "pip subprocess to install build dependencies did not run successfully.\n" + network, 1
        )[0]
        is InstallFailure.NO_NETWORK
    )


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


async def test_of_a_flood_only_the_last_lines_are_looked_at() -> None:
    heard: list[str] = []
    log = PipLog([], heard.append)
    await log.add(1, b"".join(b"line %d\r\n" % number for number in range(10_000)))
    assert len(heard) <= 200
    assert heard[-1] == "line 9999"
    await log.add(1, b"x" * 100_000)
    await log.add(1, b"\nlast\n")
    assert log.last[-1] == "last"


@pytest.mark.clock
@pytest.mark.parametrize("size", [1, 32 << 10])
@pytest.mark.slow
async def test_a_reader_of_output_without_end_is_slowed_down(size: int) -> None:
    throttle = Throttle()
    loop = asyncio.get_running_loop()
    began = loop.time()
    await throttle.take(size)
    assert loop.time() == began
    messages = 0
    while loop.time() < began + 100:
        await throttle.take(size)
        messages += 1
    per_second = messages / 100
    assert per_second * size <= 2 * BYTES_PER_S
    assert per_second <= 1200
    await asyncio.sleep(1000)
    quiet = loop.time()
    await throttle.take(1 << 20)
    assert loop.time() == quiet


def test_lines_that_each_begin_a_sign_are_read_once() -> None:
    """Set-up code may print them; to look for each one's end took eight minutes of the loop."""
    log = "\n".join(["building did not run successfully " * 11] * 2000)
    failure, sentence = classify(f"{log}\nsubprocess-exited-with-error", 1)
    assert (failure, sentence) == (InstallFailure.BUILD, "it cannot be built")


def test_a_full_disk_is_said_before_a_network_that_the_build_misses() -> None:
    build = "Preparing metadata did not run successfully\nNetwork is unreachable\n"
    assert classify(build, 1)[1].endswith("needs something from the network")
    assert classify(f"Network is unreachable\n{build.splitlines()[0]}", 1)[0] is (
        InstallFailure.NO_NETWORK
    )
    assert classify(f"{build}No space left on device", 1)[0] is InstallFailure.TOO_LARGE
