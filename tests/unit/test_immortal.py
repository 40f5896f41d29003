"""What is made immortal is looked at without being asked anything."""

from __future__ import annotations

import sys

from pool.inside import immortal


class Proud:
    """Fails to be compared or hashed, as `zoneinfo.ZoneInfo`'s own parts do."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise AttributeError("no attribute 'utcoff'")


def test_what_a_snippet_may_add_to_stays_mortal_and_what_is_cleared_does_not() -> None:
    holder, namespace = [Proud()], vars(sys.modules[__name__])
    objects = [holder, sys.path, namespace, Proud(), Proud]
    assert immortal._containers(objects) == {id(holder), id(sys.path)}
