"""Close what the machine's own addresses are now, not what they were at the start."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from pgexec.backend.spec import egress_rules

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgexec.settings import Settings
    from pool.engine.egress import EgressRules
    from pool.engine.spec import ContainerSpec
    from pool.manager import PoolManager

logger = logging.getLogger("pgexec")

LOOK_EVERY_S = 0.5


class Addresses:
    """Compares the rules of guarded networks with those of a moment ago; one look takes 0.3 ms.

    `settings` are those of the profiles, by language.
    """

    def __init__(self, settings: Mapping[str, Settings]) -> None:
        self._settings = settings

    def guarded(self, spec: ContainerSpec, language: str) -> ContainerSpec:
        """Return the spec with the rules as they have to be now."""
        rules = egress_rules(self._settings[language])
        return replace(spec, guard=rules.document()) if rules else spec

    async def attend(self, pools: Mapping[str, PoolManager]) -> None:
        """Renew a pool's containers when what they must not reach has changed; forever."""
        known = self._rules()
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            rules = self._rules()
            for language in pools:
                if rules[language] != known[language]:
                    logger.info("the machine's addresses changed: %s is renewed", language)
                    pools[language].renew()
            known = rules

    def _rules(self) -> dict[str, EgressRules | None]:
        return {language: egress_rules(one) for language, one in self._settings.items()}
