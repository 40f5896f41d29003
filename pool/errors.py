"""The errors of the pool. A snippet that fails is a `Result`, never one of these."""

from __future__ import annotations

import re
from enum import StrEnum


class PoolError(Exception):
    """Base of everything that the pool raises on purpose.

    `begun` is true if the snippet had begun to run, or may have: a second try could run it twice.
    """

    begun = False

    @property
    def kind(self) -> str:
        """The class as one word, such as `engine_unavailable`."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()


class PoolClosed(PoolError):
    """The pool is draining or closed and takes no new leases."""


class PoolSaturated(PoolError):
    """The queue is full or too slow; the client may retry after `retry_after_s` seconds."""

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TenantSaturated(PoolSaturated):
    """The tenant has as many runs and sessions as `tenant_max_running` allows."""


class SessionsSaturated(PoolSaturated):
    """There are as many sessions as `sessions_max` allows."""


class LeaseTimeout(PoolSaturated):
    """No container came free before the waiter's deadline."""


class RunnerProtocolError(PoolError):
    """The runner broke the protocol."""


class PreimportRefused(PoolError):
    """The runner cannot import a module before the forks; the text names the module."""


class InstallFailure(StrEnum):
    """Why dependencies could not be installed."""

    NO_PACKAGE = "no_package"
    NO_VERSION = "no_version"
    CONFLICT = "conflict"
    DENIED = "denied"
    BUILD = "build"
    NO_NETWORK = "no_network"
    TOO_LARGE = "too_large"
    TOO_SLOW = "too_slow"
    BAD_LAYER = "bad_layer"
    OTHER = "other"


class InstallError(PoolError):
    """Dependencies could not be installed; `log` holds the installer's last lines."""

    def __init__(
        self, message: str, failure: InstallFailure = InstallFailure.OTHER, *, log: str = ""
    ) -> None:
        super().__init__(message)
        self.failure = failure
        self.log = log


class SessionEnd(StrEnum):
    """Why a session has ended."""

    DELETED = "deleted"
    IDLE = "idle"
    AGE = "age"
    QUOTA = "quota"
    LOST = "lost"
    DRAINED = "drained"


class LayerMissing(PoolError):
    """A layer of dependencies has gone from the volume, though the server did not remove it."""


class NoRoom(PoolError):
    """The input files of a run do not fit on the container's disk; nothing has run."""


class NotWritten(PoolError):
    """A session has something else where the files of a run go, or no process left to write them.

    Nothing has run.
    """


class SessionEnded(PoolError):
    """The session has ended; `reason` says why."""

    def __init__(self, message: str, reason: SessionEnd) -> None:
        super().__init__(message)
        self.reason = reason


class SessionUnknown(PoolError):
    """There is no session of this id, or it is another tenant's."""


class SessionBusy(PoolError):
    """A session runs one cell at a time."""


class EngineError(PoolError):
    """The container engine refused or failed an operation."""


class EngineUnavailable(EngineError):
    """The container engine does not answer."""


class ImageMissing(EngineError):
    """The configured image is not present, and the engine cannot pull it."""


class ContainerLost(EngineError):
    """The container, or the stream to it, ended while it was needed."""
