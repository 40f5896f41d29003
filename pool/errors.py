"""The errors of the pool. A snippet that fails is a `Result`, never one of these."""

from __future__ import annotations

from enum import StrEnum


class PoolError(Exception):
    """Base of everything that the pool raises on purpose."""


class PoolClosed(PoolError):
    """The pool is draining or closed and takes no new leases."""


class PoolSaturated(PoolError):
    """There is no place to wait in; `retry_after_s` says when to come back."""

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TenantSaturated(PoolSaturated):
    """The tenant has as many runs in progress or waiting as `tenant_max_running` allows."""


class LeaseTimeout(PoolSaturated):
    """No container came free before the waiter's deadline."""


class RunnerProtocolError(PoolError):
    """The runner sent something that the protocol does not allow."""


class PreimportRefused(PoolError):
    """A module that was to be imported before the forks cannot be; the sentence names it."""


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


class LayerMissing(PoolError):
    """A layer of dependencies has gone from the volume behind our back."""


class EngineError(PoolError):
    """The container engine refused or failed an operation."""


class EngineUnavailable(EngineError):
    """The container engine does not answer."""


class ImageMissing(EngineError):
    """The configured image is neither present nor to be pulled."""


class ContainerLost(EngineError):
    """The container, or the stream to it, ended while it was needed."""
