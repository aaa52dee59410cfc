"""The columns of jobs: `ps`, and what else lists jobs. Pure."""

from datetime import datetime

from docker_job.cli.figures import NOTHING, clock, count, money
from docker_job.cli.render import Column, Row
from docker_job.cli.status_words import look, ran_for, status_words


def job_columns(now: datetime) -> list[Column]:
    """Return the columns of a table of jobs, as they are shown at *now*."""
    return [
        Column("ID", lambda job: str(job["id"])),
        Column("NAME", lambda job: job.get("name") or NOTHING, narrowest=8),
        Column("IMAGE", lambda job: str(job["docker_image"]), narrowest=12),
        Column(
            "STATUS",
            lambda job: status_words(job, now),
            style=lambda job: look(job).colour,
            symbol=lambda job: look(job).symbol,
            narrowest=16,
            is_main=True,
        ),
        Column("STARTED", lambda job: clock(job.get("started_at"), now)),
        Column("DURATION", lambda job: ran_for(job, now)),
        Column("TRIES", lambda job: count(tries(job))),
        Column("COST", lambda job: money(job.get("cost_usd"))),
    ]


def tries(job: Row) -> int | None:
    """Return the number of attempts; an older API's list has the current one's number alone."""
    attempts = job.get("attempts", job.get("attempt"))
    return len(attempts) if isinstance(attempts, list) else attempts
