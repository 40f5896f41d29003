"""The settings of one pool."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from pool.tenant import Shares, is_user

_MAY_BE_0 = frozenset(
    {
        "min_idle",
        "autoscale",
        "tenant_max_running",
        "tenant_share",
        "user_share",
        "users_share",
        "sessions_max",
        "drain_timeout_s",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolConfig:
    """The size of the pool, its time limits, and the life of a container.

    Names that end in `_s` are seconds. Raises `ValueError` if a value cannot work.
    """

    min_idle: int = 4
    max_containers: int = 16
    autoscale: bool = True
    max_waiting: int = 256
    tenant_max_running: int = 0  # no limit
    tenant_share: int = 0  # of the containers; no limit
    user_share: int = 0  # of one user of a tenant; no limit
    users_share: int = 0  # of all users of a tenant together; no limit
    sessions_max: int = 8
    session_max_age_s: float = 3600.0
    lease_timeout_s: float = 10.0
    max_uses: int = 1000
    max_age_s: float = 3600.0
    idle_timeout_s: float = 300.0
    start_concurrency: int = 2
    start_timeout_s: float = 30.0
    reset_timeout_s: float = 5.0
    remove_timeout_s: float = 30.0
    drain_timeout_s: float = 30.0
    backoff_first_s: float = 0.5
    backoff_max_s: float = 30.0

    @property
    def shares(self) -> Shares:
        """The three shares of the containers."""
        return Shares(self.tenant_share, self.user_share, self.users_share)

    def at_once(self, tenant: str) -> int:
        """Return the most runs of a tenant that may have a container at once."""
        shares, user = self.shares, is_user(tenant)
        bounds = (
            self.max_containers,
            self.tenant_max_running,
            shares.user if user else shares.tenant,
            shares.users if user else 0,
        )
        return min(filter(None, bounds))

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name in _MAY_BE_0 else 1
            if field.name.endswith("_s") and not (value >= 0 and math.isfinite(value)):
                raise ValueError(f"{field.name} is {value}, but must be a number of seconds")
            if (value < least) if isinstance(value, int) else (least and value <= 0):
                raise ValueError(f"{field.name} is {value}, but must be at least {least}")
        if self.min_idle > self.max_containers:
            raise ValueError(
                f"min_idle is {self.min_idle}, but must be at most"
                f" max_containers, which is {self.max_containers}"
            )
