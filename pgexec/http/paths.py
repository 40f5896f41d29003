"""The paths of routes by which requests are counted and logged."""

from __future__ import annotations


def route_path(path: str) -> str:
    """Return a path with the names of its variable parts in their place.

    No client can make a series of its own by an id, and no log shows one, which opens a session to
    whoever has it. Example: `/sessions/{id}/run` for `/sessions/Zm9v/run`.
    """
    if not path.startswith("/sessions/"):
        return path
    parts = path.split("/")
    return "/".join((*parts[:2], "{id}", *parts[3:]))
