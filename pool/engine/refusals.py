"""Translate the errors of aiodocker and aiohttp into our own."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import aiohttp
from aiodocker.exceptions import DockerError

from pool.engine.address import why_not
from pool.engine.api import Operation
from pool.errors import EngineError, EngineUnavailable, ImageMissing

if TYPE_CHECKING:
    from collections.abc import Iterator

NOT_FOUND = 404
_CANNOT_CONNECT = 900  # a status of aiodocker's own
_ABOUT_AN_IMAGE = frozenset({Operation.CREATE, Operation.INSPECT, Operation.PULL})
"""If one of these operations gets a 404, the image is missing; else something else is."""


@contextlib.contextmanager
def mapped_errors(operation: Operation, url: str, doing: str = "") -> Iterator[None]:
    """Translate the errors of aiodocker and aiohttp into `EngineError` and its children.

    Types and statuses decide, never the words of a message. Each message begins with `doing`, by
    default the name of the operation.
    """
    doing = doing or operation
    try:
        yield
    except DockerError as error:
        cannot = error.status == _CANNOT_CONNECT
        words = why_not(url, error) if cannot else error.message
        raise _refusal(operation, error.status)(f"{doing}: {words}") from error
    except aiohttp.ClientConnectorError as error:
        raise EngineUnavailable(f"{doing}: {why_not(url, error)}") from error
    except (aiohttp.ClientError, OSError) as error:
        raise EngineUnavailable(f"{doing}: {_words(error)}") from error
    except (ValueError, LookupError, TypeError) as error:  # not JSON, or without a field
        raise EngineError(f"{doing}: the answer makes no sense: {_words(error)}") from error


def _refusal(operation: Operation, status: int) -> type[EngineError]:
    if status == _CANNOT_CONNECT:
        return EngineUnavailable
    if status == NOT_FOUND and operation in _ABOUT_AN_IMAGE:
        return ImageMissing
    return EngineError


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
