"""The limits on requests, and on the one run that a request asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgexec.http.errors import RequestError
from pgexec.http.refusals import BAD, number
from pool.dependencies.requirements import EVERY_PACKAGE, PackageList
from pool.language import PYTHON

if TYPE_CHECKING:
    from pgexec.contract import RunRequest
    from pgexec.settings import Settings

MIN_TIMEOUT_S = 0.001
"""The runner counts in milliseconds; in less, no interpreter begins."""


@dataclass(frozen=True, slots=True)
class RunLimits:
    """The limits that hold for one run, as the sentence on its end names them."""

    timeout_s: float
    memory_limit_bytes: int
    output_limit_bytes: int
    disk_limit_bytes: int
    cpu_time_s: float


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """The limits on a request, which the answers name, too."""

    languages: tuple[str, ...]
    run_timeout_s: float
    code_limit_bytes: int
    stdin_limit_bytes: int
    memory_limit_bytes: int
    output_limit_bytes: int
    packages: PackageList = EVERY_PACKAGE
    disk_limit_bytes: int = 64 << 20
    cpus: float = 1
    batch_max: int = 100
    files_max: int = 100
    files_limit_bytes: int = 16 << 20
    plain_body_bytes: int = 16 << 20
    script: str = "Main.py"
    session_idle_s: float = 300
    users: bool = False
    """True if some key may name the end user of a request."""

    @classmethod
    def of(cls, settings: Settings) -> RequestLimits:
        """Return the limits of the settings."""
        return cls(
            languages=tuple(settings.by_language),
            run_timeout_s=settings.run_timeout_s,
            code_limit_bytes=settings.code_limit,
            stdin_limit_bytes=settings.stdin_limit,
            memory_limit_bytes=settings.memory_limit,
            output_limit_bytes=settings.output_limit,
            packages=PackageList(settings.dependency_allow, settings.dependency_deny),
            users=bool(settings.trusted_keys),
            disk_limit_bytes=settings.disk_limit,
            cpus=settings.cpus,
            batch_max=settings.batch_max,
            files_max=settings.files_max,
            files_limit_bytes=settings.files_limit,
            plain_body_bytes=settings.plain_body_limit,
            script=f"{settings.code_file_name}{PYTHON.extension}",
            session_idle_s=settings.session_idle_s,
        )

    def check(self, request: RunRequest) -> None:
        """Refuse a limit above the server's, or of nothing, by `RequestError` 400."""
        if request.timeout_s is not None:
            check_seconds("timeout_s", request.timeout_s, self.run_timeout_s)
        if request.output_limit_bytes is not None:
            _check_bytes("output_limit_bytes", request.output_limit_bytes, self.output_limit_bytes)

    def of_run(self, request: RunRequest) -> RunLimits:
        """Return the limits of a request's run: its language's, or lower ones that it asks for.

        Raises `RequestError` 400 if it asks for more than its language has, or for nothing.
        """
        if request.memory_limit_bytes is not None:
            _check_bytes("memory_limit_bytes", request.memory_limit_bytes, self.memory_limit_bytes)
        cpu_time_s = self.run_timeout_s * self.cpus
        if request.cpu_time_s is not None:
            check_seconds("cpu_time_s", request.cpu_time_s, cpu_time_s)
        return RunLimits(
            timeout_s=self.run_timeout_s if request.timeout_s is None else request.timeout_s,
            memory_limit_bytes=request.memory_limit_bytes or self.memory_limit_bytes,
            output_limit_bytes=request.output_limit_bytes or self.output_limit_bytes,
            disk_limit_bytes=self.disk_limit_bytes,
            cpu_time_s=cpu_time_s if request.cpu_time_s is None else request.cpu_time_s,
        )


def check_seconds(field: str, value: float, most: float) -> None:
    """Refuse, by `RequestError` 400, a number of seconds that is not above 0 and at most `most`."""
    if not 0 < value <= most:
        wanted = f"a number above 0 and at most {number(most)}"
    elif value < MIN_TIMEOUT_S:
        wanted = f"at least {MIN_TIMEOUT_S}, which is a millisecond"
    else:
        return
    sentence = f"field '{field}' must be {wanted}, not {number(value)}"
    raise RequestError(BAD, "invalid_field", sentence)


def _check_bytes(field: str, value: int, most: int) -> None:
    if not 0 < value <= most:
        sentence = f"field '{field}' must be a whole number from 1 to {most}, not {number(value)}"
        raise RequestError(BAD, "invalid_field", sentence)
