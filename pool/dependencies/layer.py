"""A layer of dependencies, and the settings for keeping layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from pool.dependencies.requirements import Requirements
    from pool.dependencies.volume import JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class LayersConfig:
    """The settings for keeping layers. Names that end in `_s` are seconds.

    - `limit_bytes`: the limit on the size of all layers together, `limit_layers` on their number
    - `about`: a part of every layer's key, besides requirements and image, such as the index
    - `failure_ttl_s`: the time for which a failure is remembered
    - `concurrency`: the greatest number of installations at once
    - `wait_s`: the longest time that a request waits for its layer
    - `max_pending`: the greatest number of sets that wait or are being installed; one tenant may
      have `tenant_max_pending` of them
    - `recheck_s`: the least time between two checks of a layer in use
    """

    limit_bytes: int = 4 << 30
    limit_layers: int = 1000
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

    `key` is a digest of its requirements and image. `name` is its directory: random digits, a
    secret. `bytes` is its size there. `used_at` is a time of `time.time()`, `checked_at` of
    `time.monotonic()`. A layer with `users` above 0 is not evicted.
    """

    key: str
    name: str
    bytes: int
    requirements: Requirements
    used_at: float
    checked_at: float
    users: int = 0


def layer_of(about: JsonObject, now: float) -> Layer:
    """Return the layer of a record of the volume; `now` is the time of its check."""
    requirements = cast("list[str]", about["requirements"])
    return Layer(
        str(about["key"]),
        str(about["name"]),
        int(str(about["bytes"])),
        tuple(requirements),
        float(str(about["used_at"])),
        now,
    )
