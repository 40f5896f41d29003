"""The log: JSON, one event per line, written elsewhere."""

from __future__ import annotations

import io
import json
import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest

from pgexec.telemetry.log import event, start_logging

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Log:
    """Logs to a file; `lines()` ends that and reads it."""

    def __init__(self, tmp_path: Path) -> None:
        self.path = tmp_path / "logs.txt"
        self.stop = start_logging("info", str(self.path))
        self.stopped = False

    def lines(self) -> list[dict[str, Any]]:
        self.end()
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def end(self) -> None:
        if not self.stopped:
            self.stopped = True
            self.stop()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = Log(tmp_path)
    yield log
    log.end()


def test_an_event_is_a_line_of_json_with_its_fields(log: Log) -> None:
    event(logging.getLogger("pgexec.x"), logging.INFO, "request", {"request_id": "1", "ms": 1.5})
    (line,) = log.lines()
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "pgexec.x",
        "event": "request",
        "request_id": "1",
        "ms": 1.5,
    }


def test_every_line_has_the_name_of_a_server_that_has_one(tmp_path: Path) -> None:
    path = tmp_path / "logs.txt"
    stop = start_logging("info", str(path), "one")
    logging.getLogger("x").info("first")
    event(logging.getLogger("x"), logging.INFO, "second", {"request_id": "1"})
    stop()
    assert [json.loads(line)["server"] for line in path.read_text().splitlines()] == ["one", "one"]


def test_the_log_goes_to_standard_error_too(capfd: pytest.CaptureFixture[str]) -> None:
    stop = start_logging("info", None)
    event(logging.getLogger("x"), logging.INFO, "request", {"request_id": "1"})
    stop()
    assert json.loads(capfd.readouterr().err)["request_id"] == "1"


def test_a_traceback_stays_within_its_line(log: Log) -> None:
    error = ZeroDivisionError("oh\nno")
    logging.getLogger("x").error("unexpected %s", "error", exc_info=error)
    (line,) = log.lines()
    assert line["event"] == "unexpected error"
    assert "ZeroDivisionError: oh\nno" in line["traceback"]


def test_line_breaks_and_odd_characters_make_no_second_line(log: Log) -> None:
    odd = "a\nb\u2028\x00\udc80"
    logging.getLogger("x").info("%s", odd)
    assert [line["event"] for line in log.lines()] == [odd]


def test_levels_below_the_set_one_are_dropped(log: Log) -> None:
    logging.getLogger("x").debug("quiet")
    event(logging.getLogger("x"), logging.DEBUG, "quiet", {})
    assert log.lines() == []


def test_what_was_logged_is_written_before_the_end(log: Log) -> None:
    for number in range(1000):
        logging.getLogger("x").info("%d", number)
    assert [line["event"] for line in log.lines()] == [str(number) for number in range(1000)]


def test_arguments_are_read_when_the_event_happens(log: Log) -> None:
    changing = ["before"]
    logging.getLogger("x").info("%s", changing)
    changing[0] = "after"
    assert log.lines()[0]["event"] == "['before']"


def test_the_callers_thread_does_not_write(monkeypatch: pytest.MonkeyPatch) -> None:
    writers = []

    class Stream(io.StringIO):
        def write(self, text: str) -> int:
            writers.append(threading.current_thread())
            return super().write(text)

    monkeypatch.setattr("sys.stderr", Stream())
    stop = start_logging("info", None)
    logging.getLogger("x").info("1")
    stop()
    assert writers
    assert threading.current_thread() not in writers


def test_a_sink_that_fails_keeps_neither_the_other_nor_the_server_from_working(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr("sys.stderr", closed)
    log = Log(tmp_path)
    logging.getLogger("x").info("1")
    assert len(log.lines()) == 1


def test_a_full_file_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgexec.telemetry.log.FILE_BYTES", 10)
    log = Log(tmp_path)
    logging.getLogger("x").info("1")
    assert log.lines() == []
    assert "1" in (tmp_path / "logs.txt.1").read_text()


def test_lines_beyond_the_backlog_are_dropped_and_counted(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pgexec.telemetry.log.BACKLOG", 0)
    stop = start_logging("info", None)
    logging.getLogger("x").info("1")
    stop()
    assert capfd.readouterr().err == "pgexec: 1 log lines were dropped\n"


def test_a_file_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        start_logging("info", str(tmp_path / "no" / "logs.txt"))


def test_the_end_restores_what_was_there() -> None:
    before = logging.getLogger().handlers[:]
    start_logging("info", None)()
    assert logging.getLogger().handlers == before
