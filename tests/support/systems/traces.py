"""Published against received events: the figures that prove that nothing was lost or doubled.

Of outbox and inbox, of launches and instances, and never of the end state alone: sweeps heal, and
so hide, lost events.
"""

from collections.abc import Sequence

from operations.wiring import SERVICES
from shared.events.events import DeadLettersReported, LaunchesReported, QuotasReported
from tests.support.systems.api_client import TERMINAL

ZERO = ("living", "unsent", "lost", "parked", "twice", "doubled", "unreaped")
"""What must be 0 once every job is terminal and the last instance confirmed gone."""


REPEATED = (LaunchesReported, DeadLettersReported, QuotasReported)
"""Each of these replaces the one before, and one may be on its way at any time."""

_REPEATED = ", ".join(f"'{each.__name__}'" for each in REPEATED)


def published(publisher: str, names: Sequence[str]) -> str:
    """Select the events of these names in the outbox of *publisher*, as a table `(event)`."""
    named = ", ".join(f"'{name}'" for name in names)
    return f"""(SELECT event FROM {publisher}.outbox,
        jsonb_array_elements(convert_from(body, 'UTF8')::jsonb) AS event
        WHERE name IN ({named})) AS events"""  # noqa: S608 - our own text


def _unreceived(publisher: str, reader: str, names: Sequence[str]) -> str:
    return f"""(SELECT count(*) FROM {published(publisher, names)} WHERE NOT EXISTS (
        SELECT FROM {reader}.inbox WHERE event_id = (event ->> 'id')::uuid))"""  # noqa: S608


def _unsent(publisher: str) -> str:
    return f"""(SELECT count(*) FROM {publisher}.outbox
        WHERE published_at IS NULL AND name NOT IN ({_REPEATED}))"""  # noqa: S608 - our own names


_LOST = [
    _unreceived(publisher.NAME, reader.NAME, names)
    for publisher in SERVICES
    for reader in SERVICES
    if (
        names := [
            each.__name__
            for each in publisher.PUBLISHES
            if each in reader.CONSUMES and each not in REPEATED
        ]
    )
]

FIGURES = {
    "jobs": "SELECT count(*) FROM api.jobs",
    "finished": f"SELECT count(*) FROM api.jobs WHERE status IN {TERMINAL}",  # noqa: S608
    "attempts": "SELECT count(*) FROM api.attempts",
    "instances": "SELECT count(*) FROM reaper.instances",
    "living": "SELECT count(*) FROM reaper.instances WHERE state <> 'terminated'",
    "unreaped": """SELECT count(*) FROM launcher.launches l WHERE l.state IN ('asked', 'launched')
        AND NOT EXISTS (SELECT FROM reaper.instances i
                        WHERE (i.job_id, i.attempt) = (l.job_id, l.attempt))""",
    "unsent": "SELECT " + " + ".join(_unsent(service.NAME) for service in SERVICES),
    "parked": """SELECT (SELECT count(*) FROM api.parked) + (SELECT count(*) FROM scheduler.parked)
        + (SELECT count(*) FROM launcher.parked) + (SELECT count(*) FROM reaper.parked)""",
    # Published and not received, by each reader of the event.
    "lost": "SELECT " + " + ".join(_LOST),
    # The same fact published twice under two ids: an effect that happened twice.
    "twice": f"""SELECT count(*) FROM (
        SELECT event -> 'data' -> 'job_id' FROM {published("api", ["JobFinished"])}
        GROUP BY 1 HAVING count(*) > 1) x""",  # noqa: S608
    # Two launches of one attempt. A launch that is published again, as it was lost, has one number.
    "doubled": f"""SELECT count(*) FROM (
        SELECT event -> 'data' -> 'job_id', event -> 'data' -> 'attempt'
        FROM {published("launcher", ["InstanceLaunched"])} GROUP BY 1, 2
        HAVING count(DISTINCT event -> 'data' -> 'launch_sequence') > 1) x""",  # noqa: S608
}

_PAIRS = ", ".join(f"'{name}', ({sql})" for name, sql in FIGURES.items())
ALL_FIGURES = f"SELECT jsonb_build_object({_PAIRS})"
"""All of them in one statement, as one JSON object."""
