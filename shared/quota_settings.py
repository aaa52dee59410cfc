"""The settings of the quotas, which the API and the launcher read alike."""

from typing import Literal

from msgspec import Struct

from shared.events.quotas import Limits
from shared.settings import PREFIX, Settings

Owner = Literal["QUOTA", "KEY_QUOTA"]
Kind = Literal["JOBS", "INSTANCES", "VCPUS", "USD_PER_DAY"]

UNKNOWN_PRICE = f"{PREFIX}QUOTA_UNKNOWN_PRICE_USD"


class Quotas(Struct, frozen=True, kw_only=True):
    """The limits of the deployment and of each API key; without any, nothing is limited.

    `unknown_price_usd`: what an hour counts as of an instance whose price is not known.
    """

    deployment: Limits = Limits()
    key: Limits = Limits()
    unknown_price_usd: float = 1.0

    @property
    def limit_launches(self) -> bool:
        """True if a launch may have to wait for a quota."""
        return any(
            limit is not None
            for each in (self.deployment, self.key)
            for limit in (each.instances, each.vcpus, each.usd_per_day)
        )

    @property
    def limit_jobs(self) -> bool:
        """True if a submission may be refused for a quota."""
        return self.deployment.jobs is not None or self.key.jobs is not None


NO_QUOTAS = Quotas()


def setting_of(owner: Owner, kind: Kind) -> str:
    """Return the name of the setting, as users and operators see it."""
    return f"{PREFIX}{owner}_{kind}"


def read_quotas(settings: Settings) -> Quotas:
    """Read `DOCKER_JOB_QUOTA_…` and `DOCKER_JOB_KEY_QUOTA_…`. Raises `BadSetting`.

    An empty one limits nothing. None may be 0, which would read as "no limit" to one operator and
    as "nothing" to another.
    """
    return Quotas(
        deployment=_limits(settings, "QUOTA"),
        key=_limits(settings, "KEY_QUOTA"),
        unknown_price_usd=settings.number("QUOTA_UNKNOWN_PRICE_USD", 1, least=0.0001, most=10_000),
    )


def _limits(settings: Settings, owner: Owner) -> Limits:
    return Limits(
        jobs=_whole(settings, f"{owner}_JOBS"),
        instances=_whole(settings, f"{owner}_INSTANCES"),
        vcpus=_whole(settings, f"{owner}_VCPUS"),
        usd_per_day=(
            settings.number(f"{owner}_USD_PER_DAY", 0, least=0.01)
            if settings.text(f"{owner}_USD_PER_DAY") is not None
            else None
        ),
    )


def _whole(settings: Settings, name: str) -> int | None:
    return None if settings.text(name) is None else settings.integer(name, 0, least=1)
