"""Pauses of launching while no instance boots. Pure.

    LaunchesPaused ─▶ nothing is asked for ─ its time passes ─▶ a trial: one launch
          ▲                                                        │  │  │
          ├──────────── another LaunchesPaused: it did not boot ───┘  │  │
          │             LaunchesResumed: it has booted, so all go on ◀┘  │
          └──────────── neither in its time: another trial ◀─────────────┘

A trial that launches no instance (no capacity) proves nothing: the next due launch is tried then.
What is asked for already is finished: there may be instances. Should the events be lost, the delay
that each waiting launch publishes again has the pause's number, and the API answers with the state.
"""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from shared.events.events import LaunchDelayed, LaunchesPaused, LaunchesResumed


class Pause(Struct, frozen=True, kw_only=True):
    """The row of `pauses`. `sql/` describes its columns.

    *trial_open*: the launch of the trial is being asked for, or its instance is launched.
    """

    sequence: int = 0
    paused_until: datetime | None = None
    message: str = ""
    trial_seconds: int = 0
    to_change: str | None = None
    trial_until: datetime | None = None
    trial_open: bool = False


def held_until(pause: Pause, now: datetime) -> datetime | None:
    """Return until when nothing may be asked for; None: something may, if only a trial."""
    if pause.paused_until is None:
        return None
    if now < pause.paused_until:
        return pause.paused_until
    if pause.trial_open and pause.trial_until is not None and now < pause.trial_until:
        return pause.trial_until
    return None


def latest_pause(events: Sequence[LaunchesPaused | LaunchesResumed]) -> Pause:
    """Return the state of the latest of *events*, of which there is at least one."""
    latest = max(events, key=lambda each: each.sequence)
    if isinstance(latest, LaunchesResumed):
        return Pause(sequence=latest.sequence)
    return Pause(
        sequence=latest.sequence,
        paused_until=latest.until,
        message=latest.message,
        trial_seconds=latest.trial_seconds,
        to_change=latest.to_change,
    )


def delay_of(job_id: int, attempt: int, pause: Pause, now: datetime) -> LaunchDelayed:
    """Make the event that a launch waits for the end of *pause*."""
    until = held_until(pause, now) or now
    trial = "; then one is launched as a trial"
    if pause.paused_until is not None and now >= pause.paused_until:
        trial = "; one is launched as a trial now"
    return LaunchDelayed(
        job_id=job_id,
        attempt=attempt,
        reason="unknown_outcome",
        message=pause.message + trial,
        next_try_at=until,
        pause_sequence=pause.sequence,
        to_change=pause.to_change,
        delayed_at=now,
    )
