"""Whose a job is: SQL, and the check that a caller sees it."""

from services.api.jobs.queries import NoSuchJob
from shared.postgres.pool import Database

FIND_PROJECT = "SELECT project FROM jobs WHERE id = $1"


async def check_project(db: Database, job_id: int, project: str) -> None:
    """Raise `NoSuchJob` unless the job is one of *project*. A job's project never changes."""
    async with db.connection() as conn:
        found = await conn.fetchval(FIND_PROJECT, job_id)
    if found != project:
        raise NoSuchJob(f"there is no job {job_id}")
