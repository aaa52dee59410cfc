"""The promises of every adapter of the compute port (shared/compute/port.py), under one suite."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import asdict, replace

from shared.compute.choice import choose, wanted_by
from shared.compute.port import (
    Compute,
    HasConsoles,
    Instance,
    InstanceState,
    NotFound,
    Offer,
    Rejected,
)
from shared.events.requirements import Resources
from tests.support.compute.compute_adapters import (
    WORLDS,
    World,
    eventually,
    launch,
    launch_one,
    request_for,
    until_state,
)
from tests.support.compute.compute_api import FakeApi, serve

pytestmark = pytest.mark.anyio


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with serve(FakeApi()) as api:
        yield api


@pytest.fixture(params=WORLDS)
async def world(
    request: pytest.FixtureRequest, tmp_path: Path, api: FakeApi
) -> AsyncIterator[World]:
    world = WORLDS[request.param](tmp_path, api)
    yield world
    await world.close()


@pytest.fixture
def compute(world: World) -> Compute:
    return world.adapter()


async def test_a_launch_gives_an_instance_with_all_of_its_fields(
    compute: Compute, api: FakeApi
) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    instance = await launch_one(compute, request_for(api, 7, attempt=3))
    assert instance.instance_id
    assert instance.state in {InstanceState.PENDING, InstanceState.RUNNING}
    if compute.gathers:  # it was launched with others, and bears what they have in common
        assert (instance.launch_token, instance.job_id) == ("test/token-7", None)
    else:
        assert (instance.launch_token, instance.job_id, instance.attempt) == ("token-7", 7, 3)
    assert before <= instance.launched_at <= datetime.now(UTC)
    assert instance.instance_type
    assert instance.zone
    assert instance.market == "spot"
    assert instance.hourly_price_usd is None or instance.hourly_price_usd >= 0
    assert instance.spot_instance_request_id
    assert instance.terminated_at is None


async def test_the_most_that_a_plan_may_cost_is_known_before_the_launch(
    compute: Compute, api: FakeApi
) -> None:
    """For the quotas: the vCPUs by type, and a price that the instance does not pass."""
    resources = Resources()
    plan = await compute.plan(Offer(deployment="test", api_url=api.url))
    vcpus = compute.vcpus_of(plan, resources)
    assert all(each >= 1 for each in vcpus.values())
    highest = await compute.highest_price_of(plan, resources)
    assert highest is None or highest >= 0
    instance = await launch_one(compute, request_for(api, 1))
    assert not vcpus or instance.instance_type in vcpus
    if highest is not None and instance.hourly_price_usd is not None:
        assert instance.hourly_price_usd <= highest + 1e-9


async def test_the_agent_of_an_instance_claims_the_attempt_under_the_instance_s_id(
    compute: Compute, api: FakeApi
) -> None:
    instance = await launch_one(compute, request_for(api, 1))
    await api.until(lambda: api.callbacks[1])
    assert [claim["instance_id"] for claim in api.claims[1]] == [instance.instance_id]
    assert api.callbacks[1] == [{"exit_code": 0}]


async def test_what_an_instance_has_printed_is_read_after_its_end_too(
    compute: Compute, api: FakeApi, request: pytest.FixtureRequest
) -> None:
    if not isinstance(compute, HasConsoles) or "stub agent" in request.node.name:
        pytest.skip("its instances print nothing")
    instance = await launch_one(compute, request_for(api, 1))
    await until_state(compute, instance.instance_id, InstanceState.TERMINATED)

    async def is_shown() -> bool:  # a cloud may post the last of it later
        return '"event": "agent ' in (await compute.console_output(instance.instance_id) or "")

    await eventually(is_shown)


async def test_the_answers_of_a_batch_are_in_the_order_of_the_requests(
    compute: Compute, api: FakeApi
) -> None:
    jobs = (5, 3, 4)
    answers = await launch(compute, *(request_for(api, each) for each in jobs))
    await api.until(lambda: all(api.claims[each] for each in jobs))
    claimed = [api.claims[each][0]["instance_id"] for each in jobs]
    assert [getattr(each, "instance_id", each) for each in answers] == claimed


async def test_the_same_request_again_adopts_the_first_instance(
    compute: Compute, api: FakeApi
) -> None:
    api.env_vars[1] = {"SIMULATE_SECONDS": "30"}
    first = await launch_one(compute, request_for(api, 1))
    await api.until(lambda: api.reports[1])
    second = await launch_one(compute, request_for(api, 1))
    assert second.instance_id == first.instance_id
    assert second.launched_at == first.launched_at
    assert len(await compute.list_instances()) == 1
    assert len(api.claims[1]) == 1


async def test_the_same_request_many_times_at_once_by_two_replicas_is_one_instance_and_one_agent(
    world: World, api: FakeApi
) -> None:
    replicas = [world.adapter(), world.adapter()]
    request = request_for(api, 1)
    launches = [launch_one(replicas[each % 2], request) for each in range(8)]
    assert len({each.instance_id for each in await asyncio.gather(*launches)}) == 1
    await api.until(lambda: api.callbacks[1])
    assert len(api.claims[1]) == 1
    assert len(await replicas[0].list_instances()) == 1


async def test_after_a_restart_the_same_request_adopts_and_the_instance_is_still_shown(
    world: World, api: FakeApi
) -> None:
    if world.forgets:
        pytest.skip(world.forgets)
    api.env_vars[1] = {"SIMULATE_SECONDS": "30"}
    before = world.adapter()
    first = await launch_one(before, request_for(api, 1))
    await api.until(lambda: api.reports[1])
    await before.close()
    after = world.adapter()
    assert [each.instance_id for each in await after.list_instances()] == [first.instance_id]
    second = await launch_one(after, request_for(api, 1))
    shown = (await after.describe([first.instance_id]))[first.instance_id]
    # The plan says what is launched; `describe` never contradicts it, and may know less.
    launched_at, shown_at = asdict(second.other_prices), asdict(shown.other_prices)
    assert all(usd in (None, launched_at[name]) for name, usd in shown_at.items())
    assert None not in launched_at.values()
    assert second == replace(shown, other_prices=second.other_prices)
    assert second.state is InstanceState.RUNNING
    assert len(api.claims[1]) == 1


async def test_the_same_token_with_other_parameters_is_rejected_and_changes_nothing(
    compute: Compute, api: FakeApi
) -> None:
    first = await launch_one(compute, request_for(api, 1))
    [answer] = await launch(compute, request_for(api, 1, max_lifetime_seconds=61))
    if compute.gathers:  # the token is spent, and what it has launched is found by it
        assert getattr(answer, "instance_id", answer) == first.instance_id
    else:
        assert isinstance(answer, Rejected)
        [answer] = await launch(compute, request_for(api, 1, attempt=2))
        assert isinstance(answer, Rejected)
    assert [each.instance_id for each in await compute.list_instances()] == [first.instance_id]


async def test_a_refused_request_does_not_spoil_its_batch(compute: Compute, api: FakeApi) -> None:
    if compute.gathers:
        pytest.skip("a batch is one call there: nothing in it is refused by itself")
    await launch_one(compute, request_for(api, 1))
    answers = await launch(compute, request_for(api, 1, attempt=2), request_for(api, 2))
    assert isinstance(answers[0], Rejected)
    assert getattr(answers[1], "job_id", None) == 2


async def test_a_list_shows_the_instances_of_its_own_deployment_alone(
    world: World, api: FakeApi
) -> None:
    ours, theirs = world.adapter("test"), world.adapter("other")
    mine = await launch_one(ours, request_for(api, 1))
    other = await launch_one(theirs, request_for(api, 1, deployment="other"))
    assert mine.instance_id != other.instance_id
    assert [each.instance_id for each in await ours.list_instances()] == [mine.instance_id]
    assert [each.instance_id for each in await theirs.list_instances()] == [other.instance_id]


async def test_a_request_for_another_deployment_is_rejected(compute: Compute, api: FakeApi) -> None:
    [answer] = await launch(compute, request_for(api, 1, deployment="other"))
    assert isinstance(answer, Rejected)


async def test_an_unknown_id_is_absent_from_what_is_described(
    compute: Compute, api: FakeApi
) -> None:
    known = await launch_one(compute, request_for(api, 1))
    ids = ["i-00000000000000000", "p-00000000000000000", "../../etc", known.instance_id]
    assert set(await compute.describe(ids)) == {known.instance_id}
    assert await compute.describe([]) == {}


async def test_each_id_that_is_asked_for_is_answered_for_by_itself(
    compute: Compute, api: FakeApi
) -> None:
    api.env_vars[1] = {"SIMULATE_SECONDS": "30"}
    known = await launch_one(compute, request_for(api, 1))
    unknown = ["i-00000000000000000", "p-00000000000000000", "../../etc"]
    found = await compute.confirm([*unknown, known.instance_id])
    shown = found[known.instance_id]
    assert isinstance(shown, Instance)
    assert shown.launch_token == known.launch_token
    assert all(isinstance(found[each], NotFound) for each in unknown)
    assert await compute.confirm([]) == {}
    await compute.terminate([known.instance_id])
    await until_state(compute, known.instance_id, InstanceState.TERMINATED)
    over = (await compute.confirm([known.instance_id]))[known.instance_id]
    assert isinstance(over, Instance)
    assert over.state is InstanceState.TERMINATED


async def test_a_new_cloud_lists_nothing(compute: Compute) -> None:
    assert list(await compute.list_instances()) == []


async def test_terminate_leads_to_terminated_and_may_be_repeated(
    compute: Compute, api: FakeApi
) -> None:
    api.env_vars[1] = {"SIMULATE_SECONDS": "30"}
    instance = await launch_one(compute, request_for(api, 1))
    await api.until(lambda: api.reports[1])
    await compute.terminate([instance.instance_id])
    await compute.terminate([instance.instance_id])
    terminated = await until_state(compute, instance.instance_id, InstanceState.TERMINATED)
    await compute.terminate([instance.instance_id])
    assert terminated.terminated_at is not None
    assert terminated.terminated_at >= terminated.launched_at
    assert terminated.state_reason
    assert await compute.describe([instance.instance_id]) == {instance.instance_id: terminated}
    assert api.callbacks[1] == []


async def test_terminate_reaches_an_instance_that_has_only_just_been_launched(
    compute: Compute, api: FakeApi
) -> None:
    api.env_vars[1] = {"SIMULATE_SECONDS": "30"}
    instance = await launch_one(compute, request_for(api, 1))
    await compute.terminate([instance.instance_id])
    await until_state(compute, instance.instance_id, InstanceState.TERMINATED)


async def test_terminating_what_was_never_there_is_no_error_and_the_rest_is_terminated(
    compute: Compute, api: FakeApi
) -> None:
    api.env_vars[1] = {"SIMULATE_SECONDS": "30"}
    instance = await launch_one(compute, request_for(api, 1))
    await compute.terminate(["i-00000000000000000", "../..", instance.instance_id])
    await until_state(compute, instance.instance_id, InstanceState.TERMINATED)
    await compute.terminate([])


async def test_terminating_one_instance_leaves_the_others_alone(
    compute: Compute, api: FakeApi
) -> None:
    api.env_vars = {each: {"SIMULATE_SECONDS": "30"} for each in (1, 2)}
    one = await launch_one(compute, request_for(api, 1))
    other = await launch_one(compute, request_for(api, 2))
    await api.until(lambda: api.reports[2])
    await compute.terminate([one.instance_id])
    await until_state(compute, one.instance_id, InstanceState.TERMINATED)
    found = await compute.describe([other.instance_id])
    assert found[other.instance_id].state is InstanceState.RUNNING


async def test_an_instance_whose_agent_has_made_its_final_callback_is_terminated_by_itself(
    compute: Compute, api: FakeApi
) -> None:
    instance = await launch_one(compute, request_for(api, 1))
    await api.until(lambda: api.callbacks[1])
    terminated = await until_state(compute, instance.instance_id, InstanceState.TERMINATED)
    assert terminated.terminated_at is not None
    assert not terminated.spot_interrupted
    assert [each.state for each in await compute.list_instances()] == [InstanceState.TERMINATED]


async def test_a_terminated_instance_is_never_started_again_by_its_token(
    compute: Compute, api: FakeApi
) -> None:
    api.env_vars[1] = {"SIMULATE_SECONDS": "30"}
    instance = await launch_one(compute, request_for(api, 1))
    await compute.terminate([instance.instance_id])
    again = await launch_one(compute, request_for(api, 1))
    assert again.instance_id == instance.instance_id
    assert again.state in {InstanceState.STOPPING, InstanceState.TERMINATED}
    await until_state(compute, instance.instance_id, InstanceState.TERMINATED)
    again = await launch_one(compute, request_for(api, 1))
    assert again.state is InstanceState.TERMINATED
    assert len(api.claims[1]) <= 1
    assert len(await compute.list_instances()) == 1


async def test_an_instance_that_ended_by_itself_is_never_started_again_by_its_token(
    compute: Compute, api: FakeApi
) -> None:
    instance = await launch_one(compute, request_for(api, 1))
    await until_state(compute, instance.instance_id, InstanceState.TERMINATED)
    again = await launch_one(compute, request_for(api, 1))
    assert again.state is InstanceState.TERMINATED
    assert len(api.claims[1]) == 1


async def test_the_attempt_is_over_when_the_api_says_so_and_the_instance_ends(
    compute: Compute, api: FakeApi
) -> None:
    api.env_vars[1] = {"SIMULATE_SECONDS": "30"}
    api.over.add(1)
    instance = await launch_one(compute, request_for(api, 1))
    await until_state(compute, instance.instance_id, InstanceState.TERMINATED)
    assert api.callbacks[1] == []


async def test_the_offers_have_a_price_for_what_is_launched(compute: Compute, api: FakeApi) -> None:
    offers = await compute.price_offers()
    assert len({each.name for each in offers.types}) == len(offers.types) > 0
    for each in offers.types:
        assert set(each.spot_hourly_prices_usd) <= set(offers.terms.zones)
        assert each.vcpus > 0
        assert each.memory_mib > 0
        assert each.architectures
    instance = await launch_one(compute, request_for(api, 1))
    [kind] = [each for each in offers.types if each.name == instance.instance_type]
    price = instance.hourly_price_usd
    assert kind.spot_hourly_prices_usd[instance.zone] == pytest.approx(price, rel=0.01)
    if offers.terms.chooses:
        wanted = wanted_by(Resources(), offers.terms)
        chosen = choose({each.name: each for each in offers.types}, wanted, "spot")
        assert kind in chosen


async def test_closing_twice_is_no_error(world: World) -> None:
    compute = world.adapter()
    await compute.close()
    await compute.close()
