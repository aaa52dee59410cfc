"""Admission of launches by the quotas, in the transaction that commits their intent.

    plan ─▶ its price ─▶ lock the one row ─▶ usage ─▶ admitted: a charge for each, the intent
                                                  └─▶ held: LaunchDelayed, until there is room
    answer ─▶ launched: the charge with the instance's own price · refused: no charge

Whoever locks the row sees the charges of all who had it before, committed. So launches that are
asked for at once, by other lanes and replicas, are counted: none passes in between. A crash behind
the commit leaves the charge, and its batch is asked for again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.launcher.cloud_calls import Answers
from services.launcher.model import BatchRecord, Launch, Verdict
from services.launcher.quotas import Hold, Need, day_of, decide_admission
from services.launcher.store import charges, holds
from services.launcher.store.charges import Charge
from shared.compute.port import Compute, Instance, Plan
from shared.events import cloudevents
from shared.events.events import LaunchDelayed
from shared.messaging.store import append_outbox
from shared.postgres.pool import Transaction
from shared.quota_settings import Quotas
from shared.repeats import PATIENCE

PUBLISH_AGAIN = timedelta(minutes=1)
"""The same hold is published again after this time; at once if the quota or the day is another."""


@dataclass(frozen=True)
class Admission:
    """Admits launches, and keeps what they use."""

    quotas: Quotas
    compute: Compute

    async def admit(
        self, tx: Transaction, launches: Sequence[Launch], plan: Plan, hourly_usd: float | None
    ) -> tuple[Launch, ...]:
        """Return those of *launches* that may be asked for now; the others are held.

        *tx* has locked them, and must commit the intent of those that are returned.
        """
        needs = [self._need(each, plan, hourly_usd) for each in launches]
        decided: list[Hold | None] = [None] * len(needs)
        if self.quotas.limit_launches:
            decided = await self._decide(tx, launches, needs)
        both = list(zip(launches, needs, decided, strict=True))
        admitted = [(launch, need) for launch, need, hold in both if hold is None]
        await charges.save_charges(
            tx,
            [
                Charge(
                    job_id=launch.job_id,
                    attempt=launch.attempt,
                    created_by=need.created_by,
                    vcpus=need.vcpus,
                    hourly_usd=need.hourly_usd,
                    began_at=tx.now,
                    ends_by=tx.now + timedelta(seconds=need.lifetime_seconds),
                )
                for launch, need in admitted
            ],
            tx.now,
        )
        await _hold(tx, [(launch, hold, need) for launch, need, hold in both if hold is not None])
        return tuple(launch for launch, _ in admitted)

    async def _decide(
        self, tx: Transaction, launches: Sequence[Launch], needs: Sequence[Need]
    ) -> list[Hold | None]:
        """Lock the quotas, and return in the order of *launches* why each is held."""
        await charges.lock_quotas(tx)
        used = await charges.load_usage(tx.conn, tx.now, self.quotas.unknown_price_usd)
        order = sorted(range(len(launches)), key=lambda at: _place(launches[at]))
        decided = decide_admission([needs[at] for at in order], used, self.quotas, tx.now)
        found = dict(zip(order, decided, strict=True))
        return [found[at] for at in range(len(launches))]

    def _need(self, launch: Launch, plan: Plan, hourly_usd: float | None) -> Need:
        return Need(
            created_by=launch.requirements.created_by,
            vcpus=max(self._vcpus(plan, launch).values(), default=_asked(launch)),
            hourly_usd=hourly_usd,
            lifetime_seconds=launch.requirements.max_lifetime_seconds,
        )

    def _vcpus(self, plan: Plan, launch: Launch) -> Mapping[str, int]:
        return self.compute.vcpus_of(plan, launch.requirements.resources)

    async def record(
        self, tx: Transaction, batch: BatchRecord, verdicts: Sequence[Verdict], answers: Answers
    ) -> None:
        """Record what the launches of *batch* use by the cloud's *answers*."""
        launched = [
            self._launched(each.launch, answer, batch.plan)
            for each in verdicts
            if isinstance(answer := answers[each.launch.key], Instance)
        ]
        await charges.save_charges(tx, launched, tx.now + PATIENCE)
        refused = [
            each.launch.key for each in verdicts if each.launch.state not in ("asked", "launched")
        ]
        await charges.drop_charges(tx, refused)

    def _launched(self, launch: Launch, instance: Instance, plan: Plan) -> Charge:
        vcpus = self._vcpus(plan, launch)
        most = max(vcpus.values(), default=_asked(launch))
        lifetime = timedelta(seconds=launch.requirements.max_lifetime_seconds)
        return Charge(
            job_id=launch.job_id,
            attempt=launch.attempt,
            created_by=launch.requirements.created_by,
            vcpus=vcpus.get(instance.instance_type, most),
            hourly_usd=_hourly(instance),
            began_at=instance.launched_at,
            ends_by=instance.launched_at + lifetime,
            least_seconds=instance.minimum_billed_seconds,
            instance_id=instance.instance_id,
        )


def _place(launch: Launch) -> tuple[datetime, tuple[int, int]]:
    return launch.queued_at or launch.wanted_at, launch.key


def _asked(launch: Launch) -> int:
    return launch.requirements.resources.vcpus or 1


def _hourly(instance: Instance) -> float | None:
    """Return its price with those of address and volume as far as they are known."""
    if instance.hourly_price_usd is None:
        return None
    other = instance.other_prices
    beside = (other.public_ipv4_hourly_usd or 0) + (other.volume_hourly_usd or 0)
    return instance.hourly_price_usd + beside


def _is_news(launch: Launch, hold: Hold, now: datetime) -> bool:
    """Return whether what users see of *launch* is out of date, or its next try has passed."""
    last = launch.delay_told_at
    if launch.unwanted or launch.held_by != hold.limit or last is None:
        return not launch.unwanted
    return now - last >= PUBLISH_AGAIN or day_of(last) != day_of(now)


async def _hold(tx: Transaction, held: Sequence[tuple[Launch, Hold, Need]]) -> None:
    """Let them wait; publish why, if it is new or was published some time ago."""
    if not held:
        return
    published = [_is_news(launch, hold, tx.now) for launch, hold, _ in held]
    await holds.hold_launches(tx, held, published)
    envelopes = [
        cloudevents.wrap(
            LaunchDelayed(
                job_id=launch.job_id,
                attempt=launch.attempt,
                reason="quota_reached",
                message=hold.message,
                next_try_at=hold.until,
                delayed_at=tx.now,
            ),
            source=tx.source,
            at=tx.now,
            trace=launch.trace,
        )
        for (launch, hold, _), is_news in zip(held, published, strict=True)
        if is_news
    ]
    await append_outbox(tx, envelopes)
