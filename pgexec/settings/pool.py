"""Translate the settings into the pool's own names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pool.config import PoolConfig
from pool.tenant import Shares

if TYPE_CHECKING:
    from pgexec.settings.model import Settings


def pool_config(settings: Settings) -> PoolConfig:
    """Return the pool's part of the settings."""
    shares = shares_of(settings)
    return PoolConfig(
        min_idle=settings.pool_min_idle,
        max_containers=settings.pool_max_containers,
        autoscale=settings.pool_autoscale,
        max_waiting=settings.pool_max_waiting,
        tenant_max_running=settings.tenant_max_running or 0,
        tenant_share=shares.tenant,
        user_share=shares.user,
        users_share=shares.users,
        sessions_max=sessions_of(settings),
        session_max_age_s=settings.session_max_age_s,
        lease_timeout_s=settings.lease_timeout_s,
        max_uses=settings.max_uses,
        max_age_s=settings.max_age_s,
        idle_timeout_s=settings.idle_timeout_s,
        start_concurrency=settings.starts_at_once,
        start_timeout_s=settings.start_timeout_s,
        drain_timeout_s=settings.drain_timeout_s,
    )


def sessions_of(settings: Settings) -> int:
    """Return how many sessions a pool may have: by default half of its containers, at least one."""
    most = settings.pool_max_containers
    return max(1, most // 2) if settings.sessions_max is None else min(settings.sessions_max, most)


def shares_of(settings: Settings) -> Shares:
    """Return how many of a pool's containers one tenant may have at once.

    It is three quarters if there are several tenants and `PGEXEC_TENANT_MAX_RUNNING` is empty.
    Otherwise the runs of one tenant could stop all others for as long as a run may take. For one
    user it is three quarters of what its tenant has. All users of a tenant together have three
    quarters even if that setting is a number: there are as many of them as the tenant names.
    """
    limit, most = settings.tenant_max_running, settings.pool_max_containers
    trusted, tenants = bool(settings.trusted_keys), len(settings.api_keys.tenants)
    if limit == 0 or most == 1 or not (tenants > 1 or trusted):
        return Shares()
    share = most * 3 // 4
    users = share if trusted and tenants > 1 else 0
    if limit is not None:
        return Shares(users=users)
    return Shares(share, max(1, share * 3 // 4) if users else share, users)
