"""The API's handling of other services' events, and of silence, on real rows."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable

import pytest
from msgspec import structs

from services.api.jobs.handlers import UnknownJob
from shared.bus.memory import MemoryBus
from shared.clock import VirtualClock
from shared.events.events import AttemptEnded, Event, JobFinished, JobScheduled
from shared.runtime.service import Ports
from tests.support.api.api_world import World, message_of
from tests.support.rows.messages import TRACE, as_message, wrapped

# Moments, and which instance it was, differ between two jobs that fared alike.
OF_ITS_OWN = ("due_at", "phases", "instance_id", "spot_instance_request_id", "error_message")


async def ends_alike(
    world: World, orders: list[tuple[int, ...]], make: Callable[[int], list[Event]]
) -> None:
    """Deliver the same events of a new job in every order, each of them twice."""
    results = []
    for order in orders:
        job_id = (await world.post())["id"]
        facts = make(job_id)
        before = len(await world.stage.outbox())
        await world.deliver(*(facts[place] for place in order))
        published = sorted(each.name for each in (await world.stage.outbox())[before:])
        status = await world.status(job_id)
        attempts = [
            {
                name: value if name not in OF_ITS_OWN else value is not None
                for name, value in attempt.items()
            }
            for attempt in status["attempts"]
        ]
        results.append((status["status"], status["phase"], attempts, published))
    for result in results[1:]:
        assert result == results[0]


async def test_the_facts_of_a_launch_converge_in_every_order(world: World) -> None:
    def make(job_id: int) -> list[Event]:
        return [
            world.delayed(job_id, message="first"),
            world.launched(job_id),
        ]

    await ends_alike(world, list(itertools.permutations(range(2))), make)


async def test_the_facts_of_an_instance_that_came_and_went_converge_in_every_order(
    world: World,
) -> None:
    def make(job_id: int) -> list[Event]:
        return [world.launched(job_id), world.terminated(job_id)]

    await ends_alike(world, list(itertools.permutations(range(2))), make)


async def test_the_facts_of_a_refusal_converge_in_every_order(world: World) -> None:
    def make(job_id: int) -> list[Event]:
        return [world.delayed(job_id), world.refused(job_id)]

    await ends_alike(world, list(itertools.permutations(range(2))), make)


async def test_a_new_event_that_says_the_same_again_changes_no_row(world: World) -> None:
    """The inbox drops a repeat; a second event with the same content is another matter."""
    agent = await world.running()
    await world.call_back(agent, {})
    await world.deliver(world.terminated(agent.job_id))
    before = await world.rows()
    await world.deliver(world.launched(agent.job_id), world.terminated(agent.job_id))
    assert await world.rows() == before


async def test_a_batch_of_many_jobs_takes_effect_in_one_transaction(world: World) -> None:
    jobs = [(await world.post())["id"] for _ in range(20)]
    now = world.clock.now()
    facts = [world.delayed(job_id) for job_id in jobs] + [world.launched(j) for j in jobs]
    envelopes = [wrapped(fact, at=now) for fact in facts]
    await world.stage.service.inbox.apply(envelopes)
    assert {(await world.status(job_id))["phase"] for job_id in jobs} == {"booting"}


async def test_a_fact_about_an_unknown_job_or_attempt_is_an_error_and_an_orphans_end_is_not(
    world: World,
) -> None:
    job_id = (await world.post())["id"]
    unknown: list[Event] = [
        world.delayed(job_id + 1),
        world.launched(job_id, 2),
        world.terminated(job_id + 1),
    ]
    for fact in unknown:
        with pytest.raises(UnknownJob, match="there is no attempt "):
            await world.deliver(fact)
    before = await world.rows()
    orphan = world.terminated(job_id)
    fields = {name: getattr(orphan, name) for name in orphan.__struct_fields__}
    await world.deliver(type(orphan)(**{**fields, "job_id": None, "attempt": None}))
    assert await world.rows() == before


async def test_the_end_of_another_instance_than_the_attempts_own_changes_nothing(
    world: World,
) -> None:
    agent = await world.running()
    terminated = world.terminated(agent.job_id)
    fields = {name: getattr(terminated, name) for name in terminated.__struct_fields__}
    before = await world.rows()
    await world.deliver(type(terminated)(**{**fields, "instance_id": "i-leaked"}))
    assert await world.rows() == before
    assert (await world.report(agent)).status_code == 200


async def test_a_refusal_fails_the_job_in_the_launchers_words(world: World) -> None:
    job_id = (await world.post())["id"]
    await world.deliver(world.refused(job_id))
    status = await world.status(job_id)
    assert (status["status"], status["error_message"]) == ("FAILED", "bad image id")
    assert await world.published() == ["JobScheduled", "AttemptEnded", "JobFinished"]


async def test_what_follows_an_event_bears_its_trace_and_names_it_as_the_cause(
    world: World,
) -> None:
    job_id = (await world.post())["id"]
    event = wrapped(world.refused(job_id), at=world.clock.now())
    await world.stage.service.inbox.apply([event])
    for envelope in (await world.stage.outbox())[1:]:
        assert (envelope.trace, envelope.cause) == (TRACE, event.id)


async def test_what_a_request_causes_bears_the_jobs_own_trace(world: World) -> None:
    agent = await world.running()
    await world.call_back(agent, {})
    assert len({each.trace for each in await world.stage.outbox()}) == 1


# -- interruption


async def test_a_replacement_boots_early_and_waits_for_the_container_before_it(
    world: World, clock: VirtualClock
) -> None:
    agent = await world.running()
    await world.call_back(agent, {"schedule": ""})
    [_, early] = await world.stage.published(JobScheduled)
    assert (early.attempt, early.due_at) == (2, clock.now())
    await world.deliver(world.launched(agent.job_id, 2))
    before = await world.rows()
    answer = await world.claim(agent.job_id, 2)
    assert answer.status_code == 202
    assert answer.json() == {
        "wait": "attempt 2 is ready, and waits until the container of attempt 1 is known to have "
        "stopped",
        "retry_seconds": 1,
    }
    clock.advance(30)
    await world.report(agent)
    assert (await world.claim(agent.job_id, 2)).status_code == 202
    after = await world.rows()
    [second] = [each for each in after["attempts"] if each["number"] == 2]
    assert second["heartbeat_at"] == "2026-01-01T00:00:30+00:00"
    assert second["token_hash"] is None
    assert (after["jobs"], after["outbox"]) == (before["jobs"], before["outbox"])
    await world.call_back(agent, {"schedule": "", "stopped": True, "exit_code": 143})
    assert (await world.claim(agent.job_id, 2)).status_code == 200
    assert (await world.status(agent.job_id))["attempt"] == 2


async def test_a_replacement_whose_turn_never_comes_is_asked_to_stop(world: World) -> None:
    agent = await world.running()
    await world.call_back(agent, {"schedule": ""})
    await world.deliver(world.launched(agent.job_id, 2))
    await world.claim(agent.job_id, 2)
    await world.call_back(agent, {})
    answer = await world.claim(agent.job_id, 2)
    assert (answer.status_code, answer.json()["cause"]) == (409, "superseded")
    over = await world.stage.published(AttemptEnded)
    assert [(each.attempt, each.cause) for each in over] == [(1, "done"), (2, "superseded")]


async def test_a_waiting_replacement_that_is_taken_back_itself_is_replaced(world: World) -> None:
    agent = await world.running()
    await world.call_back(agent, {"schedule": ""})
    await world.deliver(world.launched(agent.job_id, 2))
    assert (await world.claim(agent.job_id, 2)).status_code == 202
    answer = await world.claim(agent.job_id, 2, interrupted=True)
    assert (answer.status_code, answer.json()["cause"]) == (409, "interrupted")
    status = await world.status(agent.job_id)
    assert (status["attempt"], [each["cause"] for each in status["attempts"]]) == (
        1,
        [None, "interrupted", None],
    )
    assert [each.attempt for each in await world.stage.published(JobScheduled)] == [1, 2, 3]
    assert (await world.report(agent)).status_code == 200


async def test_who_has_the_job_does_not_give_it_back_by_a_claim(world: World) -> None:
    agent = await world.running()
    answer = await world.claim(agent.job_id, interrupted=True)
    assert answer.status_code == 200
    assert (await world.status(agent.job_id))["status"] == "RUNNING"


async def test_the_cloud_may_be_the_first_to_report_an_interruption(world: World) -> None:
    agent = await world.running()
    await world.deliver(world.warned(agent.job_id))
    await world.call_back(agent, {"schedule": ""})
    status = await world.status(agent.job_id)
    assert (status["status"], status["phase"], len(status["attempts"])) == (
        "SCHEDULED",
        "stopping",
        2,
    )


async def test_a_rebalance_recommendation_is_shown_by_whichever_channel_it_comes(
    world: World,
) -> None:
    by_agent, by_cloud = await world.running(), await world.running()
    answer = await world.http.post(
        f"/agent/jobs/{by_agent.job_id}/report", json={"rebalance": True}, headers=by_agent.headers
    )
    assert answer.status_code == 200
    await world.deliver(world.warned(by_cloud.job_id, kind="rebalance"))
    for agent in (by_agent, by_cloud):
        status = await world.status(agent.job_id)
        [attempt] = status["attempts"]
        assert attempt["rebalance_at"] == "2026-01-01T00:00:00Z"
        assert status["status"] == "RUNNING"


async def test_a_refused_launch_for_want_of_capacity_is_a_cause_of_its_own(world: World) -> None:
    job_id = (await world.post())["id"]
    refusal = structs.replace(world.refused(job_id), reason="no_capacity", message="no Spot")
    await world.deliver(refusal)
    status = await world.status(job_id)
    assert (status["status"], status["attempts"][0]["cause"]) == ("FAILED", "no_capacity")


async def test_a_pull_that_failed_is_tried_again_from_a_budget_that_status_shows(
    world: World,
) -> None:
    agent = await world.running(retries=1)
    callback = {"failed": "", "pull_failed": True, "error_message": "registry away"}
    await world.call_back(agent, callback)
    status = await world.status(agent.job_id)
    assert (status["attempts"][0]["cause"], status["attempt"]) == ("pull_failed", 2)
    assert status["budgets"] == {
        "interruptions": {"used": 0, "allowed": 20},
        "pulls": {"used": 1, "allowed": 3},
        "retries": {"used": 0, "allowed": 1},
    }
    second = await world.claimed(agent.job_id, 2)
    await world.call_back(
        second, {**callback, "for_good": True, "error_message": "manifest unknown"}
    )
    status = await world.status(agent.job_id)
    assert (status["status"], status["error_message"]) == ("FAILED", "manifest unknown")


# -- silence


async def test_a_silent_attempt_is_lost_held_and_scheduled_when_its_instance_is_terminated(
    world: World, clock: VirtualClock
) -> None:
    agent = await world.running()
    clock.advance(59)
    await world.stage.sweep("end_silent")
    assert (await world.status(agent.job_id))["status"] == "RUNNING"
    clock.advance(1)
    await world.stage.sweep("end_silent")
    status = await world.status(agent.job_id)
    assert (status["status"], status["phase"], status["attempt"]) == ("SCHEDULED", "waiting", 2)
    assert f"instance i-{agent.job_id}-1 of attempt 1" in status["waiting_because"]
    assert status["attempts"][0]["cause"] == "lost"
    [over] = await world.stage.published(AttemptEnded)
    assert (over.cause, over.terminate_after) == ("lost", clock.now())
    assert len(await world.stage.published(JobScheduled)) == 1
    before = await world.rows()
    clock.advance(3600)
    await world.stage.sweep("end_silent")
    assert await world.rows() == before  # held for as long as it takes
    await world.deliver(world.terminated(agent.job_id))
    released = await world.status(agent.job_id)
    assert (released["phase"], released["attempts"][1]["due_at"]) == (
        "launching",
        clock.now().isoformat().replace("+00:00", "Z"),
    )
    assert released["waiting_because"] == (
        "due 0 s ago; no launch reported yet; "
        "retry 1 of 20: instance lost: no report by its agent for 60 s"
    )
    [_, again] = await world.stage.published(JobScheduled)
    assert (again.job_id, again.attempt) == (agent.job_id, 2)


async def test_heartbeats_keep_an_attempt_alive_and_the_sweep_says_when_it_looks_next(
    world: World, clock: VirtualClock
) -> None:
    agent = await world.running()
    assert (await world.stage.sweep("end_silent")) == clock.now().replace(minute=1)
    for _ in range(30):
        clock.advance(10)
        await world.report(agent)
        await world.stage.sweep("end_silent")
    assert (await world.status(agent.job_id))["status"] == "RUNNING"
    assert "AttemptEnded" not in await world.published()


async def test_an_instance_that_never_speaks_is_lost_at_the_boot_time_out(
    world: World, clock: VirtualClock
) -> None:
    job_id = (await world.post())["id"]
    await world.deliver(world.launched(job_id))
    clock.advance(899)
    await world.stage.sweep("end_silent")
    assert (await world.status(job_id))["phase"] == "booting"
    clock.advance(1)
    await world.stage.sweep("end_silent")
    status = await world.status(job_id)
    assert status["attempts"][0]["error_message"] == (
        "no claim by its instance within 900 s of its launch (m7g.medium in us-east-1a)"
    )
    # No instance has the job, and none will get it: the next attempt need not wait for the cloud.
    assert (status["attempts"][0]["cause"], status["phase"]) == ("lost", "launching")
    assert (await world.claim(job_id)).status_code == 409


async def test_the_maximum_lifetime_ends_a_job_that_goes_on_and_on(
    world: World, clock: VirtualClock
) -> None:
    agent = await world.running()
    clock.advance(365 * 86_400 - 1)
    await world.report(agent)
    await world.stage.sweep("end_silent")
    assert (await world.status(agent.job_id))["status"] == "RUNNING"
    clock.advance(59)
    await world.report(agent)
    clock.advance(1)
    await world.stage.sweep("end_silent")
    status = await world.status(agent.job_id)
    assert (status["status"], status["error_message"]) == (
        "FAILED",
        "its maximum lifetime passed",
    )


async def test_a_job_gives_up_after_its_last_attempt(world: World) -> None:
    twice = world.again(INTERRUPTION_BUDGET="1")
    agent = await twice.running()
    await twice.call_back(agent, {"schedule": "", "stopped": True})
    second = await twice.claimed(agent.job_id, 2)
    await twice.call_back(second, {"schedule": "", "stopped": True})
    status = await twice.status(agent.job_id)
    assert (status["status"], status["error_message"]) == (
        "FAILED",
        "gave up after 2 attempts, the last one was interrupted",
    )
    assert len(await twice.stage.published(JobFinished)) == 1
    await twice.close()


async def test_more_silent_attempts_than_a_batch_are_ended_pass_by_pass(
    world: World, clock: VirtualClock
) -> None:
    body = [{"docker_image": "alpine", "scheduled_for": "now"}] * 150
    jobs = [job["id"] for job in (await world.http.post("/schedule", json=body)).json()]
    now = clock.now()
    envelopes = [wrapped(world.launched(job_id), at=now) for job_id in jobs]
    await world.stage.service.inbox.apply(envelopes)
    clock.advance(901)
    assert await world.stage.sweep("end_silent") == clock.now()  # there is more
    assert await world.stage.sweep("end_silent") is None
    assert (await world.published()).count("AttemptEnded") == 150


async def test_one_attempt_that_cannot_be_ended_keeps_no_other_from_it(
    world: World, clock: VirtualClock
) -> None:
    agents = [await world.running() for _ in range(3)]
    async with world.ports.db.connection() as conn:  # a row that this version cannot read
        update = "UPDATE attempts SET runtime = 'podman', check_at = check_at - interval '1 s'"
        await conn.execute(f"{update} WHERE job_id = $1", agents[0].job_id)
    clock.advance(61)
    look_again = await world.stage.sweep("end_silent")
    assert look_again is not None
    assert look_again > clock.now()  # not at once: that would be a loop at full speed
    lost = [await world.status(agent.job_id) for agent in agents[1:]]
    assert [status["attempts"][0]["cause"] for status in lost] == ["lost", "lost"]


async def test_two_replicas_that_sweep_at_once_end_each_attempt_once(
    world: World, clock: VirtualClock
) -> None:
    for _ in range(5):
        await world.running()
    other = world.again()
    clock.advance(61)
    await asyncio.gather(*(each.stage.sweep("end_silent") for each in (world, other, world)))
    assert (await world.published()).count("AttemptEnded") == 5
    await other.close()


# -- the service as it runs


async def test_the_service_takes_in_relays_consumes_and_drains(
    ports_of: Callable[[str], Awaitable[Ports]], clock: VirtualClock, bus: MemoryBus
) -> None:
    world = World(await ports_of("api"), clock, groups=False)
    running = asyncio.create_task(world.api.run())
    job_id = (await world.post())["id"]
    message = as_message(wrapped(world.delayed(job_id), at=clock.now()))
    # Nobody reads the launcher's queue here, so that this publish is never confirmed.
    publishing = asyncio.create_task(bus.publish([message]))
    await world.points.wait_for("api.acknowledged")
    assert (await world.status(job_id))["phase"] == "waiting"
    await bus.close()
    world.api.service.drain()
    await running
    await asyncio.gather(publishing, return_exceptions=True)
    answer = await world.http.post("/schedule", json={"docker_image": "a", "scheduled_for": "now"})
    assert answer.status_code == 503
    assert message_of(answer).startswith("the service is stopping")
    await world.close()


async def test_a_request_that_waits_when_the_service_stops_is_answered_so(world: World) -> None:
    body = {"docker_image": "alpine", "scheduled_for": "now"}
    # Nobody else may write: the group that the post is in waits for this lock.
    async with world.ports.db.transaction() as tx:
        await tx.conn.execute("LOCK TABLE jobs IN EXCLUSIVE MODE")
        post = asyncio.create_task(world.http.post("/schedule", json=body))
        await locked(world)
        await world.close_groups()
    assert (await post).status_code == 503


async def locked(world: World) -> None:
    """Return once a statement waits for a lock."""
    query = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    async with world.ports.db.connection() as conn:
        while await conn.fetchval(query) == 0:  # noqa: ASYNC110 - the event is Postgres's
            await asyncio.sleep(0)
