"""Claims while launches are paused: one launch as a trial, and published delays for the rest."""

from datetime import timedelta

from services.launcher.config import LauncherConfig
from services.launcher.model import Launch
from services.launcher.pauses import delay_of, held_until
from services.launcher.store import launches, pauses
from shared.events import cloudevents
from shared.messaging.store import append_outbox
from shared.postgres.pool import Transaction


async def lock_trial(tx: Transaction) -> list[Launch]:
    """Lock and return the launch of a trial, if it is time for one; record it as the trial."""
    pause = await pauses.lock_pause(tx)
    if pause.paused_until is None or held_until(pause, tx.now) is not None:
        return []  # resumed just now: the next pass takes all
    found = await launches.lock_due(tx, 1)
    for each in found:
        await pauses.begin_trial(tx, each, tx.now + timedelta(seconds=pause.trial_seconds))
    return found


async def hold_back(tx: Transaction, config: LauncherConfig, most: int) -> int:
    """Publish of up to *most* due launches that they wait for the pause; return of how many."""
    pause = await pauses.load_pause(tx)
    if pause.paused_until is None:
        return 0
    before = tx.now - timedelta(seconds=config.repeat_pause_seconds)
    held = await pauses.hold_back(tx, pause, before, most)
    envelopes = [
        cloudevents.wrap(
            delay_of(job_id, attempt, pause, tx.now), source=tx.source, at=tx.now, trace=trace
        )
        for job_id, attempt, trace in held
    ]
    await append_outbox(tx, envelopes)
    return len(held)
