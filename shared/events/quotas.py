"""The parts of `QuotasReported`: what the quotas allow, and what is used of them. Money in USD."""

from msgspec import Struct


class Limits(Struct, frozen=True, kw_only=True):
    """The quotas of the deployment, or of each API key; null: there is none.

    Live jobs, live instances, their vCPUs, and what a UTC day may cost.
    """

    jobs: int | None = None
    instances: int | None = None
    vcpus: int | None = None
    usd_per_day: float | None = None


class Use(Struct, frozen=True, kw_only=True):
    """The use of the quotas now: live instances, their vCPUs, and the dollars of this UTC day.

    `spent_usd` is the cost of the day so far; `promised_usd` what live instances may still cost
    until their time limit or the day's end, whichever is sooner.
    """

    instances: int = 0
    vcpus: int = 0
    spent_usd: float = 0.0
    promised_usd: float = 0.0


class KeyUse(Use, frozen=True, kw_only=True):
    """The use by the jobs of one API key; *key* is its prefix."""

    key: str
