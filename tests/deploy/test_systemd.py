"""The units are sound, and what they start is there once the wheel is installed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

from tests.conftest import ROOT, available_images

UNITS = ROOT / "deploy/systemd"
PROGRAM = "/opt/pgexec/bin/pgexec"
EXPOSURE = 2.0
"""What `systemd-analyze security` calls OK goes up to 4.9; it counts the network and /proc, which
the server needs."""
WITHIN_S = 60


def analyze(*arguments: str | Path) -> str:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not there: apt install systemd")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(params=["pgexec.service", "pgexec@.service"])
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Copy a unit to where its program exists; of a template, an instance."""
    text = (UNITS / request.param).read_text()
    assert PROGRAM in text
    path: Path = tmp_path / request.param.replace("@", "@one")
    path.write_text(text.replace(PROGRAM, sys.executable))
    return path


def test_systemd_finds_nothing_wrong_with_a_unit(unit: Path) -> None:
    assert analyze("verify", "--man=no", unit) == ""


def test_a_unit_gives_its_server_little_to_do_harm_with(unit: Path) -> None:
    told = analyze("security", "--offline=yes", f"--threshold={EXPOSURE * 10:g}", unit)
    assert "Overall exposure level" in told


def test_the_two_units_differ_by_the_name_of_the_server_alone() -> None:
    one, many = ((UNITS / name).read_text() for name in ("pgexec.service", "pgexec@.service"))
    for named, plain in (("pgexec %i", "pgexec"), ("/%i", ""), ("-%i", ""), ("@NAME", "")):
        many = many.replace(named, plain)
    body = re.compile(r"^\[Unit\]$.*", re.MULTILINE | re.DOTALL)
    assert body.findall(many) == body.findall(one)


def test_a_stop_leaves_time_for_the_delay_and_the_runs() -> None:
    settings = dict(re.findall(r"^(PGEXEC_DRAIN_\w+)=(\d+)$", shipped(), re.MULTILINE))
    unit = (UNITS / "pgexec.service").read_text()
    (stop_s,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert int(stop_s) >= sum(map(int, settings.values())) + 15


def shipped() -> str:
    """Return the defaults, and behind them what the sample for /etc/pgexec has in their place."""
    return (ROOT / "settings.env").read_text() + (UNITS / "settings.local.env").read_text()


# --- the wheel ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel."""
    directory = tmp_path_factory.mktemp("wheel")
    run(Path(sys.executable), "-m", "hatchling", "build", "-t", "wheel", "-d", directory)
    (wheel,) = directory.glob("pgexec-*.whl")
    return wheel


@pytest.fixture(scope="module", params=["pip", "uv"])
def program(
    request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Install the wheel into a fresh environment; return its program."""
    directory = tmp_path_factory.mktemp("opt") / "pgexec"
    if request.param == "pip":
        run(Path(sys.executable), "-m", "venv", directory)
        pip = directory / "bin/pip"
        run(pip, "install", "--quiet", "--disable-pip-version-check", wheel)
    else:
        uv = shutil.which("uv")
        if uv is None:
            pytest.skip("uv is not there")
        places = {"UV_TOOL_DIR": directory / "tools", "UV_TOOL_BIN_DIR": directory / "bin"}
        variables = [f"{name}={place}" for name, place in places.items()]
        options = ("--quiet", "--python", sys.executable)
        run(Path("/usr/bin/env"), *variables, uv, "tool", "install", *options, wheel)
    return directory / "bin/pgexec"


def run(program: Path, *arguments: str | Path, cwd: Path = ROOT) -> str:
    done = subprocess.run(
        [program, *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """Make a directory like /etc/pgexec, with the sample of settings and what the machine needs."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    text = (UNITS / "settings.local.env").read_text()
    more = {
        "PGEXEC_PORT": port,
        "PGEXEC_IMAGE": available_images()[0],
        "PGEXEC_NETWORK": "none",
        "PGEXEC_POOL_MIN_IDLE": 1,
        "PGEXEC_DRAIN_DELAY_S": 0.5,
        "PGEXEC_DEPENDENCY_VOLUME": "pgexec-test-deploy",
    }
    (tmp_path / "settings.local.env").write_text(
        text + "".join(f"{name}={value}\n" for name, value in more.items())
    )
    return tmp_path


@pytest.mark.deployment
def test_the_wheel_gives_the_program_with_its_settings(program: Path, etc: Path) -> None:
    assert run(program, "--version", cwd=etc).startswith("pgexec ")
    listed = json.loads(run(program, "settings", "--json", cwd=etc))
    assert len(listed) > 60
    (host,) = [one for one in listed if one["name"] == "PGEXEC_HOST"]
    assert (host["value"], host["source"]) == ("127.0.0.1", str(etc / "settings.local.env"))


# As the units start it: without capabilities, privileges to gain, or memory that is both written
# and executed. The user stays: an interpreter for the tests may lie where no other may read it.
CONFINED = """
import ctypes, os, sys
assert ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) == 0  # PR_SET_MDWE
os.execv(sys.argv[1], sys.argv[1:])
"""


def until_refused(url: str) -> None:
    """Ask until the answer is an error: the signal may take a moment."""
    while True:
        urlopen(url, timeout=WITHIN_S).close()


@pytest.mark.deployment
def test_what_is_installed_serves_as_confined_as_the_units_have_it(
    program: Path, etc: Path
) -> None:
    if os.getuid() != 0:
        pytest.skip("only root may give up its capabilities so")
    options = ("--no-new-privs", "--bounding-set=-all", "--inh-caps=-all")
    command = ["setpriv", *options, sys.executable, "-c", CONFINED]
    server = subprocess.Popen(
        [*command, program, "serve"],
        cwd=etc,
        env={"PATH": os.environ["PATH"], "PGEXEC_GENERATE_LOG_FILE": "false"}
        | {"PGEXEC_SERVER_NAME": "one"},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stderr is not None
    try:
        port = ""
        for line in server.stderr:
            entry = json.loads(line)
            if entry["event"] == "listening":
                port = entry["port"]
            if entry["event"] == "warm":
                break
        assert port, "the server ended before it was warm"
        body = json.dumps({"language": "python", "code": "print(6 * 7)"}).encode()
        headers = {"Content-Type": "application/json"}
        url = f"http://127.0.0.1:{port}"
        with urlopen(Request(f"{url}/run", body, headers), timeout=WITHIN_S) as answer:
            assert json.load(answer)["data"] == "42\n"
            assert answer.headers["X-Pgexec-Server"] == "one"
        server.send_signal(signal.SIGTERM)
        with pytest.raises(URLError, match="503"):
            until_refused(f"{url}/readyz")
        assert server.wait(WITHIN_S) == 0
    finally:
        server.kill()
        server.wait()
        server.stderr.close()
