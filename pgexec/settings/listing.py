"""The list that `pgexec settings` prints: every setting, its value and the value's source."""

from __future__ import annotations

import json
import re
import textwrap
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pgexec.settings.loading import SECRETS
from pgexec.settings.sources import DEFAULT, PREFIX, SHIPPED, Given, given, shipped

if TYPE_CHECKING:
    from collections.abc import Sequence

HIDDEN = "***"
_WIDTH = 100
_INDENT = "    "
_USERINFO = re.compile(r"(?<=://)[^/\s]*@")


@dataclass(frozen=True, slots=True)
class ListedSetting:
    """A setting with the text of its value; the value of a secret is `***`, unless it is empty.

    `source` is `default`, `environment` or the path of a file.
    """

    name: str
    value: str
    default: str
    source: str
    advice: str


def entries() -> list[ListedSetting]:
    """List every setting, even those with a wrong value. Raises `OSError` and `UnicodeError`."""
    values = given()
    listed = []
    for name, default, advice in shipped():
        found = values.get(name, Given(default, DEFAULT))
        # A value from the file of defaults counts as a default, unless somebody has changed it.
        is_default = found.value == default and Path(found.source).name == SHIPPED
        source = DEFAULT if is_default else found.source
        listed.append(ListedSetting(name, _shown(name, found.value), default, source, advice))
    return listed


def render(listed: Sequence[ListedSetting]) -> str:
    """Return the settings for people: a line for each, its advice indented below."""
    return "\n".join(_paragraph(entry) for entry in listed)


def render_json(listed: Sequence[ListedSetting]) -> str:
    """Return the settings for machines: a list of objects with the fields of `ListedSetting`."""
    return json.dumps([asdict(entry) for entry in listed], indent=1)


def _paragraph(entry: ListedSetting) -> str:
    origin = entry.source
    if origin != DEFAULT:
        origin = f"{origin}; default {entry.default or 'empty'}"
    advice = textwrap.fill(
        entry.advice,
        _WIDTH,
        initial_indent=_INDENT,
        subsequent_indent=_INDENT,
        break_on_hyphens=False,
    )
    value = entry.value if entry.value.isprintable() else ascii(entry.value)
    return f"{entry.name}={value}  ({origin})\n{advice}"


def _shown(name: str, value: str) -> str:
    if value and name.removeprefix(PREFIX).lower() in SECRETS:
        return HIDDEN
    return _USERINFO.sub(f"{HIDDEN}@", value)
