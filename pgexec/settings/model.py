"""Every setting of the server: its type, its default, and the conditions between several."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Literal, Self, cast

from pydantic import BeforeValidator, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from pgexec.settings import modules, profiles
from pgexec.settings.fields import (
    Certificates,
    CodeSize,
    Count,
    Delay,
    Disk,
    FileCount,
    FilesSize,
    Flag,
    Hosts,
    Keys,
    Memory,
    Modules,
    Names,
    Network,
    Networks,
    Origins,
    Packages,
    Peers,
    Processes,
    Processors,
    Profiles,
    Runs,
    RunSeconds,
    Seconds,
    ServerName,
    Sets,
    Size,
    Starts,
    StdinSize,
    Text,
    to_index,
    to_network,
    to_size,
)
from pgexec.settings.keys import Keyring
from pgexec.settings.sizes import format_size
from pgexec.settings.sources import PREFIX, Environment, Files
from pool.engine.spec import LAYERS_DIR, RUNNER_DIR

if TYPE_CHECKING:
    from collections.abc import Mapping

_TAKEN = (
    *("/tmp", "/dev", RUNNER_DIR, LAYERS_DIR),  # noqa: S108  # mounts of our own
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc", "/proc", "/sys"),
)
"""PGEXEC_ROOT_DIR would hide these directories, or they would hide it."""


ENGINE_ADDRESS = r"^$|^/.+|^(unix|tcp|http|https)://.+"
ENGINE_ADDRESSES = "empty, unix:///path, tcp://host:port or https://host:port"


# Compared by identity: the default profile holds the settings, and these hold the profile. Else a
# comparison of two equal settings would never end.
@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """One language: the server's settings with values of its own, and its fixed dependencies."""

    name: str
    settings: Settings
    dependencies: tuple[str, ...] = ()


class Settings(BaseSettings):
    """All settings, immutable. Names, units and advice are those of `settings.env`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    host: Annotated[str, Field(min_length=1, description="an address or a host's name")] = "0.0.0.0"
    port: Annotated[int, Field(ge=0, le=65535, description="a whole number from 0 to 65535")] = 8080
    server_name: ServerName = ""
    api_keys: Keys = Keyring()
    trusted_keys: Names = ()
    metrics_open: Flag = True
    request_timeout_s: Seconds = 10
    keepalive_timeout_s: Seconds = 75
    max_connections: Count = 2048
    buffer_limit: Size = 64 << 20
    page: Flag = True
    playground: Flag = True
    browser_hosts: Hosts = ()
    cors_origins: Origins = ()
    compat: Peers = ()

    docker_host: Annotated[
        str,
        Field(
            pattern=ENGINE_ADDRESS,
            description=ENGINE_ADDRESSES,
        ),
    ] = ""
    image: Annotated[str, Field(pattern=r"^[^\s-]\S*$", description="an image's name")] = (
        "python:alpine"
    )
    runtime: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9_./-]*$", description="empty or an OCI runtime's name")
    ] = ""
    preimport: Modules = modules.PREIMPORT
    idle_imports: Modules = ()
    idle_memory: Size = 6 << 20
    root_dir: Annotated[
        str,
        Field(
            pattern=r"^(/[A-Za-z0-9_.-]+)+$",
            description="an absolute path other than /",
        ),
    ] = "/home/code"
    code_file_name: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]*$",
            description="a file's name without directory and extension",
        ),
    ] = "Main"
    ca_bundle: Certificates = ""
    network: Network = "egress"

    network_allow: Networks = ()

    run_timeout_s: RunSeconds = 30
    memory_limit: Memory = 256 << 20
    cpus: Processors = 1
    pids_limit: Processes = 64
    disk_limit: Disk = 64 << 20
    output_limit: Size = 1 << 20
    code_limit: CodeSize = 1 << 20
    stdin_limit: StdinSize = 1 << 20

    batch_max: Annotated[int, Field(ge=1, le=1000, description="a whole number from 1 to 1000")] = (
        100
    )

    files_max: FileCount = 100
    files_limit: FilesSize = 16 << 20
    collect_limit: FilesSize = 16 << 20

    install_timeout_s: Seconds = 120
    dependency_network: Annotated[
        str,
        BeforeValidator(lambda value: to_network(value) if value else value),
        Field(description="empty, egress, or the name of a network (not host)"),
    ] = ""
    dependency_index_url: Annotated[
        tuple[str, ...],
        NoDecode,
        BeforeValidator(to_index),
        Field(max_length=1, description="empty or the http(s) address of a package index"),
    ] = ()
    dependency_extra_index_url: Annotated[
        tuple[str, ...],
        NoDecode,
        BeforeValidator(to_index),
        Field(description="empty or http(s) addresses of package indexes with commas"),
    ] = ()
    dependency_index_credentials: Annotated[
        str, Field(pattern=r"^$|^[^:@/\s]+:\S+$", description="empty or user:password")
    ] = ""
    dependency_binary_only: Flag = False
    dependency_allow: Packages = frozenset()
    dependency_deny: Packages = frozenset()
    dependency_size_limit: Annotated[
        int,
        BeforeValidator(to_size),
        Field(ge=1 << 20, le=1 << 40, description="a size of at least 1MiB, such as 512MiB"),
    ] = 512 << 20
    dependency_cache_limit: Annotated[
        int,
        BeforeValidator(to_size),
        Field(ge=0, le=1 << 50, description="a size, such as 4GiB"),
    ] = 4 << 30
    dependency_failure_ttl_s: Annotated[
        float,
        Field(ge=0, le=86400, allow_inf_nan=False, description="a number of seconds up to 86400"),
    ] = 30
    dependency_preload: Sets = ()
    dependency_volume: Annotated[
        str,
        Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]+$", description="the name of a volume"),
    ] = "pgexec-dependencies"

    pool_min_idle: Annotated[
        int, Field(ge=0, le=10**6, description="a whole number from 0 to 1000000")
    ] = 4
    pool_max_containers: Count = 16
    pool_autoscale: Flag = True
    pool_max_waiting: Count = 256
    lease_timeout_s: Seconds = 10
    tenant_max_running: Runs = None
    sessions_max: Runs = None
    session_idle_s: Seconds = 300
    session_max_age_s: Seconds = 3600
    max_uses: Annotated[
        int, Field(ge=1, le=10_000, description="a whole number from 1 to 10000")
    ] = 1000
    max_age_s: Annotated[
        float, Field(gt=0, le=10**9, allow_inf_nan=False, description="a number of seconds above 0")
    ] = 3600
    idle_timeout_s: Annotated[
        float, Field(gt=0, le=10**9, allow_inf_nan=False, description="a number of seconds above 0")
    ] = 300
    start_concurrency: Starts = None
    start_timeout_s: Seconds = 30
    drain_delay_s: Delay = 0
    drain_timeout_s: Seconds = 30

    profiles: Profiles = {}

    canary_interval_s: Delay = 900

    generate_log_file: Flag = True
    log_file: Text = "logs.txt"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value),
        Field(description="debug, info, warning or error"),
    ] = "info"

    @classmethod
    def of(cls, **values: object) -> Self:
        """Return the defaults with `values`; files and environment do not count."""
        return cls(_env_file=None, _env_prefix="\0", **values)  # type: ignore[call-arg, arg-type]

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # `Environment` in its place
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read files as they are written, and names in capitals first; see `sources`."""
        given = cast("DotEnvSettingsSource", dotenv_settings)
        prefix = given.env_prefix
        environment = Environment(settings_cls, env_prefix=prefix)
        files = Files(settings_cls, env_file=given.env_file, env_prefix=prefix)
        return init_settings, environment, files, file_secret_settings

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.pool_min_idle > self.pool_max_containers:
            raise ValueError(
                f"PGEXEC_POOL_MIN_IDLE is {self.pool_min_idle}, but must be at most "
                f"PGEXEC_POOL_MAX_CONTAINERS, which is {self.pool_max_containers}"
            )
        if self.generate_log_file and not self.log_file.strip():
            raise ValueError(
                "PGEXEC_LOG_FILE is '', but must name a file while PGEXEC_GENERATE_LOG_FILE is true"
            )
        if any(part in (".", "..") for part in self.root_dir.split("/")):
            raise ValueError(
                f"PGEXEC_ROOT_DIR is {self.root_dir!r}, but must be an absolute path without dots"
            )
        for taken in _TAKEN:
            if f"{self.root_dir}/".startswith(f"{taken}/") or taken.startswith(f"{self.root_dir}/"):
                raise ValueError(
                    f"PGEXEC_ROOT_DIR is {self.root_dir!r}, but must be a directory of its own "
                    f"apart from {taken}, which the container needs"
                )
        if self.code_limit > self.disk_limit:
            raise ValueError(
                f"PGEXEC_CODE_LIMIT is {format_size(self.code_limit)}, but must be at most "
                f"PGEXEC_DISK_LIMIT, which is {format_size(self.disk_limit)}"
            )
        for name in self.trusted_keys:
            if name not in self.api_keys.tenants:
                raise ValueError(
                    f"PGEXEC_TRUSTED_KEYS names {name!r}, but PGEXEC_API_KEYS does not"
                )
        _ = self.by_language  # raises if a field of a profile is wrong
        return self

    @property
    def starts_at_once(self) -> int:
        """The number of containers that a pool starts at once; by default one for each processor.

        By default two for each processor if every run takes a new container: a start leaves its
        processor idle for a fifth of its time, and no other runs would use it then.
        """
        cores = len(os.sched_getaffinity(0))
        return self.start_concurrency or cores * (2 if self.max_uses == 1 else 1)

    @cached_property
    def by_language(self) -> Mapping[str, Profile]:
        """The profile of each language, the default one first."""
        default = Profile(profiles.DEFAULT, self)
        further = {name: self._of_profile(name) for name in self.profiles}
        return {default.name: default} | further

    def __copy__(self) -> Self:
        """Copy without the profiles: else `model_copy` would change the fields, but not them."""
        copied = super().__copy__()
        copied.__dict__.pop("by_language", None)
        return copied

    def _of_profile(self, name: str) -> Profile:
        """Return a profile. Raises `ValueError` with a sentence about the wrong field."""
        fields = self.profiles[name]
        values: dict[str, object] = {}
        for setting, value in profiles.changes(fields, self.pool_min_idle).items():
            others = {"pool_min_idle": 0, "pool_max_containers": 10**6, "code_limit": 1}
            alone = others | {setting: value}
            try:
                values[setting] = getattr(type(self).of(**alone), setting)
            except ValidationError as error:
                raise ValueError(_sentence_on_profile(error, name)) from None
        more = cast("tuple[str, ...]", values.get("preimport", ()))
        values["preimport"] = tuple(dict.fromkeys((*self.preimport, *more)))
        own = self.model_copy(update=values)
        if own.pool_min_idle > own.pool_max_containers:
            raise ValueError(
                f"PGEXEC_PROFILES: {name}: min_idle is {own.pool_min_idle}, but must be at most "
                f"max_containers, which is {own.pool_max_containers}"
            )
        if own.disk_limit < own.code_limit:
            raise ValueError(
                f"PGEXEC_PROFILES: {name}: disk_limit is {format_size(own.disk_limit)}, but must "
                f"be at least PGEXEC_CODE_LIMIT, which is {format_size(own.code_limit)}"
            )
        return Profile(name, own, profiles.dependencies_of(fields))

    @property
    def body_limit(self) -> int:
        """The largest body of a request, in bytes.

        JSON may need six bytes for one (a u escape). With this limit, code and stdin within their
        own limits are never refused, however the client writes them. Nor are files as
        base64, or as text that needs at most two bytes for one.
        """
        return self.plain_body_limit + 2 * self.files_limit

    @property
    def plain_body_limit(self) -> int:
        """The largest body of a request without files, and the most of one besides its files."""
        return 6 * (self.code_limit + self.stdin_limit) + (64 << 10)

    @property
    def held_limit(self) -> int:
        """Bytes that the bodies of all clients may take, and again all answers: two at the least.

        A tenant may have three quarters, which thus has room for one body of the largest size.
        """
        return max(self.buffer_limit, 2 * self.body_limit, 2 * self.collect_limit)

    @property
    def exposed(self) -> bool:
        """True if anyone on the machine's network may run code on it."""
        loopback = self.host in ("localhost", "::1") or self.host.startswith("127.")
        return not loopback and not self.api_keys


def _sentence_on_profile(error: ValidationError, name: str) -> str:
    first = error.errors(include_url=False)[0]
    setting = str(first["loc"][0])
    allowed = Settings.model_fields[setting].description
    value = first["input"]
    return (
        f"PGEXEC_PROFILES: {name}: {profiles.field_of(setting)} is {value!r}, but must be {allowed}"
    )
