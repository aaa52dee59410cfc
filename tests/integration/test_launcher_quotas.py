"""Quotas on a real database: what is used never passes them, and what is held goes on in time."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from services.launcher.config import LauncherConfig
from services.launcher.quotas import RETRY
from services.launcher.service import build
from shared.clock import VirtualClock
from shared.compute.port import NoCapacity, QuotaReached, Unknown
from shared.events.events import (
    InstanceLaunched,
    InstanceRequested,
    InstanceTerminated,
    JobCancelled,
    LaunchDelayed,
    LaunchRefused,
    QuotasReported,
)
from shared.events.quotas import Limits
from shared.events.requirements import Requirements, Resources
from shared.postgres.pool import connect
from shared.quota_settings import Quotas
from shared.runtime.service import Ports
from tests.support.compute.scripted_compute import ScriptedCompute
from tests.support.compute.stage import Crash, Stage, crashing

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
MIDNIGHT = datetime(2026, 1, 2, tzinfo=UTC)
LAUNCH = "launch_due_1"
CONFIG = LauncherConfig(
    deployment="home", api_url="http://api", token_key="key", batch=25, prune_batch=10
)
USED = """
SELECT count(*) FILTER (WHERE ended_at IS NULL) AS live,
    coalesce(sum(vcpus) FILTER (WHERE ended_at IS NULL), 0) AS vcpus
FROM launcher.charges
"""


def with_quotas(unknown: float = 1, key: Limits | None = None, **limits: Any) -> LauncherConfig:
    quotas = Quotas(deployment=Limits(**limits), key=key or Limits(), unknown_price_usd=unknown)
    return dataclasses.replace(CONFIG, quotas=quotas)


def requested(
    job_id: int, key: str | None = None, hours: float = 1, **wants: Any
) -> InstanceRequested:
    needs = Requirements(max_lifetime_seconds=int(hours * 3600), created_by=key)
    return InstanceRequested(
        job_id=job_id, attempt=1, due_at=START, requirements=replace(needs, **wants)
    )


def terminated(
    stage: Stage, job_id: int, instance_id: str, cost_usd: float | None = 0.01
) -> InstanceTerminated:
    return InstanceTerminated(
        instance_id=instance_id,
        terminated_at=stage.ports.clock.now(),
        cause="done",
        spot_interrupted=False,
        billed_seconds=60,
        cost_usd=cost_usd,
        job_id=job_id,
        attempt=1,
    )


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(START)


@pytest.fixture
async def ports(ports_of: Callable[[str], Awaitable[Ports]]) -> Ports:
    return await ports_of("launcher")


@pytest.fixture
def cloud(clock: VirtualClock) -> ScriptedCompute:
    return ScriptedCompute(clock)


def a_stage(ports: Ports, cloud: ScriptedCompute, config: LauncherConfig) -> Stage:
    return Stage(build(config, ports, cloud))


async def used(stage: Stage) -> tuple[int, int]:
    [row] = await stage.rows(USED)
    return row["live"], row["vcpus"]


async def end(stage: Stage, cloud: ScriptedCompute, job_id: int, **cost: Any) -> None:
    """End the instance of a job, publish that, and let what is held go on."""
    [row] = await stage.rows(f"SELECT instance_id FROM charges WHERE job_id = {job_id}")  # noqa: S608 - a number
    cloud.end(row["instance_id"])
    await stage.deliver(terminated(stage, job_id, row["instance_id"], **cost))
    await stage.sweep("release_held")


async def last_delay(stage: Stage) -> LaunchDelayed:
    return (await stage.published(LaunchDelayed))[-1]


async def test_without_quotas_nothing_is_held_and_what_runs_is_known(
    ports: Ports, cloud: ScriptedCompute
) -> None:
    stage = a_stage(ports, cloud, CONFIG)
    await stage.deliver(*(requested(each) for each in range(1, 21)))
    await stage.sweep(LAUNCH)
    assert await used(stage) == (20, 40)
    assert await stage.published(LaunchDelayed) == []


async def test_a_burst_over_lanes_and_replicas_never_passes_the_quota(
    ports: Ports, cloud: ScriptedCompute, database_url: str
) -> None:
    """200 launches, 8 lanes, 2 replicas: counted after every commit, from outside."""
    config = with_quotas(instances=10)
    replicas = [a_stage(ports, cloud, config) for _ in range(2)]
    await replicas[0].deliver(*(requested(each) for each in range(1, 201)))
    seen: list[int] = []
    over = asyncio.Event()

    async def count() -> None:
        conn = await connect(database_url)
        try:
            while not over.is_set():
                seen.append(await conn.fetchval(USED))
                await asyncio.sleep(0)
        finally:
            await conn.close()

    counting = asyncio.create_task(count())
    for _ in range(6):
        lanes = (replica.sweep(LAUNCH) for replica in replicas for _ in range(4))
        await asyncio.gather(*lanes)
    for job_id in [row["job_id"] for row in await replicas[0].rows("SELECT job_id FROM charges")]:
        await end(replicas[0], cloud, job_id)
        await asyncio.gather(*(replica.sweep(LAUNCH) for replica in replicas for _ in range(4)))
    over.set()
    await counting
    launched = len(cloud.instances)
    print(f"{max(seen)} live at most in {len(seen)} counts, {launched} launched of 200, quota 10")
    assert max(seen) == 10
    assert launched == 20
    assert await used(replicas[0]) == (10, 20)


@pytest.mark.parametrize("point", ["launcher.intent_committed", "launcher.called"])
async def test_a_crash_behind_the_intent_keeps_what_it_takes(
    ports: Ports, cloud: ScriptedCompute, clock: VirtualClock, point: str
) -> None:
    config = with_quotas(instances=1)
    stage = a_stage(ports, cloud, config)
    await stage.deliver(requested(1), requested(2))
    with pytest.raises(Crash):
        await a_stage(crashing(ports, point), cloud, config).sweep(LAUNCH)
    assert await used(stage) == (1, 2)
    clock.advance(1)
    await stage.sweep(LAUNCH)
    assert await used(stage) == (1, 2)
    clock.advance(600)
    await stage.sweep(LAUNCH)  # the batch is asked for again
    await stage.sweep(LAUNCH)
    assert len(cloud.instances) == 1
    assert await used(stage) == (1, 2)


async def test_a_refusal_gives_back_what_it_took_and_an_unknown_outcome_does_not(
    ports: Ports, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    stage = a_stage(ports, cloud, with_quotas(instances=1))
    await stage.deliver(requested(1))
    cloud.refusals.append(Unknown("no answer"))
    await stage.sweep(LAUNCH)
    assert await used(stage) == (1, 2)
    clock.advance(100)
    cloud.refusals.append(NoCapacity("none"))
    await stage.sweep(LAUNCH)
    assert await used(stage) == (0, 0)


async def test_a_held_launch_says_which_quota_and_goes_on_as_soon_as_one_ends(
    ports: Ports, cloud: ScriptedCompute
) -> None:
    stage = a_stage(ports, cloud, with_quotas(instances=2))
    await stage.deliver(*(requested(each) for each in range(1, 6)))
    await stage.sweep(LAUNCH)
    delays = await stage.published(LaunchDelayed)
    assert [each.job_id for each in delays] == [3, 4, 5]
    assert {each.message for each in delays} == {
        "the deployment has 2 of 2 live instances (DOCKER_JOB_QUOTA_INSTANCES)"
    }
    assert {each.reason for each in delays} == {"quota_reached"}
    assert await stage.sweep(LAUNCH) == START + RETRY  # nothing spins
    await end(stage, cloud, 1)
    due = await stage.rows("SELECT job_id FROM launches WHERE state = 'wanted' AND due_at <= now()")
    rows = await stage.rows("SELECT job_id, due_at FROM launches WHERE state = 'wanted'")
    assert {row["job_id"] for row in rows if row["due_at"] <= START} == {3}, due
    await stage.sweep(LAUNCH)
    assert [each.job_id for each in await stage.published(InstanceLaunched)] == [1, 2, 3]
    assert len(await stage.published(LaunchDelayed)) == 3  # the same reason is not repeated


async def test_a_hold_is_no_wait_for_capacity_and_costs_no_offer(
    ports: Ports, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    stage = a_stage(ports, cloud, with_quotas(instances=1))
    await stage.deliver(
        requested(1, hours=24), requested(2, capacity="spot", spot_wait_seconds=600)
    )
    await stage.sweep(LAUNCH)
    for _ in range(4):
        clock.advance(300)
        await stage.sweep(LAUNCH)
    [row] = await stage.rows("SELECT offer, tries, to_change FROM launches WHERE job_id = 2")
    assert row == {"offer": 1, "tries": 0, "to_change": None}
    await end(stage, cloud, 1)
    cloud.refusals.append(NoCapacity("no Spot"))
    await stage.sweep(LAUNCH)
    assert await stage.published(LaunchRefused) == []
    assert (await last_delay(stage)).reason == "no_capacity"
    assert await stage.rows("SELECT * FROM troubles") == []


async def test_a_key_over_its_quota_does_not_hold_up_another_key(
    ports: Ports, cloud: ScriptedCompute
) -> None:
    stage = a_stage(ports, cloud, with_quotas(key=Limits(instances=2)))
    await stage.deliver(*(requested(each, "aaaa1111") for each in range(1, 6)))
    await stage.deliver(requested(6, "bbbb2222"), requested(7), requested(8), requested(9))
    await stage.sweep(LAUNCH)
    assert [each.job_id for each in await stage.published(InstanceLaunched)] == [1, 2, 6, 7, 8, 9]
    assert (await last_delay(stage)).message == (
        "API key aaaa1111 has 2 of 2 live instances (DOCKER_JOB_KEY_QUOTA_INSTANCES)"
    )


async def test_ten_thousand_held_of_one_key_hide_no_other(
    ports: Ports, cloud: ScriptedCompute
) -> None:
    config = dataclasses.replace(with_quotas(instances=3, key=Limits(instances=2)), batch=500)
    stage = a_stage(ports, cloud, config)
    await stage.deliver(*(requested(each, "aaaa1111") for each in range(1, 601)))
    await stage.deliver(requested(700, "bbbb2222"), requested(701, "bbbb2222"))
    for _ in range(4):
        await stage.sweep(LAUNCH)
    assert await used(stage) == (3, 6)
    await end(stage, cloud, 1)
    await stage.sweep(LAUNCH)
    assert await used(stage) == (3, 6)
    assert len(cloud.asked) == 4


async def test_vcpus_are_those_of_the_instances_and_a_launch_that_never_fits_says_so(
    ports: Ports, cloud: ScriptedCompute
) -> None:
    stage = a_stage(ports, cloud, with_quotas(vcpus=8))
    for job_id, vcpus in ((1, 16), (2, 6), (3, 4), (4, 2)):
        await stage.deliver(requested(job_id, resources=Resources(vcpus=vcpus)))
        await stage.sweep(LAUNCH)
    assert await used(stage) == (2, 8)
    assert {each.job_id: each.message for each in await stage.published(LaunchDelayed)} == {
        1: "it needs up to 16 vCPUs, and the deployment's quota is 8 (DOCKER_JOB_QUOTA_VCPUS)",
        3: "the deployment has 6 of 8 vCPUs in use, and it needs up to 4 (DOCKER_JOB_QUOTA_VCPUS)",
    }


async def test_dollars_are_spent_and_promised_until_midnight_and_then_go_on(
    ports: Ports, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    """At noon 12 hours are left: 0.5 USD an hour is 6 USD until midnight."""
    cloud.highest_price_usd = cloud.hourly_price_usd = 0.5
    stage = a_stage(ports, cloud, with_quotas(usd_per_day=10))
    await stage.deliver(*(requested(each, hours=18) for each in range(1, 4)))
    await stage.sweep(LAUNCH)
    assert len(cloud.instances) == 1
    delay = await last_delay(stage)
    assert delay.message == (
        "the deployment's 10 USD a day are spent until 00:00 UTC (0.00 spent, 6.00 promised by 1 "
        "running instance, it may cost 6.00; DOCKER_JOB_QUOTA_USD_PER_DAY)"
    )
    assert delay.next_try_at == MIDNIGHT
    assert await stage.sweep(LAUNCH) == MIDNIGHT
    await stage.sweep("release_held")
    assert await stage.sweep(LAUNCH) == MIDNIGHT
    clock.advance(4 * 3600)  # 8 h are left: 4 USD, beside the 6
    await stage.sweep("release_held")
    await stage.sweep(LAUNCH)
    assert len(cloud.instances) == 2
    clock.advance(8 * 3600)
    await stage.sweep(LAUNCH)
    # From midnight the first costs 3 USD until its time limit, and the second 5.
    assert "8.00 promised by 2" in (await last_delay(stage)).message


async def test_an_end_counts_with_its_cost_and_frees_the_rest(
    ports: Ports, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.highest_price_usd = cloud.hourly_price_usd = 1
    stage = a_stage(ports, cloud, with_quotas(usd_per_day=12))
    await stage.deliver(requested(1, hours=12), requested(2, hours=11))
    await stage.sweep(LAUNCH)
    clock.advance(3600)
    await end(stage, cloud, 1, cost_usd=1.0)
    await stage.sweep(LAUNCH)
    assert len(cloud.instances) == 2  # 1 spent, 11 promised
    await stage.sweep("report_quotas")
    [report] = await stage.published(QuotasReported)
    assert (report.used.spent_usd, report.used.promised_usd) == (1.0, 11.0)
    assert report.used.instances == 1


async def test_only_the_days_part_of_a_cost_counts(
    ports: Ports, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.highest_price_usd = cloud.hourly_price_usd = 1
    stage = a_stage(ports, cloud, with_quotas(usd_per_day=100))
    clock.advance(9 * 3600)  # 21:00
    await stage.deliver(requested(1, hours=12))
    await stage.sweep(LAUNCH)
    clock.advance(4 * 3600)  # 01:00
    await end(stage, cloud, 1, cost_usd=4.0)
    await stage.sweep("report_quotas")
    assert (await stage.published(QuotasReported))[-1].used.spent_usd == pytest.approx(1.0)


async def test_an_unknown_price_counts_as_the_setting_says(
    ports: Ports, cloud: ScriptedCompute
) -> None:
    cloud.highest_price_usd = cloud.hourly_price_usd = None
    stage = a_stage(ports, cloud, with_quotas(usd_per_day=5, unknown=2))
    await stage.deliver(requested(1, hours=2), requested(2, hours=2))
    await stage.sweep(LAUNCH)
    assert len(cloud.instances) == 1
    assert (await last_delay(stage)).message == (
        "the deployment's 5 USD a day are spent until 00:00 UTC (0.00 spent, 4.00 promised by 1 "
        "running instance, it may cost 4.00 at the 2 USD an hour of "
        "DOCKER_JOB_QUOTA_UNKNOWN_PRICE_USD; DOCKER_JOB_QUOTA_USD_PER_DAY)"
    )


async def test_ends_in_every_order_and_twice_leave_the_same(
    ports: Ports, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    """The end of an instance may be received before its launch is recorded."""
    stage = a_stage(ports, cloud, with_quotas(instances=1))
    await stage.deliver(requested(1), terminated(stage, 9, "i-9"))
    cloud.lose_answers = True
    await stage.sweep(LAUNCH)
    assert await used(stage) == (1, 2)
    cloud.end("i-1")
    await stage.deliver(terminated(stage, 1, "i-1"), terminated(stage, 1, "i-1"))
    assert await used(stage) == (0, 0)
    cloud.lose_answers = False
    clock.advance(600)
    await stage.sweep(LAUNCH)
    assert await used(stage) == (0, 0)
    assert len(await stage.published(InstanceLaunched)) == 1


async def test_a_lost_end_is_found_by_asking_the_cloud(
    ports: Ports, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    stage = a_stage(ports, cloud, with_quotas(instances=2))
    await stage.deliver(requested(1, hours=9), requested(2, hours=9), requested(3))
    await stage.sweep(LAUNCH)
    cloud.end("i-1")
    await stage.sweep("ask_for_ends")
    assert (await used(stage))[0] == 2  # patience
    clock.advance(121)
    await stage.sweep("ask_for_ends")
    assert (await used(stage))[0] == 1
    del cloud.instances["i-2"]  # shown nowhere: at first that proves nothing
    clock.advance(300)
    await stage.sweep("ask_for_ends")
    assert (await used(stage))[0] == 1
    clock.advance(1800)
    await stage.sweep("ask_for_ends")
    assert (await used(stage))[0] == 0


async def test_an_instance_past_its_time_limit_holds_no_quota(
    ports: Ports, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    stage = a_stage(ports, cloud, with_quotas(instances=1))
    await stage.deliver(requested(1), requested(2))
    await stage.sweep(LAUNCH)
    clock.advance(3600 + 601)  # and nothing has been asked
    await stage.sweep(LAUNCH)
    assert len(cloud.instances) == 2


async def test_a_held_launch_can_be_cancelled_and_asked_about_again(
    ports: Ports, cloud: ScriptedCompute
) -> None:
    stage = a_stage(ports, cloud, with_quotas(instances=1))
    await stage.deliver(requested(1), requested(2), requested(3))
    await stage.sweep(LAUNCH)
    await stage.deliver(JobCancelled(job_id=2, attempt=1), requested(3))
    assert (await last_delay(stage)).message.startswith("the deployment has 1 of 1 live")
    await end(stage, cloud, 1)
    await stage.sweep(LAUNCH)
    assert [each.job_id for each in cloud.asked] == [1, 3]


async def test_quotas_that_are_removed_hold_nothing(ports: Ports, cloud: ScriptedCompute) -> None:
    stage = a_stage(ports, cloud, with_quotas(instances=1))
    await stage.deliver(requested(1), requested(2))
    await stage.sweep(LAUNCH)
    stage = a_stage(ports, cloud, CONFIG)
    await stage.sweep("release_held")
    await stage.sweep(LAUNCH)
    assert len(cloud.instances) == 2


async def test_the_clouds_own_quota_is_published_beside_ours(
    ports: Ports, cloud: ScriptedCompute
) -> None:
    stage = a_stage(ports, cloud, with_quotas(instances=1))
    await stage.deliver(requested(1), requested(2))
    await stage.sweep(LAUNCH)
    await end(stage, cloud, 1)
    cloud.refusals.append(QuotaReached("the account's 32 vCPUs"))
    await stage.sweep(LAUNCH)
    assert (await last_delay(stage)).message == "the account's 32 vCPUs"


async def test_a_report_comes_with_a_change_and_each_minute_while_something_runs(
    ports: Ports, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    stage = a_stage(ports, cloud, with_quotas(instances=5, key=Limits(vcpus=4)))
    await stage.sweep("report_quotas")
    await stage.sweep("report_quotas")
    assert len(await stage.published(QuotasReported)) == 1
    await stage.deliver(requested(1, "aaaa1111"), requested(2))
    await stage.sweep(LAUNCH)
    await stage.sweep("report_quotas")
    last = (await stage.published(QuotasReported))[-1]
    assert (last.sequence, last.used.instances, last.limits.instances) == (2, 2, 5)
    assert [(each.key, each.vcpus) for each in last.keys] == [("aaaa1111", 2)]
    clock.advance(61)
    await stage.sweep("report_quotas")
    assert len(await stage.published(QuotasReported)) == 3
