"""A layer of dependencies, and how layers are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from pool.dependencies.requirements import Requirements
    from pool.dependencies.volume import JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class LayersConfig:
    """How layers are kept.

    - `limit_bytes`: the limit on the size of all layers together
    - `about`: part of every layer's key, besides requirements and image; the index, say
    - `failure_ttl_s`: how long a failure is remembered
    - `concurrency`: how many installations go on at once
    - `wait_s`: how long a request waits for its layer
    - `max_pending`: how many sets may be waiting or installed at once, of which one tenant may
      have `tenant_max_pending`
    - `recheck_s`: the least time between two checks of a layer in use
    """

    limit_bytes: int = 4 << 30
    about: str = ""
    failure_ttl_s: float = 30.0
    concurrency: int = 2
    wait_s: float = 130.0
    max_pending: int = 32
    tenant_max_pending: int = 8
    recheck_s: float = 60.0


@dataclass(slots=True, eq=False)
class Layer:
    """One layer on the volume.

    `key` says what it holds, `name` is its directory, a secret of random digits; `bytes` is its
    size there. `used_at` is a time of `time.time()`, `checked_at` one of `time.monotonic()`.
    While `users` is above 0 it is not evicted.
    """

    key: str
    name: str
    bytes: int
    requirements: Requirements
    used_at: float
    checked_at: float
    users: int = 0


def layer_of(about: JsonObject, now: float) -> Layer:
    """Return the layer that the volume's record tells of; `now` is when it was checked."""
    requirements = cast("list[str]", about["requirements"])
    return Layer(
        str(about["key"]),
        str(about["name"]),
        int(str(about["bytes"])),
        tuple(requirements),
        float(str(about["used_at"])),
        now,
    )
