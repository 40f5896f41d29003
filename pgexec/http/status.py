"""The document of `/status`: the load of the server for machines, and the figures of the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic_core import to_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgexec.settings import Settings
    from pool.observer import Snapshot

_STATES = ("starting", "idle", "leased", "session", "resetting", "destroying", "waiting")


def render_status(
    settings: Settings,
    unready: str | None,
    pools: Mapping[str, Snapshot],
    sessions: Mapping[str, object] | None,
    own: Mapping[str, object],
) -> bytes:
    """Return the JSON document: all pools and sessions, and what the caller alone may see."""
    states = {
        name: {"capacity": settings.by_language[name].settings.pool_max_containers}
        | {state: getattr(now, state) for state in _STATES}
        for name, now in pools.items()
    }
    load = {
        "server": settings.server_name,
        "unready": unready,
        "capacity": sum(pool["capacity"] for pool in states.values()),
        "in_use": sum(
            pool["leased"] + pool["session"] + pool["resetting"] for pool in states.values()
        ),
        "waiting": sum(pool["waiting"] for pool in states.values()),
        "sessions": sessions,
    }
    return to_json({**load, "languages": list(settings.by_language), "pools": states, **own})
