"""Read PGEXEC_PROFILES: more languages, each with a warm pool of its own (docs/adr/0008).

This module reads the text; `Settings.by_language` makes a `Profile` of each.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement

from pool.language import PYTHON

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT = PYTHON.name
"""The language that the settings themselves describe."""

_NAME = re.compile(r"[a-z][a-z0-9._+-]{0,62}")
_FILE = "file:"
_SETTINGS = {
    **{
        name: name
        for name in (
            *("image", "network", "memory_limit", "cpus", "pids_limit", "disk_limit"),
            *("max_uses", "idle_timeout_s"),
        )
    },
    **{name: f"pool_{name}" for name in ("min_idle", "max_containers", "max_waiting")},
    "preimport": "preimport",
}
"""The setting that each field of a profile replaces."""
_REQUIREMENTS = "names of packages with extras, versions and markers, such as numpy>=2,<3"
_LISTS = ("dependencies", "preimport")

Fields = dict[str, object]
"""The fields of one profile as they are written, such as `{"image": "data", "cpus": 2}`."""


def parse_profiles(text: str) -> dict[str, Fields]:
    """Return the fields of each profile, by the name of its language.

    `text` is empty, a JSON object, or `file:PATH` of a JSON or TOML file. Raises `ValueError`
    with a sentence if the text has another form. The values of the fields are not checked here.
    """
    if not text.strip():
        return {}
    written = _read(text.strip())
    if not isinstance(written, dict):
        raise ValueError(f"it is {_kind(written)}, but must be an object of profiles by name")  # noqa: TRY004 - for pydantic
    for name, fields in written.items():
        if name == DEFAULT or not _NAME.fullmatch(name):
            raise ValueError(
                f"{name!r} cannot be the name of a profile: it must start with a small letter and "
                f"go on with those, digits, and any of ._+-, and not be {DEFAULT!r}, which the "
                "other settings describe"
            )
        if not isinstance(fields, dict):
            raise ValueError(f"{name} is {_kind(fields)}, but must be an object of fields")  # noqa: TRY004 - for pydantic
        for field, value in fields.items():
            _check(name, field, value)
    return written


def changes(fields: Mapping[str, object], min_idle: int) -> dict[str, object]:
    """Return the settings that a profile replaces, by their names, as they are written.

    `min_idle` is the server's own setting. A profile with fewer containers than that, and without
    a `min_idle` of its own, keeps all its containers idle.
    """
    replaced = {_SETTINGS[field]: value for field, value in fields.items() if field in _SETTINGS}
    if "preimport" in fields:
        replaced["preimport"] = ",".join(_strings(fields["preimport"]))
    most = fields.get("max_containers")
    if "min_idle" not in fields and isinstance(most, int) and most < min_idle:
        replaced["pool_min_idle"] = most
    return replaced


def field_of(setting: str) -> str:
    """Return the field of a profile that replaces a setting."""
    return next(field for field, replaced in _SETTINGS.items() if replaced == setting)


def dependencies_of(fields: Mapping[str, object]) -> tuple[str, ...]:
    """Return the requirements of a profile."""
    return tuple(_strings(fields.get("dependencies")))


def _read(text: str) -> object:
    name = text.removeprefix(_FILE)
    try:
        if name == text:
            return json.loads(text)
        content = Path(name).read_text(encoding="utf-8")
        return tomllib.loads(content) if name.endswith(".toml") else json.loads(content)
    except OSError as error:
        raise ValueError(f"{name} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        what = "it" if name == text else name
        form = "TOML" if name != text and name.endswith(".toml") else "JSON"
        raise ValueError(f"{what} is not {form}: {str(error).splitlines()[0]}") from error


def _check(name: str, field: str, value: object) -> None:
    if field not in _SETTINGS and field not in _LISTS:
        known = ", ".join(sorted({*_SETTINGS, *_LISTS}))
        raise ValueError(f"{name} has a field {field!r}, but those of a profile are {known}")
    if field in _LISTS:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ValueError(f"{name}: {field} is {_shown(value)}, but must be a list of strings")
        for item in value if field == "dependencies" else ():
            if not _is_requirement(item):
                raise ValueError(f"{name}: {field} has {item!r}, but must be {_REQUIREMENTS}")
    elif isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"{name}: {field} is {_shown(value)}, but must be a string or a number")


def _strings(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def _is_requirement(item: str) -> bool:
    try:
        return Requirement(item).url is None
    except InvalidRequirement:
        return False


def _kind(value: object) -> str:
    kinds = {dict: "an object", list: "a list", str: "a string", type(None): "null"}
    return kinds.get(type(value), "a number" if not isinstance(value, bool) else "a boolean")


def _shown(value: object) -> str:
    return json.dumps(value, default=str)
