"""Launch reports that are missing: the launcher is asked for them, and the watermark heals.

    counted and missing ─ 2 min ─▶ LaunchesMissed, an alert ─▶ published again ─▶ complete
                        └─ longer than any instance may live ─▶ skipped

A missing number keeps every later watermark from being trusted, so no orphan is ended early. One
that can no longer be had stops mattering once each instance that it may stand for is past its
maximum lifetime: whatever of them still runs is ended for that, and no healthy instance can be
taken for an orphan.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from services.reaper.config import ReaperConfig
from services.reaper.model import LaunchGap, Watermark
from services.reaper.store import missed_launches, unknown_instances
from shared.events.events import LaunchesMissed
from shared.log import get_logger
from shared.messaging.store import publish
from shared.repeats import LONGEST, Listening, decide_listening, next_ask
from shared.runtime.service import Ports

MISSED_SECONDS = 15.0
"""The interval of the sweep."""

RUNS = 100
"""Runs of missing numbers that one pass publishes, at most."""

_log = get_logger(service="reaper", part="missed launches")


class GapDecision(Struct, frozen=True, kw_only=True):
    """The gap from now on, and what follows. *skips*: the gap's numbers are waited for no more."""

    gap: LaunchGap | None
    asks: bool = False
    alerts: bool = False
    skips: bool = False
    healed: bool = False


def decide_gap(
    before: LaunchGap | None,
    watermark: Watermark,
    now: datetime,
    listening: Listening,
    longest_life: timedelta,
) -> GapDecision:
    """Decide on the launches that *watermark* counts and that are not received.

    *longest_life* counts from when the gap was noticed: each instance that its numbers may stand
    for was launched before. Time in which the reaper could not receive is no reason to ask.
    """
    if watermark.received_through >= watermark.launch_sequence:
        healed = before is not None and before.ask_again_at is not None
        return GapDecision(gap=None, healed=healed)
    if before is None or watermark.received_through >= before.first:
        first, through = watermark.received_through + 1, watermark.launch_sequence
        return GapDecision(gap=LaunchGap(first=first, through=through, since=now))
    if now - before.since >= longest_life:
        return GapDecision(gap=None, skips=True)
    due = before.ask_again_at is None or before.ask_again_at <= now
    if not due or not listening.patient_since(before.since, now):
        return GapDecision(gap=before)
    alerts = before.alert_at is None or before.alert_at <= now
    gap = replace(
        before,
        ask_again_at=next_ask(before.since, now),
        alert_at=now + LONGEST if alerts else before.alert_at,
    )
    return GapDecision(gap=gap, asks=True, alerts=alerts)


@dataclass
class MissedLaunches:
    """The sweep over missing launch reports."""

    config: ReaperConfig
    ports: Ports
    listening: Listening = field(default_factory=Listening)

    async def report_missed_launches(self) -> None:
        """Publish which launches are missing; skip those that are missing for too long."""
        receiving = await self.ports.bus.ready()
        missed: list[LaunchesMissed] = []
        async with self.ports.db.transaction() as tx:
            self.listening = decide_listening(self.listening, tx.now, receiving=receiving)
            # It locks the watermark, so that of several reapers one at a time decides.
            watermark = await unknown_instances.advance_watermark(tx)
            before = await missed_launches.load_gap(tx)
            decision = decide_gap(before, watermark, tx.now, self.listening, self._longest_life)
            if decision.skips and before is not None:
                await missed_launches.skip_missing(tx, before.through)
            if decision.asks:
                missed += await missed_launches.missing_runs(tx, RUNS)
                await publish(tx, missed)
            if decision.gap != before:
                await missed_launches.save_gap(tx, decision.gap)
        self.ports.wakeups.wake(*tx.wakes)
        _report(decision, before, missed)

    @property
    def _longest_life(self) -> timedelta:
        config = self.config
        return timedelta(seconds=config.max_lifetime_seconds + config.lifetime_margin_seconds)


def _report(decision: GapDecision, before: LaunchGap | None, missed: list[LaunchesMissed]) -> None:
    """Log what an operator must know."""
    if before is None:
        return
    since = before.since.isoformat()
    if decision.healed:
        _log.info("the missing launch reports have come", first=before.first, since=since)
    if decision.skips:
        _log.error(
            "launch reports did not come in an instance's lifetime: they are waited for no more",
            first=before.first,
            last=before.through,
            since=since,
        )
    if not decision.asks:
        return
    (_log.error if decision.alerts else _log.warning)(
        "launch reports are missing: orphans are not ended meanwhile",
        first=missed[0].first_launch_sequence,
        last=missed[-1].last_launch_sequence,
        launches=sum(each.last_launch_sequence - each.first_launch_sequence + 1 for each in missed),
        since=since,
    )
