"""What is made immortal is looked at without being asked anything."""

from __future__ import annotations

import codecs

from pool.inside import immortal


class Proud:
    """Fails to be compared with a text, as `zoneinfo.ZoneInfo`'s own parts do."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise AttributeError("no attribute 'utcoff'")


def test_objects_of_a_pre_imported_library_are_not_compared() -> None:
    holder = [Proud(), codecs.lookup("utf-8")]
    assert id(holder) in immortal._registries()
