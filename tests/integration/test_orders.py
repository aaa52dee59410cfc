"""All four services on one Postgres, with their events in any order and repeated.

First the handlers alone, which must commute; then the whole, sweeps, agent and cloud included, with
a bus that delivers what it likes, when it likes, and twice.
"""

import itertools
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from operations.wiring import SERVICES
from services.api.jobs.model import TERMINAL
from services.launcher import service as launcher
from services.launcher.config import LauncherConfig
from services.reaper import service as reaper
from services.reaper.config import ReaperConfig
from services.scheduler import service as scheduler
from services.scheduler.config import SchedulerConfig
from shared.clock import VirtualClock
from shared.events.causes import Cause
from shared.events.cloudevents import Envelope
from shared.events.events import (
    AttemptEnded,
    Event,
    InstanceLaunched,
    InstanceRequested,
    InstanceTerminated,
    JobCancelled,
    JobFinished,
    JobScheduled,
    LaunchDelayed,
    LaunchesMissed,
    LaunchesReported,
    LaunchRefused,
)
from shared.runtime.service import Ports
from tests.support.api.api_world import DEPLOYMENT, NEEDS, TOKEN_KEY, Agent, World, token_of
from tests.support.compute.scripted_compute import ScriptedCompute
from tests.support.compute.stage import Stage
from tests.support.rows.messages import events_in, wrapped

CONSUMES = {service.NAME: service.CONSUMES for service in SERVICES}
LONG = settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class Four:
    """The four services on one database, and one cloud."""

    def __init__(self, ports: dict[str, Ports], clock: VirtualClock) -> None:
        self.clock = clock
        self.cloud = ScriptedCompute(clock)
        self.world = World(ports["api"], clock)
        self.stages = {
            "api": self.world.stage,
            "scheduler": Stage(scheduler.build(SchedulerConfig(), ports["scheduler"])),
            "launcher": Stage(
                launcher.build(
                    LauncherConfig(
                        deployment=DEPLOYMENT, api_url="http://api", token_key=TOKEN_KEY
                    ),
                    ports["launcher"],
                    self.cloud,
                )
            ),
            "reaper": Stage(reaper.build(ReaperConfig(), ports["reaper"], self.cloud)),
        }


@pytest.fixture
async def four(ports_of: Callable[[str], Awaitable[Ports]], clock: VirtualClock) -> Any:
    made = Four({name: await ports_of(name) for name in CONSUMES}, clock)
    yield made
    await made.world.close()


# -- the handlers alone


def facts(four: Four, job_id: int, scenario: str) -> list[Event]:
    """Return every event of a *scenario* of one job, of every publisher, in the true order."""
    world, now = four.world, four.clock.now()
    scheduled = JobScheduled(job_id=job_id, attempt=1, due_at=now, requirements=NEEDS)
    launch = world.launched(job_id)
    launched = InstanceLaunched(
        **{
            **{n: getattr(launch, n) for n in launch.__struct_fields__},
            "launch_sequence": job_id,
        }
    )

    def ended(cause: Cause) -> AttemptEnded:
        return AttemptEnded(
            job_id=job_id, attempt=1, cause=cause, ended_at=now, terminate_after=now
        )

    reported = LaunchesReported(before=now - timedelta(seconds=job_id), launch_sequence=job_id)
    requested = InstanceRequested(job_id=job_id, attempt=1, due_at=now, requirements=NEEDS)
    begun: list[Event] = [scheduled, requested, world.delayed(job_id)]
    cancelled = JobCancelled(job_id=job_id, attempt=1)
    return {
        "done": [*begun, launched, reported, ended("done"), world.terminated(job_id)],
        "interrupted": [
            *begun, launched, world.warned(job_id, kind="rebalance"), ended("interrupted"),
            world.terminated(job_id, spot=True),
        ],
        "reclaimed": [
            *begun, launched, world.warned(job_id), ended("interrupted"),
            world.terminated(job_id, spot=True),
        ],
        "cancelled": [*begun, cancelled, launched, ended("cancelled"), world.terminated(job_id)],
        "cancelled early": [scheduled, cancelled, ended("cancelled")],
        "refused": [*begun, world.refused(job_id), ended("refused")],
    }[scenario]  # fmt: skip


MOST = 30
"""Deliveries of the longest scenario, each made twice; there may be fewer."""

SCENARIOS = ["done", "interrupted", "reclaimed", "cancelled", "cancelled early", "refused"]
NEW = "SELECT id, name, body FROM outbox WHERE id > $1 ORDER BY id"
CHOSEN = {
    "api": """SELECT j.status, j.attempt, (SELECT jsonb_agg(jsonb_build_array(
            a.number, a.state, a.cause, a.instance_id IS NOT NULL, a.market, a.cost_usd,
            a.container_stopped, a.instance_gone_at IS NOT NULL)
            ORDER BY a.number) FROM attempts a WHERE a.job_id = j.id) AS attempts,
        (SELECT jsonb_agg(name ORDER BY name) FROM outbox
            WHERE (convert_from(body, 'UTF8')::jsonb #>> '{body,job_id}')::bigint = j.id) AS events
        FROM jobs j WHERE j.id = $1""",
    "scheduler": "SELECT attempt, state FROM timers WHERE job_id = $1 ORDER BY 1",
    "launcher": "SELECT attempt, state, unwanted FROM launches WHERE job_id = $1 ORDER BY 1",
    "reaper": """SELECT i.attempt, i.state, i.market, e.cause FROM instances i
        FULL JOIN ended_attempts e USING (job_id) WHERE job_id = $1 ORDER BY 1""",
}
"""What must come out alike. Moments, what was waited for meanwhile, and a recommendation that is
delivered only when the attempt is over, are each order's own.
"""


async def outcome(four: Four, job_id: int) -> dict[str, list[Any]]:
    found = {}
    for name, sql in CHOSEN.items():
        async with four.stages[name].ports.db.connection() as conn:
            found[name] = [tuple(row.values()) for row in await conn.fetch(sql, job_id)]
    return found


def deliveries(envelopes: list[Envelope[Any]]) -> list[tuple[str, Envelope[Any]]]:
    """List each event for each of its readers."""
    return [
        (name, envelope)
        for name, envelope in itertools.product(CONSUMES, envelopes)
        if isinstance(envelope.body, CONSUMES[name])
    ]


ASKED_AGAIN: tuple[type[Event], ...] = (
    JobScheduled,
    InstanceRequested,
    LaunchDelayed,
    LaunchRefused,
    InstanceLaunched,
    AttemptEnded,
    InstanceTerminated,
)
"""The events that are published again, under other ids, if they seem to have had no consequence."""

LOSABLE: tuple[type[Event], ...] = (*ASKED_AGAIN[:5], LaunchesReported, LaunchesMissed)
"""The events on the way to a launch, and those that a sweep publishes until they take effect."""


async def deliver_scenario(
    four: Four, scenario: str, places: list[int] | None, *, new_ids: bool = False
) -> dict[str, list[Any]]:
    """Deliver a new job's *scenario*: in order and once, or doubled in the order of *places*.

    *new_ids*: the second copy of what may be asked for again has ids of its own.
    """
    job_id = int((await four.world.post())["id"])
    now = four.clock.now()
    published = [wrapped(event, at=now) for event in facts(four, job_id, scenario)]
    order = deliveries(published)
    if places is not None:
        copies = order
        if new_ids:
            repeated = [
                wrapped(each.body, at=now) if isinstance(each.body, ASKED_AGAIN) else each
                for each in published
            ]
            copies = deliveries(repeated)
        twice = [*order, *copies]
        order = [twice[place] for place in places if place < len(twice)]
        assert len(order) == len(twice)
    for name, envelope in order:
        await four.stages[name].service.inbox.apply([envelope])
    return await outcome(four, job_id)


@settings(LONG, max_examples=40)
@given(scenario=st.sampled_from(SCENARIOS), places=st.permutations(range(MOST)))
async def test_the_events_of_a_job_in_any_order_and_doubled_lead_all_four_services_to_the_same_rows(
    four: Four, scenario: str, places: list[int]
) -> None:
    assert await deliver_scenario(four, scenario, places) == await deliver_scenario(
        four, scenario, None
    )


@LONG
@given(scenario=st.sampled_from(SCENARIOS), places=st.permutations(range(MOST)))
async def test_events_that_are_published_again_under_other_ids_lead_to_the_same_rows(
    four: Four, scenario: str, places: list[int]
) -> None:
    assert await deliver_scenario(four, scenario, places, new_ids=True) == await deliver_scenario(
        four, scenario, None
    )


# -- the whole

SWEEPS = [
    ("scheduler", "fire_due"),
    ("launcher", "launch_due_1"),
    ("launcher", "report_launches"),
    ("reaper", "terminate_ending"),
    ("reaper", "watch_instances"),
    ("reaper", "confirm_missing"),
    ("reaper", "read_consoles"),
    ("api", "end_silent"),
    ("api", "ask_again"),
    ("reaper", "report_missed_launches"),
]
FINAL_CALLBACKS: list[dict[str, Any]] = [
    {"exit_code": 0},
    {"failed": "", "error_message": "it broke", "exit_code": 3},
    {"schedule": "", "stopped": True, "exit_code": 143},
    {"failed": "", "error_message": "no such image", "pull_failed": True},
]
ROUNDS = 600
CONFIRM = "UPDATE outbox SET published_at = $1 WHERE published_at IS NULL"


class Life:
    """One job's run: carries events, acts as agent and Spot market, and checks every step."""

    def __init__(self, four: Four, job_id: int) -> None:
        self.four = four
        self.job_id = job_id
        self.read = dict.fromkeys(CONSUMES, 0)
        self.waiting: list[tuple[str, Envelope[Any]]] = []
        self.delivered: list[tuple[str, Envelope[Any]]] = []
        self.exited_0: set[int] = set()
        self.last_status = ""

    async def step(self, kind: str, number: int) -> None:
        if kind == "deliver" and self.waiting:
            await self._deliver(self.waiting.pop(number % len(self.waiting)))
        elif kind == "lose":
            self._lose(number)
        elif kind == "repeat" and self.delivered:
            await self._deliver(self.delivered[number % len(self.delivered)])
        elif kind == "sweep":
            await self._sweep(*SWEEPS[number % len(SWEEPS)])
        elif kind == "agent":
            await self._agent(FINAL_CALLBACKS[number % len(FINAL_CALLBACKS)])
        elif kind == "interrupt" and self._living():
            self.four.cloud.end(self._living()[number % len(self._living())], interrupted=True)
        elif kind == "cancel" and number == 0:
            await self.four.world.cancel(self.job_id)
        elif kind == "time":
            self.four.clock.advance(1 + number % 40)
        await self._look()

    async def heal(self) -> None:
        """Deliver all, run all, until nothing is left to do."""
        for _ in range(ROUNDS):
            while self.waiting:
                await self.step("deliver", 0)
            for place in range(len(SWEEPS)):
                await self.step("sweep", place)
            await self.step("agent", 0)
            if self.last_status in TERMINAL and not self._living() and not self._undelivered():
                return
            self.four.clock.advance(5)
        raise AssertionError(f"after {ROUNDS} rounds: {await self.four.world.status(self.job_id)}")

    def _undelivered(self) -> bool:
        """Return whether an event is on its way, besides the ever repeated watermark."""
        return any(not isinstance(each.body, LaunchesReported) for _, each in self.waiting)

    def _lose(self, number: int) -> None:
        """Lose an event on its way to one reader, if it is one that is asked for again."""
        losable = [each for each in self.waiting if isinstance(each[1].body, LOSABLE)]
        if losable:
            self.waiting.remove(losable[number % len(losable)])

    async def _deliver(self, delivery: tuple[str, Envelope[Any]]) -> None:
        name, envelope = delivery
        await self.four.stages[name].service.inbox.apply([envelope])
        self.delivered.append(delivery)

    async def _sweep(self, name: str, sweep: str) -> None:
        before = await self.four.world.status(self.job_id)
        asked = len(self.four.cloud.terminated)
        await self.four.stages[name].sweep(sweep)
        needed = {
            attempt["instance_id"] for attempt in before["attempts"] if attempt["phase"] != "ended"
        }
        for ids in self.four.cloud.terminated[asked:]:
            assert not needed & set(ids), "the reaper ended an instance that an attempt needs"

    async def _agent(self, callback: dict[str, Any]) -> None:
        """Let the current attempt's agent claim, run its container and end, if it is allowed to."""
        world = self.four.world
        attempt = (await world.status(self.job_id))["attempt"]
        for instance_id in self._living(attempt):
            claim = await world.claim(self.job_id, attempt, instance=instance_id)
            if claim.status_code == 200:
                agent = Agent(self.job_id, attempt, token_of(self.job_id, attempt))
                await world.report(agent, phase="running")
                if callback.get("exit_code") == 0:
                    self.exited_0.add(attempt)
                await world.call_back(agent, callback)

    def _living(self, attempt: int | None = None) -> list[str]:
        return [
            each.instance_id
            for each in self.four.cloud.instances.values()
            if each.job_id == self.job_id and each.terminated_at is None
            if attempt in (None, each.attempt)
        ]

    async def _look(self) -> None:
        """Collect the published events, and check the invariants."""
        for name, stage in self.four.stages.items():
            async with stage.ports.db.connection() as conn:
                rows = await conn.fetch(NEW, self.read[name])
                await conn.execute(CONFIRM, self.four.clock.now())
            for row in rows:
                self.read[name] = row["id"]
                self.waiting += deliveries(events_in([row]))
        status = (await self.four.world.status(self.job_id))["status"]
        assert self.last_status not in TERMINAL or status == self.last_status
        self.last_status = status
        launched = [each.attempt for each in self.four.cloud.instances.values()
                    if each.job_id == self.job_id]  # fmt: skip
        assert len(launched) == len(set(launched)), "an attempt has two instances"

    async def prove(self) -> None:
        """Return the published events, once all is over."""
        published: list[Event] = []
        for stage in self.four.stages.values():
            published += [each.body for each in await stage.outbox()]
        mine = [each for each in published if getattr(each, "job_id", None) == self.job_id]
        # What is published again has the same content; nothing else is published twice.
        distinct = {f"{each!r}": each for each in mine}
        once = [f"{each!r}" for each in mine if not isinstance(each, ASKED_AGAIN)]
        assert len(once) == len(set(once))
        mine = list(distinct.values())
        kinds = Counter(type(each) for each in mine)
        assert kinds[JobFinished] == 1
        status = await self.four.world.status(self.job_id)
        attempts = len(status["attempts"])
        assert kinds[InstanceRequested] <= kinds[JobScheduled] <= attempts
        assert kinds[AttemptEnded] == attempts
        assert kinds[InstanceLaunched] == kinds[InstanceTerminated] <= attempts
        assert status["status"] != "DONE" or status["attempt"] in self.exited_0
        parked = [await stage.rows("SELECT * FROM parked") for stage in self.four.stages.values()]
        assert parked == [[], [], [], []]


KINDS = ["deliver"] * 4 + ["repeat"] * 2 + ["sweep"] * 4 + ["agent", "interrupt", "cancel", "time"]
STEPS = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(min_value=0, max_value=60)), max_size=60
)


@pytest.mark.timeout(400)
@LONG
@given(steps=STEPS)
async def test_however_the_four_services_meet_a_job_ends_once_and_leaves_no_instance(
    four: Four, steps: list[tuple[str, int]]
) -> None:
    life = Life(four, int((await four.world.post())["id"]))
    await life._look()
    for kind, number in steps:
        await life.step(kind, number)
    await life.heal()
    await life.prove()


LOSING = st.lists(
    st.tuples(st.sampled_from([*KINDS, *["lose"] * 4]), st.integers(min_value=0, max_value=60)),
    max_size=60,
)


@pytest.mark.timeout(400)
@LONG
@given(steps=LOSING)
async def test_whatever_is_lost_on_the_way_to_a_launch_a_job_ends_once_and_leaves_no_instance(
    four: Four, steps: list[tuple[str, int]]
) -> None:
    life = Life(four, int((await four.world.post())["id"]))
    await life._look()
    for kind, number in steps:
        await life.step(kind, number)
    await life.heal()
    await life.prove()
