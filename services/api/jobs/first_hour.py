"""The free first hour: a Spot instance that EC2 itself interrupts in it is not billed. Pure.

"If Amazon EC2 interrupts the Spot Instance: interrupted in the first hour: no charge. If you stop
or terminate the Spot Instance: charged for the seconds used." (Linux and Windows but SUSE)
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/billing-for-interrupted-spot-instances.html

So after a notice within that hour nobody may end the instance before EC2 does: not its agent, which
learns with its job how much of the hour is left, and not the reaper. What EC2 has not taken half a
minute late is ended after all.
"""

from datetime import datetime

from msgspec.structs import replace

from services.api.jobs.model import Attempt, AttemptEnding, JobRules, later

FREE_SECONDS = 3600
"""Counted from the launch, which is some seconds before EC2's own count, from `running`."""

NOTICE_SECONDS = 120
"""The time that EC2 promises between its notice and the end of the instance."""

LATE_SECONDS = 30
"""How much later than it said EC2 may take the instance, before it is ended by us."""


def free_until(attempt: Attempt, rules: JobRules) -> datetime | None:
    """Return until when an interruption makes its instance free; None: never, or not known."""
    if not rules.free_first_hour or attempt.market != "spot" or attempt.launched_at is None:
        return None
    return later(attempt.launched_at, FREE_SECONDS)


def free_seconds(attempt: Attempt, now: datetime, rules: JobRules) -> float:
    """Return how much of its free hour is left, in seconds; 0: nothing."""
    until = free_until(attempt, rules)
    return 0.0 if until is None else max(0.0, (until - now).total_seconds())


def left_to_the_cloud_until(attempt: Attempt, rules: JobRules) -> datetime | None:
    """Return until when EC2 is left to take the instance; None: it may be ended at once."""
    until = free_until(attempt, rules)
    if until is None or attempt.interrupted_at is None:
        return None
    if later(attempt.interrupted_at, NOTICE_SECONDS) >= until:
        return None
    return later(attempt.interrupted_at, NOTICE_SECONDS + LATE_SECONDS)


def noticed(attempt: Attempt, ending: AttemptEnding, now: datetime) -> Attempt:
    """Return the attempt with its notice, which may come with its end alone.

    An agent gives a reason for an interruption that no notice announced.
    """
    known = attempt.interrupted_at is not None
    if known or ending.cause != "interrupted" or ending.message is not None:
        return attempt
    return replace(attempt, interrupted_at=now)
