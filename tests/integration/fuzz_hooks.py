"""What schemathesis has to be told about the document before it makes up requests from it."""

from __future__ import annotations

import os
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
    """Give each file a name of its own, base64 where it says so, and a pattern for a path.

    No schema can ask for these. Fields for many inputs are only where there are such, and as many
    are expected. A cell runs in a session that is there.
    """
    if "id" in (case.path_parameters or {}):
        kept = case.method != "DELETE"
        case.path_parameters["id"] = os.environ["PGEXEC_TEST_SESSION"] if kept else "no-session"
    if not isinstance(case.body, dict):
        return
    _fit_inputs(case.body)
    patterns = case.body.get("collect")
    if isinstance(patterns, list) and all(isinstance(one, str) for one in patterns):
        case.body["collect"] = ["*.txt"] * len(patterns)
    files = case.body.get("files")
    if isinstance(files, list) and all(map(_is_named, files)):
        for at, file in enumerate(files):
            file["name"] = f"file {at}"
            if file.get("encoding") == "base64" and isinstance(file.get("content"), str):
                file["content"] = "AA=="


def _fit_inputs(body: dict[str, Any]) -> None:
    stdins, expected = body.get("stdins"), body.get("expected")
    if stdins is None:
        if expected is None or _are_texts(expected):
            body.pop("expected", None)
        if body.get("stop_on") == "first_failure":
            del body["stop_on"]
    elif isinstance(body.get("stdin"), str):
        del body["stdin"]
    if "expected" not in body and body.get("compare") == "ignore_trailing_space":
        del body["compare"]
    if isinstance(stdins, list) and _are_texts(expected):
        body["expected"] = [""] * len(stdins)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _is_named(file: Any) -> bool:
    name = file.get("name") if isinstance(file, dict) else None
    return isinstance(name, str) and bool(NAME.fullmatch(name))
