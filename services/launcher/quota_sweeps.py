"""The sweeps over the quotas: release what is held, ask for lost ends, publish what is used.

    InstanceTerminated, an answer of the cloud, each 15 s ─▶ the oldest held that fit are due now
    an instance that runs, after 2, 4, 8 … min, each hour ─▶ ask the cloud whether it has ended
    usage has changed, each minute while something runs   ─▶ QuotasReported

An InstanceTerminated that is lost holds a quota until the cloud is asked, or until the instance's
time limit has passed: no longer.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec

from services.launcher.config import LauncherConfig
from services.launcher.quotas import Usage, day_of, decide_admission, total_of
from services.launcher.store import charges, holds, reports
from services.launcher.store.reports import LastQuotaReport
from shared.compute.port import Compute, ComputeError, Instance, InstanceState
from shared.compute.timeouts import answer_within
from shared.events.events import InstanceTerminated, QuotasReported
from shared.events.quotas import KeyUse, Use
from shared.log import get_logger
from shared.messaging.store import publish
from shared.repeats import LONGEST, PATIENCE
from shared.runtime.service import Ports, Sweep

RELEASE_SECONDS = 15.0
ASK_SECONDS = 60.0
REPORT_SECONDS = 60.0
REPORT_GATHER_SECONDS = 3.0

HELD_OF_A_KEY = 200
"""Held launches of each key that one pass looks at, the oldest."""

ASKED_AT_ONCE = 200
CALL_SECONDS = 60.0

SURELY_SHOWN = timedelta(minutes=15)
"""An instance that the cloud does not show so long after its launch no longer counts.

That proves no end, which is the reaper's to confirm; and a quota needs no proof.
"""

REPORTED_KEYS = 1000
REPORT_AGAIN = timedelta(minutes=1)
REPORT_IDLE = timedelta(hours=1)
"""A report is repeated after this time if nothing runs and nothing has changed."""
REPORT_FIRST = timedelta(minutes=5)

_log = get_logger(service="launcher", part="quotas")


@dataclass(frozen=True)
class QuotaSweeps:
    """The three sweeps. *lanes* are the sweeps that launch what is due."""

    config: LauncherConfig
    ports: Ports
    compute: Compute
    lanes: tuple[str, ...]

    async def release_held(self) -> datetime | None:
        """Make the oldest held launches due that fit now; all, if no quota is set any more."""
        quotas = self.config.quotas
        async with self.ports.db.transaction() as tx:
            held = await holds.find_held(tx, HELD_OF_A_KEY)
            if held and quotas.limit_launches:
                used = await charges.load_usage(tx.conn, tx.now, quotas.unknown_price_usd)
                decided = decide_admission([each.need for each in held], used, quotas, tx.now)
                held = [each for each, hold in zip(held, decided, strict=True) if hold is None]
            if held:
                await holds.release_held(tx, held, tx.now)
        if held:
            self.ports.wakeups.wake(*self.lanes)
        return None

    async def ask_for_ends(self) -> datetime | None:
        """Prune what has ended; if there is a quota, ask the cloud about what may have ended."""
        async with self.ports.db.transaction() as tx:
            more = await charges.prune_charges(tx, self.config.prune_batch)
            due = {}
            if self.config.quotas.limit_launches:
                due = await charges.claim_questions(tx, ASKED_AT_ONCE, PATIENCE, LONGEST)
        if due:
            ends = await self._ends_of(due, tx.now)
            async with self.ports.db.transaction() as tx:
                await charges.end_charges(tx, ends)
            if ends:
                _log.info("ends of instances were found that no event has reported", ends=len(ends))
                self.ports.wakeups.wake("release_held", "report_quotas")
        return tx.now if more or len(due) == ASKED_AT_ONCE else None

    async def _ends_of(
        self, asked: Mapping[str, tuple[int, int, datetime]], now: datetime
    ) -> list[InstanceTerminated]:
        """Return the ends that the cloud shows, and those of instances that it shows no more."""
        try:
            shown = await answer_within(CALL_SECONDS, self.compute.describe(list(asked)))
        except ComputeError as error:
            _log.warning("the cloud was not asked whether instances have ended", error=str(error))
            return []
        return [
            _terminated(instance_id, job_id, attempt, _end_of(shown.get(instance_id), now))
            for instance_id, (job_id, attempt, began_at) in asked.items()
            if _is_over(shown.get(instance_id), began_at, now)
        ]

    async def report_quotas(self) -> datetime | None:
        """Publish what is used if it has changed, or was published some time ago."""
        quotas = self.config.quotas
        async with self.ports.db.transaction() as tx:
            last = await reports.load_last_report(tx.conn)
            used = await charges.load_usage(tx.conn, tx.now, quotas.unknown_price_usd)
            limits = (quotas.deployment, quotas.key)
            digest = _digest(used, limits, tx.now)
            is_idle = not total_of(used).instances
            again = last.reported_at + (REPORT_IDLE if is_idle else REPORT_AGAIN)
            if last.digest == digest and last.reported_at <= tx.now < again:
                return None
            if not last.sequence and last.reported_at <= tx.now < last.reported_at + REPORT_FIRST:
                return last.reported_at + REPORT_FIRST
            if not await reports.save_report(
                tx, LastQuotaReport(last.sequence + 1, digest, tx.now)
            ):
                return tx.now  # a replica has reported meanwhile
            report = QuotasReported(
                sequence=last.sequence + 1,
                reported_at=tx.now,
                limits=quotas.deployment,
                key_limits=quotas.key,
                used=_shown(total_of(used)),
                keys=_keys(used),
            )
            await publish(tx, [report])
        self.ports.wakeups.wake("relay_outbox")
        return None


def quota_sweeps(sweeps: QuotaSweeps) -> tuple[Sweep, ...]:
    """Return the sweeps as the service runs them."""
    return (
        Sweep("release_held", sweeps.release_held, RELEASE_SECONDS),
        Sweep("ask_for_ends", sweeps.ask_for_ends, ASK_SECONDS),
        Sweep(
            "report_quotas",
            sweeps.report_quotas,
            REPORT_SECONDS,
            gather_seconds=REPORT_GATHER_SECONDS,
        ),
    )


def _is_over(shown: Instance | None, began_at: datetime, now: datetime) -> bool:
    if shown is None:
        return now - began_at >= SURELY_SHOWN
    return shown.state is InstanceState.TERMINATED


def _end_of(shown: Instance | None, now: datetime) -> datetime:
    ended_at = None if shown is None else shown.terminated_at
    return ended_at or now


def _terminated(
    instance_id: str, job_id: int, attempt: int, ended_at: datetime
) -> InstanceTerminated:
    return InstanceTerminated(
        instance_id=instance_id,
        terminated_at=ended_at,
        cause="",
        spot_interrupted=False,
        billed_seconds=0,
        cost_usd=None,
        job_id=job_id,
        attempt=attempt,
    )


def _digest(used: Mapping[str | None, Usage], limits: object, now: datetime) -> bytes:
    """Hash what is worth a report: dollars that are promised become spent without one."""
    shown = sorted(
        (key or "", use.instances, use.vcpus, round(use.usd, 2)) for key, use in used.items()
    )
    text = msgspec.json.encode((shown, limits, day_of(now)[0]))
    return hashlib.sha256(text).digest()


def _keys(used: Mapping[str | None, Usage]) -> tuple[KeyUse, ...]:
    found = [(key, use) for key, use in used.items() if key is not None]
    found.sort(key=lambda each: (-each[1].instances, -each[1].usd, each[0]))
    return tuple(
        KeyUse(
            key=key,
            instances=use.instances,
            vcpus=use.vcpus,
            spent_usd=round(use.spent_usd, 6),
            promised_usd=round(use.promised_usd, 6),
        )
        for key, use in found[:REPORTED_KEYS]
    )


def _shown(use: Usage) -> Use:
    return Use(
        instances=use.instances,
        vcpus=use.vcpus,
        spent_usd=round(use.spent_usd, 6),
        promised_usd=round(use.promised_usd, 6),
    )
