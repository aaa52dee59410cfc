"""The answer of `GET /quotas`: used and limit, for the caller's key, and for all to admins."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from msgspec import Struct

from services.api.keys import store as key_store
from services.api.keys.caller import Caller
from services.api.quotas.store import live_jobs_by_key, load_quotas
from shared.events.events import QuotasReported
from shared.events.quotas import Limits, Use
from shared.postgres.pool import Database
from shared.quota_settings import Quotas


class Count(Struct, frozen=True, kw_only=True):
    """A number in use, and its quota; `limit` is null where there is none."""

    used: int
    limit: int | None


class Dollars(Struct, frozen=True, kw_only=True):
    """The dollars of a UTC day: `used` is what is spent and promised."""

    used: float
    limit: float | None
    spent: float
    promised: float


class OwnedQuotas(Struct, frozen=True, kw_only=True):
    """The quotas of the deployment."""

    jobs: Count
    instances: Count
    vcpus: Count
    usd_per_day: Dollars


class KeyQuotas(OwnedQuotas, frozen=True, kw_only=True):
    """The quotas of an API key, by its prefix and name."""

    key: str
    name: str | None


class QuotasAnswer(Struct, frozen=True, kw_only=True):
    """The whole answer."""

    as_of: datetime | None
    until: datetime
    deployment: OwnedQuotas | None
    keys: list[KeyQuotas]


@dataclass(frozen=True)
class QuotaService:
    """Composes the launcher's last report and the API's own jobs."""

    db: Database
    quotas: Quotas

    async def show(self, caller: Caller) -> QuotasAnswer:
        """Return the quotas of *caller*'s key; to an admin those of the deployment and each key."""
        own = None if caller.scope == "admin" else caller.key
        async with self.db.connection() as conn:
            report = await load_quotas(conn)
            jobs = await live_jobs_by_key(conn, own)
            names = {each.prefix: each.name for each in await key_store.list_keys(conn)}
        now = self.db.clock.now()
        as_of = None if report is None else report.reported_at
        day = (as_of or now).replace(hour=0, minute=0, second=0, microsecond=0)
        return QuotasAnswer(
            as_of=as_of,
            until=day + timedelta(days=1),
            deployment=self._deployment(report, jobs) if own is None else None,
            keys=self._keys(report, jobs, names, own),
        )

    def _deployment(
        self, report: QuotasReported | None, jobs: Mapping[str | None, int]
    ) -> OwnedQuotas:
        limits = self.quotas.deployment if report is None else report.limits
        used = Use() if report is None else report.used
        return _owned(used, limits, sum(jobs.values()), self.quotas.deployment.jobs)

    def _keys(
        self,
        report: QuotasReported | None,
        jobs: Mapping[str | None, int],
        names: Mapping[str, str],
        own: str | None,
    ) -> list[KeyQuotas]:
        """Return those of *own*, or of each key that uses something."""
        uses: dict[str, Use] = {each.key: each for each in report.keys} if report else {}
        limits = self.quotas.key if report is None else report.key_limits
        keys = sorted({*uses, *(key for key in jobs if key is not None)}) if own is None else [own]
        found = []
        for key in keys:
            use = uses.get(key, Use())
            owned = _owned(use, limits, jobs.get(key, 0), self.quotas.key.jobs)
            found.append(
                KeyQuotas(
                    key=key,
                    name=names.get(key),
                    jobs=owned.jobs,
                    instances=owned.instances,
                    vcpus=owned.vcpus,
                    usd_per_day=owned.usd_per_day,
                )
            )
        return found


def _owned(use: Use, limits: Limits, jobs: int, jobs_limit: int | None) -> OwnedQuotas:
    return OwnedQuotas(
        jobs=Count(used=jobs, limit=jobs_limit),
        instances=Count(used=use.instances, limit=limits.instances),
        vcpus=Count(used=use.vcpus, limit=limits.vcpus),
        usd_per_day=Dollars(
            used=round(use.spent_usd + use.promised_usd, 6),
            limit=limits.usd_per_day,
            spent=use.spent_usd,
            promised=use.promised_usd,
        ),
    )
