"""The launcher's sweeps: ask the cloud for instances, publish the watermark, prune settled rows.

    claim ─▶ plan ─▶ commit the intent ─▶ ask the cloud ─▶ record under the lease's token, publish

Killed before the intent is committed: the rows are `wanted`, and claimed again when their lease
ends. Killed between the commit and the record, or out of time: the batch is open, and when its
lease ends the identical call is made again, which adopts what the first call launched. Killed after
the record: the InstanceLaunched are in the outbox.
"""

import functools
import random
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from services.launcher import decisions, offers
from services.launcher.admission import Admission
from services.launcher.cloud_calls import Answers, LaunchCalls
from services.launcher.config import LauncherConfig
from services.launcher.model import BatchRecord, Launch, LaunchClaim, LeaseGrowth, Verdict
from services.launcher.offers import Gather, Group, Growth, Home
from services.launcher.paused_claims import hold_back, lock_trial
from services.launcher.pauses import held_until
from services.launcher.store import batches, pauses, watermark
from services.launcher.store import launches as rows
from services.launcher.store.failed_boots import load_avoided
from shared.compute.avoided import Avoided
from shared.compute.port import Compute, ComputeError, Instance
from shared.events import cloudevents
from shared.log import get_logger
from shared.messaging.store import append_outbox, publish
from shared.postgres.pool import Transaction
from shared.runtime.failures import await_all
from shared.runtime.passes import next_pass
from shared.runtime.service import Ports

QUOTA_SWEEPS = ("release_held", "report_quotas")
"""Woken after an answer: it may have made room."""


@dataclass(frozen=True)
class LaunchSweeps:
    """The sweeps over launches. *jitter* gives numbers in [0, 1)."""

    config: LauncherConfig
    ports: Ports
    compute: Compute
    jitter: Callable[[], float] = random.random
    growth: list[Growth] = field(default_factory=list)
    """The newest due launch that this process has seen; empty or one."""

    async def launch_due(self) -> datetime | None:
        """Ask the cloud for what is due; return when the next launch or batch is due."""
        claim = await self._claim()
        limit = self._limit
        groups = offers.decide_groups(claim.wanted, claim.now, limit, self._home(claim))
        if claim.again or groups:
            self.ports.points.reached("launcher.claimed")
        calls = {
            f"batch {each.token}": self._ask_for_batch(each, claim.token) for each in claim.again
        }
        calls |= {
            f"{len(each.launches)} launches from job {each.launches[0].job_id}, "
            f"attempt {each.launches[0].attempt} on": self._ask_for_group(each, claim.token)
            for each in groups
        }
        await await_all(calls, "launching failed", self._logger)
        if claim.gathers_until is not None:
            return claim.gathers_until
        async with self.ports.db.transaction() as tx:
            pause = await pauses.load_pause(tx)
            next_due = await rows.next_due(tx, held_until(pause, tx.now))
        full = limit in (len(claim.wanted), len(claim.again), claim.held_back)
        return next_pass(tx.now, full=full, next_due=next_due)

    async def _claim(self) -> LaunchClaim:
        config, token = self.config, uuid.uuid4()
        gathers_until, held_back = None, 0
        avoid: tuple[Avoided, ...] = ()
        async with self.ports.db.transaction() as tx:
            until = tx.now + timedelta(seconds=config.lease_seconds)
            again = await batches.claim_batches(tx, until, token, self._limit, self._growth)
            pause = await pauses.load_pause(tx)
            if pause.paused_until is None:
                wanted = await rows.lock_due(tx, self._limit)
                gathers_until = self._gathers_until(wanted, tx.now)
            else:
                held_back = await hold_back(tx, config, self._limit)
                wanted = await lock_trial(tx)
            if gathers_until is not None:
                wanted = []
            elif wanted:
                planned_by = tx.now + timedelta(seconds=config.plan_lease_seconds)
                await rows.lease_wanted(tx, wanted, planned_by, token)
                avoid = await load_avoided(tx)
        self.ports.wakeups.wake(*tx.wakes)
        return LaunchClaim(
            token=token,
            again=again,
            wanted=wanted,
            gathers_until=gathers_until,
            now=tx.now,
            held_back=held_back,
            avoid=avoid,
        )

    def _gathers_until(self, wanted: Sequence[Launch], now: datetime) -> datetime | None:
        growth = offers.decide_growth(wanted, self.growth[0] if self.growth else None, now)
        if growth is not None:
            self.growth[:] = [growth]
        gather = None
        if self.compute.gathers:
            gather = Gather(
                idle_seconds=self.config.gather_idle_seconds,
                longest_seconds=self.config.gather_longest_seconds,
            )
        return offers.decide_gather(wanted, growth, now, self._limit, gather)

    async def _ask_for_group(self, group: Group, token: uuid.UUID) -> None:
        """Plan for *group*, commit the batch as an intent, and ask for it."""
        plan, hourly_usd = await self.calls.plan(group)
        self.ports.points.reached("launcher.planned")
        batch = None
        async with self.ports.db.transaction() as tx:
            held = await rows.lock_wanted(tx, group.launches, token)
            launches = tuple(each for each in group.launches if each.key in held)
            if isinstance(plan, ComputeError):
                await self._settle(tx, launches, {each.key: plan for each in launches})
            elif admitted := await self.admission.admit(tx, launches, plan, hourly_usd):
                still = Group(offer=group.offer, launches=admitted)
                batch = offers.decide_batch(still, plan, tx.now)
                lease = self.config.lease_seconds + self._growth.seconds(len(admitted))
                until = tx.now + timedelta(seconds=lease)
                await batches.save_intent(tx, batch, until, token)
        if batch is None:
            self.ports.wakeups.wake("relay_outbox")
        else:
            self.ports.points.reached("launcher.intent_committed")
            await self._ask_for_batch(batch, token)

    async def _ask_for_batch(self, batch: BatchRecord, token: uuid.UUID) -> None:
        """Ask the cloud for a committed batch, and record its answers."""
        self.ports.points.reached("launcher.calling")
        call = offers.call_of(batch, self.config.token_key, self.ports.clock.now())
        answers = await self.calls.launch(call) if call.requests else {}
        self.ports.points.reached("launcher.called")
        async with self.ports.db.transaction() as tx:
            held = await batches.lock_batch(tx, batch, token)
            if held or not batch.launches:
                verdicts = await self._settle(tx, held, answers, repeated=batch.repeated)
                await self.admission.record(tx, batch, verdicts, answers)
                open_until = [
                    each.launch.due_at
                    for each in verdicts
                    if each.launch.state == "asked" and each.launch.due_at is not None
                ]
                due_at = max(open_until, default=None)
                await batches.give_back_batch(tx, batch.token, due_at)
        self.ports.points.reached("launcher.recorded")
        self.ports.wakeups.wake("relay_outbox", *QUOTA_SWEEPS)

    async def _settle(
        self,
        tx: Transaction,
        launches: Sequence[Launch],
        answers: Answers,
        *,
        repeated: bool = False,
    ) -> list[Verdict]:
        """Record the answers to *launches*, which *tx* has locked, and publish their events."""
        verdicts = await self._judge(tx, launches, answers, repeated=repeated)
        await rows.save_answers(tx, [each.launch for each in verdicts])
        envelopes = [
            cloudevents.wrap(event, source=tx.source, at=tx.now, trace=verdict.launch.trace)
            for verdict in verdicts
            for event in verdict.events
        ]
        await append_outbox(tx, envelopes)
        return verdicts

    async def _judge(
        self, tx: Transaction, launches: Sequence[Launch], answers: Answers, *, repeated: bool
    ) -> list[Verdict]:
        launched = sum(isinstance(answers[each.key], Instance) for each in launches)
        # The counter is locked from here to the commit, as briefly as possible: see
        # `report_launches`.
        sequence = await watermark.count_launches(tx, launched) - launched if launched else 0
        # One jitter for all: a batch is repeated as a whole, and launches that are due together are
        # gathered into one call.
        jitter = self.jitter()
        verdicts = []
        for each in launches:
            answer = answers[each.key]
            if isinstance(answer, Instance):
                sequence += 1
                verdicts.append(decisions.decide_launched(each, answer, sequence, tx.now))
            else:
                verdict = decisions.decide_refusal(
                    each, answer, tx.now, jitter, self.config.pace, repeated=repeated
                )
                verdicts.append(verdict)
        return verdicts

    async def report_launches(self) -> datetime | None:
        """Publish the watermark: which launches the reaper must have received by now.

        Published even if nothing has changed, since `before` advances. The counter is locked before
        the rows are read: `decide_watermark` says why that order makes the pair consistent.
        """
        async with self.ports.db.transaction() as tx:
            sequence = await watermark.lock_launch_count(tx)
            oldest = await watermark.oldest_asked(tx)
            event = decisions.decide_watermark(
                sequence, oldest, tx.now, self.config.report_margin_seconds
            )
            await publish(tx, [event])
        self.ports.wakeups.wake("relay_outbox")
        return None

    async def prune_launches(self) -> datetime | None:
        """Delete launches and batches that were settled long ago."""
        async with self.ports.db.transaction() as tx:
            before = tx.now - timedelta(seconds=self.config.keep_seconds)
            more = await rows.prune_settled(tx, before, self.config.prune_batch)
        return tx.now if more else None

    @functools.cached_property
    def admission(self) -> Admission:
        """Return what decides on the quotas."""
        return Admission(self.config.quotas, self.compute)

    @functools.cached_property
    def calls(self) -> LaunchCalls:
        """Return what asks the cloud."""
        return LaunchCalls(self.config, self.compute)

    @property
    def _growth(self) -> LeaseGrowth:
        return self.calls.growth

    @property
    def _limit(self) -> int:
        return self.config.gathered_batch if self.compute.gathers else self.config.batch

    def _home(self, claim: LaunchClaim) -> Home:
        return Home(
            deployment=self.config.deployment,
            api_url=self.config.api_url,
            spot_wait_seconds=self.config.spot_wait_seconds,
            avoid=claim.avoid,
            quotas=self.config.quotas,
        )

    @property
    def _logger(self) -> Any:
        return get_logger(service="launcher", part="launches")
