"""The project of a job, which never changes: SQL, and the check that a caller sees the job."""

from services.api.jobs.queries import NoSuchJob
from shared.postgres.pool import Database

FIND_PROJECT = "SELECT project FROM jobs WHERE id = $1"


async def find_project(db: Database, job_id: int) -> str | None:
    """Find the project of a job; None if there is no such job."""
    async with db.connection() as conn:
        project: str | None = await conn.fetchval(FIND_PROJECT, job_id)
    return project


async def check_project(db: Database, job_id: int, project: str) -> None:
    """Raise `NoSuchJob` unless the job is one of *project*."""
    if await find_project(db, job_id) != project:
        raise NoSuchJob(f"there is no job {job_id}")
