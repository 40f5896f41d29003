"""Which version of the API an engine speaks, by the cheapest of its answers."""

from __future__ import annotations

from aiodocker import Docker


class Negotiating(Docker):
    """An aiodocker client that asks for `/_ping` where aiodocker asks for `/version`.

    For its version, Podman starts fifteen processes, which look for the packages of all its
    helpers. On a busy machine that outlasts a heartbeat's patience, and Podman goes on with what
    nobody waits for any more: each beat would add fifteen, and none would ever be answered.
    """

    async def _check_version(self) -> None:
        if self.api_version == "auto":
            async with self._query("_ping", versioned_api=False) as answer:
                version = answer.headers.get("Api-Version")
            if version:
                self.api_version = f"v{version}"
        await super()._check_version()
