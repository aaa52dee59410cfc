"""The reaper's settings."""

from dataclasses import dataclass
from datetime import timedelta

from shared.backoff import Backoff
from shared.messaging.retention import keep_dead, keep_settled_seconds
from shared.settings import Settings

CONFIRM = Backoff(first=0.25, factor=2, longest=15)
"""Between a terminate call and the next check: an instance that its agent powers off is terminated
within a second, EC2 takes up to a minute.
"""

CONSOLES = Backoff(first=15, factor=2, longest=120)
"""From the end of an instance, or the last read, until a missing console is read (again). With the
jitter, eight reads take nine to twelve minutes: about ten."""

SHOWN_SECONDS = 3600
NOT_FOUND_SECONDS = 4200


@dataclass(frozen=True)
class ReaperConfig:
    """Frozen settings; durations in seconds."""

    watch_seconds: float = 5
    """How often the cloud is asked for its list of our instances."""

    interval_seconds: float = 15
    batch: int = 100
    """Instances in one terminate call, at most."""

    call_seconds: float = 15
    """A call to the cloud without an answer in this time is abandoned and repeated."""

    lease_seconds: float = 60
    """For three calls in a row (a batch, then singly, then describe) and the records around
    them."""

    confirm: Backoff = CONFIRM

    visibility_seconds: float = 60
    """An instance missing from complete lists for this time is terminated, if it is certain that
    the cloud has none of its id (docker, process, simulator). Of the time between two lists a few
    intervals count at most (`decisions.decide_unlisted`)."""

    ask_seconds: float = 30
    """How often a missing instance is asked for by its id."""

    not_found_seconds: float = NOT_FOUND_SECONDS
    """Where "there is none" is not certain (EC2), it must be the answer for this time: longer than
    a terminated instance stays visible, which is about an hour (`absence.py`)."""

    orphan_seconds: float = 60
    """Between the first sighting of an unknown instance and the one that may end it; counted as
    above."""

    max_lifetime_seconds: float = 86_400
    """The longest any instance may live. One that is older by the margin is always ended."""

    lifetime_margin_seconds: float = 60
    """How long after the agent's own timer the reaper ends an instance past its lifetime."""

    console_reads: Backoff = CONSOLES
    console_tries: int = 8

    keep_seconds: float = 7 * 86_400
    prune_batch: int = 5000

    keep_dead: timedelta | None = None
    """How long dead letters are kept; None: until they are dropped."""


def from_settings(settings: Settings) -> ReaperConfig:
    """Read `DOCKER_JOB_REAP_…` and the maximum lifetime. Raises `BadSetting`."""
    call_seconds = settings.number("REAP_CALL_SECONDS", 15, least=1, most=600)
    return ReaperConfig(
        watch_seconds=settings.number("REAP_WATCH_SECONDS", 5, least=0.1),
        call_seconds=call_seconds,
        lease_seconds=3 * call_seconds + 15,
        visibility_seconds=settings.number("REAP_VISIBILITY_SECONDS", 60, least=1),
        not_found_seconds=settings.number(
            "REAP_NOT_FOUND_SECONDS", NOT_FOUND_SECONDS, least=SHOWN_SECONDS
        ),
        orphan_seconds=settings.number("REAP_ORPHAN_SECONDS", 60, least=1),
        max_lifetime_seconds=settings.integer("MAX_LIFETIME_SECONDS", 86_400, least=60),
        lifetime_margin_seconds=settings.number("REAP_LIFETIME_MARGIN_SECONDS", 60),
        keep_seconds=keep_settled_seconds(settings),
        keep_dead=keep_dead(settings),
    )
