"""Faults of the deployment for which launches wait: an alert for each, and `/readyz` names them.

    a launch waits with `to_change` ─▶ a row of `troubles`, an alert ─ each hour ─▶ an alert again
                                    └─ none waits for it any more ─▶ no row

A pause of launches (`pauses.py`) is a row too, under the name `PAUSED`: nothing is refused in it.
The row is a summary of the launches that wait, so it cannot outlive the fault: the first launches
that pass remove it, and so does a cancellation of all of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from msgspec import Struct

from services.launcher.model import Trouble, Waiting
from services.launcher.store import troubles
from shared.launch_pauses import PAUSED
from shared.log import get_logger
from shared.postgres.pool import Connection
from shared.runtime.service import Ports

TROUBLE_SECONDS = 15.0
"""The interval of the sweep."""

ALERT_AGAIN = timedelta(hours=1)

REFUSED = "launches are refused for a fault of the deployment: jobs wait until it is mended"
MENDED = "no launch waits for this fault any more"

_log = get_logger(service="launcher", part="troubles")


class TroubleDecision(Struct, frozen=True, kw_only=True):
    """The faults from now on; *alerts* are those to log as errors, *mended* are over."""

    found: tuple[Trouble, ...]
    alerts: tuple[Trouble, ...]
    mended: tuple[Trouble, ...]


def decide_troubles(
    before: Sequence[Trouble], waiting: Sequence[Waiting], now: datetime
) -> TroubleDecision:
    """Decide on the faults for which launches wait: a new one is an alert, and again each hour."""
    known = {each.to_change: each for each in before}
    found, alerts = [], []
    for each in waiting:
        old = known.pop(each.to_change, None)
        is_due = old is None or old.alert_at <= now
        trouble = Trouble(
            to_change=each.to_change,
            message=each.message,
            launches=each.launches,
            since=now if old is None else old.since,
            alert_at=now + ALERT_AGAIN if old is None or is_due else old.alert_at,
        )
        found.append(trouble)
        if is_due:
            alerts.append(trouble)
    return TroubleDecision(found=tuple(found), alerts=tuple(alerts), mended=tuple(known.values()))


@dataclass(frozen=True)
class Troubles:
    """The sweep over the faults."""

    ports: Ports

    async def report_troubles(self) -> None:
        """Record the faults for which launches wait, and log what an operator must know."""
        async with self.ports.db.transaction() as tx:
            before = await troubles.lock_troubles(tx)
            decision = decide_troubles(before, await troubles.find_waiting(tx), tx.now)
            await troubles.save_troubles(tx, decision.found, decision.mended)
        _report(decision)


async def degraded(conn: Connection) -> Mapping[str, str]:
    """Return the faults for `/readyz`, by what is to be changed."""
    found = await troubles.load_troubles(conn)
    return {"launches": "; ".join(_sentence(each) for each in found)} if found else {}


def _sentence(trouble: Trouble) -> str:
    since = f"since {trouble.since:%Y-%m-%dT%H:%M:%SZ}"
    if trouble.to_change == PAUSED:
        return f"{PAUSED} {since}: {trouble.message.removeprefix(f'{PAUSED}: ')}"
    jobs = "1 job waits" if trouble.launches == 1 else f"{trouble.launches} jobs wait"
    return f"{jobs} {since}: {trouble.message}"


def _report(decision: TroubleDecision) -> None:
    for each in decision.alerts:
        paused = each.to_change == PAUSED
        _log.error(
            f"{PAUSED}: instances do not boot" if paused else REFUSED,
            to_change=None if paused else each.to_change,
            message=each.message,
            launches=each.launches,
            since=each.since.isoformat(),
        )
    for each in decision.mended:
        _log.info(
            "launches are resumed" if each.to_change == PAUSED else MENDED,
            to_change=each.to_change,
            since=each.since.isoformat(),
        )
