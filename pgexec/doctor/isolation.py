"""The checks of a snippet's isolation: the doctor makes them once, the canary again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgexec.doctor import trials
from pgexec.doctor.check import Check
from pgexec.doctor.sessions import sessions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgexec.backend.laboratory import Laboratory
    from pgexec.doctor.sandbox import Sandbox

OF_A_CONTAINER: Sequence[Check[Sandbox]] = (
    Check("read-only root", trials.read_only_root),
    Check("masks", trials.masks),
    Check("network guard", trials.guard, starts=True),
    Check("metadata", trials.metadata, starts=True),
)
OF_MORE_CONTAINERS: Sequence[Check[Laboratory]] = (
    Check("memory limit", trials.memory, starts=True),
    Check("pids limit", trials.pids, starts=True),
    Check("sessions", sessions, starts=True),
)
