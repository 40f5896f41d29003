"""The documents of the engine and of containers: the fields that the checks read."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_pascal


class _Engine(BaseModel):
    model_config = ConfigDict(alias_generator=to_pascal, frozen=True)


class Details(_Engine):
    """The details of a component's version; distributions put their package's version here."""

    git_commit: str = ""


class Component(_Engine):
    """One of the programs of an engine."""

    name: str = ""
    version: str = ""
    details: Details | None = None

    @property
    def package(self) -> str:
        """The version, with the distribution's revision if the engine tells it."""
        commit = self.details.git_commit if self.details else ""
        return commit if commit.startswith(self.version.partition("~")[0]) else self.version


class Version(_Engine):
    """`GET /version`."""

    version: str = ""
    api_version: str = ""
    kernel_version: str = ""
    components: tuple[Component, ...] = ()

    def component(self, name: str) -> Component | None:
        """Return the component whose name has this word in it."""
        found = (one for one in self.components if name in one.name.lower())
        return next(found, None)


class Info(_Engine):
    """`GET /info`."""

    driver: str = ""
    default_runtime: str = ""
    cgroup_version: str = "1"
    mem_total: int = 0
    memory_limit: bool = False
    swap_limit: bool = False
    pids_limit: bool = False
    cpu_cfs_quota: bool = False
    kernel_version: str = ""
    operating_system: str = ""


class Inside(BaseModel):
    """The output of `inside.report`."""

    model_config = ConfigDict(frozen=True)

    uid: int
    capabilities: tuple[str, ...]
    seccomp: int
    kernel: tuple[str, ...]
    no_new_privileges: bool
    setuid: str
    confinement: str
    uid_map: tuple[str, ...]
    sysctls: dict[str, str]
    unmasked: tuple[str, ...]
    root_read_only: bool
    against_runner: tuple[str, ...]
    cpus: float
    interfaces: tuple[str, ...]
    certificates: int


class Left(BaseModel):
    """The output of `inside.leave_behind` and `inside.look_around`."""

    uid: int
    file: bool = False
    processes: tuple[str, ...] = ()


class Reached(BaseModel):
    """The output of `inside.reach`."""

    address: str
    refusal: str


class Trespasses(BaseModel):
    """The output of `trespass.trespass`."""

    attempts: int
    through: tuple[str, ...] = Field(default=())
