"""The command line: what each word does, and what goes wrong in one sentence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from dotenv import dotenv_values

import pgexec
from pgexec.__main__ import main
from pgexec.client.command import name_of
from pgexec.settings import load_settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty directory: its own file of settings hides the checkout's."""
    (tmp_path / "settings.local.env").write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def listed(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, str]]:
    assert main(["settings", "--json"]) == 0
    return {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}


def test_without_a_command_it_prints_help_and_starts_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("usage: pgexec")
    for command in ("serve", "run", "settings", "doctor", "advise"):
        assert command in printed


def test_it_tells_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"pgexec {pgexec.__version__}\n"


@pytest.mark.parametrize("option", ["--port", "--host"])
def test_an_option_of_serve_wins_over_its_setting(
    monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.setenv("PGEXEC_PORT", "1")
    monkeypatch.setenv("PGEXEC_HOST", "10.0.0.1")
    field = option.removeprefix("--")
    settings, _ = load_settings(**{field: "127"})
    assert str(getattr(settings, field)) == "127"
    assert {settings.port, settings.host} - {127, "127"} <= {1, "10.0.0.1"}


@pytest.mark.parametrize("port", ["http", "65536", "-1", ""])
def test_a_wrong_option_is_refused_in_its_own_name(
    capsys: pytest.CaptureFixture[str], port: str
) -> None:
    assert main(["serve", f"--port={port}"]) == 2
    printed = capsys.readouterr()
    assert printed.err == (
        f"pgexec: --port is {port!r}, but must be a whole number from 0 to 65535\n"
    )


def test_every_setting_is_listed_with_its_default_and_advice(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = listed(capsys)
    shipped = dotenv_values(ROOT / "settings.env", interpolate=False)
    assert {name: entry["default"] for name, entry in found.items()} == shipped
    assert {entry["source"] for entry in found.values()} == {"default"}
    assert all(len(entry["advice"]) > 10 for entry in found.values())
    assert not [entry for entry in found.values() if "---" in entry["advice"]]


def test_a_value_is_listed_with_the_place_that_it_comes_from(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    local = directory / "settings.local.env"
    local.write_text("PGEXEC_CPUS=2\nPGEXEC_MAX_USES=7\n")
    monkeypatch.setenv("PGEXEC_MAX_USES", "8")
    found = listed(capsys)
    assert (found["PGEXEC_CPUS"]["value"], found["PGEXEC_CPUS"]["source"]) == ("2", str(local))
    uses = found["PGEXEC_MAX_USES"]
    assert (uses["value"], uses["source"], uses["default"]) == ("8", "environment", "1000")


def test_a_value_that_is_the_default_is_listed_with_its_place_all_the_same(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (directory / "settings.local.env").write_text("PGEXEC_PORT=9000\n")
    monkeypatch.setenv("PGEXEC_PORT", "8080")
    assert listed(capsys)["PGEXEC_PORT"]["source"] == "environment"


def test_what_no_terminal_should_be_sent_is_listed_as_an_escape(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PGEXEC_LOG_FILE", "a\n\x1b[31m")
    main(["settings"])
    assert r"PGEXEC_LOG_FILE='a\n\x1b[31m'  (environment" in capsys.readouterr().out


def test_secrets_are_not_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PGEXEC_API_KEYS", "alice:hunter2")
    monkeypatch.setenv("PGEXEC_DEPENDENCY_INDEX_CREDENTIALS", "bob:hunter3")
    monkeypatch.setenv("PGEXEC_DEPENDENCY_INDEX_URL", "https://eve:hunter4@index.example/simple")
    monkeypatch.setenv("PGEXEC_DOCKER_HOST", "tcp://mallory:hunter5@hunter6@engine.example:2376")
    found = listed(capsys)
    assert "hunter" not in json.dumps(found)
    assert found["PGEXEC_API_KEYS"]["value"] == "***"
    assert found["PGEXEC_DOCKER_HOST"]["value"] == "tcp://***@engine.example:2376"
    main(["settings"])
    assert "hunter" not in capsys.readouterr().out


def test_wrong_settings_are_listed_too_and_then_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PGEXEC_PORT", "http")
    assert main(["settings"]) == 2
    printed = capsys.readouterr()
    assert "PGEXEC_PORT=http  (environment; default 8080)" in printed.out
    assert printed.err.startswith("pgexec: PGEXEC_PORT is 'http'")


def test_a_name_that_counts_is_not_said_not_to(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (directory / "settings.local.env").write_text("PGEXEC_PORT=1\n")
    monkeypatch.setenv("pgexec_port", "2")
    settings, warnings = load_settings()
    assert (settings.port, warnings) == (2, [])


@pytest.mark.parametrize("order", [("PGEXEC_PORT", "pgexec_port"), ("pgexec_port", "PGEXEC_PORT")])
def test_a_name_in_capitals_wins_over_one_that_is_not(
    directory: Path, monkeypatch: pytest.MonkeyPatch, order: tuple[str, str]
) -> None:
    values = {"PGEXEC_PORT": "1", "pgexec_port": "2"}
    for name in order:
        monkeypatch.setenv(name, values[name])
    settings, warnings = load_settings()
    assert settings.port == 1
    assert warnings == ["pgexec_port does not count beside PGEXEC_PORT"]
    for name in order:
        monkeypatch.delenv(name)
    (directory / "settings.local.env").write_text("".join(f"{n}={values[n]}\n" for n in order))
    assert load_settings()[0].port == 1


def test_what_clients_read_is_no_unknown_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGEXEC_API_KEY", "secret")
    assert load_settings()[1] == []


PROGRAM = [sys.executable, "-c", "import pgexec.__main__ as m; raise SystemExit(m.main())"]


@pytest.fixture(params=["settings", "advise"])
def command(directory: Path, request: pytest.FixtureRequest) -> list[str]:
    (directory / "trace.csv").write_text("at_s,held_s\n0,1\n")
    return [*PROGRAM, request.param, *(["trace.csv"] if request.param == "advise" else [])]


def test_a_reader_that_has_read_enough_gets_no_traceback(
    directory: Path, command: list[str]
) -> None:
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PYTHONPATH": str(ROOT)},
        cwd=directory,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=60) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux's")
def test_a_disk_that_is_full_is_named(directory: Path, command: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            command,
            stdout=full,
            stderr=subprocess.PIPE,
            env={"PYTHONPATH": str(ROOT)},
            cwd=directory,
            check=False,
            timeout=60,
        )
    assert ended.returncode == 1
    assert ended.stderr == b"pgexec: standard output cannot be written: No space left on device\n"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("data/in.csv", "data/in.csv"),
        ("./in.csv", "in.csv"),
        ("/srv/in.csv", "in.csv"),
        ("../up/in.csv", "in.csv"),
    ],
)
def test_a_file_of_run_keeps_its_name_below_this_directory(path: str, name: str) -> None:
    assert name_of(path) == name


def test_run_says_that_no_server_is_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], directory: Path
) -> None:
    monkeypatch.setenv("PGEXEC_URL", "http://127.0.0.1:1")
    (directory / "a.py").write_text("1")
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        assert main(["run", "a.py", "--", "--help"]) == 125
    assert capsys.readouterr().err.startswith("pgexec: the server cannot be reached: ")


def test_run_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("pgexec.client")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "httpx", None)
    assert main(["run", "a.py"]) == 1
    assert "install pgexec[client]" in capsys.readouterr().err
