"""Read the settings from files and the environment; explain an error in a sentence."""

from __future__ import annotations

import difflib
import math
import os
import re
from typing import TYPE_CHECKING

from pydantic import ValidationError

from pgexec.settings.model import ENGINE_ADDRESS, ENGINE_ADDRESSES, Settings
from pgexec.settings.permissions import open_to_all
from pgexec.settings.sources import OF_CLIENTS, PREFIX, find_files, read_file
from pool.engine.contexts import ContextError, configured_address

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

SECRETS = frozenset(
    {
        "api_keys",
        "dependency_index_url",
        "dependency_extra_index_url",
        "dependency_index_credentials",
    }
)


class SettingsError(ValueError):
    """A setting has a wrong value; the text names the setting, the value and the allowed ones."""


def load_settings(**options: str) -> tuple[Settings, list[str]]:
    """Read files and environment; return the settings and warnings about them.

    A file is looked up in the current directory, else beside the package; later files win over
    earlier ones, the environment wins over files, and `options` of the command line, by the names
    of fields, win over all. Raises `SettingsError`.
    """
    files = find_files()
    named = [[name for name in os.environ if name.upper().startswith(PREFIX)]]
    try:
        named += [list(read_file(path)) for path in files]
        settings = Settings(_env_file=files, **options)  # type: ignore[call-arg, arg-type]
    except ValidationError as error:
        raise SettingsError(_sentence(error, options)) from None
    except (OSError, UnicodeError) as error:
        raise SettingsError(f"the settings cannot be read: {error}") from error
    if not settings.docker_host:
        _see_where_the_engine_is()
    deciding = [*files, *filter(None, [settings.api_keys.path])]
    changeable = filter(None, map(open_to_all, deciding))
    return settings, [*_ignored(named), *_doubtful(settings), *changeable]


def _see_where_the_engine_is() -> None:
    """Raise `SettingsError` for an address that Docker's own settings name and we cannot use."""
    try:
        address = configured_address()
    except ContextError as error:
        raise SettingsError(str(error)) from error
    # A path alone is a setting of ours: Docker's own programs refuse it as DOCKER_HOST.
    if address.startswith("/") or not re.match(ENGINE_ADDRESS, address):
        raise SettingsError(f"DOCKER_HOST is {address!r}, but must be {ENGINE_ADDRESSES}")


def _doubtful(settings: Settings) -> list[str]:
    """Warn of values that are allowed but are probably a mistake."""
    warnings = []
    drain_s, run_s = settings.drain_timeout_s, settings.run_timeout_s
    if drain_s < run_s:
        warnings.append(
            f"PGEXEC_DRAIN_TIMEOUT_S is {drain_s:g}, less than PGEXEC_RUN_TIMEOUT_S, which is "
            f"{run_s:g}: a stop may cut off runs"
        )
    sessions = settings.sessions_max or 0
    most = max(one.settings.pool_max_containers for one in settings.by_language.values())
    if sessions > most:
        warnings.append(
            f"PGEXEC_SESSIONS_MAX is {sessions}, but no pool has more than {most} containers: "
            "there are no more sessions than that"
        )
    return warnings


def _ignored(named: Iterable[Sequence[str]]) -> list[str]:
    """Warn of names that count for nothing; `named` has those of the environment and each file.

    Only names of one place are compared: `pgexec_port` in the environment wins over `PGEXEC_PORT`
    in a file.
    """
    return list(dict.fromkeys(warning for names in named for warning in _ignored_among(names)))


def _ignored_among(names: Sequence[str]) -> Iterator[str]:
    known = [name.upper() for name in Settings.model_fields]
    for name in names:
        own = name.upper().removeprefix(PREFIX)
        if name in OF_CLIENTS:
            continue
        if own in known:
            if not name.isupper() and name.upper() in names:
                yield f"{name} does not count beside {name.upper()}"
            continue
        nearest = difflib.get_close_matches(own, known, n=1)
        hint = f"; did you mean {PREFIX}{nearest[0]}?" if nearest else ""
        yield f"{name} is not a setting of pgexec{hint}"


def _sentence(error: ValidationError, options: Mapping[str, str]) -> str:
    first = error.errors(include_url=False)[0]
    if not first["loc"]:
        return str(first["msg"]).removeprefix("Value error, ")
    name = str(first["loc"][0])
    allowed = Settings.model_fields[name].description
    variable = f"--{name}" if name in options else PREFIX + name.upper()
    if name == "profiles" and str(first["msg"]).startswith("Value error, "):
        return f"{variable}: {str(first['msg']).removeprefix('Value error, ')}"
    if name in SECRETS:
        reason = str(first["msg"]).removeprefix("Value error, ")
        return f"{variable} must be {allowed}: {reason}"
    value = first["input"]
    if isinstance(value, float) and not math.isfinite(value):
        value = str(value)
    return f"{variable} is {value!r}, but must be {allowed}"
