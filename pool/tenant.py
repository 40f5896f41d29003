"""Tenants and their users: the tenant `front/ann` is the user `ann` of the tenant `front`."""

from __future__ import annotations

from typing import NamedTuple


class Shares(NamedTuple):
    """How many containers may be leased at once; 0 is no limit.

    `tenant` is for a tenant that is no user, `user` for one user, and `users` for all users of a
    tenant together, and what it runs itself.
    """

    tenant: int = 0
    user: int = 0
    users: int = 0


def owner(tenant: str) -> str:
    """Return the tenant whose user `tenant` is, or `tenant` itself."""
    return tenant.partition("/")[0]


def is_user(tenant: str) -> bool:
    """Return True for a user of another tenant."""
    return "/" in tenant
