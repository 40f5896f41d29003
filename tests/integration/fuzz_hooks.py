"""What schemathesis has to be told about the document before it makes up requests from it."""

from __future__ import annotations

import re
from typing import Any

import schemathesis

NAME = re.compile(r"[^/]{1,255}")
REQUIREMENT = re.compile(r" *[A-Za-z0-9][ -~]{0,200}")


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Name a package wherever a requirement would do: no pattern spells all of PEP 508."""
    items = body.get("dependencies") if isinstance(body, dict) else None
    if isinstance(items, list) and all(
        isinstance(item, str) and REQUIREMENT.fullmatch(item) for item in items
    ):
        body["dependencies"] = ["requests"] * len(items)
    return body


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Give each file a name of its own, and a pattern for a path: no schema can ask for these."""
    if not isinstance(case.body, dict):
        return
    patterns = case.body.get("collect")
    if isinstance(patterns, list) and all(isinstance(one, str) for one in patterns):
        case.body["collect"] = ["*.txt"] * len(patterns)
    files = case.body.get("files")
    if isinstance(files, list) and all(map(_is_named, files)):
        for at, file in enumerate(files):
            file["name"] = f"file {at}"


def _is_named(file: Any) -> bool:
    name = file.get("name") if isinstance(file, dict) else None
    return isinstance(name, str) and bool(NAME.fullmatch(name))
