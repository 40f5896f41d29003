"""Read the settings from files and the environment; say in a sentence what is wrong with them."""

from __future__ import annotations

import difflib
import math
import os
import re
from pathlib import Path

from dotenv import dotenv_values
from pydantic import ValidationError

from pgexec.settings.model import ENGINE_ADDRESS, ENGINE_ADDRESSES, PREFIX, Settings

FILES = ("settings.env", "settings.local.env")
_SECRET = frozenset(
    {
        "api_keys",
        "dependency_index_url",
        "dependency_extra_index_url",
        "dependency_index_credentials",
    }
)


class SettingsError(ValueError):
    """A setting has a wrong value; the sentence says which, what it is, and what is allowed."""


def load_settings() -> tuple[Settings, list[str]]:
    """Read files and environment; return the settings and warnings about unknown names.

    A file is looked up in the current directory, else beside the package; later files win over
    earlier ones, and the environment wins over files. Raises `SettingsError`.
    """
    files = [path for path in map(_find, FILES) if path is not None]
    names = [name for name in os.environ if name.upper().startswith(PREFIX)]
    try:
        for path in files:
            names += dotenv_values(path, interpolate=False)
        settings = Settings(_env_file=files)  # type: ignore[call-arg]
    except ValidationError as error:
        raise SettingsError(_sentence(error)) from None
    except (OSError, UnicodeError) as error:
        raise SettingsError(f"the settings cannot be read: {error}") from error
    host = os.environ.get("DOCKER_HOST", "")
    if not settings.docker_host and not re.match(ENGINE_ADDRESS, host):
        raise SettingsError(f"DOCKER_HOST is {host!r}, but must be {ENGINE_ADDRESSES}")
    return settings, _unknown(names)


def _find(name: str) -> Path | None:
    for directory in (Path.cwd(), Path(__file__).resolve().parents[2]):
        if (directory / name).is_file():
            return directory / name
    return None


def _unknown(names: list[str]) -> list[str]:
    known = [name.upper() for name in Settings.model_fields]
    warnings = []
    for name in dict.fromkeys(names):
        own = name.upper().removeprefix(PREFIX)
        if own in known:
            continue
        nearest = difflib.get_close_matches(own, known, n=1)
        hint = f"; did you mean {PREFIX}{nearest[0]}?" if nearest else ""
        warnings.append(f"{name} is not a setting of pgexec{hint}")
    return warnings


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    if not first["loc"]:
        return str(first["msg"]).removeprefix("Value error, ")
    name = str(first["loc"][0])
    allowed = Settings.model_fields[name].description
    variable = PREFIX + name.upper()
    if name == "profiles" and str(first["msg"]).startswith("Value error, "):
        return f"{variable}: {str(first['msg']).removeprefix('Value error, ')}"
    if name in _SECRET:
        reason = str(first["msg"]).removeprefix("Value error, ")
        return f"{variable} must be {allowed}: {reason}"
    value = first["input"]
    if isinstance(value, float) and not math.isfinite(value):
        value = str(value)
    return f"{variable} is {value!r}, but must be {allowed}"
