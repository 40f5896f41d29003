"""The check of sessions: a cell has the isolation of a run, and a session outlives its limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from pgexec.doctor import trials
from pgexec.doctor.facts import Inside
from pgexec.doctor.findings import CheckStatus, Observation, fail, ok
from pgexec.doctor.sandbox import OUTPUT_BYTES, RUN_TIMEOUT_S, ProbeError, Sandbox, source_of
from pgexec.doctor.snippets import inside
from pool.engine.masked import MASKED_PATHS
from pool.engine.spec import SYSCTLS
from pool.inside.protocol import Step
from pool.job import Job, Status

if TYPE_CHECKING:
    from pgexec.backend.laboratory import Laboratory
    from pool.container import Container
    from pool.job import Result

INTERRUPTED_AFTER_S = 0.2
_OF_A_CELL = (
    trials.separation,
    trials.seccomp,
    trials.privileges,
    trials.masks,
)
_REMEDY = "set PGEXEC_SESSIONS_MAX=0 and report this"


async def sessions(laboratory: Laboratory) -> Observation:
    """Begin a session; look around in a cell, and interrupt one."""
    if laboratory.settings.sessions_max == 0:
        return ok("PGEXEC_SESSIONS_MAX is 0: there are none")
    async with laboratory.container() as container:
        of_a_run = await Sandbox.of(laboratory, container)
        await container.run(Job(b"", timeout_s=RUN_TIMEOUT_S, step=Step.OPEN))
        looked = await _cell(
            container, await source_of(inside.report, list(SYSCTLS), list(MASKED_PATHS))
        )
        if looked.status is not Status.OK:
            raise ProbeError(f"a cell that looks around ended with {looked.status}")
        try:
            seen = TypeAdapter(Inside).validate_json(looked.stdout)
        except ValidationError as error:
            raise ProbeError("a cell that looks around printed what cannot be read") from error
        for look in _OF_A_CELL:
            observation = await look(Sandbox(laboratory, container, seen))
            # What a run lacks, too, is said by that check itself, with its own remedy.
            if _failed(observation) and not _failed(await look(of_a_run)):
                return fail(f"in a cell of a session: {observation.finding}", _REMEDY)
        await _cell(container, "kept = 41")
        late = await _cell(container, "import time; time.sleep(60)", INTERRUPTED_AFTER_S)
        after = await _cell(container, "kept + 1")
    if late.status is not Status.TIMEOUT or late.exit_code is None:
        return fail(f"a cell past its time ended as {late.status}, by no interrupt", _REMEDY)
    if after.shown is None or after.shown.value != "42":
        return fail("the state of a session was gone after an interrupt", _REMEDY)
    return ok(f"a cell, as user {seen.uid}, has a run's isolation; state outlives an interrupt")


def _failed(observation: Observation) -> bool:
    return observation.status is CheckStatus.FAIL


async def _cell(container: Container, code: str, timeout_s: float = RUN_TIMEOUT_S) -> Result:
    return await container.run(Job(code.encode(), b"", timeout_s, OUTPUT_BYTES, step=Step.CELL))
