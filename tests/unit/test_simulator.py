"""The virtual cloud and its agents, on a clock moved by hand and an API without a socket."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import pytest

from shared.clock import VirtualClock
from shared.compute.port import (
    Instance,
    InstanceState,
    NoCapacity,
    QuotaReached,
    Throttled,
    Unknown,
)
from shared.compute.simulator.adapter import SimulatorCompute
from shared.compute.simulator.cloud import VirtualCloud
from shared.compute.simulator.faults import Faults, SimulatedPool, faults_of
from shared.compute.simulator.machine import ContainerRun, GroundTruth
from tests.support.compute.compute_adapters import batch_of, launch_one, request_for
from tests.support.compute.compute_api import FakeApi

pytestmark = pytest.mark.anyio

PENDING, RUNNING = InstanceState.PENDING, InstanceState.RUNNING
STOPPING, TERMINATED = InstanceState.STOPPING, InstanceState.TERMINATED


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
async def make(
    clock: VirtualClock, api: FakeApi
) -> AsyncIterator[Callable[[Faults], SimulatorCompute]]:
    made: list[SimulatorCompute] = []

    def make_one(faults: Faults) -> SimulatorCompute:
        made.append(SimulatorCompute(VirtualCloud(clock, faults, api=api), "test"))
        return made[-1]

    yield make_one
    for compute in made:
        await compute.close()


async def settle() -> None:
    """Let every agent go on until it waits for the clock."""
    for _ in range(100):
        await asyncio.sleep(0)


async def pass_time(clock: VirtualClock, seconds: float, step: float = 1.0) -> None:
    """Move the clock on in steps, so that each waiter sees its time."""
    await settle()
    for _ in range(round(seconds / step)):
        clock.advance(step)
        await settle()


async def shown(compute: SimulatorCompute, instance_id: str) -> Instance:
    return (await compute.describe([instance_id]))[instance_id]


async def test_an_instant_job_takes_three_requests_and_its_logs_come_with_running(
    make: Callable[[Faults], SimulatorCompute], api: FakeApi
) -> None:
    api.env_vars[1] = {"SIMULATE_OUTPUT": "a\nb"}
    compute = make(Faults())
    instance = await launch_one(compute, request_for(api, 1))
    await settle()
    assert api.requests == 3
    assert [each["phase"] for each in api.reports[1]] == ["running"]
    assert api.lines(1)[0].startswith("simulated")
    assert api.lines(1)[1:] == ["a", "b"]
    assert api.callbacks[1] == [{"exit_code": 0}]
    assert (await shown(compute, instance.instance_id)).state is TERMINATED


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({}, "simulated: exit code 3"),
        ({"SIMULATE_ERROR": "one\ntwo"}, "one\ntwo"),
        ({"SIMULATE_ERROR": "\n".join(map(str, range(30)))}, "\n".join(map(str, range(10, 30)))),
    ],
)
async def test_a_failing_job_says_its_code_and_the_last_lines_of_its_stderr(
    make: Callable[[Faults], SimulatorCompute], api: FakeApi, env: dict[str, str], message: str
) -> None:
    api.env_vars[1] = env | {"SIMULATE_EXIT_CODE": "3"}
    await launch_one(make(Faults()), request_for(api, 1))
    await settle()
    assert api.callbacks[1] == [{"failed": "", "error_message": message, "exit_code": 3}]


async def test_a_senseless_simulation_fails_with_a_message(
    make: Callable[[Faults], SimulatorCompute], api: FakeApi
) -> None:
    api.env_vars[1] = {"SIMULATE_SECONDS": "soon"}
    await launch_one(make(Faults()), request_for(api, 1))
    await settle()
    assert api.callbacks[1][0]["exit_code"] == 2
    assert "SIMULATE_SECONDS" in api.callbacks[1][0]["error_message"]


async def test_a_long_job_beats_and_its_output_comes_at_its_end(
    make: Callable[[Faults], SimulatorCompute], api: FakeApi, clock: VirtualClock
) -> None:
    api.env_vars[1] = {"SIMULATE_SECONDS": "12", "SIMULATE_OUTPUT": "done"}
    compute = make(Faults())
    instance = await launch_one(compute, request_for(api, 1))
    await pass_time(clock, 11)
    assert len(api.reports[1]) == 3
    assert (await shown(compute, instance.instance_id)).state is RUNNING
    await pass_time(clock, 1)
    assert api.lines(1)[-1] == "done"
    assert [each["logs"]["seq"] for each in api.reports[1] if each["logs"]] == [1, 2]
    assert api.callbacks[1] == [{"exit_code": 0}]
    assert compute.cloud.truth.billed_seconds == pytest.approx(12)


async def test_a_job_past_its_time_limit_is_stopped_and_says_so(
    make: Callable[[Faults], SimulatorCompute], api: FakeApi, clock: VirtualClock
) -> None:
    api.env_vars[1] = {"SIMULATE_SECONDS": "60"}
    api.timeout_seconds[1] = 3
    await launch_one(make(Faults()), request_for(api, 1))
    await pass_time(clock, 3)
    callback = {"failed": "", "error_message": "timed out after 3 seconds", "timed_out": True}
    assert api.callbacks[1] == [callback]


async def test_a_silent_api_is_asked_again_until_it_answers(
    make: Callable[[Faults], SimulatorCompute], api: FakeApi, clock: VirtualClock
) -> None:
    api.failures = [503, 429, 425, 500]
    await launch_one(make(Faults()), request_for(api, 1))
    await pass_time(clock, 10)
    assert len(api.claims[1]) == 1
    assert api.callbacks[1] == [{"exit_code": 0}]


async def test_an_agent_that_is_never_answered_ends_with_its_maximum_lifetime(
    make: Callable[[Faults], SimulatorCompute], api: FakeApi, clock: VirtualClock
) -> None:
    api.failures = [503] * 1000
    compute = make(Faults())
    instance = await launch_one(compute, request_for(api, 1, max_lifetime_seconds=30))
    await pass_time(clock, 29)
    assert (await shown(compute, instance.instance_id)).state is RUNNING
    await pass_time(clock, 15)
    assert (await shown(compute, instance.instance_id)).state is TERMINATED


async def test_a_notice_is_passed_on_and_the_container_gets_all_of_it_but_the_margin(
    make: Callable[[Faults], SimulatorCompute], api: FakeApi, clock: VirtualClock
) -> None:
    api.env_vars[1] = {"SIMULATE_SECONDS": "1000"}
    compute = make(Faults())
    instance = await launch_one(compute, request_for(api, 1, max_lifetime_seconds=2000))
    await pass_time(clock, 2)
    compute.cloud.interrupt(instance.instance_id, notice_seconds=120)
    await settle()
    assert api.callbacks[1] == [{"schedule": ""}]
    await pass_time(clock, 89)
    assert api.callbacks[1] == [{"schedule": ""}]
    await pass_time(clock, 1)
    assert api.callbacks[1][1] == {"schedule": "", "stopped": True, "exit_code": 143}
    ended = await shown(compute, instance.instance_id)
    assert (ended.state, ended.spot_interrupted) == (TERMINATED, True)


async def test_a_container_that_is_done_after_the_notice_is_done(
    make: Callable[[Faults], SimulatorCompute], api: FakeApi, clock: VirtualClock
) -> None:
    api.env_vars[1] = {"SIMULATE_SECONDS": "20"}
    compute = make(Faults())
    instance = await launch_one(compute, request_for(api, 1))
    await pass_time(clock, 2)
    compute.cloud.interrupt(instance.instance_id, notice_seconds=120)
    await pass_time(clock, 20)
    assert api.callbacks[1] == [{"schedule": ""}, {"exit_code": 0}]


async def test_a_notice_that_is_not_received_is_repeated(
    make: Callable[[Faults], SimulatorCompute], api: FakeApi, clock: VirtualClock
) -> None:
    api.env_vars[1] = {"SIMULATE_SECONDS": "1000"}
    compute = make(Faults())
    instance = await launch_one(compute, request_for(api, 1, max_lifetime_seconds=2000))
    await pass_time(clock, 2)
    api.failures = [503, 503]
    compute.cloud.interrupt(instance.instance_id, notice_seconds=120)
    await pass_time(clock, 3, step=0.1)
    assert api.callbacks[1] == [{"schedule": ""}]


async def test_an_agent_that_dies_leaves_machine_and_container_until_they_are_ended(
    make: Callable[[Faults], SimulatorCompute], api: FakeApi, clock: VirtualClock
) -> None:
    api.env_vars[1] = {"SIMULATE_SECONDS": "5"}
    compute = make(Faults(agent_death=1.0, agent_death_within_seconds=3))
    instance = await launch_one(compute, request_for(api, 1))
    await pass_time(clock, 10)
    assert (await shown(compute, instance.instance_id)).state is RUNNING
    assert api.callbacks[1] == []
    [container] = compute.cloud.truth.containers
    assert container.stopped_at is None
    await compute.terminate([instance.instance_id])
    assert container.stopped_at == clock.now()


async def test_a_dead_agent_s_machine_ends_itself_at_the_maximum_lifetime(
    make: Callable[[Faults], SimulatorCompute], api: FakeApi, clock: VirtualClock
) -> None:
    api.env_vars[1] = {"SIMULATE_SECONDS": "500"}
    compute = make(Faults())
    instance = await launch_one(compute, request_for(api, 1, max_lifetime_seconds=60))
    await settle()
    compute.cloud.kill_agent(instance.instance_id)
    await pass_time(clock, 60)
    assert (await shown(compute, instance.instance_id)).state is TERMINATED


async def test_an_answer_lost_after_the_effect_is_found_by_the_same_token(
    make: Callable[[Faults], SimulatorCompute], api: FakeApi
) -> None:
    compute = make(Faults(unknown_after_effect=1.0))
    [answer] = await compute.launch(batch_of(request_for(api, 1)))
    assert isinstance(answer, Unknown)
    adopted = await launch_one(compute, request_for(api, 1))
    assert [adopted.instance_id] == [each.instance_id for each in await compute.list_instances()]
    assert compute.cloud.truth.instances_by_token == {"token-1": 1}


async def test_the_quota_refuses_and_is_free_again_when_an_instance_is_terminated(
    make: Callable[[Faults], SimulatorCompute], api: FakeApi
) -> None:
    api.env_vars[1] = {"SIMULATE_SECONDS": "60"}
    compute = make(Faults(quota=1))
    first = await launch_one(compute, request_for(api, 1))
    assert isinstance((await compute.launch(batch_of(request_for(api, 2))))[0], QuotaReached)
    await compute.terminate([first.instance_id])
    await launch_one(compute, request_for(api, 2))


async def test_a_full_pool_gives_way_to_the_next_cheapest_and_then_there_is_no_capacity(
    api: FakeApi, clock: VirtualClock
) -> None:
    api.env_vars = {each: {"SIMULATE_SECONDS": "60"} for each in range(1, 4)}
    pools = [
        SimulatedPool(instance_type="dear", zone="z", hourly_price_usd=2.0, capacity=1),
        SimulatedPool(instance_type="cheap", zone="z", hourly_price_usd=1.0, capacity=1),
    ]
    compute = SimulatorCompute(VirtualCloud(clock, api=api, pools=pools), "test")
    answers = await compute.launch(batch_of(*(request_for(api, each) for each in (1, 2, 3))))
    assert [getattr(each, "instance_type", None) for each in answers] == ["cheap", "dear", None]
    assert isinstance(answers[2], NoCapacity)
    await compute.close()


async def test_capacity_that_ran_out_comes_back(
    make: Callable[[Faults], SimulatorCompute], api: FakeApi, clock: VirtualClock
) -> None:
    compute = make(Faults())
    compute.cloud.run_dry(60)
    assert isinstance((await compute.launch(batch_of(request_for(api, 1))))[0], NoCapacity)
    clock.advance(60)
    await launch_one(compute, request_for(api, 1))


async def test_a_slow_boot_is_pending_and_a_new_instance_may_be_invisible(
    make: Callable[[Faults], SimulatorCompute], api: FakeApi, clock: VirtualClock
) -> None:
    compute = make(Faults(boot_seconds=30, invisible_seconds=5))
    instance = await launch_one(compute, request_for(api, 1))
    await compute.terminate([instance.instance_id])  # does not reach what is not shown yet
    assert await compute.describe([instance.instance_id]) == {}
    assert await compute.list_instances() == []
    await pass_time(clock, 5)
    assert (await shown(compute, instance.instance_id)).state is PENDING
    await pass_time(clock, 30)
    assert api.callbacks[1] == [{"exit_code": 0}]


async def test_a_terminate_without_effect_must_be_repeated(
    make: Callable[[Faults], SimulatorCompute], api: FakeApi
) -> None:
    api.env_vars[1] = {"SIMULATE_SECONDS": "60"}
    compute = make(Faults(seed=3, terminate_ignored=0.7))
    instance = await launch_one(compute, request_for(api, 1))
    tries = 0
    while (await shown(compute, instance.instance_id)).state is not TERMINATED:
        await compute.terminate([instance.instance_id])
        tries += 1
    assert tries > 1


async def test_a_stopping_instance_holds_its_container_until_it_is_terminated(
    make: Callable[[Faults], SimulatorCompute], api: FakeApi, clock: VirtualClock
) -> None:
    api.env_vars[1] = {"SIMULATE_SECONDS": "60"}
    compute = make(Faults(stop_seconds=4))
    instance = await launch_one(compute, request_for(api, 1))
    await settle()
    await compute.terminate([instance.instance_id])
    assert (await shown(compute, instance.instance_id)).state is STOPPING
    [container] = compute.cloud.truth.containers
    assert container.stopped_at is None
    await pass_time(clock, 4)
    assert (await shown(compute, instance.instance_id)).state is TERMINATED
    assert container.stopped_at == clock.now()


async def test_a_throttled_cloud_says_so_in_every_call(
    make: Callable[[Faults], SimulatorCompute], api: FakeApi
) -> None:
    compute = make(Faults(throttled=1.0))
    assert isinstance((await compute.launch(batch_of(request_for(api, 1))))[0], Throttled)
    for call in (compute.list_instances(), compute.describe(["i"]), compute.terminate(["i"])):
        with pytest.raises(Throttled):
            await call


async def test_the_same_seed_draws_the_same_fates(
    make: Callable[[Faults], SimulatorCompute], api: FakeApi
) -> None:
    faults = Faults(seed=7, throttled=0.2, no_capacity=0.2, unknown_after_effect=0.2)
    clouds = [make(faults), make(faults)]
    requests = [request_for(api, each) for each in range(1, 101)]
    kinds = [
        [type(each) for each in await compute.launch(batch_of(*requests))] for compute in clouds
    ]
    assert kinds[0] == kinds[1]
    assert {Throttled, NoCapacity, Unknown, Instance} == set(kinds[0])


async def test_terminated_instances_are_forgotten_after_an_hour(
    make: Callable[[Faults], SimulatorCompute], api: FakeApi, clock: VirtualClock
) -> None:
    compute = make(Faults())
    await launch_one(compute, request_for(api, 1))
    await settle()
    assert [each.state for each in await compute.list_instances()] == [TERMINATED]
    clock.advance(3601)
    assert await compute.list_instances() == []


def test_overlapping_containers_of_one_job_are_found(clock: VirtualClock) -> None:
    truth = GroundTruth()
    start = clock.now()

    def run(job_id: int, attempt: int, first: float, last: float | None) -> None:
        truth.containers.append(
            ContainerRun(
                job_id=job_id,
                attempt=attempt,
                instance_id=f"i-{job_id}-{attempt}",
                started_at=start + timedelta(seconds=first),
                stopped_at=None if last is None else start + timedelta(seconds=last),
            )
        )

    run(1, 1, 0, 100)
    run(1, 2, 10, 20)
    run(1, 3, 50, 60)  # overlaps the first, not the one before it
    run(2, 1, 0, 5)
    run(2, 2, 5, None)
    pairs = [(one.attempt, other.attempt) for one, other in truth.overlaps()]
    assert pairs == [(1, 2), (1, 3)]


def test_a_url_names_its_faults_and_a_wrong_one_is_refused_by_name() -> None:
    assert faults_of("sim://") == Faults()
    faults = faults_of("sim://?seed=7&boot_seconds=1.5&quota=3")
    assert (faults.seed, faults.boot_seconds, faults.quota) == (7, 1.5, 3)
    with pytest.raises(ValueError, match="boot_minutes"):
        faults_of("sim://?boot_minutes=1")
    with pytest.raises(ValueError, match="throttled"):
        faults_of("sim://?throttled=often")
    with pytest.raises(ValueError, match="throttled"):
        faults_of("sim://?throttled=1.5")
