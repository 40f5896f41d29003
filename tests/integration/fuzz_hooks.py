"""What schemathesis has to be told about the document before it makes up requests from it."""

from __future__ import annotations

import re
from typing import Any

import schemathesis

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
