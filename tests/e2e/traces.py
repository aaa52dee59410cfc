"""What was told against what was heard: the figures that prove that nothing was lost or doubled.

Of outbox and inbox, of launches and instances, and never of the end state alone: sweeps heal, and
so hide, lost events.
"""

from tests.e2e.api_client import TERMINAL

ZERO = ("living", "unsent", "lost", "parked", "twice", "doubled", "unreaped")
"""What must be 0 once every job is terminal and the last instance confirmed gone."""

FIGURES = {
    "jobs": "SELECT count(*) FROM api.jobs",
    "finished": f"SELECT count(*) FROM api.jobs WHERE status IN {TERMINAL}",  # noqa: S608
    "attempts": "SELECT count(*) FROM api.attempts",
    "instances": "SELECT count(*) FROM reaper.instances",
    "living": "SELECT count(*) FROM reaper.instances WHERE state <> 'terminated'",
    "unreaped": """SELECT count(*) FROM launcher.launches l WHERE l.state IN ('asked', 'launched')
        AND NOT EXISTS (SELECT FROM reaper.instances i
                        WHERE (i.job_id, i.attempt) = (l.job_id, l.attempt))""",
    "unsent": """SELECT (SELECT count(*) FROM api.outbox WHERE published_at IS NULL)
        + (SELECT count(*) FROM scheduler.outbox WHERE published_at IS NULL)
        + (SELECT count(*) FROM launcher.outbox
           WHERE published_at IS NULL AND name <> 'LaunchesReported')
        + (SELECT count(*) FROM reaper.outbox WHERE published_at IS NULL)""",
    "parked": """SELECT (SELECT count(*) FROM api.parked) + (SELECT count(*) FROM scheduler.parked)
        + (SELECT count(*) FROM launcher.parked) + (SELECT count(*) FROM reaper.parked)""",
    # Told and not heard: by each reader of the event.
    "lost": """SELECT (SELECT count(*) FROM api.outbox o WHERE name IN ('JobScheduled',
    'JobCancelled')
            AND NOT EXISTS (SELECT FROM scheduler.inbox i WHERE i.event_id = o.event_id))
        + (SELECT count(*) FROM scheduler.outbox o
            WHERE NOT EXISTS (SELECT FROM launcher.inbox i WHERE i.event_id = o.event_id)
               OR NOT EXISTS (SELECT FROM api.inbox i WHERE i.event_id = o.event_id))
        + (SELECT count(*) FROM launcher.outbox o WHERE name = 'InstanceLaunched'
            AND (NOT EXISTS (SELECT FROM api.inbox i WHERE i.event_id = o.event_id)
              OR NOT EXISTS (SELECT FROM reaper.inbox i WHERE i.event_id = o.event_id)))
        + (SELECT count(*) FROM api.outbox o WHERE name = 'AttemptEnded'
            AND (NOT EXISTS (SELECT FROM reaper.inbox i WHERE i.event_id = o.event_id)
              OR NOT EXISTS (SELECT FROM launcher.inbox i WHERE i.event_id = o.event_id)))
        + (SELECT count(*) FROM reaper.outbox o
            WHERE NOT EXISTS (SELECT FROM api.inbox i WHERE i.event_id = o.event_id))""",
    # The same fact told twice under two ids: an effect that happened twice.
    "twice": """SELECT count(*) FROM (
        SELECT convert_from(body, 'UTF8')::jsonb #>> '{body,job_id}' AS job FROM api.outbox
        WHERE name = 'JobFinished' GROUP BY 1 HAVING count(*) > 1) x""",
    "doubled": """SELECT count(*) FROM (
        SELECT convert_from(body, 'UTF8')::jsonb #>> '{body,job_id}',
               convert_from(body, 'UTF8')::jsonb #>> '{body,attempt}'
        FROM launcher.outbox WHERE name = 'InstanceLaunched' GROUP BY 1, 2 HAVING count(*) > 1)
        x""",
}

_PAIRS = ", ".join(f"'{name}', ({sql})" for name, sql in FIGURES.items())
ALL_FIGURES = f"SELECT jsonb_build_object({_PAIRS})"
"""All of them in one statement, as one JSON object."""
