"""The sources of a setting's value: the environment, a file, or the default."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dotenv import dotenv_values
from pydantic_settings import DotEnvSettingsSource, EnvSettingsSource

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PREFIX = "PGEXEC_"
SHIPPED = "settings.env"
FILES = (SHIPPED, "settings.local.env")
ENVIRONMENT = "environment"
DEFAULT = "default"
OF_CLIENTS = frozenset({"PGEXEC_API_KEY", "PGEXEC_URL"})
"""Names that are not the server's: those of its clients, `pgexec run` and `pgexec advise`."""

_PACKAGE = Path(__file__).resolve().parents[1]


class Environment(EnvSettingsSource):
    """The process's environment, in which `PGEXEC_PORT` wins over `pgexec_port`."""

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return by_field(os.environ)


class Files(DotEnvSettingsSource):
    """pydantic-settings' files without `${NAME}`: a `$` in a value is a `$`."""

    def _read_env_file(self, file_path: Path) -> dict[str, str | None]:
        return by_field(read_file(file_path))


@dataclass(frozen=True, slots=True)
class Given:
    """A setting as it was written: `value` is its text, `source` the place that it comes from."""

    value: str
    source: str


def find_files() -> list[Path]:
    """Return the files of settings that exist; a later one wins over an earlier one.

    Each is looked up in the current directory, else beside the checkout's packages.
    """
    found = (_find(name) for name in FILES)
    return [path for path in found if path is not None]


def read_file(path: Path) -> dict[str, str | None]:
    """Return the names and values of a file. Raises `OSError` and `UnicodeError`."""
    return dotenv_values(path, interpolate=False, encoding="utf-8")


def by_field(values: Mapping[str, str | None]) -> dict[str, str | None]:
    """Return values by their names in small letters.

    If two names differ only in upper and lower case, the one in capitals wins, in whatever order
    they come: `{"PGEXEC_PORT": "1", "pgexec_port": "2"}` gives `{"pgexec_port": "1"}`.
    """
    ordered = sorted(values.items(), key=lambda item: item[0].isupper())
    return {name.lower(): value for name, value in ordered}


def given() -> dict[str, Given]:
    """Return the value of each setting that a file or the environment names, by its full name.

    Raises `OSError` and `UnicodeError` where a file cannot be read.
    """
    places = [(str(path), read_file(path)) for path in find_files()]
    places.append((ENVIRONMENT, dict(os.environ)))
    return {
        name.upper(): Given(value, source)
        for source, values in places
        for name, value in by_field(values).items()
        if name.upper().startswith(PREFIX) and value is not None
    }


def shipped() -> Iterator[tuple[str, str, str]]:
    """Yield each setting's name, default and advice, in the order of `settings.env`.

    The lines of advice stand before a setting; one that follows without any shares them.
    """
    advice: list[str] = []
    above = True
    for line in _shipped_file().read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            advice = [*advice, line[2:]] if above else [line[2:]]
            above = True
        elif line.startswith(PREFIX):
            name, _, default = line.partition("=")
            yield name, default, " ".join(advice)
            above = False
        else:
            advice = []


def _find(name: str) -> Path | None:
    for directory in (Path.cwd(), _PACKAGE.parent):
        if (directory / name).is_file():
            return directory / name
    return None


def _shipped_file() -> Path:
    """Return the file of defaults: a wheel carries it in the package, a checkout beside it."""
    inside = _PACKAGE / SHIPPED
    return inside if inside.is_file() else _PACKAGE.parent / SHIPPED
