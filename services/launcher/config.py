"""The launcher's settings."""

from dataclasses import dataclass, field, replace
from datetime import timedelta

from services.launcher.decisions import Pace
from services.launcher.model import LeaseGrowth
from shared.backoff import Backoff
from shared.messaging.retention import keep_dead, keep_settled_seconds
from shared.quota_settings import NO_QUOTAS, Quotas, read_quotas
from shared.settings import PREFIX, BadSetting, Settings
from shared.url import trouble_with_base

REFUSED = Backoff(first=5, factor=2, longest=300)
"""After a definite refusal: no capacity, quota reached, throttled."""

UNKNOWN = Backoff(first=1, factor=2, longest=60)
"""After an unknown outcome: sooner, since an instance may be running unknown to us."""


@dataclass(frozen=True)
class LauncherConfig:
    """Frozen settings; durations in seconds."""

    deployment: str
    """Tags every instance, which separates the deployments of one account."""

    api_url: str
    """The API's address for agents; part of each launch request."""

    token_key: str = field(repr=False)
    """The key from which bootstrap tokens are derived; the API has the same."""

    interval_seconds: float = 15
    batch: int = 500
    """Launches claimed at once, at most."""

    lanes: int = 2
    """Passes under way at once, so that a slow call does not hold up the next."""

    gathered_batch: int = 500
    gathered_lanes: int = 8
    """The same if a batch is one call: its size does not slow it down, but it waits until the cloud
    shows all that it has launched, which takes EC2 some seconds."""

    call_seconds: float = 30
    """A call without an answer for so long has an unknown outcome."""

    call_seconds_each: float = 0.125
    """If a batch is one call: so much longer for each launch above `call_launches`: 80 s for 500.
    CreateFleet answers when all its launches are decided. Repeated sooner, a slow call would be
    made again and again beside the first."""

    call_launches: int = 100

    plan_seconds: float = 20
    """Time limit of planning, which asks the cloud about images, networks and templates."""

    plan_lease_seconds: float = 35
    """For a plan and the record of it."""

    gather_idle_seconds: float = 0.035
    gather_longest_seconds: float = 1
    """If a batch is one call: wait until no launch came for the first time, at most the second."""

    spot_wait_seconds: float = 600
    """How long `spot_then_on_demand` waits for Spot if the job does not say."""

    lease_seconds: float = 90
    """For two calls in a row (a batch, then singly) and the records around them. A call that
    outlives it is repeated elsewhere, which the launch token makes safe."""

    refused: Backoff = REFUSED
    unknown: Backoff = UNKNOWN

    repeat_delay_seconds: float = 60
    """The same delay is published again after this time, not at each try."""

    repeat_pause_seconds: float = 600
    """The delay of a launch that waits for the end of a pause is published again after this time:
    the API answers with the pause's state, whose event may have been lost."""

    report_seconds: float = 15
    """How often the watermark is published. With the margin it bounds how long an orphan lives."""

    report_margin_seconds: float = 60
    """How far the watermark stays behind; see `decide_watermark`."""

    offers_seconds: float = 1800
    """How often the offers are published with their prices; they change a few times a day."""

    keep_seconds: float = 7 * 86_400
    prune_batch: int = 5000

    quotas: Quotas = NO_QUOTAS
    """What may run at once, and cost a day; nothing is limited by default."""

    keep_dead: timedelta | None = None
    """How long dead letters are kept; None: until they are dropped."""

    def growth(self, *, gathers: bool) -> LeaseGrowth:
        """Return how much longer a call for many launches may take, and its lease lasts."""
        each = self.call_seconds_each if gathers else 0.0
        return LeaseGrowth(seconds_each=each, launches=self.call_launches)

    @property
    def pace(self) -> Pace:
        """Return the settings for what follows an answer that is no instance."""
        return Pace(
            refused=self.refused,
            unknown=self.unknown,
            repeat_delay_seconds=self.repeat_delay_seconds,
            spot_wait_seconds=self.spot_wait_seconds,
        )


def read_api_url(settings: Settings) -> str:
    """Read `DOCKER_JOB_API_URL`, which agents get. Raises `BadSetting`."""
    url = settings.required("API_URL", "http://api:8000")
    if (trouble := trouble_with_base(url)) is not None:
        raise BadSetting(f"{PREFIX}API_URL: {trouble}")
    return url


def from_settings(
    settings: Settings, *, deployment: str, api_url: str, token_key: str
) -> LauncherConfig:
    """Read `DOCKER_JOB_LAUNCH_…`. Raises `BadSetting`."""
    first = settings.number("LAUNCH_RETRY_SECONDS", 5, least=0.1)
    longest = settings.number("LAUNCH_RETRY_LONGEST_SECONDS", 300, least=0.1)
    if longest < first:
        raise BadSetting(
            f"{PREFIX}LAUNCH_RETRY_LONGEST_SECONDS is {longest:g}: it must be at least "
            f"{PREFIX}LAUNCH_RETRY_SECONDS ({first:g})"
        )
    call_seconds = settings.number("LAUNCH_CALL_SECONDS", 30, least=1, most=600)
    return LauncherConfig(
        deployment=deployment,
        api_url=api_url,
        token_key=token_key,
        batch=settings.integer("LAUNCH_BATCH", 500, least=1, most=1000),
        lanes=settings.integer("LAUNCH_LANES", 2, least=1, most=16),
        gathered_batch=settings.integer("LAUNCH_GATHERED_BATCH", 500, least=1, most=1000),
        gathered_lanes=settings.integer("LAUNCH_GATHERED_LANES", 8, least=1, most=16),
        call_seconds=call_seconds,
        plan_seconds=settings.number("LAUNCH_PLAN_SECONDS", 20, least=1, most=600),
        plan_lease_seconds=settings.number("LAUNCH_PLAN_SECONDS", 20) + 15,
        gather_idle_seconds=settings.number("LAUNCH_GATHER_IDLE_SECONDS", 0.035, most=60),
        gather_longest_seconds=settings.number("LAUNCH_GATHER_LONGEST_SECONDS", 1, most=60),
        spot_wait_seconds=settings.number("LAUNCH_SPOT_WAIT_SECONDS", 600),
        lease_seconds=2 * call_seconds + 30,
        refused=Backoff(first=first, factor=2, longest=longest),
        unknown=replace(UNKNOWN, longest=min(UNKNOWN.longest, longest)),
        report_seconds=settings.number("LAUNCH_REPORT_SECONDS", 15, least=1),
        keep_seconds=keep_settled_seconds(settings),
        quotas=read_quotas(settings),
        keep_dead=keep_dead(settings),
    )
