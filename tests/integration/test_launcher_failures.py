"""The launcher, several of whose calls fail at once: each failure is shown."""

from collections.abc import Awaitable, Callable, Sequence

import pytest
import structlog

from services.launcher.service import build
from shared.clock import VirtualClock
from shared.compute.port import ComputeError, Instance, LaunchBatch
from shared.events.requirements import Resources
from shared.runtime.service import Ports
from tests.integration.test_launcher import CONFIG, LAUNCH, requested
from tests.support.compute.scripted_compute import ScriptedCompute
from tests.support.compute.stage import Stage


class Forgetful(ScriptedCompute):
    """Leaves out the answers to the jobs `left_out`, which no adapter may do."""

    left_out: frozenset[int] = frozenset()

    async def launch(self, batch: LaunchBatch) -> Sequence[Instance | ComputeError]:
        answers = await super().launch(batch)
        jobs = [each.job_id for each in batch.requests]
        return [each for job, each in zip(jobs, answers, strict=True) if job not in self.left_out]


async def test_every_call_that_fails_is_logged_and_the_others_are_recorded(
    ports_of: Callable[[str], Awaitable[Ports]], clock: VirtualClock
) -> None:
    cloud = Forgetful(clock)
    cloud.left_out = frozenset({1, 3})
    stage = Stage(build(CONFIG, await ports_of("launcher"), cloud))
    for job_id in (1, 2, 3):
        await stage.deliver(requested(job_id, resources=Resources(vcpus=job_id)))
    with (
        structlog.testing.capture_logs() as entries,
        pytest.raises(ValueError, match="shorter"),
    ):
        await stage.sweep(LAUNCH)
    failed = [each["call"] for each in entries if each["event"] == "launching failed"]
    assert failed == [f"1 launches from job {job_id}, attempt 1 on" for job_id in (1, 3)]
    rows = await stage.rows("SELECT job_id, state FROM launches ORDER BY job_id")
    assert [row["state"] for row in rows] == ["asked", "launched", "asked"]
