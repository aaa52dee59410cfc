"""The reaper's sweeps: terminate instances until it is confirmed, and watch the cloud's list.

    claim, commit ─▶ terminate ─▶ describe ─▶ record and publish the terminated, postpone the rest

Killed before the record: the row is `ending`, and when its lease ends the call is repeated, which
is harmless. Killed after it: the InstanceTerminated is in the outbox.
"""

import asyncio
import random
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from services.reaper import decisions
from services.reaper.cloud_calls import CloudCalls
from services.reaper.config import ReaperConfig
from services.reaper.consoles import ConsoleReader, decide_read_again, shown_of
from services.reaper.decisions import ReaperRules
from services.reaper.model import Findings, Terminated, UnknownInstance, Watched
from services.reaper.store import (
    console_reads,
    consoles,
    instances,
    listings,
    notices,
    unknown_instances,
)
from shared.compute.port import (
    Compute,
    ComputeError,
    HasConsoles,
    Instance,
    Misconfigured,
    Throttled,
    Unknown,
)
from shared.events import cloudevents
from shared.log import get_logger
from shared.messaging.store import append_outbox
from shared.postgres.pool import Transaction
from shared.runtime.passes import next_pass
from shared.runtime.service import Ports


@dataclass(frozen=True)
class InstanceSweeps:
    """The sweeps over instances. *jitter* gives numbers in [0, 1)."""

    config: ReaperConfig
    ports: Ports
    compute: Compute
    jitter: Callable[[], float] = random.random

    async def terminate_ending(self) -> datetime | None:
        """Terminate every instance whose end is due, and record confirmed ends."""
        points = self.ports.points
        token = uuid.uuid4()
        async with self.ports.db.transaction() as tx:
            until = tx.now + timedelta(seconds=self.config.lease_seconds)
            claimed = await instances.claim_ending(
                tx, until=until, token=token, limit=self.config.batch
            )
        if claimed:
            points.reached("reaper.claimed")
            ids = [each.instance_id for each in claimed]
            await self._read_and_terminate(claimed)
            points.reached("reaper.called")
            shown = await self._describe(ids)
            points.reached("reaper.described")
            await self._record(claimed, shown, token)
            points.reached("reaper.recorded")
        async with self.ports.db.transaction() as tx:
            next_due = await instances.next_ending(tx)
        return next_pass(tx.now, full=len(claimed) == self.config.batch, next_due=next_due)

    async def _read_and_terminate(self, claimed: Sequence[Watched]) -> None:
        """Terminate these; those that did not boot once their consoles are read."""
        unread = [each.instance_id for each in claimed if each.console_unread]
        others = [each.instance_id for each in claimed if not each.console_unread]

        async def after_reading() -> None:
            await self._consoles.read(unread)
            await self._terminate(unread)

        await asyncio.gather(
            *([self._terminate(others)] if others else []), *([after_reading()] if unread else [])
        )

    async def _terminate(self, ids: Sequence[str]) -> None:
        """Terminate each. A failure is logged; the sweep repeats the call while it lives."""
        try:
            await self.calls.answer("terminate", self.compute.terminate(ids))
        except (Throttled, Unknown) as error:
            self._logger.warning("terminate failed", instances=len(ids), error=str(error))
        except Exception as error:
            if not isinstance(error, Misconfigured):  # `calls` reports it
                self._logger.exception("terminate failed", instances=len(ids))
            if len(ids) > 1:
                # With one id that is bad or forbidden EC2 ends none of the batch: try each alone.
                await asyncio.gather(*(self._terminate([each]) for each in ids))

    async def _describe(self, ids: Sequence[str]) -> dict[str, Instance]:
        """Return what the cloud shows of these now; empty if it does not answer."""
        try:
            return await self.calls.answer("describe", self.compute.describe(ids))
        except ComputeError as error:
            self._logger.warning("describe failed", instances=len(ids), error=str(error))
            return {}

    async def _record(
        self, claimed: Sequence[Watched], shown: dict[str, Instance], token: uuid.UUID
    ) -> None:
        """Record confirmed ends. An instance that is not shown is neither alive nor terminated."""
        over = {
            instance_id
            for instance_id, instance in shown.items()
            if decisions.is_terminated(instance)
        }
        async with self.ports.db.transaction() as tx:
            terminated = [
                decisions.decide_termination(each, shown[each.instance_id], tx.now)
                for each in claimed
                if each.instance_id in over
            ]
            published = await self.record_terminated(tx, terminated)
            due = {
                each.instance_id: tx.now
                + timedelta(seconds=self.config.confirm.delay(each.tries, self.jitter()))
                for each in claimed
                if each.instance_id not in over
            }
            await instances.postpone(tx, due, token)
        if published:
            self.ports.wakeups.wake("relay_outbox")

    async def watch_instances(self) -> datetime | None:
        """Compare the cloud's list with our rows.

        It shows which instances ended by themselves, are missing, outlived their time, are unknown.
        """
        try:
            listing = await self._list()
        except ComputeError as error:
            # Without a complete list nothing is concluded, least of all an end.
            self._logger.warning("list failed", error=str(error))
            return None
        listed = {each.instance_id: each for each in listing}
        async with self.ports.db.transaction() as tx:
            await self._count_listing(tx)
            # First, so that an end by itself has the cause that ended its attempt.
            if await instances.end_instances_of_ended(tx):
                tx.wakes.add("terminate_ending")
            # Our rows are read after the list: an instance added in between is missing once at
            # most, whereas rows read before could make a known instance look orphaned.
            rows = await instances.watched(tx, list(listed))
            findings = decisions.decide_findings(rows, listed, tx.now, self.rules)
            await self.record_terminated(tx, findings.terminated)
            await instances.mark_missing(tx, findings.missing)
            await instances.clear_missing(tx, findings.visible_again)
            await instances.end_lives(tx, findings.expired, "lifetime")
            await instances.end_lives(tx, findings.stopped, "stopped")
            orphans = await self._adopt_orphans(tx, findings.unknown)
        self.ports.points.reached("reaper.watched")
        self._wake(findings, orphans, tx)
        if findings.alive_after_end:
            # Recorded as terminated, but shown alive: its end is not published again.
            self._logger.error("alive after its end", instances=findings.alive_after_end)
            await self._terminate(findings.alive_after_end)
        return None

    def _wake(self, findings: Findings, orphans: Sequence[str], tx: Transaction) -> None:
        """Wake the sweeps for what was found, and log what is ended."""
        if findings.expired or findings.stopped or orphans:
            self._logger.warning(
                "ending", expired=findings.expired, stopped=findings.stopped, orphans=orphans
            )
            tx.wakes.add("terminate_ending")
        if findings.missing:
            tx.wakes.add("confirm_missing")
        self.ports.wakeups.wake(*tx.wakes)

    async def _list(self) -> Sequence[Instance]:
        """Return the cloud's complete list; read the consoles of what has ended by itself."""
        listing = await self.calls.answer("list", self.compute.list_instances())
        await self._consoles.read_ended(listing)
        return listing

    async def _count_listing(self, tx: Transaction) -> None:
        """Record this list; the time without one counts neither as missing nor as unknown."""
        listed_at = await listings.lock_listing(tx)
        unlisted = decisions.decide_unlisted(listed_at, tx.now, self.rules)
        if listed_at is not None and unlisted:
            await listings.postpone_judgements(tx, unlisted, listed_at)
            self._logger.warning(
                "no complete list for a while; this time counts against no instance",
                seconds=round((tx.now - listed_at).total_seconds(), 1),
            )
        await listings.save_listing(tx)

    async def _adopt_orphans(self, tx: Transaction, unknown: Sequence[Instance]) -> list[str]:
        """Adopt those of *unknown* that are orphaned; the next list shows the others again."""
        trusted = decisions.trusted_before(await unknown_instances.advance_watermark(tx))
        if not unknown:
            return []
        first_seen = await unknown_instances.add_sightings(
            tx, [each.instance_id for each in unknown]
        )
        ended = await unknown_instances.ended_among(tx, unknown)
        seen = [
            UnknownInstance(
                instance=each,
                first_seen_at=first_seen[each.instance_id],
                attempt_ended=(each.job_id, each.attempt) in ended,
            )
            for each in unknown
        ]
        orphans = [
            decisions.adopt(each.instance, cloudevents.new_trace(), self.rules)
            for each in seen
            if decisions.decide_orphan(each, trusted, tx.now, self.rules)
        ]
        return await unknown_instances.adopt(tx, orphans) if orphans else []

    async def record_terminated(self, tx: Transaction, terminated: Sequence[Terminated]) -> bool:
        """Record these ends and publish the new ones; return whether there was one."""
        if not terminated:
            return False
        recorded = await instances.record_terminated(tx, terminated)
        printed = await consoles.load_consoles(tx, list(recorded)) if recorded else {}
        envelopes = [
            cloudevents.wrap(
                decisions.termination_event(each, shown_of(each.watched.instance_id, printed)),
                source=tx.source,
                at=tx.now,
                trace=each.watched.trace,
            )
            for each in terminated
            if each.watched.instance_id in recorded
        ]
        await append_outbox(tx, envelopes)
        unread = decide_read_again(terminated, recorded, printed)
        if unread and isinstance(self.compute, HasConsoles):
            first = self.config.console_reads.delay(1, self.jitter())
            await console_reads.add_reads(tx, unread, tx.now + timedelta(seconds=first))
        for each in terminated:
            known = recorded.get(each.watched.instance_id)
            if known is not None:
                self._logger.info(
                    "instance terminated",
                    instance=known.instance_id,
                    cause=each.cause,
                    billed_seconds=each.billed_seconds,
                    cost_usd=each.cost_usd,
                    leaked_instance_seconds=round(known.leaked_seconds, 1),
                )
        return bool(envelopes)

    async def prune_instances(self) -> datetime | None:
        """Delete the rows of what ended long ago."""
        limit = self.config.prune_batch
        async with self.ports.db.transaction() as tx:
            before = tx.now - timedelta(seconds=self.config.keep_seconds)
            more = await instances.prune_instances(tx, before, limit)
            more |= await unknown_instances.prune_sightings(tx, before, limit)
            more |= await notices.prune_notices(tx, before, limit)
            more |= await consoles.prune_consoles(tx, before, limit)
        return tx.now if more else None

    @property
    def rules(self) -> ReaperRules:
        """The rules of these settings."""
        return ReaperRules(
            visibility_seconds=self.config.visibility_seconds,
            orphan_seconds=self.config.orphan_seconds,
            max_lifetime_seconds=self.config.max_lifetime_seconds,
            lifetime_margin_seconds=self.config.lifetime_margin_seconds,
            watch_seconds=self.config.watch_seconds,
            ask_seconds=self.config.ask_seconds,
            not_found_seconds=self.config.not_found_seconds,
        )

    @property
    def calls(self) -> CloudCalls:
        """The calls of the cloud, with their deadline."""
        return CloudCalls(self.ports.db, self.ports.clock, self.config.call_seconds)

    @property
    def _consoles(self) -> ConsoleReader:
        return ConsoleReader(self.ports.db, self.compute)

    @property
    def _logger(self) -> Any:
        return get_logger(service="reaper", part="instances")
