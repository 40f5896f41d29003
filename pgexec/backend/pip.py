"""Configure pip from the settings: indexes and their credentials, certificates, limits."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from pool.dependencies.installer import InstallerConfig

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pgexec.settings import Settings


def installer_config(
    settings: Settings,
    *,
    trust: Mapping[str, str],
    network: tuple[str, Mapping[str, object] | None],
) -> InstallerConfig:
    """Return the limits of an installation, and the environment that configures pip."""
    indexes = [
        _with_credentials(url, settings.dependency_index_credentials)
        for url in settings.dependency_index_url
    ]
    further = list(settings.dependency_extra_index_url)
    environment = {
        **trust,
        "PIP_RETRIES": "2",
        "PIP_TIMEOUT": "15",
        "PIP_BREAK_SYSTEM_PACKAGES": "1",  # pip writes to the layer, not to the system's packages
        "PIP_ROOT_USER_ACTION": "ignore",
    }
    for url in indexes:
        environment |= {"PIP_INDEX_URL": url}
    if further:
        both = " ".join(further)
        environment |= {"PIP_EXTRA_INDEX_URL": both}
    if plain := [urlsplit(url).netloc.rpartition("@")[2] for url in _plain(indexes + further)]:
        hosts = " ".join(plain)
        environment |= {"PIP_TRUSTED_HOST": hosts}
    if settings.dependency_binary_only:
        environment |= {"PIP_ONLY_BINARY": ":all:"}
    return InstallerConfig(
        environment=environment,
        secrets=tuple(secret for url in indexes + further for secret in _secrets(url)),
        denied=settings.dependency_deny,
        network=network[0],
        guard=network[1],
        timeout_s=settings.install_timeout_s,
        start_timeout_s=settings.start_timeout_s,
        limit_bytes=settings.dependency_size_limit,
    )


def _plain(urls: Sequence[str]) -> list[str]:
    """Return the addresses without TLS. The operator chose them, so pip must trust their hosts."""
    return [url for url in urls if url.startswith("http://")]


def _with_credentials(url: str, credentials: str) -> str:
    if not credentials:
        return url
    parts = urlsplit(url)
    user, _, password = credentials.partition(":")
    userinfo = f"{quote(user, safe='')}:{quote(password, safe='')}"
    return urlunsplit(parts._replace(netloc=f"{userinfo}@{parts.netloc.rpartition('@')[2]}"))


def _secrets(url: str) -> list[str]:
    """Return the secrets of an address, in each spelling that a log may have."""
    userinfo = urlsplit(url).netloc.rpartition("@")[0]
    user, colon, password = userinfo.partition(":")
    secret = password if colon else user  # for some indexes, the user is a token
    return [text for text in (userinfo, secret, unquote(secret)) if text]
