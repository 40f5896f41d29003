"""`pgexec run`: run a file on a server as if it ran here."""

from __future__ import annotations

import os
import stat
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pgexec.client.errors import PgexecError
from pgexec.client.synchronous import Client

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgexec.client.result import CompletedRun, ReturnedFile
    from pgexec.client.wire import RunOptions

EXIT_TIMED_OUT = 124
"""As timeout(1) has it."""
EXIT_NOT_RUN = 125
"""There is no result: as of `docker run`, if Docker itself fails."""
SIGNALLED = 128
OWN_END = frozenset({"ok", "error"})
STDIN = "-"


@dataclass(frozen=True, slots=True)
class RunCommand:
    """The command line: a script, or `-` for code from standard input, and its options."""

    script: str
    args: tuple[str, ...] = ()
    dependencies: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    collect: tuple[str, ...] = ()
    language: str = "python"
    timeout_s: float | None = None

    def run(self) -> int:
        """Run the script and return its exit status.

        The collected files are put beside the script, or here if it came from standard input.
        """
        try:
            code, options = self._request()
        except (OSError, UnicodeError) as error:
            return _fail(EXIT_NOT_RUN, _sentence(error))
        try:
            with Client() as client, closing(client.stream(code, **options)) as events:
                for event in events:
                    if event.kind in ("stdout", "stderr"):
                        _write(event.kind, event.text)
                    if event.result is not None:
                        result = event.result
        except PgexecError as error:
            return _fail(EXIT_NOT_RUN, str(error))
        if result.status not in OWN_END and result.error is not None:
            _say(result.error)
        here = Path() if self.script == STDIN else Path(self.script).parent
        saved = _save(result.files.values(), here)
        return exit_status(result) or (0 if saved else EXIT_NOT_RUN)

    def _request(self) -> tuple[str, RunOptions]:
        options: RunOptions = {
            "language": self.language,
            "dependencies": self.dependencies,
            "args": self.args,
        }
        if self.script == STDIN:
            code = sys.stdin.buffer.read().decode()
        else:
            code = Path(self.script).read_text(encoding="utf-8")
            if _is_fed(sys.stdin.fileno()):
                options["stdin"] = sys.stdin.buffer.read().decode()
        if self.files:
            options["files"] = {name_of(path): Path(path) for path in self.files}
            for path in self.files:
                Path(path).open("rb").close()  # one sentence before anything is sent
        if self.collect:
            options["collect"] = self.collect
        if self.timeout_s is not None:
            options["timeout_s"] = self.timeout_s
        return code, options


def name_of(path: str) -> str:
    """Return the name of a file for the snippet: as it was given, if that is below this directory.

    Example: `data/in.csv` stays so, `/srv/in.csv` and `../in.csv` become `in.csv`.
    """
    name = PurePosixPath(Path(path).as_posix())
    return name.name if name.is_absolute() or ".." in name.parts else str(name)


def exit_status(result: CompletedRun) -> int:
    """Return the status that a shell would have seen for a run."""
    if result.status == "timeout":
        return EXIT_TIMED_OUT
    if result.exit_code is not None:
        return result.exit_code
    return SIGNALLED + (result.signal or 0)


def _is_fed(descriptor: int) -> bool:
    """Return True for a pipe, a file or a socket: a terminal would have to be waited for."""
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)


def _write(name: str, text: str) -> None:
    stream = sys.stdout.buffer if name == "stdout" else sys.stderr.buffer
    stream.write(text.encode())
    stream.flush()


def _save(files: Iterable[ReturnedFile], directory: Path) -> bool:
    """Write the files, and return False if there is one that could not be."""
    saved = True
    for file in files:
        try:
            file.save_in(directory)
        except (OSError, ValueError) as error:
            saved = False
            _say(_sentence(error))
    return saved


def _sentence(error: Exception) -> str:
    if isinstance(error, UnicodeError):
        return "code and standard input must be UTF-8"
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _say(sentence: str) -> None:
    print(f"pgexec: {sentence}", file=sys.stderr)  # noqa: T201


def _fail(status: int, sentence: str) -> int:
    _say(sentence)
    return status
