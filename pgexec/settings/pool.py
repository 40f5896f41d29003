"""Translate the settings into the pool's own names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pool.config import PoolConfig

if TYPE_CHECKING:
    from pgexec.settings.model import Settings


def pool_config(settings: Settings) -> PoolConfig:
    """Return the pool's part of the settings."""
    return PoolConfig(
        min_idle=settings.pool_min_idle,
        max_containers=settings.pool_max_containers,
        autoscale=settings.pool_autoscale,
        max_waiting=settings.pool_max_waiting,
        tenant_max_running=settings.tenant_max_running or 0,
        tenant_share=tenant_share(settings),
        lease_timeout_s=settings.lease_timeout_s,
        max_uses=settings.max_uses,
        max_age_s=settings.max_age_s,
        idle_timeout_s=settings.idle_timeout_s,
        start_concurrency=settings.starts_at_once,
        start_timeout_s=settings.start_timeout_s,
        drain_timeout_s=settings.drain_timeout_s,
    )


def tenant_share(settings: Settings) -> int:
    """Return the number of a pool's containers that one tenant may have at once; 0 is no limit.

    It is three quarters if there are several tenants and `PGEXEC_TENANT_MAX_RUNNING` is empty.
    Otherwise the runs of one tenant could stop all others for as long as a run may take.
    """
    several = len(settings.api_keys.tenants) > 1 or settings.trusted_keys
    if settings.tenant_max_running is not None or not several or settings.pool_max_containers == 1:
        return 0
    return settings.pool_max_containers * 3 // 4
